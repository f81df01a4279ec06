"""The best few contexts of every feature, kept while the text streams by.

Two rules choose, and both depend on the text alone, never on how it came in pieces:

- *top*: the windows with the highest peaks;
- *spread*: for each fifth of the way from zero to a feature's maximum, the windows whose peak falls there and whose
  peak token has the smallest hash, which is an even sample without a random stream.

Of each document only its best window counts.
"""

from dataclasses import dataclass

import numpy as np

REACH = 24
INTERVALS = 5
QUANTILES = ("0-20 %", "20-40 %", "40-60 %", "60-80 %", "80-100 %", "top", "silent")
TOP, SILENT = INTERVALS, INTERVALS + 1


@dataclass(frozen=True)
class Peaks:
    """One row for each window in which a feature fires: where it is strongest, and how strongly."""

    feature: np.ndarray
    document: np.ndarray
    token: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class _Rows:
    """Peaks with what is needed to keep them."""

    group: np.ndarray
    key: np.ndarray
    document: np.ndarray
    token: np.ndarray
    value: np.ndarray

    def __len__(self) -> int:
        return len(self.group)


class Shelf:
    """For each group the `limit` rows with the smallest key, each of another document. Mutable.

    What is offered waits until it is worth sorting in, so that the work grows with the logarithm of the text. Call
    `settle` before reading.

    Memory  groups × limit × 24 bytes at most, two thirds of it only where a group had rows.
    """

    def __init__(self, groups: int, limit: int) -> None:
        self.limit = limit
        self.key = np.full((groups, limit), np.inf)
        self.document = np.zeros((groups, limit), np.int32)
        self.token = np.zeros((groups, limit), np.int64)
        self.value = np.zeros((groups, limit), np.float32)
        self._bound = np.full(groups, np.inf)
        self._waiting: list[_Rows] = []
        self._kept = 0

    def offer(self, group: np.ndarray, key: np.ndarray, peaks: Peaks) -> None:
        """Take in what beats the worst row kept."""
        number = np.flatnonzero(key <= self._bound[group])
        chosen, _ = best_rows(group[number], peaks.document[number], key[number], peaks.token[number], self.limit)
        if not len(chosen):
            return
        number = number[chosen]
        rows = (group[number], key[number], peaks.document[number], peaks.token[number], peaks.value[number])
        self._waiting.append(_Rows(*rows))
        if sum(map(len, self._waiting)) >= self._kept // 2:
            self.settle()

    def settle(self) -> None:
        """Sort in what waits."""
        if not self._waiting:
            return
        touched = np.unique(np.concatenate([rows.group for rows in self._waiting]))
        rows = _joined([self._rows(touched), *self._waiting])
        self._waiting = []
        chosen, rank = best_rows(rows.group, rows.document, rows.key, rows.token, self.limit)
        group = rows.group[chosen]
        self.key[touched] = np.inf
        for name in ("key", "document", "token", "value"):
            getattr(self, name)[group, rank] = getattr(rows, name)[chosen]
        self._bound[touched] = self.key[touched, -1]
        self._kept = int((self.key < np.inf).sum())

    def _rows(self, groups: np.ndarray) -> _Rows:
        place, rank = np.nonzero(self.key[groups] < np.inf)
        group = groups[place]
        columns = (self.key, self.document, self.token, self.value)
        return _Rows(group, *(column[group, rank] for column in columns))


def _joined(parts: list[_Rows]) -> _Rows:
    return _Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in _Rows.__dataclass_fields__))


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
