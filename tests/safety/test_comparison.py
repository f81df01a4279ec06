"""All ways to detect a concept side by side, on the toy's planted features."""

import pytest
import torch

from monoscope.safety.comparison import DETECTORS, WAYS, cross_scores, fit_ways, judge
from monoscope.safety.examples import Example
from monoscope.safety.reading import read_examples

from .conftest import talk_of


@pytest.fixture(scope="module")
def fitted(reading, examples):
    return fit_ways(reading, examples)


def test_a_planted_concept_is_found_by_every_way_but_luck(fitted, toy, dictionary) -> None:
    others = talk_of(groups=10, seed=5)
    found = judge(fitted.scores(read_examples(toy, dictionary, others), others), others)
    assert set(found) == set(WAYS)
    for way in ("features", "probe", "both", "all_features", "bag_of_words"):
        assert found[way].auroc.value > 0.95, way
    assert abs(found["random_feature"].auroc.value - 0.5) < 0.3
    assert found["one_feature"].auroc.value > found["random_feature"].auroc.value


def test_scores_of_the_fitting_texts_have_mean_0_and_deviation_1(fitted, reading, examples) -> None:
    for name, values in fitted.scores(reading, examples).items():
        if name != "random_feature":
            assert float(values.mean()) == pytest.approx(0, abs=1e-9), name
            assert float(values.std()) == pytest.approx(1, abs=1e-9), name


def test_cross_fitting_never_judges_a_text_by_a_fit_that_saw_its_group(reading, examples) -> None:
    """Labels drawn by lot: whoever had seen a text's group would do better than chance on it."""
    stream = torch.Generator().manual_seed(3)
    lots = [Example(one.id, bool(torch.rand(1, generator=stream) < 0.5), one.text, group=one.group) for one in examples]
    scores, fits = cross_scores(reading, lots, folds=4)
    found = judge(scores, lots)
    assert len(fits) == 4
    for way in (*DETECTORS, "bag_of_words"):
        assert scores[way].shape == (len(lots),)
        assert found[way].auroc.low < 0.5 + 0.2, way


def test_hard_negatives_are_judged_by_themselves(fitted, reading, examples) -> None:
    assert judge(fitted.scores(reading, examples), examples)["features"].hard is None
    hard = [Example(one.id, one.positive, one.text, group=one.group, hard=not one.positive) for one in examples]
    told = judge(fitted.scores(reading, hard), hard)["features"]
    assert told.hard == pytest.approx(told.auroc.value)
