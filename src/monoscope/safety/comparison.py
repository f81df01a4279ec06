"""All ways to detect a concept side by side, fitted on the same texts and judged on the same others.

one_feature      the single feature that told the fitting texts apart best
features         a readable detector: at most twenty features, all with weights above zero
probe            a linear probe of the mean residual
both             the last two together
all_features     a probe over every feature that fires
bag_of_words     the words alone
random_feature   a feature drawn by lot, turned the way the fitting texts say; the median of twenty
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from monoscope.atlas.contrast import auroc
from monoscope.core.sparse import SparseCode
from monoscope.safety.baselines import AllFeatures, BagOfWords, Lottery, median_lot
from monoscope.safety.detector import LONGEST, Detector, score_texts
from monoscope.safety.examples import Example, split_by_group
from monoscope.safety.fitting import Manner, fit_detector
from monoscope.safety.pooling import columns_of, firing_texts, pool_features
from monoscope.safety.reading import Reading
from monoscope.safety.statistics import Interval, area, area_interval, rate_at_rate

WAYS = ("one_feature", "features", "probe", "both", "all_features", "bag_of_words", "random_feature")
DETECTORS = ("features", "probe", "both")
# Each text is scored once, at its end, as the rivals score it; a monitor of a stream may cry earlier, and err more.
WHOLE = Manner(warm_up=LONGEST)
_INNER_FOLDS = 4


@dataclass(frozen=True)
class Fitted:
    """Every way, fitted on some texts. `feature` is the single best one, `sign` which way it is turned; `scale` has the
    mean and deviation of each way's scores of the fitting texts."""

    feature: int
    sign: int
    detectors: dict[str, Detector]
    everything: AllFeatures
    words: BagOfWords
    lots: Lottery
    scale: dict[str, tuple[float, float]] = field(default_factory=dict)

    def scores(self, reading: Reading, examples: Sequence[Example]) -> dict[str, Float[Tensor, "texts"]]:
        """The score of each text by each way, in standard deviations of the fitting texts' scores, so that the scores
        of several fits can be put together. `random_feature` has one row for each lot."""
        pooled = pool_features(reading, "mean")
        found = {name: score_texts(detector, reading) for name, detector in self.detectors.items()}
        found["one_feature"] = columns_of(pooled, torch.tensor([self.feature]))[:, 0].double() * self.sign
        found["all_features"] = self.everything.score(pooled)
        found["bag_of_words"] = self.words.score([example.words for example in examples])
        found["random_feature"] = self.lots.scores(pooled)
        return {name: self._scaled(name, values) for name, values in found.items()}

    def _scaled(self, name: str, values: Tensor) -> Tensor:
        middle, spread = self.scale.get(name, (0.0, 1.0))
        return (values - middle) / spread


def fit_ways(reading: Reading, examples: Sequence[Example], *, manner: Manner = WHOLE, seed: int = 0) -> Fitted:
    """Fit every way on these texts; the manner's kind is each in turn."""
    positive = torch.tensor([example.positive for example in examples])
    folds = split_by_group(examples, _INNER_FOLDS, seed=seed)
    pooled = pool_features(reading, "mean")
    feature, sign = _best(pooled, positive)
    fitted = Fitted(
        feature,
        sign,
        {kind: fit_detector(reading, positive, folds, replace(manner, kind=kind)) for kind in DETECTORS},
        AllFeatures(pooled, positive, folds),
        BagOfWords.fit([example.words for example in examples], positive, folds),
        Lottery.draw(pooled, positive, seed=seed),
    )
    scale = {
        name: (float(values.mean()), max(1e-9, float(values.std())))
        for name, values in fitted.scores(reading, examples).items()
        if name != "random_feature"
    }
    return replace(fitted, scale=scale)


def _best(pooled: SparseCode, positive: Bool[Tensor, "texts"]) -> tuple[int, int]:
    living = torch.nonzero(firing_texts(pooled) > 0).flatten()
    table = columns_of(pooled, living)
    told = 2 * auroc(table[positive], table[~positive]) - 1
    place = int(told.abs().argmax())
    return int(living[place]), 1 if float(told[place]) >= 0 else -1


@dataclass(frozen=True)
class Judged:
    """How well one way tells held-out texts apart; `hard` is its AUROC against the hard negatives alone."""

    auroc: Interval
    hard: float | None
    tpr_at_one: float

    def to_json(self) -> dict[str, object]:
        """Rounded."""
        return {
            "auroc": round(self.auroc.value, 4),
            "interval": [round(self.auroc.low, 4), round(self.auroc.high, 4)],
            "auroc_hard": None if self.hard is None else round(self.hard, 4),
            "tpr_at_fpr_0.01": round(self.tpr_at_one, 4),
        }


def judge(
    scores: dict[str, Float[Tensor, "texts"]], examples: Sequence[Example], *, seed: int = 0
) -> dict[str, Judged]:
    """Figures of each way on texts that fitted none of them."""
    positive = torch.tensor([example.positive for example in examples])
    hard = torch.tensor([example.positive or example.hard for example in examples])
    some_hard = bool((hard & ~positive).any())
    groups = [example.group for example in examples]
    found = {}
    for name in WAYS:
        values = scores[name]
        if name == "random_feature":
            values = median_lot(values, positive)
        found[name] = Judged(
            area_interval(values, positive, groups, seed=seed),
            area(values[hard], positive[hard]) if some_hard else None,
            rate_at_rate(values, positive, 0.01),
        )
    return found


def cross_scores(
    reading: Reading, examples: Sequence[Example], *, folds: int = 5, manner: Manner = WHOLE, seed: int = 0
) -> tuple[dict[str, Float[Tensor, "texts"]], list[Fitted]]:
    """Each text's scores by ways that were fitted on the other folds of groups, and those fits."""
    place = torch.tensor(split_by_group(examples, folds, seed=seed))
    scores: dict[str, Tensor] = {}
    fits = []
    for fold in range(folds):
        held, rest = torch.nonzero(place == fold).flatten(), torch.nonzero(place != fold).flatten()
        fitted = fit_ways(reading.choose(rest), _some(examples, rest), manner=manner, seed=seed)
        for name, values in fitted.scores(reading.choose(held), _some(examples, held)).items():
            whole = scores.setdefault(name, torch.zeros(*values.shape[:-1], len(examples), dtype=torch.double))
            whole[..., held] = values
        fits.append(fitted)
    return scores, fits


def _some(examples: Sequence[Example], rows: Int[Tensor, "rows"]) -> list[Example]:
    return [examples[row] for row in rows.tolist()]
