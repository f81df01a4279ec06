"""What every feature does on a text, gathered in one pass over its codes.

The cost of a token depends on how many features fire on it, not on how many there are. Nothing here depends on the
order in which windows come or on how they are grouped, but for the last digits of a sum. Contexts are kept as pointers;
the activations on their tokens are read from the codes afterwards (`second_look`).
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from monoscope.atlas.contexts import INTERVALS, REACH, TOP, Peaks, Shelf, interval_of, sampling_key
from monoscope.harvest.token_store import TokenStore

BINS = 64
TOP_KEPT, TOP_SHOWN = 24, 16
SPREAD_KEPT, SPREAD_SHOWN = 8, 4
# Same words this far on both sides of the peak make two contexts one.
_PHRASE = 5
# A float's bits without its last 21 count quarter octaves.
_BIN_SHIFT = 21
# Sources and languages beyond this many are counted together.
_MOST_NAMES = 24
_BLOCK = 16_384


@dataclass(frozen=True)
class Examples:
    """The contexts of all features, those of feature f in rows `offsets[f]` to `offsets[f + 1]`.

    The strongest come first, then the spread from high to low. `quantile` indexes `contexts.QUANTILES`. A context is
    tokens `start` to `stop` of the store.
    """

    offsets: np.ndarray
    token: np.ndarray
    value: np.ndarray
    quantile: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    @property
    def feature(self) -> np.ndarray:
        """The feature of each context."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


@dataclass(frozen=True)
class Kinship:
    """Which of some names (sources, languages) each document has; `tokens` of each were encoded."""

    names: list[str]
    of_document: np.ndarray
    tokens: np.ndarray

    @classmethod
    def of(cls, column: list[str | None]) -> "Kinship":
        """The commonest names by documents; the rest are put together."""
        counts = Counter(name or "unknown" for name in column)
        names = [name for name, _ in counts.most_common(_MOST_NAMES)]
        names += ["others"] if len(counts) > _MOST_NAMES else []
        number = {name: place for place, name in enumerate(names)}
        of_document = np.array([number.get(name or "unknown", len(names) - 1) for name in column], np.int32)
        return cls(names, of_document, np.zeros(len(names), np.int64))


