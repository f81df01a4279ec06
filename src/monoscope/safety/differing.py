"""What a fine-tune changed, in features: two checkpoints over one text through one dictionary.

Both models read the same tokens in the same batches, so that the same weights twice differ by exactly nothing. The unit
of evidence is the document, never the token: tokens of one text are alike, and a feature that changes in one document
has changed once. For each feature and document d = b - a is the difference of its firings, or of its activations summed
over all tokens, and

    z = Σ d / sqrt(Σ d²)

is the sign-flip test in its normal form: if it made no difference which checkpoint is called B, every document's d
would be as likely to have either sign. So z is at most the root of the number of documents that differ, and a few
documents prove nothing, however large their change.

Source  methods I.5: paired differences under Benjamini-Hochberg, ranked by their standardised size.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from monoscope.core.errors import BadRequest
from monoscope.core.progress import SILENT, Progress
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary
from monoscope.model.sinks import keep_mask
from monoscope.model.transformer import LanguageModel
from monoscope.safety.elsewhere import TOKEN_BITS, UNIT_BITS, Firings, packed
from monoscope.safety.reading import batches_by_length
from monoscope.safety.statistics import false_discovery

FEWEST_UNITS = 10
MOST_TOKENS = 1_000_000
_PAGE_TOKENS = 65_536


@dataclass(frozen=True)
class Passage:
    """A run of tokens that a model reads at once, which of them a chat template put there, and the unit of evidence
    that it belongs to. The first token is never counted."""

    ids: tuple[int, ...]
    template: tuple[bool, ...]
    unit: int


@dataclass(frozen=True)
class Paired:
    """Sums over units of d = b - a and of s = a + b, for each feature: all that the test needs."""

    difference: Float[Tensor, "n_latents"]
    total: Float[Tensor, "n_latents"]
    squares: Float[Tensor, "n_latents"]
    crossed: Float[Tensor, "n_latents"]
    total_squares: Float[Tensor, "n_latents"]

    @classmethod
    def empty(cls, n_latents: int) -> "Paired":
        """No unit yet."""
        return cls(*(torch.zeros(n_latents, dtype=torch.float64) for _ in range(5)))

    def add(self, features: Int[Tensor, "entries"], a: Float[Tensor, "entries"], b: Float[Tensor, "entries"]) -> None:
        """Add whole units: each entry is what one feature sums to in one unit."""
        d, s = (b - a).double(), (b + a).double()
        for sums, values in zip(
            (self.difference, self.total, self.squares, self.crossed, self.total_squares),
            (d, s, d * d, d * s, s * s),
            strict=True,
        ):
            sums.index_add_(0, features, values)

    def z(self, least: float = 0.0) -> Float[Tensor, "n_latents"]:
        """The statistic, with its sign, of a change beyond `least` times the mean of both models; 0 where there is no
        such change, or nothing differs."""
        up, down = self._beyond(least), -self._beyond(-least)
        return torch.where(up > 0, up, torch.where(down > 0, -down, torch.zeros_like(up)))

    def _beyond(self, share: float) -> Float[Tensor, "n_latents"]:
        h = share / 2
        spread = (self.squares - 2 * h * self.crossed + h * h * self.total_squares).clamp(min=0).sqrt()
        return torch.where(spread > 0, (self.difference - h * self.total) / spread.clamp(min=1e-300), 0.0)


@dataclass(frozen=True)
class Unexplained:
    """Running sums, for one model, of what the dictionary leaves unexplained, about the mean of the same tokens."""

    about: Float[Tensor, "d_model"]
    drift: Float[Tensor, "d_model"]
    sums: Float[Tensor, "3"]

    @classmethod
    def empty(cls, about: Float[Tensor, "d_model"]) -> "Unexplained":
        """No token yet; `about` is near the mean and keeps the sums exact."""
        return cls(about.double(), torch.zeros(len(about), dtype=torch.float64), torch.zeros(3, dtype=torch.float64))

    def add(self, x: Float[Tensor, "tokens d_model"], found: Float[Tensor, "tokens d_model"]) -> None:
        """Count tokens with their reconstruction."""
        centred = x.double() - self.about
        self.drift.add_(centred.sum(0))
        self.sums.add_(
            torch.stack([(x - found).double().square().sum(), centred.square().sum(), torch.tensor(float(len(x)))])
        )

    def fvu(self) -> float | None:
        """The fraction of variance unexplained; nothing where there were no two tokens that differ."""
        error, energy, tokens = self.sums.tolist()
        variance = energy - float(self.drift.square().sum()) / max(1.0, tokens)
        return error / variance if variance > 1e-12 * max(1.0, energy) else None

    def with_(self, other: "Unexplained") -> "Unexplained":
        """Both sets of tokens together."""
        return Unexplained(self.about, self.drift + other.drift, self.sums + other.sums)


@dataclass(frozen=True)
class Differing:
    """What two models made of one text: counts for each feature, paired sums, and how well the dictionary fits each.

    `tokens` are those counted; `fvu` and `fvu_template` hold A's figure and B's.
    """

    units: int
    tokens: int
    firings_a: Int[Tensor, "n_latents"]
    firings_b: Int[Tensor, "n_latents"]
    both: Int[Tensor, "n_latents"]
    rate: Paired
    activation: Paired
    fvu: tuple[float | None, float | None]
    fvu_template: tuple[float | None, float | None]
    firings: Firings

    @property
    def overlap(self) -> Float[Tensor, "n_latents"]:
        """|A ∩ B| / |A ∪ B| of the tokens on which a feature fires; 1 where it never fires."""
        either = self.firings_a + self.firings_b - self.both
        return torch.where(either > 0, self.both.double() / either.clamp(min=1), 1.0)


@dataclass(frozen=True)
class Tested:
    """For each feature: z of rate and activation, and q of having changed at all; q is 1 for what never fires."""

    z_rate: Float[Tensor, "n_latents"]
    z_activation: Float[Tensor, "n_latents"]
    p: Float[Tensor, "n_latents"]
    q: Float[Tensor, "n_latents"]

    @property
    def effect(self) -> Float[Tensor, "n_latents"]:
        """The larger of both standardised differences, with its sign."""
        return torch.where(self.z_rate.abs() >= self.z_activation.abs(), self.z_rate, self.z_activation)


def read_both(  # noqa: PLR0913
    model_a: LanguageModel,
    model_b: LanguageModel,
    dictionary: Dictionary,
    passages: Sequence[Passage],
    *,
    template: bool = True,
    progress: Progress = SILENT,
) -> Differing:
    """Read passages with both models and count what each feature does in either.

    A token counts once whose text from the passage's beginning is that of another: models that look back only do the
    same there again, and a system prompt at the head of each talk is one piece of evidence. It is left out of both
    where it is a sink in one. `template` says whether tokens of a chat template count; the FVU there is told anyway.

    Cost    one pass of each model up to the site; 9 bytes of memory for each firing, and sums for each feature.

    Raises
        BadRequest  there are fewer than 10 units, or too many tokens.
    """
    _check(passages, model_a.vocab_size)
    pass_ = _Pass((model_a, model_b), dictionary, template)
    progress.start("reading", sum(len(each.ids) for each in passages), "tokens")
    for page in _pages(passages):
        for places in batches_by_length([len(each.ids) for each in page]):
            batch = [page[place] for place in places]
            pass_.read(batch)
            progress.advance(sum(len(each.ids) for each in batch))
        pass_.close_units()
    progress.finish()
    if not pass_.tokens:
        raise BadRequest("No token of this text counts; give another, or count template tokens.")
    return pass_.result(len({each.unit for each in passages}))


def _check(passages: Sequence[Passage], vocab_size: int) -> None:
    units, tokens = {each.unit for each in passages}, sum(len(each.ids) for each in passages)
    if len(units) < FEWEST_UNITS:
        raise BadRequest(
            f"This text has {len(units)} pieces to compare; give at least {FEWEST_UNITS}: evidence counts by documents."
        )
    if tokens > MOST_TOKENS or max(units) >= 1 << UNIT_BITS or vocab_size > 1 << TOKEN_BITS:
        raise BadRequest(f"This text has {tokens:,} tokens; at most {MOST_TOKENS:,} are compared at once: give fewer.")


def _pages(passages: Sequence[Passage]) -> Iterator[list[Passage]]:
    """Whole units, page after page, so that a unit's sums are complete when its page is done."""
    page: list[Passage] = []
    tokens = 0
    for each in sorted(passages, key=lambda passage: passage.unit):
        if tokens >= _PAGE_TOKENS and each.unit != page[-1].unit:
            yield page
            page, tokens = [], 0
        page.append(each)
        tokens += len(each.ids)
    if page:
        yield page


