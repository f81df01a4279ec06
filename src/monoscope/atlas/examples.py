"""What every feature does on a text, gathered in one pass over its codes.

The cost of a token depends on how many features fire on it, not on how many there are. Nothing here depends on the
order in which windows come or on how they are grouped, but for the last digits of a sum.
"""

from dataclasses import dataclass

import numpy as np
import torch

from monoscope.atlas.contexts import INTERVALS, REACH, TOP, WIDTH, Peaks, Shelf, interval_of, sampling_key
from monoscope.core.sparse import SparseCode
from monoscope.harvest.token_store import TokenStore

BINS = 64
BINS_PER_OCTAVE = 4
TOP_KEPT, TOP_SHOWN = 24, 16
SPREAD_KEPT, SPREAD_SHOWN = 8, 4
# Same words this far on both sides of the peak make two contexts one.
_PHRASE = 5
# A float's bits without its last 21 count quarter octaves.
_BIN_SHIFT = 21


@dataclass(frozen=True)
class Examples:
    """The contexts of all features, those of feature f in rows `offsets[f]` to `offsets[f + 1]`.

    The strongest come first, then the spread from high to low. `quantile` indexes `contexts.QUANTILES`. A context is
    tokens `start` to `stop` of the store; `activations[:, REACH]` belongs to the peak.
    """

    offsets: np.ndarray
    token: np.ndarray
    value: np.ndarray
    quantile: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    activations: np.ndarray


@dataclass(frozen=True)
class Counts:
    """Figures of each feature over `tokens` tokens. `max_token` is -1 where a feature never fires."""

    firings: np.ndarray
    total: np.ndarray
    maximum: np.ndarray
    max_token: np.ndarray
    histogram: np.ndarray
    tokens: int


@dataclass(frozen=True)
class _Events:
    """The firings of a chunk sorted by feature and then by reading order, cut into segments of one window each."""

    token: np.ndarray
    value: np.ndarray
    begins: np.ndarray
    lengths: np.ndarray
    peaks: Peaks

    def around(self, numbers: np.ndarray) -> np.ndarray:
        """The activations of some segments, `REACH` tokens to each side of their peaks."""
        lengths = self.lengths[numbers]
        row = np.repeat(np.arange(len(numbers)), lengths)
        inside = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        event = self.begins[numbers][row] + inside
        column = self.token[event] - self.peaks.token[numbers][row] + REACH
        near = (column >= 0) & (column < WIDTH)
        found = np.zeros((len(numbers), WIDTH), np.float32)
        found[row[near], column[near]] = self.value[event[near]]
        return found


