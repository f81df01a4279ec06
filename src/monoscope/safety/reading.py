"""Texts read once: the residual stream, the features and what the dictionary misses, token by token.

Everything that safety asks of texts (pooled features, a probe's projection, a running statistic) is computed from a
`Reading`, so that the model runs once however many detectors are fitted or compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from monoscope.core.errors import BadRequest
from monoscope.core.progress import SILENT, Progress
from monoscope.core.sparse import SparseCode, starts_from_counts
from monoscope.dictionary.base import Dictionary
from monoscope.model.chat import Rendered, render_chat, render_plain
from monoscope.model.sinks import keep_mask
from monoscope.model.transformer import LanguageModel
from monoscope.safety.examples import Example

# What of a text is read: everything that was said, the last message alone, or the token at which the answer is decided.
PARTS = ("said", "reply", "last")
MOST_TOKENS = 4_000_000
_BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Reading:
    """Some texts, token after token. Text i has rows `starts[i]` to `starts[i + 1]`; sinks are left out.

    `missed` and `spread` are squared distances summed over a text's tokens: of the residual from its reconstruction,
    and from the dictionary's mean; their ratio is the FVU.
    """

    x: Float[Tensor, "tokens d_model"]
    code: SparseCode
    ids: Int[Tensor, "tokens"]
    starts: Int[Tensor, "texts_plus_1"]
    missed: Float[Tensor, "texts"]
    spread: Float[Tensor, "texts"]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def counts(self) -> Int[Tensor, "texts"]:
        """Tokens of each text."""
        return self.starts[1:] - self.starts[:-1]

    @property
    def text_of_token(self) -> Int[Tensor, "tokens"]:
        """Which text each token belongs to."""
        return torch.repeat_interleave(torch.arange(len(self)), self.counts)

    @property
    def fvu(self) -> float:
        """The share of variance that the features leave unexplained on these texts."""
        return float(self.missed.sum() / self.spread.sum().clamp(min=1e-12))

    def choose(self, texts: Sequence[int] | Int[Tensor, "some"]) -> "Reading":
        """Some of the texts, in the order given."""
        wanted = torch.as_tensor(texts, dtype=torch.long)
        counts = self.counts[wanted]
        starts = starts_from_counts(counts)
        rows = torch.arange(int(starts[-1])) + torch.repeat_interleave(self.starts[wanted] - starts[:-1], counts)
        return Reading(
            self.x[rows], self.code.take(rows), self.ids[rows], starts, self.missed[wanted], self.spread[wanted]
        )


def read_examples(
    model: LanguageModel,
    dictionary: Dictionary,
    examples: Sequence[Example],
    *,
    part: str = "said",
    progress: Progress = SILENT,
) -> Reading:
    """Read texts. A talk goes through the model's chat template; of the template nothing is read but with part `last`,
    which is the token after which the model would answer.

    Cost    one pass of the model up to the dictionary's site; `d_model` numbers a token are kept.

    Raises
        BadRequest  a text is longer than the model reads, has nothing to read, or there are too many tokens.
    """
    if part not in PARTS:
        raise BadRequest(f"There is no part {part!r} of a text; choose {', '.join(PARTS)}.")
    rendered = [_rendered(model, example, part) for example in examples]
    wanted = [_wanted(example, each, part) for example, each in zip(examples, rendered, strict=True)]
    _check_size(model, examples, rendered, wanted)
    found: dict[int, tuple[Tensor, SparseCode, Tensor, float, float]] = {}
    progress.start("reading", len(examples), "texts")
    for batch in batches_by_length([len(each.ids) for each in rendered]):
        found |= _read_batch(model, dictionary, batch, rendered, wanted)
        progress.advance(len(batch))
    progress.finish()
    for place, example in enumerate(examples):
        if not len(found[place][0]):
            raise BadRequest(f"Text {example.id} has no token to read.")
    return _joined([found[place] for place in range(len(examples))])


def _joined(parts: Sequence[tuple[Tensor, SparseCode, Tensor, float, float]]) -> Reading:
    counts = torch.tensor([len(part[0]) for part in parts], dtype=torch.long)
    return Reading(
        torch.cat([part[0] for part in parts]),
        SparseCode.concatenate([part[1] for part in parts]),
        torch.cat([part[2] for part in parts]),
        starts_from_counts(counts),
        torch.tensor([part[3] for part in parts], dtype=torch.float64),
        torch.tensor([part[4] for part in parts], dtype=torch.float64),
    )


def render_example(model: LanguageModel, example: Example, *, reply_follows: bool = False) -> Rendered:
    """An example as the model reads it; a plain text for which a reply is to follow is a message where the model can
    chat."""
    messages = [{"role": role, "content": content} for role, content in example.messages]
    if not messages and reply_follows and model.tokenizer.chat_template:
        messages = [{"role": "user", "content": example.text}]
    if messages:
        return render_chat(model, messages, reply_follows=reply_follows)
    return render_plain(model, example.text)


def _rendered(model: LanguageModel, example: Example, part: str) -> Rendered:
    return render_example(model, example, reply_follows=part == "last")


def _wanted(example: Example, rendered: Rendered, part: str) -> Bool[Tensor, "length"]:
    if part == "last":
        return torch.arange(len(rendered.ids)) == len(rendered.ids) - 1
    said = ~torch.tensor(rendered.template)
    if part == "reply" and example.messages and not example.messages[-1][1].strip():
        return torch.zeros_like(said)  # what was said before an empty reply is none
    if part == "reply":
        after = torch.nonzero(~said).flatten()
        said_last = int(torch.nonzero(said).max()) if said.any() else 0
        earlier = after[after < said_last]
        said[: int(earlier.max()) + 1 if len(earlier) else 0] = False
    return said


def _check_size(
    model: LanguageModel, examples: Sequence[Example], rendered: Sequence[Rendered], wanted: Sequence[Tensor]
) -> None:
    for example, each in zip(examples, rendered, strict=True):
        if len(each.ids) > model.context_limit:
            raise BadRequest(
                f"Text {example.id} has {len(each.ids):,} tokens; {model.source} reads {model.context_limit:,} at most."
            )
    total = sum(int(each.sum()) for each in wanted)
    if total > MOST_TOKENS:
        raise BadRequest(f"These texts have {total:,} tokens; at most {MOST_TOKENS:,} are read at once: give fewer.")


def batches_by_length(lengths: Sequence[int]) -> list[list[int]]:
    """The places of texts, those of like length together, so that little is padding."""
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    batches: list[list[int]] = []
    for place in order:
        if not batches or lengths[place] * (len(batches[-1]) + 1) > _BATCH_TOKENS:
            batches.append([])
        batches[-1].append(place)
    return batches


def _read_batch(
    model: LanguageModel,
    dictionary: Dictionary,
    batch: Sequence[int],
    rendered: Sequence[Rendered],
    wanted: Sequence[Tensor],
) -> dict[int, tuple[Tensor, SparseCode, Tensor, float, float]]:
    longest = max(len(rendered[place].ids) for place in batch)
    rows = [[*rendered[place].ids, *[rendered[place].ids[0]] * (longest - len(rendered[place].ids))] for place in batch]
    ids = torch.tensor(rows)
    lengths = torch.tensor([len(rendered[place].ids) for place in batch])
    x = model.residual(ids, dictionary.site)
    keep = keep_mask(x, lengths, dictionary.stats.sink_limit).cpu()
    for row, place in enumerate(batch):
        keep[row, : len(wanted[place])] &= wanted[place]
    x = x.cpu()
    flat = x[keep].float()
    code = dictionary.encode(flat)
    missed = (flat - dictionary.complete(flat, code)).square().sum(1).double()
    spread = (flat - dictionary.stats.mean_vector.float()).square().sum(1).double()
    bounds = starts_from_counts(keep.sum(1)).tolist()
    return {
        place: (
            x[row][keep[row]],
            code.row_slice(bounds[row], bounds[row + 1]),
            ids[row][keep[row]],
            float(missed[bounds[row] : bounds[row + 1]].sum()),
            float(spread[bounds[row] : bounds[row + 1]].sum()),
        )
        for row, place in enumerate(batch)
    }
