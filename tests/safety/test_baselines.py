"""The rivals: words, a linear probe, all features, and features drawn by lot."""

import torch

from monoscope.core.sparse import SparseCode
from monoscope.safety.baselines import BagOfWords, fit_all_features, fit_probe, random_features
from monoscope.safety.pooling import firing_texts, pool_features, pool_residual
from monoscope.safety.statistics import area

from .conftest import sparse_table

TEXTS = ["Rain, rain and snow!", "Snow in the rain", "A bank loan.", "The bank has a coin.", "rain", "coin bank"]
LABELS = torch.tensor([True, True, False, False, True, False])
FOLDS = [0, 1, 0, 1, 0, 1]


def test_words_count_where_two_training_texts_have_them() -> None:
    bag = BagOfWords(TEXTS, LABELS, FOLDS)
    words, model = bag.parts
    assert words == tuple(sorted(["rain", "snow", "the", "bank", "coin", "a", "."]))
    weight = dict(zip(words, model.weights.tolist(), strict=True))
    assert weight["rain"] > 0 > weight["bank"]
    assert area(bag.score(TEXTS), LABELS) == 1.0
    assert torch.equal(bag.score(["RAIN!!"]), bag.score(["rain"])), "case is nothing, unknown marks neither"
    assert float(bag.score(["rain rain"])[0]) > float(bag.score(["rain"])[0])


def test_a_bag_of_words_is_the_same_from_its_parts() -> None:
    bag = BagOfWords(TEXTS, LABELS, FOLDS)
    words, model = bag.parts
    again = BagOfWords.of(words, model.weights, model.bias)
    assert torch.equal(again.score([*TEXTS, "unseen words"]), bag.score([*TEXTS, "unseen words"]))
    alone = BagOfWords(["one", "two"], torch.tensor([True, False]), [0, 1])
    words, model = alone.parts
    assert words == ()
    assert BagOfWords.of(words, model.weights, model.bias).score(["one", "three"]).tolist() == [model.bias] * 2


def test_the_probe_finds_the_concept_in_the_residual(reading, examples, positive) -> None:
    means, folds = pool_residual(reading), [place % 4 for place in range(len(examples))]
    half = torch.arange(len(means)) < len(means) // 2
    probe = fit_probe(means[half], positive[half], folds[: int(half.sum())])
    assert area(probe.score(means[~half]), positive[~half]) > 0.95


def test_all_features_together_find_it_too(reading, positive) -> None:
    pooled = pool_features(reading, "mean")
    half = len(positive) // 2
    inner, outer = pooled.row_slice(0, half), pooled.row_slice(half, len(positive))
    found = fit_all_features(inner, positive[:half], [place % 4 for place in range(half)])
    assert area(found.score(outer), positive[half:]) > 0.95
    silent = SparseCode.from_dense(torch.zeros(8, 5))
    nothing = fit_all_features(silent, torch.arange(8) < 4, [0, 1] * 4)
    assert len(set(nothing.score(silent).tolist())) == 1


def test_features_drawn_by_lot_are_alive_and_know_no_label() -> None:
    dense = sparse_table(0, 60, 50, 0.2)
    dense[:, 10:40] = 0
    dense[0, 39] = 1.0  # fires in one text only
    code, labels = SparseCode.from_dense(dense), torch.arange(60) < 30
    found = random_features(code, labels, 12, seed=3)
    assert found == random_features(code, ~labels, 12, seed=3)
    assert found != random_features(code, labels, 12, seed=4)
    assert len(set(found)) == 12
    assert (firing_texts(code)[found] >= 2).all()
    assert len(random_features(code, labels, 500)) == 20
    assert random_features(SparseCode.from_dense(torch.zeros(4, 3)), torch.arange(4) < 2, 5) == []
