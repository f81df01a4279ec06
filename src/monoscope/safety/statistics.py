"""How well scores tell two sets apart, how sure that is, and what is left of it when many features were tried."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from monoscope.atlas.contrast import auroc
from monoscope.core.runtime import numpy_stream

_DRAWS, LEVEL = 1000, 0.95
_PIECE, _FEW = 1 << 22, 10


@dataclass(frozen=True)
class Interval:
    """A figure with its interval (95 % unless said otherwise)."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """Rounded."""
        return {"value": round(self.value, 4), "low": round(self.low, 4), "high": round(self.high, 4)}


def area(scores: Float[Tensor, "texts"], positive: Bool[Tensor, "texts"]) -> float:
    """AUROC of one score: the chance that a positive scores higher than a negative, ties half; 0.5 where a set is
    empty. What is no number counts as the largest."""
    scores = _highest(scores)
    return float(auroc(scores[positive][:, None], scores[~positive][:, None])[0])


def _highest(scores: Float[Tensor, "texts"]) -> Float[Tensor, "texts"]:
    """What is no number as plus infinity: it is flagged at any threshold, so it must rank there too."""
    return torch.where(scores.isnan(), torch.inf, scores.double())


def area_interval(
    scores: Float[Tensor, "texts"], positive: Bool[Tensor, "texts"], groups: Sequence[str], *, seed: int = 0
) -> Interval:
    """AUROC with its bootstrap interval; whole groups are drawn, as texts of one group are alike. A handful of groups
    cannot tell how groups differ, and would look sure: below ten the interval also spans what drawing single texts
    gives.

    Edges  draws in which one label is missing are left out; where all are, the interval is the value itself.
    """
    s, y = _highest(scores).numpy(), positive.numpy()
    value, units = area(scores, positive), [list(groups)]
    if len(set(groups)) < _FEW:
        units.append([str(text) for text in range(len(groups))])
    found = [
        interval_around(value, np.concatenate([_areas(s, y, times) for times in drawn_groups(unit, seed, "auroc")]))
        for unit in units
    ]
    return Interval(value, min(each.low for each in found), max(each.high for each in found))


def drawn_groups(groups: Sequence[str], seed: int, name: str) -> "Iterator[np.ndarray]":
    """How often each text is drawn, [draws, texts], where whole groups are drawn with replacement; 1,000 draws in
    pieces of bounded size."""
    names, group_of = np.unique(np.array(groups), return_inverse=True)
    stream, piece = numpy_stream(seed, name), max(1, min(_DRAWS, _PIECE // len(groups)))
    for first in range(0, _DRAWS, piece):
        drawn = stream.integers(0, len(names), (min(piece, _DRAWS - first), len(names)))
        yield np.stack([np.bincount(row, minlength=len(names)) for row in drawn])[:, group_of].astype(float)


def interval_around(value: float, drawn: np.ndarray) -> Interval:
    """The middle 95 % of what was drawn, and the value in any case; draws that could not be told are NaN."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Interval(value, value, value)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, min(value, float(low)), max(value, float(high)))


def _areas(scores: np.ndarray, positive: np.ndarray, times: np.ndarray) -> np.ndarray:
    """AUROC with each text counted so many times [draws, texts]; NaN where a label was not drawn."""
    order = np.argsort(scores, kind="stable")
    begin = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0]) if len(order) else order
    mine, others = (np.add.reduceat((times * some)[:, order], begin, axis=1) for some in (positive, ~positive))
    below = np.cumsum(others, axis=1) - others / 2
    pairs = mine.sum(1) * others.sum(1)
    return np.divide((mine * below).sum(1), pairs, out=np.full(len(times), np.nan), where=pairs > 0)


def rank_p_values(
    positive: Float[Tensor, "positives features"], negative: Float[Tensor, "negatives features"]
) -> Float[Tensor, "features"]:
    """Two-sided p-value of the Mann-Whitney test for each feature, by the normal approximation with ties."""
    n, m = len(positive), len(negative)
    both = torch.cat([positive, negative]).double()
    areas = auroc(positive, negative)
    _, ties = _tie_sums(both)
    total = n + m
    variance = (n * m / 12) * ((total + 1) - ties / (total * (total - 1)))
    z = (areas - 0.5).abs() * n * m / variance.clamp(min=1e-12).sqrt()
    p = torch.erfc(z / math.sqrt(2))
    return torch.where(variance > 1e-12, p, 1.0)


def _tie_sums(values: Float[Tensor, "rows features"]) -> tuple[Tensor, Tensor]:
    """The sorted values, and for each column the sum of t³ - t over its groups of ties."""
    ordered = values.sort(dim=0).values
    sums = torch.zeros(values.shape[1], dtype=torch.double)
    for column in range(values.shape[1]):
        counts = torch.unique_consecutive(ordered[:, column], return_counts=True)[1].double()
        sums[column] = (counts**3 - counts).sum()
    return ordered, sums


