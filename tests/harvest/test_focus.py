import pytest
import torch
from transformers import DynamicCache

from monoscope.core.errors import BadRequest
from monoscope.core.progress import SILENT
from monoscope.harvest.focus import (
    _whole_sentences,
    answer_prompts,
    everyday_prompts,
    focus_prompts,
    write_about,
)
from monoscope.harvest.writing import TEMPERATURE, _drawn, write_replies
from monoscope.model.chat import render_chat
from monoscope.model.transformer import LanguageModel


def test_prompts_are_many_and_different() -> None:
    assert len(set(everyday_prompts())) == len(everyday_prompts()) >= 140
    assert len(set(focus_prompts())) == len(focus_prompts()) >= 50
    assert all(prompt.count("{concept}") == 1 for prompt in focus_prompts())
    assert not any("{" in prompt for prompt in everyday_prompts())


def test_texts_about_a_concept(toy: LanguageModel) -> None:
    documents = list(write_about(toy, " the   bridge ", texts=12, tokens_each=16))
    assert 8 <= len(documents) <= 12
    for document in documents:
        (asker, prompt), (writer, reply) = document.messages
        assert (asker, writer) == ("user", "assistant")
        assert "the bridge" in prompt
        assert reply == reply.strip() != ""
        assert "<|" not in reply
        assert (document.title, document.source) == ("the bridge", "focus")
    assert len({document.group for document in documents}) == len(documents)


def test_the_same_seed_gives_the_same_texts(toy: LanguageModel) -> None:
    one, again, other = (list(write_about(toy, "the sea", texts=6, tokens_each=12, seed=seed)) for seed in (0, 0, 1))
    assert one == again != other


def test_answers_use_each_prompt_before_any_twice(toy: LanguageModel) -> None:
    documents = list(answer_prompts(toy, count=20, tokens_each=8))
    asked = [document.messages[0][1] for document in documents]
    assert len(set(asked)) == len(asked)
    assert set(asked) <= set(everyday_prompts())
    assert all(document.source == "answers" and document.title == document.messages[0][1] for document in documents)


@pytest.mark.parametrize(
    ("text", "cut", "kept"),
    [
        ("One. Two. Thr", True, "One. Two."),
        ("One. Two. Thr", False, "One. Two. Thr"),
        ('He said: "Go!" Then', True, 'He said: "Go!"'),
        ("Things: one, 2. and more", True, "Things: one, 2. and more"),
        ("Short. And then a very long sentence that is cut before its", True, None),
        ("  cut in a letter\ufffd", True, "cut in a letter"),
    ],
)
def test_a_cut_reply_ends_at_its_last_whole_sentence_unless_that_is_little(text: str, cut: bool, kept: str) -> None:
    assert _whole_sentences(text, cut=cut) == (kept or text)


def test_an_empty_concept_is_refused(toy: LanguageModel) -> None:
    with pytest.raises(BadRequest, match="empty"):
        list(write_about(toy, "  "))


def test_batching_with_padding_and_cache_changes_no_reply(toy: LanguageModel) -> None:
    """The slow twin: each prompt alone, the whole text run anew for every token."""
    asked = ["Tell me", "What is the bridge and who sees the fox near the planet", "A"]
    prompts = [render_chat(toy, [{"role": "user", "content": text}], reply_follows=True).ids for text in asked]
    found = write_replies(toy, prompts, asked, most_tokens=12, seed=5, progress=SILENT)
    for prompt, name, reply in zip(prompts, asked, found, strict=True):
        draws = torch.rand(12, generator=_stream(5, name))
        for step in range(12):
            logits = toy.logits(torch.tensor([[*prompt, *reply[:step]]]))[:, -1]
            token = int(_drawn(logits, draws[step : step + 1]))
            if step == len(reply):
                assert token in toy.stop_ids
                break
            # The toy likes many words exactly alike; rounding, which differs with the batch, decides their order.
            assert token == reply[step] or abs(logits[0, token] - logits[0, reply[step]]) < 1e-4


def _stream(seed: int, name: str) -> torch.Generator:
    from monoscope.core.runtime import random_stream

    return random_stream(seed, "reply", name)


def test_draws_follow_the_distribution_cut_at_top_p() -> None:
    shares = torch.tensor([0.02, 0.5, 0.18, 0.3])
    logits = (shares.log() * TEMPERATURE).expand(20_000, 4)
    uniform = (torch.arange(20_000) + 0.5) / 20_000
    counts = torch.bincount(_drawn(logits, uniform), minlength=4) / 20_000
    assert counts.tolist() == pytest.approx([0.0, 0.5 / 0.98, 0.18 / 0.98, 0.3 / 0.98], abs=1e-3)


def test_rows_that_end_leave_the_cache_whole(toy: LanguageModel) -> None:
    cache = DynamicCache(config=toy.module.config)
    toy.module(input_ids=torch.tensor([[1, 2], [3, 4], [5, 6]]), past_key_values=cache, use_cache=True)
    before = cache.layers[0].keys[2].clone()
    cache.batch_select_indices(torch.tensor([2]))
    assert torch.equal(cache.layers[0].keys[0], before)
