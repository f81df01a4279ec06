"""Rules tried on windows: does one hold in a window, and how often is it right about firing?"""

import numpy as np

from monoscope.atlas.candidates import Corpus, Test
from monoscope.atlas.ranges import any_of
from monoscope.atlas.sample import WINDOW, Sample


class Bench:
    """What rules ask about each sampled window, looked up once.

    Tables are [windows, 32] for what belongs to tokens and [windows] for what belongs to documents.
    """

    def __init__(self, corpus: Corpus, sample: Sample) -> None:
        words, token = corpus.words, sample.start[:, None] + np.arange(WINDOW)
        word = words.of_token[token]
        tables = {"stem": words.stem[word], "id": corpus.ids[token], "before": words.previous[word]}
        self._tables = {name: table.astype(np.int32) for name, table in tables.items()}
        first = token[:, 0] if len(token) else np.zeros(0, np.int64)
        self._group = corpus.kinds.group[first]
        topics = np.array([corpus.topic_number[topic] for topic in corpus.topics], np.int64)
        self._topic = topics[words.document[word[:, 0]]] if len(token) else first
        kinds = range(len(corpus.kinds.names))
        self._kinds = np.stack([corpus.kinds.holds[token, kind].any(1) for kind in kinds], axis=1)

    def at(self, windows: np.ndarray) -> "Tried":
        """Some windows to try rules on."""
        return Tried(self._tables, self._kinds, {"group": self._group, "topic": self._topic}, windows)


class Tried:
    """Some windows on which rules are tried. What each table says of them is looked up once."""

    def __init__(
        self, tables: dict[str, np.ndarray], kinds: np.ndarray, documents: dict[str, np.ndarray], windows: np.ndarray
    ) -> None:
        self._tables, self._kinds, self._documents, self._windows = tables, kinds, documents, windows
        self._seen: dict[str, np.ndarray] = {}

    def tokens(self, column: str) -> np.ndarray:
        """A table of what belongs to tokens, for these windows: [windows, 32]."""
        if column not in self._seen:
            self._seen[column] = self._tables[column][self._windows]
        return self._seen[column]

    def holds(self, test: Test) -> np.ndarray:
        """In which of the windows the rule holds."""
        found = self._column(test)
        return found if test.also is None else found & self.holds(test.also)

    def _column(self, test: Test) -> np.ndarray:
        if test.column == "kind":
            return np.asarray(self._kinds[self._windows][:, list(test.values)].any(1))
        if test.column in self._documents:
            return any_of(self._documents[test.column][self._windows], test.values)
        found = any_of(self.tokens(test.column), test.values)
        # Eight tokens at a time: a row of truth values read as whole numbers.
        return np.asarray(found.view(np.uint64).max(1) > 0)


def balanced_accuracy(predicted: np.ndarray, fires: np.ndarray) -> float:
    """The mean of the shares of firing and of silent windows that are told right; 0.5 where one kind is missing."""
    if fires.all() or not fires.any():
        return 0.5
    return float((predicted[fires].mean() + 1 - predicted[~fires].mean()) / 2)