def false_discovery(p: Float[Tensor, "tests"]) -> Float[Tensor, "tests"]:
    """Benjamini-Hochberg q-values: reject all with q <= a and at most a share a of the rejected is expected false."""
    count = len(p)
    if not count:
        return p.clone()
    order = torch.argsort(p, stable=True)
    scaled = p[order] * count / torch.arange(1, count + 1)
    smallest = torch.flip(torch.cummin(torch.flip(scaled, [0]), 0).values, [0])
    q = torch.empty_like(p)
    q[order] = smallest.clamp(max=1.0)
    return q


def conformal_threshold(benign: Float[Tensor, "texts"], fpr: float) -> float:
    """The threshold above which a new benign text falls with probability at most `fpr`, whatever the scores' law.

    It is the order statistic ceil((n + 1)(1 - fpr)) of n exchangeable benign scores (methods P.12); plus infinity where
    n is too small to promise that much, which is below 1/fpr - 1. What is no number counts as plus infinity.
    """
    rank = math.ceil((len(benign) + 1) * (1 - fpr) - 1e-9)
    if rank > len(benign):
        return math.inf
    return float(_highest(benign).sort().values[max(0, rank - 1)])


def rate_above(scores: Float[Tensor, "texts"], threshold: float) -> float:
    """The share of scores above a threshold; what is no number counts as above. 0 for no scores."""
    return float((~(scores <= threshold)).double().mean()) if len(scores) else 0.0


def rate_at_rate(scores: Float[Tensor, "texts"], positive: Bool[Tensor, "texts"], fpr: float) -> float:
    """The largest share of positives flagged at any threshold that flags at most a share `fpr` of these negatives."""
    benign = _highest(scores[~positive]).sort(descending=True).values
    allowed = math.floor(fpr * len(benign) + 1e-9)
    threshold = float(benign[allowed]) if allowed < len(benign) else -math.inf
    return rate_above(scores[positive], threshold)


def binomial_interval(hits: int, trials: int, *, level: float = LEVEL) -> tuple[float, float]:
    """The exact (Clopper-Pearson) interval of a share."""
    if not trials:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else _bisect(lambda p: _upper_tail(hits, trials, p) - tail)
    high = 1.0 if hits == trials else _bisect(lambda p: tail - _lower_tail(hits, trials, p))
    return low, high


def binomial_range(trials: int, rate: float, *, level: float = 0.99) -> tuple[int, int]:
    """The counts of hits, inclusive, between the two tails of (1 - level)/2 of a binomial with this rate."""
    tail, at = (1 - level) / 2, np.arange(trials + 1)
    mass = np.exp(np.array([_log_mass(int(k), trials, rate) for k in at]))
    cumulative = np.cumsum(mass)
    low = int(np.searchsorted(cumulative, tail, "right"))
    return low, min(trials, int(np.searchsorted(cumulative, 1 - tail, "left")))


def _log_mass(hits: int, trials: int, p: float) -> float:
    if p <= 0 or p >= 1:
        return 0.0 if hits == (0 if p <= 0 else trials) else -math.inf
    choose = math.lgamma(trials + 1) - math.lgamma(hits + 1) - math.lgamma(trials - hits + 1)
    return choose + hits * math.log(p) + (trials - hits) * math.log1p(-p)


def _lower_tail(hits: int, trials: int, p: float) -> float:
    return sum(math.exp(_log_mass(k, trials, p)) for k in range(hits + 1))


def _upper_tail(hits: int, trials: int, p: float) -> float:
    return 1.0 - _lower_tail(hits - 1, trials, p)


def _bisect(rising: Callable[[float], float]) -> float:
    """Where between 0 and 1 a rising function crosses zero."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class Drift:
    """Two samples of scores compared: the largest distance of their distribution functions, and its p-value."""

    distance: float
    p: float


def drift(reference: Float[Tensor, "old"], scores: Float[Tensor, "new"]) -> Drift:
    """The two-sample Kolmogorov-Smirnov test, with the asymptotic p-value of Stephens' corrected statistic."""
    old, new = _highest(reference).sort().values, _highest(scores).sort().values
    if not len(old) or not len(new):
        return Drift(0.0, 1.0)
    points = torch.cat([old, new])
    below = [torch.searchsorted(sample, points, right=True).double() / len(sample) for sample in (old, new)]
    distance = float((below[0] - below[1]).abs().max())
    size = math.sqrt(len(old) * len(new) / (len(old) + len(new)))
    x = (size + 0.12 + 0.11 / size) * distance
    if x < 0.2:
        return Drift(distance, 1.0)
    p = 2 * sum((-1) ** (k - 1) * math.exp(-2 * (k * x) ** 2) for k in range(1, 101))
    return Drift(distance, min(1.0, max(0.0, p)))
