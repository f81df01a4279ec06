"""How much a feature is a concept rather than a word, a bit of grammar or a piece of code.

    concept = share of content words at its peaks · variety of those words · how well its label predicts it · prose

Variety is 1 - 1 / n, n being the effective number of different stems (the exponential of their entropy); a label
predicts by 2 · balanced accuracy - 1; prose is the share outside of code and of talk with a chat model. All four lie
between 0 and 1. It is a ranking by rules, read against people's judgement in docs/atlas.md, and no proof.
"""

import numpy as np

from monoscope.atlas.candidates import Corpus
from monoscope.atlas.kinds import is_code
from monoscope.atlas.label import Label

_GRAMMAR = (
    "determiners",
    "pronouns",
    "prepositions",
    "auxiliary verbs",
    "conjunctions",
    "numbers",
    "number words",
    "ordinals and decades",
    "sentence ends",
    "commas and colons",
    "quotation marks",
    "brackets",
    "operators",
    "punctuation",
    "line breaks and indentation",
    "Python keywords",
    "the start of a text",
    "chat template",
)
_MEANING = {
    "word": 1.0,
    "near": 1.0,
    "topic": 1.0,
    "both": 0.8,
    "kind": 0.4,
    "language": 0.2,
    "after": 0.3,
    "token": 0.4,
}
_SHORTEST = 3


class Concepts:
    """Judges features of one text. Built once."""

    def __init__(self, corpus: Corpus) -> None:
        names = corpus.kinds.names
        grammar = corpus.kinds.holds[:, [names.index(name) for name in _GRAMMAR]].any(1)
        words = corpus.words
        long = np.array([len(text) >= _SHORTEST for text in words.stems], bool)
        self._content = ~grammar & (long & words.is_word)[words.stem[words.of_token]]
        chat = np.asarray(corpus.store.documents["chat"].to_numpy(zero_copy_only=False), bool)
        self._other, self._words = is_code(corpus.store) | chat, words

    def score(self, token: np.ndarray, value: np.ndarray, label: Label) -> float:
        """A number between 0 and 1 for a feature whose contexts peak at `token` with `value`."""
        if not len(token) or not value.sum():
            return 0.0
        weight = value / value.sum()
        content = self._content[token]
        word = self._words.of_token[token]
        _, stem = np.unique(self._words.stem[word], return_inverse=True)
        mass = np.bincount(stem[content], weights=weight[content]) if content.any() else np.zeros(1)
        mass = mass[mass > 0] / max(1e-12, mass.sum())
        varied = 1 - 1 / float(np.exp(-(mass * np.log(mass)).sum())) if len(mass) else 0.0
        prose = 1 - float(weight[self._other[self._words.document[word]]].sum())
        predicts = max(0.0, 2 * label.score - 1) * _MEANING.get(label.kind, 0.0)
        return float(weight[content].sum()) * varied * predicts * prose
