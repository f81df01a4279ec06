"""Features ranked by examples: the planted one first, and nothing where labels are drawn by lot."""

from dataclasses import replace

import pytest
import torch

from monoscope.core.errors import BadRequest
from monoscope.safety.examples import split_by_group
from monoscope.safety.pooling import columns_of, pool_features
from monoscope.safety.ranking import rank_features
from monoscope.safety.statistics import area

from .conftest import CONCEPT


@pytest.mark.parametrize("pool", ["max", "mean", "top"])
def test_the_planted_feature_comes_first_with_its_proof(reading, examples, planted, pool: str) -> None:
    found = rank_features(reading, examples, pool=pool, limit=6)
    assert (found.pool, len(found.features)) == (pool, 6)
    best = found.features[0]
    assert best.feature == planted.numbers[CONCEPT]
    assert best.direction == 1
    assert best.q < 1e-4
    assert best.auroc.low > 0.9
    assert best.rate_positive > 0.9 > 0.1 > best.rate_negative
    assert best.mean_positive > best.mean_negative
    assert all(one.p <= one.q for one in found.features)
    assert found.chosen_on == found.proved_on == (20, 20)
    for rival in (found.linear_probe, found.bag_of_words, found.all_features):
        assert 0.9 < rival.low <= rival.value <= rival.high
    assert 0.3 < found.random_feature < 0.8


def test_figures_are_those_of_the_proving_half_alone(reading, examples, positive) -> None:
    best = rank_features(reading, examples, limit=3).features[0]
    proving = torch.tensor(split_by_group(examples, 2)) == 1
    table = columns_of(pool_features(reading, "max"), torch.tensor([best.feature]))[proving, 0]
    assert best.auroc.value == area(table, positive[proving])
    assert best.rate_positive == float((table[positive[proving]] > 0).double().mean())


def test_exchanged_labels_exchange_the_direction(reading, examples, planted) -> None:
    swapped = [replace(example, positive=not example.positive) for example in examples]
    best = rank_features(reading, swapped, limit=1).features[0]
    assert best.feature == planted.numbers[CONCEPT]
    assert best.direction == -1
    assert best.auroc.high < 0.1


def test_labels_drawn_by_lot_have_no_small_q(reading, examples) -> None:
    lucky = 0
    for seed in range(8):
        drawn = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed)).tolist()
        labels = [replace(one, positive=examples[i].positive) for one, i in zip(examples, drawn, strict=True)]
        found = rank_features(reading, labels, limit=20, seed=seed)
        lucky += min(one.q for one in found.features) < 0.05
        assert found.bag_of_words.low < 0.75
    assert lucky <= 2


def test_another_seed_takes_other_halves(reading, examples) -> None:
    one, other = (rank_features(reading, examples, limit=4, seed=seed) for seed in (0, 1))
    assert one.features[0].feature == other.features[0].feature
    assert one.features[1:] != other.features[1:]


def test_too_few_groups_are_refused(reading, examples) -> None:
    together = [replace(example, group="one" if example.positive else example.group) for example in examples]
    with pytest.raises(BadRequest, match="at least two groups of positive and two of negative texts"):
        rank_features(reading, together)
    with pytest.raises(BadRequest, match="--pool 'sum' is not known"):
        rank_features(reading, examples, pool="sum")