def _fresh(passage: Passage, seen: set[int]) -> list[bool]:
    """Which tokens follow on a beginning that no passage before had; `seen` remembers hashes of beginnings."""
    state, found = 0, []
    for token in passage.ids:
        state = hash((state, token))
        found.append(state not in seen)
        seen.add(state)
    return found


class _Pass:
    """Running counts; `close_units` is called when all passages of the units read since then are read."""

    def __init__(self, models: tuple[LanguageModel, LanguageModel], dictionary: Dictionary, template: bool) -> None:
        self.models, self.dictionary, self.template, self.tokens = models, dictionary, template, 0
        n = dictionary.n_latents
        self.counts = torch.zeros(3, n, dtype=torch.long)
        self.rate, self.activation = Paired.empty(n), Paired.empty(n)
        mean = dictionary.stats.mean_vector
        # For each model: what somebody said, and the template.
        self.fits = [[Unexplained.empty(mean) for _ in range(2)] for _ in models]
        self.seen: set[int] = set()
        self.open: list[tuple[Tensor, Tensor]] = []
        self.keys: list[np.ndarray] = []
        self.kinds: list[np.ndarray] = []

    def read(self, batch: Sequence[Passage]) -> None:
        """Read some passages with both models."""
        lengths = torch.tensor([len(each.ids) for each in batch])
        longest = int(lengths.max())
        ids = torch.tensor([_padded(each.ids, longest, each.ids[0]) for each in batch])
        said = ~torch.tensor([_padded(each.template, longest, True) for each in batch])
        streams = [model.residual(ids, self.dictionary.site) for model in self.models]
        keep = torch.tensor([_padded(_fresh(each, self.seen), longest, False) for each in batch])
        for x in streams:
            keep &= keep_mask(x, lengths, self.dictionary.stats.sink_limit).cpu()
        said = said[keep]
        codes = [self._encode(x.cpu()[keep].float(), fit, said) for x, fit in zip(streams, self.fits, strict=True)]
        units = torch.tensor([each.unit for each in batch])[:, None].expand_as(ids)[keep]
        counted = torch.ones_like(said) if self.template else said
        self.tokens += int(counted.sum())
        self._count(codes, units, ids[keep], counted)

    def _encode(self, x: Tensor, fits: Sequence[Unexplained], said: Bool[Tensor, "rows"]) -> SparseCode:
        code = self.dictionary.encode(x)
        found = self.dictionary.complete(x, code)
        for fit, rows in zip(fits, (said, ~said), strict=True):
            if rows.any():
                fit.add(x[rows], found[rows])
        return code

    def _count(self, codes: Sequence[SparseCode], units: Tensor, ids: Tensor, counted: Tensor) -> None:
        width = self.dictionary.n_latents
        keys = torch.cat([code.rows * width + code.indices.long() for code in codes])
        keys, place = torch.unique(keys, return_inverse=True)
        values = torch.zeros(2, len(keys))
        split = len(codes[0].values)
        values[0, place[:split]] = codes[0].values.float()
        values[1, place[split:]] = codes[1].values.float()
        rows = keys // width
        chosen = counted[rows]
        rows, features, values = rows[chosen], (keys % width)[chosen], values[:, chosen]
        fired = values > 0
        for sums, where in zip(self.counts, (fired[0], fired[1], fired[0] & fired[1]), strict=True):
            sums += torch.bincount(features[where], minlength=width)
        self.keys.append(packed(features, units[rows], ids[rows]).numpy())
        self.kinds.append((fired[0].to(torch.uint8) + 2 * fired[1].to(torch.uint8)).numpy())
        self.open.append(_summed(units[rows] * width + features, torch.cat([fired.double(), values.double()])))

    def close_units(self) -> None:
        """The units read since the last call are whole."""
        keys, sums = _summed(torch.cat([keys for keys, _ in self.open]), torch.cat([v for _, v in self.open], dim=1))
        features = keys % self.dictionary.n_latents
        self.rate.add(features, sums[0], sums[1])
        self.activation.add(features, sums[2], sums[3])
        self.open = []

    def result(self, units: int) -> Differing:
        """The whole."""
        whole = [fits[0].with_(fits[1]) if self.template else fits[0] for fits in self.fits]
        return Differing(
            units,
            self.tokens,
            *self.counts,
            rate=self.rate,
            activation=self.activation,
            fvu=(whole[0].fvu(), whole[1].fvu()),
            fvu_template=(self.fits[0][1].fvu(), self.fits[1][1].fvu()),
            firings=Firings(np.concatenate(self.keys), np.concatenate(self.kinds)),
        )


def _padded(values: Sequence, length: int, filler: int) -> list:
    return [*values, *[filler] * (length - len(values))]


def _summed(keys: Int[Tensor, "entries"], values: Float[Tensor, "sums entries"]) -> tuple[Tensor, Tensor]:
    """The keys that there are, and the values of each summed."""
    found, place = torch.unique(keys, return_inverse=True)
    return found, torch.zeros(len(values), len(found), dtype=torch.float64).index_add_(1, place, values)


def changed_features(
    rate: Paired, activation: Paired, fires: Bool[Tensor, "n_latents"], *, least: float = 0.0
) -> Tested:
    """Which features changed beyond `least` times the mean of both models, in rate or in activation.

    p is twice the smaller of both tests' (Bonferroni), q is Benjamini-Hochberg's over all features that fire.
    """
    z_rate, z_activation = rate.z(least), activation.z(least)
    strongest = torch.maximum(z_rate.abs(), z_activation.abs())
    p = (2 * torch.erfc(strongest / math.sqrt(2))).clamp(max=1.0)
    q = torch.ones_like(p)
    q[fires] = false_discovery(p[fires])
    return Tested(z_rate, z_activation, p, q)
