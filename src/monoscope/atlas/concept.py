"""How much a feature is a concept rather than a word, a bit of grammar or a piece of code.

    concept = share of content words at its peaks · variety of those words · how well its label predicts it · prose

Variety is 1 - 1 / n, n being the effective number of word families (words that begin alike, accents aside); a label
predicts by 2 · balanced accuracy - 1; prose is the share outside of code and of talk with a chat model. All lie between
0 and 1. Where words have vectors, the product is also weighed by how near in meaning the families are (`coherence`),
since many words need not be one concept. It is a ranking by rules, read against people's judgement in docs/atlas.md.
"""

import unicodedata
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

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
    "words": 1.0,
    "word": 0.8,
    "near": 0.8,
    "topic": 0.8,
    "both": 0.7,
    "kind": 0.3,
    "language": 0.2,
    "after": 0.3,
    "token": 0.3,
}
_SHORTEST, _FAMILY, _MOST_FAMILIES = 3, 4, 10


def family_of(word: str) -> str:
    """How the word begins, without accents: the same for *música* and *musical*."""
    plain = unicodedata.normalize("NFD", word.lower())
    return "".join(letter for letter in plain if not unicodedata.combining(letter))[:_FAMILY]


def coherence(shares: Mapping[str, float], vectors: Mapping[str, Float[np.ndarray, "d"]]) -> float:
    """How near in meaning the word families of some shares are: their mean cosine, pairs weighed by both shares.

    Edges  0 where fewer than two families have a vector.
    """
    families: dict[str, tuple[float, str]] = {}
    for word, share in sorted(shares.items(), key=lambda item: -item[1]):
        if word in vectors:
            family = family_of(word)
            families[family] = (families.get(family, (0.0, word))[0] + share, families.get(family, (0.0, word))[1])
    kept = sorted(families.values(), reverse=True)[:_MOST_FAMILIES]
    if len(kept) < 2:
        return 0.0
    weight = np.array([share for share, _ in kept])
    table = np.stack([vectors[word] for _, word in kept])
    pairs = np.outer(weight, weight)
    np.fill_diagonal(pairs, 0)
    return max(0.0, float((table @ table.T * pairs).sum() / pairs.sum()))


class Concepts:
    """Judges features of one text. Built once."""

    def __init__(self, corpus: Corpus) -> None:
        names = corpus.kinds.names
        grammar = corpus.kinds.holds[:, [names.index(name) for name in _GRAMMAR]].any(1)
        words = corpus.words
        long = np.array([len(text) >= _SHORTEST for text in words.stems], bool)
        self._content = ~grammar & (long & words.is_word)[words.stem[words.of_token]]
        self._family = np.array([family_of(text) for text in words.stems])
        chat = np.asarray(corpus.store.documents["chat"].to_numpy(zero_copy_only=False), bool)
        self._other, self._words = is_code(corpus.store) | chat, words

    def score(self, token: np.ndarray, value: np.ndarray, label: Label) -> float:
        """A number between 0 and 1 for a feature whose contexts peak at `token` with `value`."""
        if not len(token) or not value.sum():
            return 0.0
        weight = value / value.sum()
        content = self._content[token]
        word = self._words.of_token[token]
        _, family = np.unique(self._family[self._words.stem[word]], return_inverse=True)
        mass = np.bincount(family[content], weights=weight[content]) if content.any() else np.zeros(1)
        mass = mass[mass > 0] / max(1e-12, mass.sum())
        varied = 1 - 1 / float(np.exp(-(mass * np.log(mass)).sum())) if len(mass) else 0.0
        prose = 1 - float(weight[self._other[self._words.document[word]]].sum())
        predicts = max(0.0, 2 * label.score - 1) * _MEANING.get(label.kind, 0.0)
        return float(weight[content].sum()) * varied * predicts * prose