class Gathering:
    """Counts and contexts of all features so far. Mutable: `add` chunks, then ask."""

    def __init__(self, store: TokenStore, maximum: np.ndarray) -> None:
        self.n_features = len(maximum)
        self._maximum = maximum.astype(np.float32)
        self._window_start = store.windows.start.numpy().astype(np.int64)
        self._window_stop = self._window_start + store.windows.length.numpy()
        self._window_document = store.windows.document.numpy().astype(np.int32)
        self._ids = store.ids.numpy()
        self._lowest_bin = lowest_bin(float(maximum.max(initial=0)))
        self._firings = np.zeros(self.n_features, np.int64)
        self._total = np.zeros(self.n_features)
        self._histogram = np.zeros(self.n_features * BINS, np.int64)
        self._tokens = 0
        self._top = Shelf(self.n_features, TOP_KEPT)
        self._spread = Shelf(self.n_features * INTERVALS, SPREAD_KEPT)

    def add(self, token: torch.Tensor, code: SparseCode) -> None:
        """Take in the code of some tokens: whole windows, each contiguous and in reading order."""
        self._tokens += code.n_rows
        if not len(code.values):
            return
        events = self._sorted(token.numpy().astype(np.int64), code)
        peaks = events.peaks
        self._top.offer(peaks.feature, -peaks.value.astype(np.float64), peaks, events.around)
        interval = interval_of(peaks.value, self._maximum[peaks.feature])
        group = peaks.feature * INTERVALS + interval
        self._spread.offer(group, sampling_key(peaks.feature, peaks.token), peaks, events.around)

    def _sorted(self, token: np.ndarray, code: SparseCode) -> _Events:
        feature, value = code.indices.numpy(), code.values.float().numpy()
        order = _order(feature)
        row = np.repeat(np.arange(code.n_rows, dtype=np.int32), code.counts.numpy())[order]
        feature, value = feature[order].astype(np.int64), value[order]
        self._count(feature, value)
        window = np.searchsorted(self._window_start, token, side="right").astype(np.int32) - 1
        window_of = window[row]
        change = np.ones(len(feature), bool)
        change[1:] = (feature[1:] != feature[:-1]) | (window_of[1:] != window_of[:-1])
        begins = np.flatnonzero(change)
        lengths = np.diff(np.append(begins, len(feature)))
        highest = np.maximum.reduceat(value, begins)
        at = np.flatnonzero(value == np.repeat(highest, lengths))
        segment = (np.cumsum(change) - 1)[at]
        at = at[np.diff(segment, prepend=-1) > 0]
        tokens = token[row]
        peaks = Peaks(feature[begins], self._window_document[window_of[begins]], tokens[at], highest)
        return _Events(tokens, value, begins, lengths, peaks)

    def _count(self, feature: np.ndarray, value: np.ndarray) -> None:
        self._firings += np.bincount(feature, minlength=self.n_features)
        self._total += np.bincount(feature, weights=value, minlength=self.n_features)
        place = np.clip((value.view(np.int32) >> _BIN_SHIFT) - self._lowest_bin, 0, BINS - 1)
        self._histogram += np.bincount(feature * BINS + place, minlength=len(self._histogram))

    def counts(self) -> Counts:
        """The figures so far."""
        self._settle()
        fired = self._firings > 0
        return Counts(
            self._firings,
            self._total,
            np.where(fired, self._top.value[:, 0], 0).astype(np.float32),
            np.where(fired, self._top.token[:, 0], -1),
            self._histogram.reshape(-1, BINS),
            self._tokens,
        )

    def _settle(self) -> None:
        self._top.settle()
        self._spread.settle()

    def edges(self) -> np.ndarray:
        """The 65 edges of the histogram's bins, in activation units; the outer bins also hold what lies beyond."""
        return ((np.arange(BINS + 1) + self._lowest_bin) << _BIN_SHIFT).astype(np.int32).view(np.float32)

    def examples(self) -> Examples:
        """The contexts to show: at most one of a document, and no two with the same words at the peak."""
        self._settle()
        group, rank = np.nonzero(self._top.key < np.inf)
        places, ranks = np.nonzero(self._spread.key < np.inf)
        feature = np.concatenate([group, places // INTERVALS])
        quantile = np.concatenate([np.full(len(group), TOP), places % INTERVALS])
        order = np.lexsort((np.concatenate([rank, ranks]), -quantile, feature))
        feature, quantile = feature[order], quantile[order]

        def joined(name: str) -> np.ndarray:
            top, spread = getattr(self._top, name), getattr(self._spread, name)
            return np.concatenate([top[group, rank], spread[places, ranks]])[order]

        token = joined("token")
        keep = _chosen(feature, quantile, joined("document"), self._phrases(token))
        token = token[keep]
        window = np.searchsorted(self._window_start, token, side="right") - 1
        return Examples(
            offsets=np.searchsorted(feature[keep], np.arange(self.n_features + 1)),
            token=token,
            value=joined("value")[keep],
            quantile=quantile[keep].astype(np.int8),
            start=np.maximum(self._window_start[window], token - REACH),
            stop=np.minimum(self._window_stop[window], token + REACH + 1),
            activations=joined("activations")[keep],
        )

    def _phrases(self, token: np.ndarray) -> np.ndarray:
        """A number for the words around each peak, the same where they are the same."""
        window = np.searchsorted(self._window_start, token, side="right") - 1
        place = token[:, None] + np.arange(-_PHRASE, _PHRASE + 1)
        inside = (place >= self._window_start[window, None]) & (place < self._window_stop[window, None])
        ids = np.where(inside, self._ids[np.clip(place, 0, len(self._ids) - 1)], -1).astype(np.uint64)
        powers = np.uint64(0x9E3779B97F4A7C15) ** np.arange(1, ids.shape[1] + 1, dtype=np.uint64)
        return (ids * powers).sum(1)


def lowest_bin(maximum: float) -> int:
    """Where the histogram begins so that it ends one octave above the maximum, in quarter octaves of a float's bits."""
    highest = np.float32(2 * maximum if maximum > 0 else 1.0)
    return max(0, (int(highest.view(np.int32)) >> _BIN_SHIFT) - BINS + 1)


def _order(feature: np.ndarray) -> np.ndarray:
    """A stable order by feature; 16-bit keys make numpy sort by digits, several times faster than by comparing."""
    order = np.argsort(feature.astype(np.uint16), kind="stable")
    high = (feature >> 16).astype(np.uint16)
    return order[np.argsort(high[order], kind="stable")] if high.any() else order


def _chosen(feature: np.ndarray, quantile: np.ndarray, document: np.ndarray, phrase: np.ndarray) -> np.ndarray:
    keep = np.zeros(len(feature), bool)
    now, documents, phrases, room = -1, set(), set(), {}
    rows = zip(feature.tolist(), quantile.tolist(), document.tolist(), phrase.tolist(), strict=True)
    for number, (owner, kind, source, words) in enumerate(rows):
        if owner != now:
            now, documents, phrases, room = owner, set(), set(), {}
        left = room.get(kind, TOP_SHOWN if kind == TOP else SPREAD_SHOWN)
        if not left or source in documents or words in phrases:
            continue
        room[kind] = left - 1
        documents.add(source)
        phrases.add(words)
        keep[number] = True
    return keep
