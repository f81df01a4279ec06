"""Detectors fitted on the toy's planted concept, and what their parts promise."""

import itertools
from dataclasses import replace

import pytest
import torch

from monoscope.core.errors import BadRequest
from monoscope.core.sparse import SparseCode
from monoscope.safety.detector import STATISTICS, score_texts
from monoscope.safety.examples import split_by_group
from monoscope.safety.fitting import Manner, fit_detector, held_scores, speaking_for
from monoscope.safety.pooling import pool_features
from monoscope.safety.statistics import area

from .conftest import CONCEPT, reading_of, sparse_table


@pytest.fixture(scope="module")
def halves(reading, examples, positive):
    """Texts that fit, texts that prove, and folds of the first."""
    half = torch.tensor(split_by_group(examples, 2))
    fitting, proving = (torch.nonzero(half == side).flatten() for side in (0, 1))
    folds = split_by_group([examples[i] for i in fitting.tolist()], 4)
    return reading.choose(fitting), positive[fitting], folds, reading.choose(proving), positive[proving]


@pytest.mark.parametrize(
    ("kind", "statistic"), [*itertools.product(("features", "probe"), STATISTICS), ("both", "max")]
)
def test_every_kind_knows_the_concept_on_other_texts(halves, planted, kind: str, statistic: str) -> None:
    inner, labels, folds, outer, others = halves
    found = fit_detector(inner, labels, folds, Manner(kind, statistic, window=8, warm_up=2, most=4))
    assert (found.statistic, found.window, found.warm_up) == (statistic, 8, 2)
    assert area(score_texts(found, outer), others) > 0.95
    assert (found.probe is None) == (kind == "features")
    assert bool(len(found.features)) == (kind != "probe")
    if kind != "probe":
        assert planted.numbers[CONCEPT] == int(found.features[0]), "the feature that weighs most comes first"
        assert len(found.features) <= 4
        assert (found.weights >= 0).all()


def test_both_is_the_two_parts_weighed(halves) -> None:
    inner, labels, folds, outer, _ = halves
    manner = Manner(statistic="mean", warm_up=1)
    both, features, probe = (
        fit_detector(inner, labels, folds, replace(manner, kind=kind)) for kind in ("both", "features", "probe")
    )
    assert torch.equal(both.features, features.features)
    assert torch.equal(both.probe, probe.probe)
    assert both.probe_weight >= 0
    share = both.weights / features.weights
    assert torch.allclose(share, share[0].expand_as(share))
    assert float(share[0]) + both.probe_weight > 0


def _ranks(folds: list[int], kept: torch.Tensor) -> list[int]:
    mine = [folds[i] for i in kept.tolist()]
    return [sorted(set(mine)).index(fold) for fold in mine]


def test_scores_of_texts_come_from_detectors_that_never_saw_them(halves) -> None:
    inner, labels, _, _, _ = halves
    noise = torch.rand(len(labels), generator=torch.Generator().manual_seed(5)) < 0.5
    folds, probe = [place % 4 for place in range(len(labels))], Manner("probe")
    held = held_scores(inner, noise, folds, [Manner(most=4), probe])
    assert held.shape == (len(labels), 2)
    for place in range(4):
        out = torch.tensor(folds) == place
        kept = torch.nonzero(~out).flatten()
        made = fit_detector(inner.choose(kept), noise[kept], _ranks(folds, kept), probe)
        assert torch.allclose(score_texts(made, inner)[out], held[out, 1])
    by_heart = area(score_texts(fit_detector(inner, noise, folds, probe), inner), noise)
    assert area(held[:, 1], noise) < by_heart - 0.1, (
        "labels drawn by lot are learnt by heart, and told on no other text"
    )


def test_what_speaks_for_the_positives() -> None:
    dense = torch.zeros(6, 5)
    dense[:3, 0] = 1.0  # in three positives
    dense[0, 1] = 9.0  # in one
    dense[3:, 2] = 1.0  # in the others
    dense[:, 3] = 1.0  # in all alike
    dense[:, 4] = torch.tensor([2.0, 2.0, 2.0, 1.0, 1.0, 1.0])  # in all, more strongly in the positives
    found = speaking_for(SparseCode.from_dense(dense), torch.arange(6) < 3)
    assert found.tolist() == [0, 4]


def test_where_nothing_speaks_the_detector_has_no_channel() -> None:
    dense = sparse_table(0, 40, 6)
    reading, labels = reading_of(dense, [4] * 10), torch.arange(10) < 5
    dense[:20] = 0
    silent = reading_of(dense, [4] * 10)
    found = fit_detector(silent, labels, [0, 1] * 5)
    assert found.channels == 0
    assert len(set(score_texts(found, silent).tolist())) == 1
    both = fit_detector(silent, labels, [0, 1] * 5, Manner("both"))
    assert both.channels == 1
    assert pool_features(reading, "mean").n_rows == 10


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"kind": "forest"}, "There is no kind 'forest' of detector; choose features, probe, both."),
        ({"statistic": "last"}, "There is no statistic 'last'; choose max, mean, rolling."),
        ({"most": 0}, "A detector needs at least one feature, not 0."),
    ],
)
def test_manners_that_make_no_sense(settings: dict, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        Manner(**settings)


@pytest.mark.parametrize("label", [True, False])
def test_one_label_is_no_task(label: bool) -> None:
    reading = reading_of(sparse_table(0, 8, 4), [4, 4])
    with pytest.raises(BadRequest, match="all of these have one label"):
        fit_detector(reading, torch.tensor([label, label]), [0, 1])
