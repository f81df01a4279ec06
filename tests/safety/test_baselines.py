"""The rivals: words, a linear probe, all features, and features drawn by lot."""

import torch

from monoscope.core.sparse import SparseCode
from monoscope.safety.baselines import AllFeatures, BagOfWords, Lottery, Rivals, fit_probe, median_lot
from monoscope.safety.pooling import firing_texts, pool_features, pool_residual
from monoscope.safety.statistics import area

from .conftest import sparse_table

TEXTS = ["Rain, rain and snow!", "Snow in the rain", "A bank loan.", "The bank has a coin.", "rain", "coin bank"]
LABELS = torch.tensor([True, True, False, False, True, False])
FOLDS = [0, 1, 0, 1, 0, 1]


def test_words_count_where_two_training_texts_have_them() -> None:
    bag = BagOfWords.fit(TEXTS, LABELS, FOLDS)
    assert bag.words == tuple(sorted(["rain", "snow", "the", "bank", "coin", "a", "."]))
    weight = dict(zip(bag.words, bag.model.weights.tolist(), strict=True))
    assert weight["rain"] > 0 > weight["bank"]
    assert area(bag.score(TEXTS), LABELS) == 1.0
    assert torch.equal(bag.score(["RAIN!!"]), bag.score(["rain"])), "case is nothing, unknown marks neither"
    assert float(bag.score(["rain rain"])[0]) > float(bag.score(["rain"])[0])


def test_texts_that_share_no_word_are_all_alike() -> None:
    alone = BagOfWords.fit(["one", "two"], torch.tensor([True, False]), [0, 1])
    assert alone.words == ()
    assert alone.score(["one", "three"]).tolist() == [alone.model.bias] * 2


def test_the_probe_finds_the_concept_in_the_residual(reading, examples, positive) -> None:
    means, folds = pool_residual(reading), [place % 4 for place in range(len(examples))]
    half = torch.arange(len(means)) < len(means) // 2
    probe = fit_probe(means[half], positive[half], folds[: int(half.sum())])
    assert area(probe.score(means[~half]), positive[~half]) > 0.95


def test_all_features_together_find_it_too(reading, positive) -> None:
    pooled = pool_features(reading, "mean")
    half = len(positive) // 2
    inner, outer = pooled.row_slice(0, half), pooled.row_slice(half, len(positive))
    found = AllFeatures(inner, positive[:half], [place % 4 for place in range(half)])
    assert area(found.score(outer), positive[half:]) > 0.95
    silent = SparseCode.from_dense(torch.zeros(8, 5))
    nothing = AllFeatures(silent, torch.arange(8) < 4, [0, 1] * 4)
    assert len(set(nothing.score(silent).tolist())) == 1


def test_features_drawn_by_lot_are_alive_and_know_no_label() -> None:
    dense = sparse_table(0, 60, 50, 0.2)
    dense[:, 10:40] = 0
    dense[0, 39] = 1.0  # fires in one text only
    code, labels = SparseCode.from_dense(dense), torch.arange(60) < 30
    found = Lottery.draw(code, labels, lots=12, seed=3)
    assert found.features == Lottery.draw(code, ~labels, lots=12, seed=3).features
    assert found.features != Lottery.draw(code, labels, lots=12, seed=4).features
    assert len(set(found.features)) == 12
    assert (firing_texts(code)[list(found.features)] >= 2).all()
    many = Lottery.draw(code, labels, lots=500)
    assert len(many.features) == 500 and len(set(many.features)) == 20
    assert Lottery.draw(SparseCode.from_dense(torch.zeros(4, 3)), torch.arange(4) < 2).features == ()


def test_a_lot_is_turned_the_way_the_fitting_texts_say() -> None:
    dense = sparse_table(1, 60, 30, 0.3)
    code, labels = SparseCode.from_dense(dense), torch.arange(60) < 30
    lots = Lottery.draw(code, labels)
    scores = lots.scores(code)
    assert scores.shape == (20, 60)
    assert all(area(row, labels) >= 0.5 for row in scores)
    for feature, sign, row in zip(lots.features, lots.signs, scores, strict=True):
        assert torch.equal(row, dense[:, feature].double() * sign)
    areas = sorted(area(row, labels) for row in scores)
    assert area(median_lot(scores, labels), labels) == areas[10]
    nothing = Lottery((), ())
    assert not nothing.median_lot(code, labels).any()


def test_rivals_are_those_that_are_fitted_one_by_one(reading, examples, positive) -> None:
    folds = [place % 4 for place in range(len(examples))]
    scores = Rivals.fit(reading, examples, folds, seed=2).scores(reading, examples)
    words = [example.words for example in examples]
    assert set(scores) == {"linear_probe", "bag_of_words", "random_feature"}
    assert torch.equal(scores["bag_of_words"], BagOfWords.fit(words, positive, folds).score(words))
    means = pool_residual(reading)
    assert torch.equal(scores["linear_probe"], fit_probe(means, positive, folds).score(means))
    pooled = pool_features(reading, "mean")
    assert torch.equal(scores["random_feature"], Lottery.draw(pooled, positive, seed=2).median_lot(pooled, positive))
