"""A second look at the codes, once it is known which contexts are kept: activations on their tokens, and the sample."""

from collections.abc import Iterable

import numpy as np

from monoscope.atlas.examples import Examples, order_by
from monoscope.atlas.ranges import ranges
from monoscope.atlas.sample import Sample, Sampling
from monoscope.atlas.spool import Piece
from monoscope.core.progress import SILENT, Progress
from monoscope.harvest.token_store import TokenStore


def look_again(  # noqa: PLR0913
    pieces: Iterable[Piece],
    store: TokenStore,
    examples: Examples,
    activations: np.ndarray,
    n_features: int,
    progress: Progress = SILENT,
) -> Sample:
    """Fill in the activations of the shown tokens of all contexts, one context after another; return the sample.

    Memory  some 200 MB for the sample at 32 firings a token; `activations` may be mapped to a file.
    """
    reading = _Reading(store, examples, activations)
    sampling = Sampling(store, n_features)
    progress.start("contexts", store.n_tokens, "tokens")
    for piece in pieces:
        reading.add(piece)
        sampling.add(piece.token, piece.counts, piece.indices, piece.values)
        progress.advance(len(piece.token))
    progress.finish()
    return sampling.sample()


class _Reading:
    """The activations of the contexts, filled as pieces come. Mutable."""

    def __init__(self, store: TokenStore, examples: Examples, activations: np.ndarray) -> None:
        self._start = store.windows.start.numpy().astype(np.int64)
        window = np.searchsorted(self._start, examples.token, side="right") - 1
        self._order = np.argsort(window, kind="stable")
        self._window = window[self._order]
        self._feature, self._examples = examples.feature, examples
        ends = np.cumsum(examples.stop - examples.start)
        self._first = ends - (examples.stop - examples.start)
        self._activations = activations

    def add(self, piece: Piece) -> None:
        """Fill in the contexts that lie in the windows of a piece."""
        if not len(piece.values):
            return
        windows = np.unique(np.searchsorted(self._start, piece.token, side="right") - 1)
        low = np.searchsorted(self._window, windows, side="left")
        high = np.searchsorted(self._window, windows, side="right")
        contexts = self._order[ranges(low, high)[1]]
        if not len(contexts):
            return
        first, counts = self._examples.start[contexts], self._examples.stop[contexts] - self._examples.start[contexts]
        place = ranges(self._first[contexts], self._first[contexts] + counts)[1]
        token = ranges(first, first + counts)[1]
        self._activations[place] = _values(piece, np.repeat(self._feature[contexts], counts), token)


def _values(piece: Piece, feature: np.ndarray, token: np.ndarray) -> np.ndarray:
    """The activations of pairs of a feature and a token of a piece; 0 where it is silent or the token has no code."""
    by_token = np.argsort(piece.token, kind="stable")
    rank = np.searchsorted(piece.token[by_token], token).clip(max=len(by_token) - 1)
    row = by_token[rank]
    known = piece.token[row] == token
    order = order_by(piece.indices)
    rows = np.repeat(np.arange(len(piece.token)), piece.counts)[order]
    keys = piece.indices[order].astype(np.int64) * len(piece.token) + rows
    wanted = feature.astype(np.int64) * len(piece.token) + row
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(known & (keys[at] == wanted), piece.values[order][at], 0).astype(np.float32)
