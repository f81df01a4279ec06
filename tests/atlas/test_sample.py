"""Sample, trials, co-firing and families against slow twins that see a dense matrix."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from monoscope.atlas.cofiring import fire_together
from monoscope.atlas.families import absorbed_into, duplicates
from monoscope.atlas.sample import WINDOW, Sampling
from monoscope.atlas.trials import FIRING, LOOKALIKES, SILENT, TrialMaker
from monoscope.core.sparse import SparseCode

N = 8


@pytest.fixture(scope="module")
def dense(world):
    """Feature 1 fires where 0 does, half of the time; 2 on one token of the vocabulary; others by chance; 7 never."""
    stream = np.random.default_rng(2)
    n = world.store.n_tokens
    fires = stream.random((n, N)) < np.array([0.02, 0, 0, 0.05, 0.01, 0.005, 0.3, 0])
    fires[:, 1] = fires[:, 0] & (stream.random(n) < 0.5)
    ids = world.store.ids.numpy()
    common = np.bincount(ids).argsort()[-6]
    fires[:, 2] = (ids == common) & (stream.random(n) < 0.7)
    return np.where(fires, stream.gamma(2, 1, fires.shape) + 0.1, 0).astype(np.float32)


@pytest.fixture(scope="module")
def sample(world, dense):
    sampling = Sampling(world.store, N, most_windows=150)
    order = np.random.default_rng(0).permutation(len(world.store.windows))
    starts, lengths = world.store.windows.start.numpy(), world.store.windows.length.numpy()
    for numbers in np.array_split(order, 9):
        token = np.concatenate([np.arange(starts[i], starts[i] + lengths[i]) for i in numbers])
        code = SparseCode.from_dense(torch.from_numpy(dense[token]))
        sampling.add(token, code.counts.numpy(), code.indices.numpy(), code.values.numpy())
    return sampling.sample()


def test_the_sample_is_whole_windows_of_both_sides_and_no_more_than_asked(world, sample):
    assert sample.held.sum() <= 150 and (~sample.held).sum() == 150
    documents = world.store.document_of(torch.from_numpy(sample.start)).numpy()
    last = world.store.document_of(torch.from_numpy(sample.start + WINDOW - 1)).numpy()
    np.testing.assert_array_equal(documents, last)
    split = np.array(world.store.documents["split"].to_pylist())
    np.testing.assert_array_equal(split[documents] == "held", sample.held)
    assert (np.diff(sample.start) >= WINDOW).all()


def test_the_sample_holds_the_codes_of_its_tokens(sample, dense):
    tokens = (sample.start[:, None] + np.arange(WINDOW)).ravel()
    np.testing.assert_array_equal(np.sort(tokens), sample.token)
    found = np.zeros((sample.n_rows, N), np.float32)
    found[np.repeat(np.arange(sample.n_rows), np.diff(sample.offsets)), sample.feature] = sample.value
    np.testing.assert_array_equal(found, dense[sample.token])
    for feature in range(N):
        rows, values = sample.columns.of(feature)
        np.testing.assert_array_equal(rows, np.flatnonzero(found[:, feature]))
        np.testing.assert_array_equal(values, found[rows, feature])


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("feature", range(N))
def test_trials_are_what_they_say(world, sample, dense, feature, held):
    maker = TrialMaker(sample, world.store)
    windows = dense[sample.start[:, None] + np.arange(WINDOW), feature].max(1)
    firings = maker.firings(feature)
    np.testing.assert_array_equal(firings.window, np.flatnonzero(windows > 0))
    np.testing.assert_array_equal(firings.value, windows[windows > 0])
    np.testing.assert_array_equal(dense[sample.token[firings.peak], feature], firings.value)
    typical, share = maker.typical_token(firings)
    trial = maker.trial(feature, firings, typical, held=held)
    assert len(trial.firing) == min(FIRING, int(((windows > 0) & (sample.held == held)).sum()))
    assert len(set(trial.windows.tolist())) == len(trial.windows)
    assert (windows[trial.firing] > 0).all() and not windows[trial.silent].any()
    assert (sample.held[trial.windows] == held).all()
    assert len(trial.silent) <= SILENT and trial.lookalikes <= LOOKALIKES
    ids = world.store.ids.numpy()[sample.start[:, None] + np.arange(WINDOW)]
    assert (ids[trial.silent[: trial.lookalikes]] == typical).any(1).all() or typical < 0
    if typical >= 0:
        peaks = world.store.ids.numpy()[sample.token[firings.peak]]
        assert share == pytest.approx((peaks == typical).mean()) and share == max(
            (peaks == one).mean() for one in peaks
        )
        assert trial.weight.sum() == pytest.approx(1) or not len(trial.firing)


def test_strong_and_weak_windows_are_both_tried(world, sample, dense):
    maker = TrialMaker(sample, world.store)
    firings = maker.firings(6)
    trial = maker.trial(6, firings, -1, held=False)
    mine = firings.value[~sample.held[firings.window]]
    fifth = np.minimum((5 * trial.value / mine.max()).astype(int), 4)
    wanted = np.bincount(np.minimum((5 * mine / mine.max()).astype(int), 4), minlength=5)
    assert (np.bincount(fifth, minlength=5)[wanted >= 4] >= 4).all()


def test_firing_together_is_that_of_the_dense_matrix(sample, dense):
    fires = dense[sample.token] > 0
    share = fires.mean(0)
    neighbours = np.array([[(i + 1) % N, (i + 3) % N] for i in range(N)])
    found = fire_together(sample, neighbours, 3)
    expected = np.corrcoef(fires[:, :7].T.astype(float))
    # Features 1 and 4 fire so seldom that all their firings are looked at.
    for feature in (1, 4, 5):
        assert fires[:, feature].sum() <= 64
        for place, other in enumerate(neighbours[feature]):
            if other != 7:
                assert found.of_neighbours[feature, place] == pytest.approx(expected[feature, other], abs=1e-5)
    assert found.feature[1, 0] == 0
    assert found.lift[1, 0] == pytest.approx(1 / share[0], rel=1e-5)
    assert (found.feature[7] == -1).all()


def test_a_duplicate_is_the_rarer_of_two_that_fire_alike():
    neighbours = np.array([[1, 2], [0, 2], [0, 1]])
    cosines = np.array([[0.95, 0.1], [0.95, 0.1], [0.85, 0.2]])
    correlation = np.array([[0.8, 0.0], [0.8, 0.0], [0.2, 0.0]])
    assert duplicates(neighbours, cosines, correlation, np.array([5, 9, 20])).tolist() == [1, -1, -1]


def test_what_fires_where_a_feature_is_missed_is_named(sample, dense):
    rows = np.flatnonzero(dense[sample.token, 6] > 0)[:10]
    unit = np.eye(N, dtype=np.float32)
    unit[0, 6] = 0.5
    assert absorbed_into(sample, rows, 0, unit) == 6
    assert absorbed_into(sample, rows[:3], 0, unit) == -1
    unit[0, 6] = 0.0
    assert absorbed_into(sample, rows, 0, unit) == -1


@given(st.lists(st.floats(0.125, 100, width=32), min_size=1, max_size=60))
def test_weights_give_each_fifth_the_same_say(values):
    from monoscope.atlas.trials import Trial

    value = np.array(values, np.float32)
    trial = Trial(np.arange(len(value)), np.arange(len(value)), value, np.zeros(0, np.int64), 0)
    fifth = np.minimum((value / value.max() * 5).astype(int), 4)
    totals = [trial.weight[fifth == one].sum() for one in np.unique(fifth)]
    np.testing.assert_allclose(totals, 1 / len(totals))
