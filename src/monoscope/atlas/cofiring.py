"""Which features fire together, on the tokens of the sample.

For feature i a few dozen of its firings are drawn evenly, and P(j | i) is the share of them on which j fires too:

    lift = P(j | i) / P(j)        correlation = (P(j | i) - P(j)) · sqrt(P(i) / ((1 - P(i)) · P(j) · (1 - P(j))))

the second being Pearson's of the two zero-one series. Lists are ranked by the lift that one standard error less of the
counts would give, so that two chance meetings of rare features do not come first.
"""

from dataclasses import dataclass

import numpy as np

from monoscope.atlas.ranges import ranges
from monoscope.atlas.sample import Sample

_DRAWN = 64
_LEAST_SEEN, _LEAST_SHARE = 3, 0.1
_BLOCK = 1024


@dataclass(frozen=True)
class Together:
    """For each feature the others that fire with it: [features, listed], -1 where the list is shorter.

    `of_neighbours` is the correlation with each of the neighbours that were given, [features, neighbours].
    """

    feature: np.ndarray
    lift: np.ndarray
    correlation: np.ndarray
    of_neighbours: np.ndarray


def fire_together(sample: Sample, neighbours: np.ndarray, listed: int) -> Together:
    """Look at every feature. Cost: some 2,000 pairs a feature, whatever their number."""
    n = sample.n_features
    found = Together(
        np.full((n, listed), -1, np.int32),
        np.zeros((n, listed), np.float32),
        np.zeros((n, listed), np.float32),
        np.zeros(neighbours.shape, np.float32),
    )
    share = np.diff(sample.columns.offsets) / max(1, sample.n_rows)
    for first in range(0, n, _BLOCK):
        _one_block(sample, share, neighbours, np.arange(first, min(n, first + _BLOCK)), found)
    return found


def _one_block(sample: Sample, share: np.ndarray, neighbours: np.ndarray, features: np.ndarray, out: Together) -> None:
    rows, owner = _draw(sample, features)
    if not len(rows):
        return
    drawn = np.bincount(owner, minlength=len(features))
    place, other = sample.firings(rows)
    keys, counts = np.unique(owner[place] * sample.n_features + other, return_counts=True)
    mine, other = keys // sample.n_features, keys % sample.n_features
    given = counts / drawn[mine]
    correlation = _correlation(given, share[features[mine]], share[other])
    wanted = np.arange(len(features))[:, None] * sample.n_features + neighbours[features]
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    # Pairs never seen together: their correlation is that of P(j | i) = 0.
    never = _correlation(np.zeros(wanted.shape), share[features][:, None], share[neighbours[features]])
    out.of_neighbours[features] = np.where(keys[at] == wanted, correlation[at], never)
    keep = (other != features[mine]) & (counts >= np.maximum(_LEAST_SEEN, _LEAST_SHARE * drawn[mine]))
    mine, other, given, counts, correlation = (a[keep] for a in (mine, other, given, counts, correlation))
    cautious = (counts - np.sqrt(counts)) / drawn[mine] / share[other]
    order = np.lexsort((other, -cautious, mine))
    mine, other = mine[order], other[order]
    rank = np.arange(len(mine)) - np.searchsorted(mine, mine)
    top = rank < out.feature.shape[1]
    into = features[mine[top]], rank[top]
    out.feature[into] = other[top]
    out.lift[into] = (given[order] / share[other])[top]
    out.correlation[into] = correlation[order][top]


def _draw(sample: Sample, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Up to `_DRAWN` firings of each feature, evenly spread: (row, place in `features`)."""
    offsets = sample.columns.offsets
    lengths = offsets[features + 1] - offsets[features]
    drawn = np.minimum(lengths, _DRAWN)
    owner, inside = ranges(np.zeros_like(drawn), drawn)
    at = offsets[features][owner] + inside * lengths[owner] // np.maximum(1, drawn[owner])
    return sample.columns.row[at].astype(np.int64), owner


def _correlation(given: np.ndarray, mine: np.ndarray, other: np.ndarray) -> np.ndarray:
    spread = np.sqrt(mine / np.maximum(1e-12, (1 - mine) * other * (1 - other)))
    return np.clip((given - other) * spread, -1, 1)
