"""Documents cut into windows that a model reads at once."""

from collections.abc import Sequence

import numpy as np

_LOOK_BACK = 64


def blank_tokens(vocabulary: Sequence[bytes]) -> np.ndarray:
    """Which token ids are white space and nothing else."""
    return np.array([bool(word) and not word.strip() for word in vocabulary], dtype=bool)


def cut(
    ids: np.ndarray, offsets: np.ndarray, blank: np.ndarray, context: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, length and document of windows of at most `context` tokens, each inside one document, without gaps.

    No window begins with white space where that can be helped: after the start token, line breaks carry the attention
    sink on to the tokens behind them. So a window may end up to 64 tokens early.
    """
    starts, lengths, documents = [], [], []
    for document, (first, last) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        while first < last:
            stop = last if last - first <= context else _good_stop(ids, blank, first, first + context)
            starts.append(first)
            lengths.append(stop - first)
            documents.append(document)
            first = stop
    return np.array(starts, np.int64), np.array(lengths, np.int32), np.array(documents, np.int32)


def _good_stop(ids: np.ndarray, blank: np.ndarray, first: int, stop: int) -> int:
    earliest = max(first + 1, stop - _LOOK_BACK)
    for place in range(stop, earliest - 1, -1):
        if not blank[ids[place]]:
            return place
    return stop
