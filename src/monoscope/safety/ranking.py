"""Two sets of texts to the features that tell them apart, as a list that can be reviewed: evidence beside each claim.

Half of the groups choose features and fit the rivals, the other half prove. What is reported of a feature (AUROC,
interval, p, q) comes from the proving half alone, so that choosing among thousands costs nothing but luck in choosing;
q corrects for the features that are listed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from monoscope.atlas.contrast import auroc
from monoscope.core.errors import BadRequest
from monoscope.safety.baselines import AllFeatures, BagOfWords, Lottery, fit_probe
from monoscope.safety.examples import Example, split_by_group
from monoscope.safety.pooling import columns_of, firing_texts, pool_features, pool_residual
from monoscope.safety.reading import Reading
from monoscope.safety.statistics import Interval, area, area_interval, false_discovery, rank_p_values

_INNER_FOLDS = 4


@dataclass(frozen=True)
class Ranked:
    """One feature. `direction` is +1 where it belongs to the positives, -1 where to the negatives, whose AUROC is then
    below 0.5; rates are the shares of proving texts in which it fires."""

    feature: int
    direction: int
    auroc: Interval
    p: float
    q: float
    rate_positive: float
    rate_negative: float
    mean_positive: float
    mean_negative: float


@dataclass(frozen=True)
class Ranking:
    """Features, best first by the choosing half, and the rivals on the same proving half.

    `random_feature` is the median AUROC of twenty features drawn by lot, each turned the way the choosing half says.
    """

    pool: str
    features: list[Ranked]
    linear_probe: Interval
    bag_of_words: Interval
    all_features: Interval
    random_feature: float
    chosen_on: tuple[int, int]
    proved_on: tuple[int, int]


def rank_features(
    reading: Reading, examples: Sequence[Example], *, pool: str = "max", limit: int = 20, seed: int = 0
) -> Ranking:
    """Rank every feature that fires, both ways.

    Raises
        BadRequest  the pool is unknown, or a half would lack one of the labels.
    """
    positive = torch.tensor([example.positive for example in examples])
    groups = [example.group for example in examples]
    half = torch.tensor(split_by_group(examples, 2, seed=seed))
    choosing, proving = torch.nonzero(half == 0).flatten(), torch.nonzero(half == 1).flatten()
    for rows in (choosing, proving):
        if not positive[rows].any() or positive[rows].all():
            raise BadRequest("A contrast needs at least two groups of positive and two of negative texts; give more.")
    pooled = pool_features(reading, pool)
    living = torch.nonzero(firing_texts(pooled) > 0).flatten()
    table = columns_of(pooled, living)
    told = 2 * auroc(*_sets(table[choosing], positive[choosing])) - 1
    order = torch.argsort(-told.abs(), stable=True)[:limit]
    listed = living[order]
    directions = torch.where(told[order] >= 0, 1, -1)
    words = [example.words for example in examples]
    folds = split_by_group([examples[i] for i in choosing.tolist()], _INNER_FOLDS, seed=seed)
    mine = positive[choosing]
    proof_groups = [groups[i] for i in proving]

    def judged(scores: Float[Tensor, "texts"]) -> Interval:
        return area_interval(scores, positive[proving], proof_groups, seed=seed)

    means = pool_residual(reading)
    probe = fit_probe(means[choosing], mine, folds)
    bag = BagOfWords.fit([words[i] for i in choosing], mine, folds)
    chosen_code, proof_code = (pool_features(reading.choose(rows), "mean") for rows in (choosing, proving))
    everything = AllFeatures(chosen_code, mine, folds)
    lots = Lottery.draw(pooled.take(choosing), mine, seed=seed)
    return Ranking(
        pool,
        _ranked(listed, directions, table[proving][:, order], positive[proving], proof_groups, seed),
        judged(probe.score(means[proving])),
        judged(bag.score([words[i] for i in proving])),
        judged(everything.score(proof_code)),
        area(lots.median_lot(pooled.take(proving), positive[proving]), positive[proving]),
        (int(mine.sum()), int((~mine).sum())),
        (int(positive[proving].sum()), int((~positive[proving]).sum())),
    )


def _sets(table: Tensor, positive: Bool[Tensor, "rows"]) -> tuple[Tensor, Tensor]:
    return table[positive], table[~positive]


def _ranked(  # noqa: PLR0913
    features: Int[Tensor, "listed"],
    directions: Int[Tensor, "listed"],
    table: Float[Tensor, "texts listed"],
    positive: Bool[Tensor, "texts"],
    groups: Sequence[str],
    seed: int,
) -> list[Ranked]:
    mine, others = _sets(table, positive)
    p = rank_p_values(mine, others)
    q = false_discovery(p)
    return [
        Ranked(
            feature=int(features[column]),
            direction=int(directions[column]),
            auroc=area_interval(table[:, column], positive, groups, seed=seed),
            p=float(p[column]),
            q=float(q[column]),
            rate_positive=float((mine[:, column] > 0).double().mean()),
            rate_negative=float((others[:, column] > 0).double().mean()),
            mean_positive=float(mine[:, column].mean()),
            mean_negative=float(others[:, column].mean()),
        )
        for column in range(table.shape[1])
    ]
