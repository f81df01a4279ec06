"""Two sets of texts to the features that tell them apart, as a list that can be reviewed: evidence beside each claim.

Half of the groups choose features and fit the rivals, the other half prove. What is reported of a feature (AUROC,
interval, p, q) comes from the proving half alone, so that choosing among thousands costs nothing but luck in choosing;
q corrects for the features that are listed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from monoscope.atlas.contrast import auroc
from monoscope.core.errors import BadRequest
from monoscope.safety.baselines import BagOfWords, fit_all_features, fit_probe, random_features
from monoscope.safety.examples import Example, split_by_group
from monoscope.safety.pooling import columns_of, firing_texts, pool_features, pool_residual
from monoscope.safety.reading import Reading
from monoscope.safety.statistics import Interval, area_interval, false_discovery, rank_p_values

_RANDOM = 20
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
    listed = _ranked(table[proving][:, order], positive[proving], [groups[i] for i in proving], told[order], seed)
    words = [example.words for example in examples]
    folds = split_by_group([examples[i] for i in choosing.tolist()], _INNER_FOLDS, seed=seed)
    mine = positive[choosing]
    proof_groups = [groups[i] for i in proving]

    def judged(scores: Float[Tensor, "texts"]) -> Interval:
        return area_interval(scores, positive[proving], proof_groups, seed=seed)

    means = pool_residual(reading)
    probe = fit_probe(means[choosing], mine, folds)
    bag = BagOfWords([words[i] for i in choosing], mine, folds)
    chosen_code, proof_code = (pool_features(reading.choose(rows), "mean") for rows in (choosing, proving))
    everything = fit_all_features(chosen_code, mine, folds)
    return Ranking(
        pool,
        [_named(found, int(living[place])) for found, place in zip(listed, order.tolist(), strict=True)],
        judged(probe.score(means[proving])),
        judged(bag.score([words[i] for i in proving])),
        judged(everything.score(proof_code)),
        _lottery(pooled, table, living, positive, choosing, proving, seed),
        (int(mine.sum()), int((~mine).sum())),
        (int(positive[proving].sum()), int((~positive[proving]).sum())),
    )


def _sets(table: Tensor, positive: Bool[Tensor, "rows"]) -> tuple[Tensor, Tensor]:
    return table[positive], table[~positive]


def _ranked(
    table: Float[Tensor, "texts listed"], positive: Tensor, groups: Sequence[str], told: Tensor, seed: int
) -> list[Ranked]:
    mine, others = _sets(table, positive)
    p = rank_p_values(mine, others)
    q = false_discovery(p)
    return [
        Ranked(
            feature=-1,
            direction=1 if told[column] >= 0 else -1,
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


def _named(found: Ranked, feature: int) -> Ranked:
    return Ranked(**{**found.__dict__, "feature": feature})


def _lottery(pooled, table, living, positive, choosing, proving, seed: int) -> float:  # noqa: ANN001
    drawn = random_features(pooled, positive, _RANDOM, seed=seed)
    places = torch.searchsorted(living, torch.tensor(drawn))
    told = auroc(*_sets(table[choosing][:, places], positive[choosing])) >= 0.5
    held = auroc(*_sets(table[proving][:, places], positive[proving]))
    return float(torch.where(told, held, 1 - held).median())
