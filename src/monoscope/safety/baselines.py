"""The dull rivals that every feature stands beside: the words alone, a linear probe, and a feature drawn by lot."""

import re
from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from monoscope.core.runtime import random_stream
from monoscope.core.sparse import SparseCode
from monoscope.safety.logistic import Linear, fit_ridge, ridge_penalty
from monoscope.safety.pooling import columns_of, firing_texts

_WORD = re.compile(r"\w+|[^\w\s]")
_LEAST_TEXTS = 2


class BagOfWords:
    """Logistic regression over log(1 + count) of words and marks, those in at least two training texts."""

    def __init__(self, texts: Sequence[str], positive: Bool[Tensor, "texts"], folds: Sequence[int]) -> None:
        counted = [_words_of(text) for text in texts]
        frequent = Counter(word for words in counted for word in words)
        self._column = {word: n for n, word in enumerate(sorted(w for w, c in frequent.items() if c >= _LEAST_TEXTS))}
        table = self._table(counted)
        self._model = fit_ridge(table, positive, penalty=ridge_penalty(table, positive, folds))

    @classmethod
    def of(cls, words: Sequence[str], weights: Float[Tensor, "words"], bias: float) -> "BagOfWords":
        """One that was fitted before, from its `parts`."""
        found = cls.__new__(cls)
        found._column = {word: place for place, word in enumerate(words)}
        found._model = Linear(weights.double(), bias)
        return found

    @property
    def parts(self) -> tuple[tuple[str, ...], Linear]:
        """Its words in the order of its weights, and the model over them."""
        return tuple(self._column), self._model

    def score(self, texts: Sequence[str]) -> Float[Tensor, "texts"]:
        """Log-odds of each text."""
        return self._model.score(self._table([_words_of(text) for text in texts]))

    def _table(self, counted: Sequence[Counter[str]]) -> Float[Tensor, "texts words"]:
        table = torch.zeros(len(counted), max(1, len(self._column)))
        for row, words in enumerate(counted):
            for word, count in words.items():
                if word in self._column:
                    table[row, self._column[word]] = count
        return table.log1p()


def _words_of(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text.lower()))


def fit_probe(x: Float[Tensor, "texts d_model"], positive: Bool[Tensor, "texts"], folds: Sequence[int]) -> Linear:
    """The dense linear probe: logistic regression on mean residuals, its L2 penalty chosen over folds."""
    return fit_ridge(x, positive, penalty=ridge_penalty(x, positive, folds))


def fit_all_features(pooled: SparseCode, positive: Bool[Tensor, "texts"], folds: Sequence[int]) -> "AllFeatures":
    """Logistic regression over log(1 + pooled) of every feature that fires in at least two of the texts."""
    return AllFeatures(pooled, positive, folds)


class AllFeatures:
    """A probe over all features at once: no readable monitor, but what features could know at best."""

    def __init__(self, pooled: SparseCode, positive: Bool[Tensor, "texts"], folds: Sequence[int]) -> None:
        self._features = torch.nonzero(firing_texts(pooled) >= _LEAST_TEXTS).flatten()
        table = self._table(pooled)
        self._model = fit_ridge(table, positive, penalty=ridge_penalty(table, positive, folds))

    def score(self, pooled: SparseCode) -> Float[Tensor, "texts"]:
        """Log-odds of each text."""
        return self._model.score(self._table(pooled))

    def _table(self, pooled: SparseCode) -> Float[Tensor, "texts features"]:
        if not len(self._features):
            return torch.zeros(pooled.n_rows, 1)
        table = columns_of(pooled, self._features).log1p()
        return torch.nn.functional.normalize(table, dim=1)


def random_features(pooled: SparseCode, positive: Bool[Tensor, "texts"], count: int, *, seed: int = 0) -> list[int]:
    """Features drawn by lot from those that fire in a few of these texts: what luck alone would name; all of them
    where fewer fire."""
    fires = firing_texts(pooled)
    living = torch.nonzero(fires >= max(2, min(10, len(positive) // 20))).flatten()
    living = living if len(living) else torch.nonzero(fires > 0).flatten()
    drawn = torch.randperm(len(living), generator=random_stream(seed, "random features"))[:count]
    return living[drawn].tolist()
