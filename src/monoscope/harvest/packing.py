"""Documents cut into windows that a model reads at once."""

from collections.abc import Sequence

import numpy as np

_LOOK_BACK = 64


def good_starts(ids: np.ndarray, vocabulary: Sequence[bytes]) -> np.ndarray:
    """How well each token would stand at the head of a window: 2 opens a word, 1 is inside one, 0 is white space.

    After the start token, line breaks carry the attention sink on to the tokens behind them.
    """
    blank = np.array([bool(word) and not word.strip() for word in vocabulary], dtype=bool)
    spaced = np.array([word[:1].isspace() for word in vocabulary], dtype=bool)
    behind_blank = np.concatenate([[True], blank[ids[:-1]]])
    return np.where(blank[ids], 0, np.where(spaced[ids] | behind_blank, 2, 1)).astype(np.int8)


def cut(goodness: np.ndarray, offsets: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, length and document of windows of at most `context` tokens, each inside one document, without gaps.

    A window ends up to 64 tokens early, but never at less than half its length, so that the next one begins well.
    """
    starts, lengths, documents = [], [], []
    for document, (first, last) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        while first < last:
            stop = last if last - first <= context else _good_stop(goodness, first, first + context)
            starts.append(first)
            lengths.append(stop - first)
            documents.append(document)
            first = stop
    return np.array(starts, np.int64), np.array(lengths, np.int32), np.array(documents, np.int32)


def _good_stop(goodness: np.ndarray, first: int, stop: int) -> int:
    earliest = max(stop - _LOOK_BACK, first + (stop - first + 1) // 2)
    found = goodness[earliest : stop + 1]
    return earliest + int(np.flatnonzero(found == found.max())[-1])
