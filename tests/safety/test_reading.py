"""Texts read in batches: the same as one by one, the right tokens of talks, sinks left out, and refusals."""

import copy
from dataclasses import dataclass, replace

import pytest
import torch

from monoscope.core.errors import BadNumbers, BadRequest
from monoscope.evaluate.fidelity import fidelity
from monoscope.safety import reading as rooms
from monoscope.safety.examples import Example
from monoscope.safety.reading import Reading, read_examples, render_example

from .conftest import talk_of

TALK = Example(
    "talk",
    True,
    messages=(("user", "The fox sees the bear."), ("assistant", "The wolf."), ("user", "A cat?")),
    group="g",
)
MIXED = [TALK, Example("plain", False, "The rain finds the snow and the storm!"), Example("short", False, "The")]


def same(one: Reading, other: Reading) -> None:
    assert torch.equal(one.ids, other.ids)
    assert torch.equal(one.starts, other.starts)
    assert torch.allclose(one.x, other.x, atol=1e-4)
    assert torch.equal(one.code.starts, other.code.starts)
    assert torch.equal(one.code.indices, other.code.indices)
    assert torch.allclose(one.code.values, other.code.values, atol=1e-4)
    assert torch.allclose(one.missed, other.missed, rtol=1e-4)
    assert torch.allclose(one.spread, other.spread, rtol=1e-4)


@pytest.mark.parametrize("part", ["said", "reply", "last"])
@pytest.mark.parametrize("budget", [1, 40, 8192])
def test_a_batch_reads_as_one_text_after_another(toy, dictionary, monkeypatch, part: str, budget: int) -> None:
    some = [*MIXED, *talk_of(groups=2)]
    singles = [read_examples(toy, dictionary, [each], part=part) for each in some]
    monkeypatch.setattr(rooms, "_BATCH_TOKENS", budget)
    whole = read_examples(toy, dictionary, some, part=part)
    assert len(whole) == len(some)
    assert whole.counts.tolist() == [len(single.ids) for single in singles]
    for place, single in enumerate(singles):
        same(whole.choose([place]), single)


def test_choosing_takes_texts_in_the_order_given(reading) -> None:
    chosen = reading.choose([7, 2, 7])
    assert chosen.text_of_token.tolist() == torch.repeat_interleave(torch.arange(3), chosen.counts).tolist()
    dense = reading.code.to_dense()
    for place, text in enumerate((7, 2, 7)):
        rows, mine = reading.text_of_token == text, chosen.text_of_token == place
        assert torch.equal(chosen.ids[mine], reading.ids[rows])
        assert torch.equal(chosen.x[mine], reading.x[rows])
        assert torch.equal(chosen.code.to_dense()[mine], dense[rows])
        assert chosen.missed[place] == reading.missed[text]
    assert len(reading.choose(torch.zeros(0, dtype=torch.long))) == 0
    same(reading.choose(range(len(reading))), reading)


def told(model, dictionary, example: Example, part: str) -> str:
    return model.decode(read_examples(model, dictionary, [example], part=part).ids.tolist())


def test_the_parts_of_a_talk(toy, dictionary) -> None:
    assert told(toy, dictionary, TALK, "said") == "The fox sees the bear.The wolf.A cat?"
    assert told(toy, dictionary, TALK, "reply") == "A cat?"
    ids = render_example(toy, TALK, reply_follows=True).ids
    assert toy.decode(ids).endswith("A cat?<|end|>\n<|assistant|>\n")
    assert told(toy, dictionary, TALK, "last") == toy.decode(ids[-1:])
    assert told(toy, dictionary, replace(TALK, messages=TALK.messages[:1]), "reply") == "The fox sees the bear."


def test_the_parts_of_a_plain_text(toy, dictionary, monkeypatch) -> None:
    plain = Example("plain", False, "The rain finds the snow.")
    assert told(toy, dictionary, plain, "said") == told(toy, dictionary, plain, "reply") == plain.text
    assert told(toy, dictionary, plain, "last") == "\n", "where the model can chat the answer is what follows"
    monkeypatch.setattr(toy.tokenizer, "chat_template", None)
    assert told(toy, dictionary, plain, "last") == "."


