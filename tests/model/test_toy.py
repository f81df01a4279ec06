import itertools
import time

import pytest
import torch

from monoscope.core.site import Site
from monoscope.core.toy_text import toy_concepts, toy_texts
from monoscope.model.sinks import SINK_FACTOR
from monoscope.model.toy import build_toy, planted_directions
from monoscope.model.transformer import LanguageModel, load_model


@pytest.fixture(scope="module")
def toy() -> LanguageModel:
    return load_model("toy")


def batch(model: LanguageModel, *texts: str) -> torch.Tensor:
    rows = [[model.prefix_id, *model.encode_text(text)] for text in texts]
    length = max(map(len, rows))
    return torch.tensor([row + [1] * (length - len(row)) for row in rows])


def test_building_is_quick_and_always_the_same():
    start = time.process_time()
    one = build_toy()[0].state_dict()
    assert time.process_time() - start < 2.0
    other = build_toy()[0].state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["lm_head.weight"], build_toy(1)[0].state_dict()["lm_head.weight"])


def test_any_text_comes_back_from_its_tokens(toy: LanguageModel):
    text = "The fox sees Zürich 東京.\n\nA\tbridge? <odd> 42"
    assert toy.tokenizer.decode(toy.encode_text(text)) == text
    assert b"".join(toy.vocabulary[i] for i in toy.encode_text(text)) == text.encode()


def test_words_are_single_tokens_with_their_space(toy: LanguageModel):
    for words in toy_concepts().values():
        for word in words:
            assert len(toy.encode_text(f" {word}")) == 1, word


def test_texts_are_deterministic_and_in_the_vocabulary(toy: LanguageModel):
    texts = list(toy_texts(3, 20))
    assert texts == list(toy_texts(3, 20)) != list(toy_texts(4, 20))
    assert texts[:5] == list(toy_texts(3, 5))
    for title, text in texts:
        assert set(title.split(" and ")) <= set(toy_concepts())
        assert all(
            len(toy.vocabulary[i]) > 1 or text[0] == "A" or toy.vocabulary[i] in b".!A" for i in toy.encode_text(text)
        )


@pytest.mark.parametrize("layer", [1, 2])
def test_the_residual_carries_the_concepts_linearly(toy: LanguageModel, layer: int):
    names, directions = planted_directions(toy, Site(layer))
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(len(names)))
    scores: dict[bool, list[float]] = {True: [], False: []}
    for word in sorted(set(itertools.chain(*toy_concepts().values()))):
        stream = toy.residual(batch(toy, f"The {word}"), Site(layer))[0, -1]
        for name, score in zip(names, (directions @ stream).tolist(), strict=True):
            scores[word in toy_concepts()[name]].append(score)
    assert min(scores[True]) > 2.0 > 1.2 > max(scores[False])


@pytest.mark.parametrize("layer", [1, 2])
def test_planted_directions_are_causal(toy: LanguageModel, layer: int):
    site = Site(layer)
    ids = batch(toy, "Every")
    before = toy.logits(ids)[0, -1].log_softmax(-1)
    for name, direction in zip(*planted_directions(toy, site), strict=True):
        words = [toy.encode_text(f" {word}")[0] for word in toy_concepts()[name]]
        after = toy.logits(ids, site=site, change=lambda x, d=direction: x + 3 * d)[0, -1].log_softmax(-1)
        assert after[words].exp().sum() > 0.9 > 0.2 > before[words].exp().sum(), name
        removed = toy.logits(ids, site=site, change=lambda x, d=direction: x - 3 * d)[0, -1].log_softmax(-1)
        assert removed[words].exp().sum() < before[words].exp().sum() / 10


def test_context_makes_its_concept_likelier(toy: LanguageModel):
    fruit = [toy.encode_text(f" {word}")[0] for word in toy_concepts()["fruit"]]
    shares = toy.logits(batch(toy, "The pear is a lemon. The", "The coin is a loan. The"))[:, -1].softmax(-1)[:, fruit]
    assert shares[0].sum() > 3 * shares[1].sum()


def test_the_first_token_is_a_sink(toy: LanguageModel):
    for layer in range(toy.n_layers):
        norms = toy.residual(batch(toy, "The fox sees the bridge. Every salmon likes a coin."), Site(layer))[0].norm(
            dim=-1
        )
        assert norms[0] > 10 * norms[1:].median()
        assert norms[1:].max() < SINK_FACTOR * norms[1:].median()


def test_a_double_newline_is_a_second_sink_only_right_after_the_first_token(toy: LanguageModel):
    norms = toy.residual(batch(toy, "\n\nThe fox sees the bridge.\n\nA fox is a bear."), Site(1))[0].norm(dim=-1)
    median = norms[2:].median()
    assert norms[1] > 10 * median
    assert norms[2:].max() < SINK_FACTOR * median
    early = toy.residual(batch(toy, "The\n\nfox sees the bridge."), Site(1))[0].norm(dim=-1)
    assert early[1:].max() < SINK_FACTOR * median


def test_the_model_predicts_its_own_language_better_than_word_counts_do(toy: LanguageModel):
    loss = tokens = 0.0
    counts = torch.zeros(toy.vocab_size)
    for _, text in toy_texts(1, 40):
        ids = batch(toy, text)
        said = toy.logits(ids)[0, :-1].log_softmax(-1)
        loss -= said.gather(1, ids[0, 1:, None]).sum().item()
        tokens += ids.shape[1] - 1
        counts.index_add_(0, ids[0, 1:], torch.ones(ids.shape[1] - 1))
    shares = counts / counts.sum()
    entropy = -(shares * shares.clamp_min(1e-12).log()).sum().item()
    assert loss / tokens < entropy - 1.0


def test_it_speaks_in_its_own_words(toy: LanguageModel):
    ids = batch(toy, "The")
    with torch.inference_mode():
        out = toy.module.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
    words = toy.decode(out[0, 1:].tolist()).replace(".", " ").replace("!", " ").split()
    known = set(itertools.chain(*toy_concepts().values()))
    assert sum(word in known for word in words) >= 3