@dataclass(frozen=True)
class Counts:
    """Figures of each feature over `tokens` tokens. `max_token` is -1 where a feature never fires.

    `by_source` and `by_language` count firings, [features, names of `sources` and of `languages`].
    """

    firings: np.ndarray
    total: np.ndarray
    maximum: np.ndarray
    max_token: np.ndarray
    histogram: np.ndarray
    tokens: int
    by_source: np.ndarray
    by_language: np.ndarray
    sources: Kinship
    languages: Kinship


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
        self._histogram = np.zeros(self.n_features * BINS, np.int32)
        self._sources = Kinship.of(store.documents["source"].to_pylist())
        self._languages = Kinship.of(store.documents["language"].to_pylist())
        self._by_source = np.zeros(self.n_features * len(self._sources.names), np.int32)
        self._by_language = np.zeros(self.n_features * len(self._languages.names), np.int32)
        self._tokens = 0
        self._top = Shelf(self.n_features, TOP_KEPT)
        self._spread = Shelf(self.n_features * INTERVALS, SPREAD_KEPT)

    def add(self, token: np.ndarray, feature: np.ndarray, value: np.ndarray, counts: np.ndarray) -> None:
        """Take in the code of some tokens: whole windows, each contiguous and in reading order.

        `counts` says how many of the firings (`feature`, `value`) each token has.
        """
        self._tokens += len(token)
        window = np.searchsorted(self._window_start, token, side="right").astype(np.int32) - 1
        document = self._window_document[window]
        for names in (self._sources, self._languages):
            np.add.at(names.tokens, names.of_document[document], 1)
        if not len(value):
            return
        order = order_by(feature)
        row = np.repeat(np.arange(len(token), dtype=np.int32), counts)[order]
        feature, value = feature[order].astype(np.int64), value[order]
        self._count(feature, value, document[row])
        peaks = self._peaks(token, window, row, feature, value)
        self._top.offer(peaks.feature, -peaks.value.astype(np.float64), peaks)
        interval = interval_of(peaks.value, self._maximum[peaks.feature])
        group = peaks.feature * INTERVALS + interval
        self._spread.offer(group, sampling_key(peaks.feature, peaks.token), peaks)

    def _peaks(
        self, token: np.ndarray, window: np.ndarray, row: np.ndarray, feature: np.ndarray, value: np.ndarray
    ) -> Peaks:
        """The strongest token, the first of equals, of each window in which a feature fires."""
        window_of = window[row]
        change = np.ones(len(feature), bool)
        change[1:] = (feature[1:] != feature[:-1]) | (window_of[1:] != window_of[:-1])
        begins = np.flatnonzero(change)
        highest = np.maximum.reduceat(value, begins)
        at = np.flatnonzero(value == np.repeat(highest, np.diff(np.append(begins, len(feature)))))
        segment = (np.cumsum(change) - 1)[at]
        at = at[np.diff(segment, prepend=-1) > 0]
        return Peaks(feature[begins], self._window_document[window_of[begins]], token[row[at]], highest)

    def _count(self, feature: np.ndarray, value: np.ndarray, document: np.ndarray) -> None:
        begins = np.flatnonzero(np.diff(feature, prepend=-1))
        ones = feature[begins]
        self._firings[ones] += np.diff(np.append(begins, len(feature)))
        self._total[ones] += np.add.reduceat(value.astype(np.float64), begins)
        place = np.clip((value.view(np.int32) >> _BIN_SHIFT) - self._lowest_bin, 0, BINS - 1)
        np.add.at(self._histogram, feature * BINS + place, 1)
        for counted, names in ((self._by_source, self._sources), (self._by_language, self._languages)):
            np.add.at(counted, feature * len(names.names) + names.of_document[document], 1)

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
            self._by_source.reshape(self.n_features, -1),
            self._by_language.reshape(self.n_features, -1),
            self._sources,
            self._languages,
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
        parts = [self._examples_of(first, first + _BLOCK) for first in range(0, max(1, self.n_features), _BLOCK)]
        feature, token, value, quantile = (np.concatenate(column) for column in zip(*parts, strict=True))
        window = np.searchsorted(self._window_start, token, side="right") - 1
        return Examples(
            offsets=np.searchsorted(feature, np.arange(self.n_features + 1)),
            token=token,
            value=value,
            quantile=quantile,
            start=np.maximum(self._window_start[window], token - REACH),
            stop=np.minimum(self._window_stop[window], token + REACH + 1),
        )

    def _examples_of(self, first: int, last: int) -> tuple[np.ndarray, ...]:
        """Feature, token, value and quantile of the contexts of some features."""
        group, rank = np.nonzero(self._top.key[first:last] < np.inf)
        places, ranks = np.nonzero(self._spread.key[first * INTERVALS : last * INTERVALS] < np.inf)
        group, places = group + first, places + first * INTERVALS
        feature = np.concatenate([group, places // INTERVALS])
        quantile = np.concatenate([np.full(len(group), TOP), places % INTERVALS])
        order = np.lexsort((np.concatenate([rank, ranks]), -quantile, feature))
        feature, quantile = feature[order], quantile[order]

        def joined(name: str) -> np.ndarray:
            top, spread = getattr(self._top, name), getattr(self._spread, name)
            return np.concatenate([top[group, rank], spread[places, ranks]])[order]

        token = joined("token")
        keep = _chosen(feature, quantile, joined("document"), self._phrases(token))
        return feature[keep], token[keep], joined("value")[keep], quantile[keep].astype(np.int8)

    def _phrases(self, token: np.ndarray) -> np.ndarray:
        """A number for the words around each peak, the same where they are the same."""
        window = np.searchsorted(self._window_start, token, side="right") - 1
        place = token[:, None] + np.arange(-_PHRASE, _PHRASE + 1)
        inside = (place >= self._window_start[window, None]) & (place < self._window_stop[window, None])
        ids = np.where(inside, self._ids[np.clip(place, 0, len(self._ids) - 1)], -1).astype(np.uint64)
        powers = np.uint64(0x9E3779B97F4A7C15) ** np.arange(1, ids.shape[1] + 1, dtype=np.uint64)
        return (ids * powers).sum(1)


def percentile(counts: Counts, edges: np.ndarray, share: float) -> np.ndarray:
    """The activation below which `share` of a feature's firings lie, from its histogram; 0 where it never fires.

    Linear inside a bin of a quarter octave, so at most 19 % off, and never above the maximum.
    """
    below = np.cumsum(counts.histogram, axis=1)
    wanted = share * counts.firings[:, None]
    place = (below < wanted).sum(1).clip(max=BINS - 1)
    rows = np.arange(len(place))
    inside = counts.histogram[rows, place]
    part = (wanted[:, 0] - (below[rows, place] - inside)) / np.maximum(1, inside)
    found = edges[place] + part * (edges[place + 1] - edges[place])
    return np.where(counts.firings > 0, np.minimum(found, counts.maximum), 0).astype(np.float32)


def lowest_bin(maximum: float) -> int:
    """Where the histogram begins so that it ends one octave above the maximum, in quarter octaves of a float's bits."""
    highest = np.float32(2 * maximum if maximum > 0 else 1.0)
    return max(0, (int(highest.view(np.int32)) >> _BIN_SHIFT) - BINS + 1)


def order_by(feature: np.ndarray) -> np.ndarray:
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
