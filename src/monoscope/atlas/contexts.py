"""The best few contexts of every feature, kept while the text streams by.

Two rules choose, and both depend on the text alone, never on how it came in pieces:

- *top*: the windows with the highest peaks;
- *spread*: for each fifth of the way from zero to a feature's maximum, the windows whose peak falls there and whose
  peak token has the smallest hash, which is an even sample without a random stream.

Of each document only its best window counts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

REACH = 24
WIDTH = 2 * REACH + 1
INTERVALS = 5
QUANTILES = ("0-20 %", "20-40 %", "40-60 %", "60-80 %", "80-100 %", "top")
TOP = INTERVALS

Fill = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Peaks:
    """One row for each window in which a feature fires: where it is strongest, and how strongly."""

    feature: np.ndarray
    document: np.ndarray
    token: np.ndarray
    value: np.ndarray


class Shelf:
    """For each group the `limit` rows with the smallest key, each of another document. Mutable.

    Memory  groups × limit × (WIDTH + 7) × 4 bytes at most; a group that never had a row costs nothing.
    """

    def __init__(self, groups: int, limit: int) -> None:
        self.limit = limit
        self.key = np.full((groups, limit), np.inf)
        self.document = np.zeros((groups, limit), np.int32)
        self.token = np.zeros((groups, limit), np.int64)
        self.value = np.zeros((groups, limit), np.float32)
        self.activations = np.zeros((groups, limit, WIDTH), np.float32)

    def offer(self, group: np.ndarray, key: np.ndarray, peaks: Peaks, fill: Fill) -> None:
        """Take in what beats the worst row kept; `fill` gives the activations around the peaks of given numbers."""
        number = np.flatnonzero(key <= self.key[group, -1])
        if not len(number):
            return
        touched, new = np.unique(group[number], return_inverse=True)
        old, place = np.nonzero(self.key[touched] < np.inf)
        group_of = np.concatenate([old, new])
        keys = np.concatenate([self.key[touched][old, place], key[number]])
        document = np.concatenate([self.document[touched][old, place], peaks.document[number]])
        token = np.concatenate([self.token[touched][old, place], peaks.token[number]])
        value = np.concatenate([self.value[touched][old, place], peaks.value[number]])
        chosen, rank = best_rows(group_of, document, keys, token, self.limit)
        activations = np.empty((len(chosen), WIDTH), np.float32)
        kept = chosen < len(old)
        activations[kept] = self.activations[touched[old[chosen[kept]]], place[chosen[kept]]]
        activations[~kept] = fill(number[chosen[~kept] - len(old)])
        rows = touched[group_of[chosen]]
        self.key[touched] = np.inf
        self.key[rows, rank] = keys[chosen]
        self.document[rows, rank] = document[chosen]
        self.token[rows, rank] = token[chosen]
        self.value[rows, rank] = value[chosen]
        self.activations[rows, rank] = activations


def best_rows(
    group: np.ndarray, document: np.ndarray, key: np.ndarray, token: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """The `limit` rows of smallest (key, token) of each group, one for each document, and their ranks in the group."""
    order = np.lexsort((token, key, group))
    pair = group[order] * (int(document.max(initial=0)) + 1) + document[order]
    _, first = np.unique(pair, return_index=True)
    order = order[np.sort(first)]
    sorted_group = group[order]
    begins = np.flatnonzero(np.diff(sorted_group, prepend=-1))
    lengths = np.diff(np.append(begins, len(order)))
    rank = np.arange(len(order)) - np.repeat(begins, lengths)
    keep = rank < limit
    return order[keep], rank[keep]


def sampling_key(feature: np.ndarray, token: np.ndarray) -> np.ndarray:
    """A number in [0, 1) that depends on the feature and the token index alone."""
    mixed = token.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + feature.astype(np.uint64) * np.uint64(
        0xD1B54A32D192ED03
    )
    mixed ^= mixed >> np.uint64(31)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


def interval_of(value: np.ndarray, maximum: np.ndarray) -> np.ndarray:
    """Which fifth of the way to the maximum a value lies in; above it, or where it is not known, the last."""
    share = np.divide(value, maximum, out=np.ones_like(value), where=maximum > 0)
    return np.minimum((share * INTERVALS).astype(np.int64), INTERVALS - 1)
