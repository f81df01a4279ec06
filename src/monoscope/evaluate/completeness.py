"""Which concepts a dictionary has a feature for, against how often the text names them.

Scaling Monosemanticity (May 2024), "Feature completeness": whether a concept has a feature follows its frequency in the
training text, and half of the concepts have one where they come up once in about as many tokens as there are features.

What is measured here, for each title of the text that is mentioned at least `FEWEST` times:
  units       mentions (runs of tokens) of all titles, as often as they occur, and `OTHERS` single tokens drawn from the
              rest. A latent's value on a unit is its largest on the unit's tokens.
  halves      the mentions of a title, in random order, go to the tuning and the measuring half in turn.
  candidates  the `CANDIDATES` latents with the largest difference between their firing rates on the title's mentions
              and on all other units, tuning half only.
  one latent  the candidate and the threshold with the best F1 in the tuning half; its F1 in the measuring half counts.
  present     that F1 is at least `PRESENT`. As all other units are there at their natural frequency, a latent that
              fires on many titles is not precise. `leak` is the share of its activation that lies on other units.
The control deals the same mentions out to the titles at random.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from monoscope.core.progress import SILENT, Progress
from monoscope.core.runtime import numpy_stream
from monoscope.core.sparse import SparseCode, starts_from_counts
from monoscope.dictionary.base import Dictionary
from monoscope.evaluate.codes import read_codes
from monoscope.evaluate.mentions import Mentions
from monoscope.evaluate.telling import CANDIDATES, best_cut
from monoscope.harvest.shards import ShardStore
from monoscope.harvest.token_store import TokenStore

FEWEST, PRESENT, OTHERS = 4, 0.5, 50_000
_NEVER = np.array([], dtype=np.int64)


@dataclass(frozen=True)
class Concept:
    """How well the best latent speaks for a title; `frequency` is mentions a token of the training text."""

    name: str
    mentions: int
    frequency: float
    feature: int
    f1: float
    precision: float
    recall: float
    leak: float

    @property
    def present(self) -> bool:
        """Whether the dictionary has a feature for it."""
        return self.f1 >= PRESENT


@dataclass(frozen=True)
class Units:
    """Runs of tokens `first` to `last`, half-open, with the title they mention, or -1; the halves are told by `tunes`.

    `frequency[c]` is that of title `c` in the training documents, in mentions a token.
    """

    names: tuple[str, ...]
    concept: Int[np.ndarray, "units"]
    first: Int[np.ndarray, "units"]
    last: Int[np.ndarray, "units"]
    tunes: np.ndarray
    frequency: Float[np.ndarray, "names"]


@dataclass(frozen=True)
class Fit:
    """P(present) = 1 / (1 + exp(-(a + b log10(frequency × living latents)))).

    `half` is the frequency at which half of the concepts are present, as a multiple of one over the living latents;
    None where presence does not rise with frequency.
    """

    a: float
    b: float
    half: float | None


def make_units(store: TokenStore, mentions: Mentions, *, seed: int = 0) -> Units:
    """The mentions, and single tokens from outside them, dealt out to two halves; a chat template mentions nothing."""
    random = numpy_stream(seed, "completeness")
    said = torch.cat([torch.zeros(1, dtype=torch.long), store.template.long().cumsum(0)])
    spoken = (said[mentions.last] == said[mentions.first]).numpy()
    name, first, last = (column.numpy()[spoken] for column in (mentions.name, mentions.first, mentions.last))
    taken = np.zeros(store.n_tokens, dtype=bool)
    for start, stop in zip(first.tolist(), last.tolist(), strict=True):
        taken[start:stop] = True
    free = np.flatnonzero(~(taken | store.template.numpy()))
    others = np.sort(random.choice(free, min(OTHERS, len(free)), replace=False))
    concept = np.concatenate([name, np.full(len(others), -1)])
    held = store.held_documents.numpy()
    train = ~held[store.document_of(torch.from_numpy(first)).numpy()] if len(first) else np.zeros(0, dtype=bool)
    tokens = int(torch.diff(store.offsets)[~store.held_documents].sum())
    return Units(
        names=mentions.names,
        concept=concept,
        first=np.concatenate([first, others]),
        last=np.concatenate([last, others + 1]),
        tunes=_halves(concept, random),
        frequency=np.bincount(name[train], minlength=len(mentions.names)) / max(1, tokens),
    )


def _halves(concept: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Every second unit of each concept, in random order; an odd one out goes to the measuring half."""
    order = random.permutation(len(concept))
    order = order[np.argsort(concept[order], kind="stable")]
    starts = np.flatnonzero(np.diff(concept[order], prepend=-2))
    place = np.arange(len(order)) - np.repeat(starts, np.diff(np.append(starts, len(order))))
    tunes = np.zeros(len(concept), dtype=bool)
    tunes[order] = place % 2 == 1
    return tunes