def test_an_empty_reply_is_not_the_message_before_it(toy, dictionary) -> None:
    silent = replace(TALK, messages=(*TALK.messages[:1], ("assistant", " ")))
    with pytest.raises(BadRequest, match="Text talk has no token to read"):
        read_examples(toy, dictionary, [silent], part="reply")


def with_limit(dictionary, limit: float):
    found = copy.copy(dictionary)
    found.stats = replace(dictionary.stats, sink_limit=limit)
    return found


def test_sinks_are_left_out(toy, dictionary, examples, reading) -> None:
    norms = reading.x.norm(dim=1)
    assert (norms <= dictionary.stats.sink_limit).all()
    limit = float(norms.median())
    found = read_examples(toy, with_limit(dictionary, limit), examples)
    kept = norms <= limit
    assert 0.3 * len(norms) < len(found.ids) < 0.7 * len(norms)
    assert torch.equal(found.ids, reading.ids[kept])
    assert torch.equal(found.counts, torch.bincount(reading.text_of_token[kept], minlength=len(reading)))
    with pytest.raises(BadRequest, match="Text 0-True-0 has no token to read"):
        read_examples(toy, with_limit(dictionary, 1e-6), examples)


@dataclass
class OneBlock:
    """A reading's rows as evaluation wants them."""

    x: torch.Tensor

    def rows(self, split: str) -> int:
        return len(self.x)

    def blocks(self, split: str):
        return [self]


def test_the_variance_unexplained_is_that_of_evaluation(dictionary, reading) -> None:
    about = dictionary.stats.mean_vector.double()
    drift = (reading.x.double() - about).sum(0).square().sum() / len(reading.x)
    expected = fidelity(dictionary, OneBlock(reading.x))
    assert float(reading.missed.sum()) == pytest.approx(expected.fvu * float(reading.spread.sum() - drift), rel=1e-5), (
        "the same error, over a variance about the texts' own mean there and the training text's here"
    )
    assert reading.fvu == pytest.approx(float(reading.missed.sum() / reading.spread.sum()))


@pytest.mark.parametrize(
    ("example", "part", "sentence"),
    [
        (Example("a", True, "The fox."), "first", "There is no part 'first' of a text; choose said, reply, last."),
        (Example("a", True, "fox " * 600), "said", "Text a has 602 tokens; toy reads 512 at most."),
        (Example("empty", True, ""), "said", "Text empty has no token to read."),
        (Example("a", True, messages=(("user", ""),)), "said", "Text a has no token to read."),
    ],
)
def test_what_cannot_be_read(toy, dictionary, example: Example, part: str, sentence: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        read_examples(toy, dictionary, [example], part=part)
    assert str(refusal.value) == sentence


def test_too_many_tokens_at_once(toy, dictionary, examples, monkeypatch) -> None:
    monkeypatch.setattr(rooms, "MOST_TOKENS", 100)
    with pytest.raises(BadRequest, match=r"These texts have [\d,]+ tokens; at most 100 are read at once: give fewer"):
        read_examples(toy, dictionary, examples)


def test_a_model_without_a_template_cannot_read_talks(toy, dictionary, monkeypatch) -> None:
    monkeypatch.setattr(toy.tokenizer, "chat_template", None)
    with pytest.raises(BadRequest, match="toy has no chat template"):
        read_examples(toy, dictionary, [TALK])


def test_a_residual_that_is_no_number_is_left_out_or_refused(toy, dictionary, monkeypatch) -> None:
    plain = toy.residual

    def broken(ids, site):
        x = plain(ids, site).clone()
        x[:, 2] = torch.nan
        return x

    whole = read_examples(toy, dictionary, MIXED[1:2])
    monkeypatch.setattr(toy, "residual", broken)
    found = read_examples(toy, dictionary, MIXED[1:2])
    assert len(found.ids) == len(whole.ids) - 1
    assert torch.isfinite(found.x).all()
    with pytest.raises(BadNumbers):
        dictionary.encode(torch.full((1, 48), torch.nan))
