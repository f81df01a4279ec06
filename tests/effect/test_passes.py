import pytest
import torch

from monoscope.effect.passes import Row, logits_under, reply_losses, shifts, token_logprobs
from monoscope.model.chat import render_plain
from monoscope.steer.compare import perplexity_under
from monoscope.steer.engine import generate
from monoscope.steer.request import Request
from monoscope.steer.resolve import resolve_all

TEXTS = ("The fox sees the bridge near London.", "A ship", "Every king needs a crown and some gold.")
EDITS = ((), ("3 add 0.4r",), ("5 clamp 0.3r", "2 scale 3"))


@pytest.fixture(scope="module")
def ids(toy):
    return [render_plain(toy, text).ids for text in TEXTS]


def test_each_row_is_read_under_its_own_edits_as_the_engine_reads_it(toy, dictionary, ids):
    rows = [Row(text, resolve_all(edits, dictionary), len(text)) for text, edits in zip(ids, EDITS, strict=True)]
    for row, edits, found in zip(rows, EDITS, token_logprobs(toy, rows), strict=True):
        asked = Request(row.ids, edits, max_tokens=0, score_prompt=True)
        expected = [one.logprob for one in generate(toy, dictionary, [asked])[0].prompt_logprobs]
        assert found.tolist() == pytest.approx(expected, abs=1e-4)
    plain = toy.logits(torch.tensor([ids[0]]))[0]
    assert torch.allclose(logits_under(toy, rows)[0, : len(ids[0])], plain, atol=1e-4)


def test_an_edit_of_what_is_generated_is_felt_after_the_prompt_only(toy, dictionary, ids):
    edits = ("3 add 0.5r @generated",)
    reply = generate(
        toy, dictionary, [Request(ids[0], edits, temperature=0, max_tokens=6, top_logprobs=0, stop_ids=frozenset())]
    )[0]
    row = Row((*ids[0], *reply.ids), resolve_all(edits, dictionary), len(ids[0]))
    (found,) = token_logprobs(toy, [row])
    assert found[-6:].tolist() == pytest.approx([one.logprob for one in reply.logprobs], abs=1e-4)


def test_many_rows_go_in_several_passes_with_the_same_answer(toy, dictionary, ids, monkeypatch):
    rows = [Row(text, resolve_all(edits, dictionary), 1) for text in ids for edits in EDITS]
    together = [found.tolist() for found in token_logprobs(toy, rows)]
    monkeypatch.setattr("monoscope.effect.passes._LOGITS", 1)
    alone = [found.tolist() for found in token_logprobs(toy, rows)]
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_replies_cost_what_they_cost_one_by_one(toy, ids):
    replies = [ids[2][1:6], (), ids[0][1:3], ids[1][1:]]
    found = reply_losses(toy, ids[0], replies)
    assert found[1] == 0
    for reply, loss in zip(replies, found, strict=True):
        assert loss == pytest.approx(perplexity_under(toy, ids[0], reply) * len(reply), abs=1e-3)
    assert reply_losses(toy, ids[0], []) == []
    assert reply_losses(toy, ids[0][:1], replies)[0] == pytest.approx(
        perplexity_under(toy, ids[0][:1], replies[0]) * 5, abs=1e-3
    )


def test_nothing_shifts_without_an_edit_and_more_with_a_larger_one(toy, dictionary, ids):
    lines = ("3 add 0", "3 add 0.1r", "3 add 0.4r")
    found = shifts(toy, ids, [(), *(resolve_all([line], dictionary) for line in lines)], [7])
    assert found[0].kl == found[1].kl == pytest.approx(0, abs=1e-6)
    assert found[0].wanted == pytest.approx(found[1].wanted)
    assert 1e-4 < found[2].kl < found[3].kl


def test_a_shift_is_what_the_whole_distributions_say(toy, dictionary, ids):
    moves, wanted = resolve_all(["3 add 0.4r"], dictionary), [9, 40, 300]
    clean = toy.logits(torch.tensor([ids[0]]))[0, 1:].log_softmax(-1)
    edited = logits_under(toy, [Row(ids[0], moves, 1)])[0, 1:].log_softmax(-1)
    kl = torch.nn.functional.kl_div(edited, clean, log_target=True, reduction="none").sum(-1).mean()
    (found,) = shifts(toy, ids[:1], [moves], wanted)
    assert found.kl == pytest.approx(float(kl), rel=1e-3)
    assert found.wanted == pytest.approx(float(edited.exp()[:, wanted].sum(-1).mean()), rel=1e-3)
    assert shifts(toy, ids[:1], [moves], [])[0].wanted == 0
    assert shifts(toy, ids, [()], range(toy.vocab_size))[0].wanted == pytest.approx(1, abs=1e-5)
