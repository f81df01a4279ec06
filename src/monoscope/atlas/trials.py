"""Windows on which the label of a feature is tried: some in which it fires, some in which it does not.

A score is taken on held-out windows: 20 with a firing, 4 of them for each fifth of the way to the largest activation
there (stronger fifths make up for empty ones), and 20 without, of which 10 contain the token that the feature typically
fires on, as far as there are such. A label that only names the commonest word cannot tell those apart from the first. A
label is chosen on more windows of the other documents, drawn in the same way.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from monoscope.atlas.contexts import INTERVALS, interval_of, sampling_key
from monoscope.atlas.sample import WINDOW, Sample
from monoscope.harvest.token_store import TokenStore

FIRING, SILENT, LOOKALIKES = 20, 20, 10
CHOOSING = 5  # times as many windows to choose a label on as to score it on
# With fewer firing windows than this a score would be chance.
FEWEST = 4
_TRIES = 160
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Trial:
    """The windows (numbers of the sample) for one feature and side; `peak` the row of the strongest firing in each."""

    firing: np.ndarray
    peak: np.ndarray
    value: np.ndarray
    silent: np.ndarray
    lookalikes: int

    @cached_property
    def weight(self) -> np.ndarray:
        """For each firing window a weight, such that every fifth of the strengths weighs the same; they sum to 1."""
        interval = _fifth(self.value)
        counts = np.bincount(interval, minlength=INTERVALS)
        return 1 / counts[interval] / max(1, (counts > 0).sum())

    @property
    def windows(self) -> np.ndarray:
        """Firing ones first."""
        return np.concatenate([self.firing, self.silent])

    @property
    def fires(self) -> np.ndarray:
        """For each window whether the feature fires there."""
        return np.arange(len(self.firing) + len(self.silent)) < len(self.firing)

    @property
    def enough(self) -> bool:
        """Can a score be taken?"""
        return min(len(self.firing), len(self.silent)) >= FEWEST


@dataclass(frozen=True)
class Firings:
    """The windows of the sample in which a feature fires, in reading order, with the row and strength of each peak."""

    window: np.ndarray
    peak: np.ndarray
    value: np.ndarray


class TrialMaker:
    """Chooses the trials of any feature; everything about the sample is sorted once."""

    def __init__(self, sample: Sample, store: TokenStore) -> None:
        self.sample, self._ids = sample, store.ids.numpy()
        self._sides = {True: np.flatnonzero(sample.held), False: np.flatnonzero(~sample.held)}

    @cached_property
    def _by_token(self) -> tuple[np.ndarray, np.ndarray]:
        """(offsets, windows): token t of the vocabulary is in `windows[offsets[t] : offsets[t + 1]]`."""
        tokens = self._ids[self.sample.start[:, None] + np.arange(WINDOW)].astype(np.int64)
        windows = np.arange(len(tokens))
        keys = np.unique(tokens * max(1, len(tokens)) + windows[:, None])
        known = np.bincount(keys // max(1, len(tokens)), minlength=self._ids.max(initial=0) + 1)
        return np.concatenate([[0], np.cumsum(known)]), keys % max(1, len(tokens))

    def windows_with(self, token: int, held: bool) -> np.ndarray:
        """The sampled windows of a side that contain a token."""
        offsets, windows = self._by_token
        found = windows[offsets[token] : offsets[token + 1]]
        return found[self.sample.held[found] == held]

    def firings(self, feature: int) -> Firings:
        """Where a feature fires in the sample, window by window."""
        rows, values = self.sample.columns.of(feature)
        if not len(rows):
            return Firings(_NONE, _NONE, np.zeros(0, np.float32))
        windows = self.sample.window[rows]
        begins = np.flatnonzero(np.diff(windows, prepend=-1))
        highest = np.maximum.reduceat(values, begins)
        at = np.flatnonzero(values == np.repeat(highest, np.diff(np.append(begins, len(rows)))))
        segment = np.searchsorted(begins, at, side="right") - 1
        peaks = rows[at[np.diff(segment, prepend=-1) > 0]]
        return Firings(windows[begins].astype(np.int64), peaks.astype(np.int64), highest)

    def typical_token(self, firings: Firings) -> tuple[int, float]:
        """The commonest token at the peaks, and its share of them; -1 where the feature is silent."""
        if not len(firings.peak):
            return -1, 0.0
        ids, counts = np.unique(self._ids[self.sample.token[firings.peak]], return_counts=True)
        best = int(counts.argmax())
        return int(ids[best]), float(counts[best] / counts.sum())

    def trial(self, feature: int, firings: Firings, typical: int, *, held: bool, times: int = 1) -> Trial:
        """The windows to try a label of the feature on, `times` as many as for a score."""
        mine = np.flatnonzero(self.sample.held[firings.window] == held)
        chosen = mine[self._over_strengths(feature, firings.window[mine], firings.value[mine], times * FIRING)]
        alike = self.lookalikes(feature, firings, typical, held=held)[: times * LOOKALIKES]
        others = self._silent(feature, firings.window, held=held, without=alike)[: times * SILENT - len(alike)]
        silent = np.concatenate([alike, others])
        return Trial(firings.window[chosen], firings.peak[chosen], firings.value[chosen], silent, len(alike))

    def _over_strengths(self, feature: int, windows: np.ndarray, values: np.ndarray, wanted: int) -> np.ndarray:
        """Places of windows, as many of each fifth of the strengths as there are, going round from the strongest."""
        interval = _fifth(values)
        order = np.lexsort((sampling_key(np.full(len(windows), feature), windows), interval))
        rank = np.arange(len(order)) - np.searchsorted(interval[order], interval[order])
        return order[np.lexsort((-interval[order], rank))[:wanted]]

    def lookalikes(self, feature: int, firings: Firings, typical: int, *, held: bool) -> np.ndarray:
        """Windows that contain the typical token and in which the feature is silent, in an order set by a hash."""
        if typical < 0:
            return _NONE
        found = self.windows_with(typical, held)
        found = found[~self._marked(firings.window)[found]]
        return found[np.argsort(sampling_key(np.full(len(found), feature), found), kind="stable")]

    def rows_of(self, windows: np.ndarray, token: int) -> np.ndarray:
        """The first encoded row of each window on which a token stands; windows without one are left out."""
        first = np.searchsorted(self.sample.window, windows, side="left")
        last = np.searchsorted(self.sample.window, windows, side="right")
        rows = []
        for low, high in zip(first.tolist(), last.tolist(), strict=True):
            found = np.flatnonzero(self._ids[self.sample.token[low:high]] == token)
            rows += [low + int(found[0])] if len(found) else []
        return np.array(rows, np.int64)

    def _silent(self, feature: int, firing: np.ndarray, *, held: bool, without: np.ndarray) -> np.ndarray:
        side = self._sides[held]
        if not len(side):
            return _NONE
        draws = sampling_key(np.full(_TRIES, feature), np.arange(_TRIES) + (_TRIES if held else 0))
        taken = self._marked(firing)
        taken[without] = True
        found = side[(draws * len(side)).astype(np.int64)]
        return np.array(list(dict.fromkeys(found[~taken[found]].tolist())), np.int64)

    def _marked(self, windows: np.ndarray) -> np.ndarray:
        """For each window of the sample whether it is one of these."""
        marked = np.zeros(len(self.sample.start), bool)
        marked[windows] = True
        return marked


def _fifth(values: np.ndarray) -> np.ndarray:
    """Which fifth of the way to the largest of them each value lies in."""
    return interval_of(values, np.full(len(values), values.max(initial=0), np.float32))
