"""Rules tried on windows: does one hold in a window, and how often is it right about firing?"""

import numpy as np

from monoscope.atlas.candidates import Corpus, Test
from monoscope.atlas.sample import WINDOW, Sample


class Bench:
    """What rules ask about each sampled window, looked up once.

    Tables are [windows, 32] for what belongs to tokens and [windows] for what belongs to documents.
    """

    def __init__(self, corpus: Corpus, sample: Sample) -> None:
        words, token = corpus.words, sample.start[:, None] + np.arange(WINDOW)
        word = words.of_token[token]
        self._tables = {"stem": words.stem[word], "id": corpus.ids[token], "before": words.previous[word]}
        first = token[:, 0] if len(token) else np.zeros(0, np.int64)
        self._group = corpus.kinds.group[first]
        topics = np.array([corpus.topic_number[topic] for topic in corpus.topics], np.int64)
        self._topic = topics[words.document[word[:, 0]]] if len(token) else first
        kinds = range(len(corpus.kinds.names))
        self._kinds = np.stack([corpus.kinds.holds[token, kind].any(1) for kind in kinds], axis=1)

    def stems(self, windows: np.ndarray) -> np.ndarray:
        """The stems of the words of some windows, [windows, 32]."""
        return self._tables["stem"][windows]

    def holds(self, test: Test, windows: np.ndarray) -> np.ndarray:
        """In which of some windows the rule holds."""
        found = self._column(test, windows)
        return found if test.also is None else found & self.holds(test.also, windows)

    def _column(self, test: Test, windows: np.ndarray) -> np.ndarray:
        if test.column == "kind":
            return self._kinds[windows][:, list(test.values)].any(1)
        if test.column in ("group", "topic"):
            table = self._group if test.column == "group" else self._topic
            return np.isin(table[windows], test.values)
        table = self._tables[test.column][windows]
        found = table == test.values[0]
        for value in test.values[1:]:
            found |= table == value
        return found.any(1)


def balanced_accuracy(predicted: np.ndarray, fires: np.ndarray) -> float:
    """The mean of the shares of firing and of silent windows that are told right; 0.5 where one kind is missing."""
    if fires.all() or not fires.any():
        return 0.5
    return float((predicted[fires].mean() + 1 - predicted[~fires].mean()) / 2)
