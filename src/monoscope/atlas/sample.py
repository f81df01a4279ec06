"""An even sample of short windows of the text with all that fires in them, to try labels on and to see what goes
together.

A window is 32 tokens of one document. Half of the sample are held-out documents, which no label has seen, half are
others. How many there are is bounded whatever the text and the dictionary, and which they are depends on the text
alone.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from monoscope.atlas.contexts import sampling_key
from monoscope.atlas.examples import order_by
from monoscope.atlas.ranges import ranges
from monoscope.harvest.token_store import TokenStore

WINDOW = 32
_MOST_WINDOWS = 8192


@dataclass(frozen=True)
class Columns:
    """Firings by feature: feature f fires on `row[offsets[f]:offsets[f + 1]]`, in reading order, with `value`."""

    offsets: np.ndarray
    row: np.ndarray
    value: np.ndarray

    def of(self, feature: int) -> tuple[np.ndarray, np.ndarray]:
        """Where one feature fires, and how much."""
        here = slice(self.offsets[feature], self.offsets[feature + 1])
        return self.row[here], self.value[here]


@dataclass(frozen=True)
class Sample:
    """Encoded tokens of the sampled windows in reading order, row after row, and what fires on them.

    `start` and `held` are one a window; `token` and `window` one a row; the firings of row r are `feature` and `value`
    from `offsets[r]` to `offsets[r + 1]`.
    """

    start: np.ndarray
    held: np.ndarray
    token: np.ndarray
    window: np.ndarray
    offsets: np.ndarray
    feature: np.ndarray
    value: np.ndarray
    n_features: int

    @property
    def n_rows(self) -> int:
        """Encoded tokens."""
        return len(self.token)

    @cached_property
    def columns(self) -> Columns:
        """The same firings by feature."""
        order = order_by(self.feature)
        row = np.repeat(np.arange(self.n_rows, dtype=np.int32), np.diff(self.offsets))[order]
        counts = np.bincount(self.feature, minlength=self.n_features)
        return Columns(np.concatenate([[0], np.cumsum(counts)]), row, self.value[order])

    def firings(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All features that fire on some rows: (place in `rows`, feature)."""
        place, at = ranges(self.offsets[rows], self.offsets[rows + 1])
        return place, self.feature[at]


class Sampling:
    """The sample while codes stream by. Mutable."""

    def __init__(self, store: TokenStore, n_features: int, most_windows: int = _MOST_WINDOWS) -> None:
        self.n_features = n_features
        self.start, self.held = _choose(store, most_windows)
        self._parts: list[tuple[np.ndarray, ...]] = []

    def add(self, token: np.ndarray, counts: np.ndarray, feature: np.ndarray, value: np.ndarray) -> None:
        """Keep what lies in a sampled window; the arrays are those of a piece of the codes."""
        window = np.searchsorted(self.start, token, side="right") - 1
        inside = (window >= 0) & (token - self.start[window] < WINDOW)
        if not inside.any():
            return
        kept = np.repeat(inside, counts)
        self._parts.append((token[inside], window[inside].astype(np.int32), counts[inside], feature[kept], value[kept]))

    def sample(self) -> Sample:
        """What was kept, in reading order."""
        empty = (np.int64, np.int32, np.int32, np.int32, np.float32)
        columns = [np.concatenate(part) for part in zip(*self._parts, strict=True)] or [np.zeros(0, t) for t in empty]
        token, window, counts, feature, value = columns
        self._parts = []
        order = np.argsort(token, kind="stable")
        first = np.cumsum(counts, dtype=np.int64) - counts
        counts = counts[order].astype(np.int64)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        source = np.repeat(first[order] - offsets[:-1], counts) + np.arange(int(offsets[-1]))
        return Sample(
            self.start, self.held, token[order], window[order], offsets, feature[source], value[source], self.n_features
        )


def _choose(store: TokenStore, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole windows of 32 inside the windows that the model read, held-out ones and others, `most` of each."""
    start, length = store.windows.start.numpy().astype(np.int64), store.windows.length.numpy()
    window, inside = ranges(np.zeros(len(start), np.int64), length.astype(np.int64) // WINDOW)
    first, held = start[window] + inside * WINDOW, store.windows.held.numpy()[window]
    key = sampling_key(np.zeros(len(first), np.int64), first)
    chosen = [
        side[np.argsort(key[side], kind="stable")[:most]] for side in (np.flatnonzero(held), np.flatnonzero(~held))
    ]
    number = np.sort(np.concatenate(chosen))
    return first[number], held[number]