def shuffled(units: Units, *, seed: int = 0) -> Units:
    """The same mentions dealt out to the titles at random, each title as many as it had."""
    random = numpy_stream(seed, "completeness control")
    concept = units.concept.copy()
    named = np.flatnonzero(concept >= 0)
    concept[named] = random.permutation(concept[named])
    return replace(units, concept=concept, tunes=_halves(concept, random))


def read_units(
    dictionary: Dictionary, shards: ShardStore, units: Units, n_tokens: int, progress: Progress = SILENT
) -> tuple[SparseCode, Units]:
    """The largest activations on each unit, one row a unit; units none of whose tokens were stored are left out."""
    unit_of = torch.full((n_tokens,), -1)
    for number, (start, stop) in enumerate(zip(units.first.tolist(), units.last.tolist(), strict=True)):
        unit_of[start:stop] = number
    codes = read_codes(dictionary, shards, "all", wanted=unit_of >= 0, progress=progress)
    unit = unit_of[codes.token]
    seen, row = torch.unique(unit, return_inverse=True)
    return _largest(codes.code, row, len(seen)), _some(units, seen.numpy())


def _largest(code: SparseCode, row: Int[Tensor, "tokens"], n_rows: int) -> SparseCode:
    """Tokens of one row become one, with the largest value of each latent."""
    keys, place = torch.unique(row[code.rows] * code.n_latents + code.indices.long(), return_inverse=True)
    values = torch.zeros(len(keys)).scatter_reduce_(0, place, code.values.float(), "amax")
    counts = torch.bincount(keys // code.n_latents, minlength=n_rows)
    return SparseCode(keys % code.n_latents, values, starts_from_counts(counts), code.n_latents)


def _some(units: Units, seen: np.ndarray) -> Units:
    columns = {name: getattr(units, name)[seen] for name in ("concept", "first", "last", "tunes")}
    return replace(units, **columns)


def completeness(code: SparseCode, units: Units, *, fewest: int = FEWEST) -> list[Concept]:
    """One record for each title with at least `fewest` mentions in `units` and one in the training documents."""
    tuning, measuring = _Half(code, units, tunes=True), _Half(code, units, tunes=False)
    counts = np.bincount(units.concept[units.concept >= 0], minlength=len(units.names))
    found = []
    for number in np.flatnonzero((counts >= max(2, fewest)) & (units.frequency > 0)).tolist():
        feature, threshold = tuning.best(number)
        f1, precision, recall, leak = measuring.measure(number, feature, threshold)
        about = (units.names[number], int(counts[number]), float(units.frequency[number]), feature)
        found.append(Concept(*about, f1, precision, recall, leak))
    return found


class _Half:
    """The units of one half: their codes by rows, and by latents with the largest values first."""

    def __init__(self, code: SparseCode, units: Units, *, tunes: bool) -> None:
        mine = np.flatnonzero(units.tunes == tunes)
        self._concept = units.concept[mine]
        order = np.argsort(self._concept, kind="stable")
        bounds = np.searchsorted(self._concept[order], np.arange(len(units.names) + 1))
        self._units = lambda number: order[bounds[number] : bounds[number + 1]]
        starts, counts = code.starts.numpy(), code.counts.numpy()
        self._starts = np.concatenate([[0], np.cumsum(counts[mine])])
        at = np.repeat(starts[mine] - self._starts[:-1], counts[mine]) + np.arange(self._starts[-1])
        self._latents = code.indices.numpy()[at].astype(np.int64)
        values = code.values.numpy()[at].astype(np.float32)
        # A positive float and its bits rise together, so one sort of integers puts latents and values in order.
        by_latent = np.argsort((self._latents << 32) | (0xFFFFFFFF - values.view(np.uint32).astype(np.int64)))
        self._row, self._value = np.repeat(np.arange(len(mine)), counts[mine])[by_latent], values[by_latent]
        self._fires = np.bincount(self._latents, minlength=code.n_latents)
        self._column = np.concatenate([[0], np.cumsum(self._fires)])

    def best(self, number: int) -> tuple[int, float]:
        """The candidate and the threshold with the largest F1; of equals the first by difference of rates."""
        units = self._units(number)
        runs = [self._latents[self._starts[unit] : self._starts[unit + 1]] for unit in units.tolist()]
        latents, hits = np.unique(np.concatenate([_NEVER, *runs]), return_counts=True)
        rest = max(1, len(self._concept) - len(units))
        lead = hits / max(1, len(units)) - (self._fires[latents] - hits) / rest
        best = (-1, math.inf, -1.0)
        for candidate in latents[np.argsort(-lead, kind="stable")[:CANDIDATES]].tolist():
            rows, values = self._of(candidate)
            f1, passed, _ = best_cut(self._concept[rows] == number, values, len(units))
            best = max(best, (candidate, float(values[passed - 1]), f1), key=lambda found: found[2])
        return best[0], best[1]

    def measure(self, number: int, feature: int, threshold: float) -> tuple[float, float, float, float]:
        """F1, precision, recall and leak of a latent from a threshold on."""
        if feature < 0:
            return 0.0, 0.0, 0.0, 0.0
        rows, values = self._of(feature)
        right = self._concept[rows] == number
        passed = int(np.searchsorted(-values, -threshold, side="right"))
        hit, wanted = int(right[:passed].sum()), len(self._units(number))
        leak = 1 - float(values[right].sum()) / max(float(values.sum()), 1e-30) if len(values) else 0.0
        return 2 * hit / max(1, passed + wanted), hit / max(1, passed), hit / max(1, wanted), leak

    def _of(self, latent: int) -> tuple[np.ndarray, np.ndarray]:
        here = slice(int(self._column[latent]), int(self._column[latent + 1]))
        return self._row[here], self._value[here]


def fit_presence(reach: Sequence[float], present: Sequence[bool]) -> Fit:
    """A logistic curve through presence against log10 of `reach` = frequency × living latents, by Newton's method.

    A weak pull of both coefficients to 0 (a thousandth of one concept) keeps it finite where the two are apart.
    """
    x = np.stack([np.ones(len(reach)), np.log10(np.asarray(reach, dtype=np.float64))], axis=1)
    y = np.asarray(present, dtype=np.float64)
    weights = np.zeros(2)
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -50, 50)))
        gradient = x.T @ (y - p) - 1e-3 * weights
        step = np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + 1e-3 * np.eye(2), gradient)
        weights = weights + step * min(1.0, 5.0 / max(1e-12, float(np.abs(step).max())))
        if float(np.abs(step).max()) < 1e-9:
            break
    a, b = (float(weight) for weight in weights)
    exponent = -a / b if b > 1e-6 else math.inf
    return Fit(a, b, 10.0**exponent if abs(exponent) < 12 else None)


def presence_bins(reach: Sequence[float], present: Sequence[bool], per_decade: int = 3) -> list[dict[str, float]]:
    """The share present in bins of equal width in log10 of `reach`, each with how many concepts it rests on."""
    bins = np.floor(np.log10(np.asarray(reach, dtype=np.float64)) * per_decade).astype(int)
    y = np.asarray(present, dtype=np.float64)
    return [
        {
            "reach": float(10 ** ((number + 0.5) / per_decade)),
            "concepts": int((bins == number).sum()),
            "present": float(y[bins == number].mean()),
        }
        for number in np.unique(bins).tolist()
    ]
