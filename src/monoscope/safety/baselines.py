"""The dull rivals that every feature stands beside: the words alone, a linear probe, and a feature drawn by lot."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from monoscope.atlas.contrast import auroc
from monoscope.core.runtime import random_stream
from monoscope.core.sparse import SparseCode
from monoscope.safety.examples import Example
from monoscope.safety.logistic import Linear, fit_ridge, ridge_penalty
from monoscope.safety.pooling import columns_of, firing_texts, pool_features, pool_residual
from monoscope.safety.reading import Reading

_WORD = re.compile(r"\w+|[^\w\s]")
_LEAST_TEXTS = 2
LOTS = 20


@dataclass(frozen=True)
class BagOfWords:
    """Logistic regression over log(1 + count) of words and marks, those in at least two training texts. `words` stand
    in the order of the model's columns."""

    words: tuple[str, ...]
    model: Linear

    @classmethod
    def fit(cls, texts: Sequence[str], positive: Bool[Tensor, "texts"], folds: Sequence[int]) -> "BagOfWords":
        """Its L2 penalty is chosen over folds."""
        counted = [_words_of(text) for text in texts]
        frequent = Counter(word for words in counted for word in words)
        words = tuple(sorted(word for word, count in frequent.items() if count >= _LEAST_TEXTS))
        table = _counts(counted, words)
        return cls(words, fit_ridge(table, positive, penalty=ridge_penalty(table, positive, folds)))

    def score(self, texts: Sequence[str]) -> Float[Tensor, "texts"]:
        """Log-odds of each text."""
        return self.model.score(_counts([_words_of(text) for text in texts], self.words))


def _counts(counted: Sequence[Counter[str]], words: Sequence[str]) -> Float[Tensor, "texts words"]:
    column = {word: place for place, word in enumerate(words)}
    table = torch.zeros(len(counted), max(1, len(words)))
    for row, found in enumerate(counted):
        for word, count in found.items():
            if word in column:
                table[row, column[word]] = count
    return table.log1p()


def _words_of(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text.lower()))


def fit_probe(x: Float[Tensor, "texts d_model"], positive: Bool[Tensor, "texts"], folds: Sequence[int]) -> Linear:
    """The dense linear probe: logistic regression on mean residuals, its L2 penalty chosen over folds."""
    return fit_ridge(x, positive, penalty=ridge_penalty(x, positive, folds))


class AllFeatures:
    """Logistic regression over log(1 + pooled) of every feature that fires in at least two of the texts: no readable
    monitor, but what features could know at best."""

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


@dataclass(frozen=True)
class Lottery:
    """Features drawn by lot, each turned (`signs`, +1 or -1) the way that the fitting texts say: what luck names."""

    features: tuple[int, ...]
    signs: tuple[int, ...]

    @classmethod
    def draw(cls, pooled: SparseCode, positive: Bool[Tensor, "texts"], *, lots: int = LOTS, seed: int = 0) -> "Lottery":
        """So many of the features that fire in a few of these texts; some come again where fewer fire."""
        fires = firing_texts(pooled)
        living = torch.nonzero(fires >= max(2, min(10, len(positive) // 20))).flatten()
        living = living if len(living) else torch.nonzero(fires > 0).flatten()
        if not len(living):
            return cls((), ())
        order = torch.randperm(len(living), generator=random_stream(seed, "random features"))
        drawn = living[order[torch.arange(lots) % len(order)]]
        table = columns_of(pooled, drawn.unique())[:, torch.searchsorted(drawn.unique(), drawn)]
        signs = torch.where(auroc(table[positive], table[~positive]) >= 0.5, 1, -1)
        return cls(tuple(drawn.tolist()), tuple(signs.tolist()))

    def scores(self, pooled: SparseCode) -> Float[Tensor, "lots texts"]:
        """The score of each text by each lot."""
        drawn = torch.tensor(self.features, dtype=torch.long)
        table = columns_of(pooled, drawn.unique())[:, torch.searchsorted(drawn.unique(), drawn)].double()
        return (table * torch.tensor(self.signs)).T

    def median_lot(self, pooled: SparseCode, positive: Bool[Tensor, "texts"]) -> Float[Tensor, "texts"]:
        """The scores of the lot that does neither well nor badly among all; zeros where there is none."""
        return median_lot(self.scores(pooled), positive) if self.features else torch.zeros(len(positive))


def median_lot(scores: Float[Tensor, "lots texts"], positive: Bool[Tensor, "texts"]) -> Float[Tensor, "texts"]:
    """Of several scores the one with the median AUROC."""
    areas = auroc(scores.T[positive], scores.T[~positive])
    return scores[int(torch.argsort(areas, stable=True)[len(areas) // 2])]


@dataclass(frozen=True)
class Rivals:
    """The baselines of a monitor, fitted on the texts that fitted it, so that any later report can put them beside."""

    words: BagOfWords
    probe: Linear
    lots: Lottery

    @classmethod
    def fit(cls, reading: Reading, examples: Sequence[Example], folds: Sequence[int], *, seed: int = 0) -> "Rivals":
        """All three on these texts."""
        positive = torch.tensor([example.positive for example in examples])
        return cls(
            BagOfWords.fit([example.words for example in examples], positive, folds),
            fit_probe(pool_residual(reading), positive, folds),
            Lottery.draw(pool_features(reading, "mean"), positive, seed=seed),
        )

    def scores(self, reading: Reading, examples: Sequence[Example]) -> dict[str, Float[Tensor, "texts"]]:
        """The score of each text by each, under the names that commands use."""
        positive = torch.tensor([example.positive for example in examples])
        return {
            "linear_probe": self.probe.score(pool_residual(reading)),
            "bag_of_words": self.words.score([example.words for example in examples]),
            "random_feature": self.lots.median_lot(pool_features(reading, "mean"), positive),
        }
