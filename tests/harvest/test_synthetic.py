"""Worlds with known features: they fire as often as they should, in trees, together, and the same every time."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from monoscope.core.errors import BadRequest
from monoscope.core.sparse import SparseCode
from monoscope.harvest.synthetic import (
    SUITES,
    GroundTruth,
    SyntheticSettings,
    SyntheticStore,
    suite_16k,
    suite_correlated,
    suite_small,
    suite_trees,
)

ROWS = 40_000
TREES = SyntheticSettings(60, 16, 0.5, 0.05, roots=4, branching=3, depth=2)


def _fires(truth: GroundTruth, rows: int = ROWS, seed: int = 1) -> torch.Tensor:
    return truth.sample(rows, np.random.default_rng(seed)).to_dense() > 0


def _worst(count: torch.Tensor, expected: torch.Tensor, rows: int) -> float:
    """The mean square deviation in standard errors: about 1 where the law is right (chi-square over its degrees)."""
    error = (expected * (1 - expected) * rows).sqrt()
    return float(((count - expected * rows) / error).square().mean())


@pytest.mark.parametrize("settings", [suite_small(), suite_trees(), TREES], ids=["small", "trees", "deep"])
def test_features_fire_as_often_as_they_should(settings: SyntheticSettings) -> None:
    truth = GroundTruth.draw(settings)
    assert _worst(_fires(truth).sum(0), truth.density, ROWS) < 1.35


def test_correlated_features_keep_their_density_and_fire_together_as_the_copula_says() -> None:
    truth = GroundTruth.draw(replace(suite_correlated(), features=48, most=0.3, least=0.1))
    fires = _fires(truth, 60_000).double()
    assert _worst(fires.sum(0), truth.density, len(fires)) < 1.6
    # P(both fire), by drawing the whole Gaussian vector without any short cut.
    rng = np.random.default_rng(2)
    g = rng.standard_normal((60_000, truth.factor.shape[1]))
    height = g @ truth.factor.double().numpy().T + rng.standard_normal((60_000, 48)) * truth.rest.double().numpy()
    wanted = torch.from_numpy((height > truth.level.double().numpy()).astype(float))
    found, plain = torch.corrcoef(fires.T), torch.corrcoef(wanted.T)
    off = ~torch.eye(48, dtype=torch.bool)
    assert plain[off].abs().max() > 0.2
    # Each side errs by 1/sqrt(rows), so their difference has this variance if the law is the same.
    assert float((found - plain)[off].square().mean()) < 1.5 * 2 / 60_000


def test_a_child_fires_only_with_its_parent_and_never_with_a_sibling() -> None:
    truth = GroundTruth.draw(TREES)
    fires = _fires(truth)
    children = torch.nonzero(truth.parent >= 0).flatten()
    assert len(children) == 4 * 3 + 4 * 9
    assert not (fires[:, children] & ~fires[:, truth.parent[children]]).any()
    for family in truth.parent.unique()[1:]:
        assert fires[:, truth.parent == family].sum(1).max() == 1


def test_a_childs_magnitude_goes_with_its_parents() -> None:
    truth = GroundTruth.draw(replace(TREES, spread=1.0, spread_of_spread=0.0))
    code = truth.sample(20_000, np.random.default_rng(0)).to_dense()
    both = code[:, 4] > 0
    assert torch.corrcoef(torch.stack([code[both, 0], code[both, 4]]))[0, 1] > 0.5


def test_siblings_win_as_often_as_counting_all_cases_says() -> None:
    truth = GroundTruth.draw(TREES)
    chance, wins = truth.chance[4:7].double(), torch.zeros(3, dtype=torch.float64)
    for accepts in itertools.product([0, 1], repeat=3):
        case = torch.tensor(accepts)
        probability = torch.where(case == 1, chance, 1 - chance).prod()
        wins += probability * case / case.sum().clamp(min=1)
    assert torch.allclose(truth.density[4:7].double(), truth.density[0] * wins, atol=1e-6)


def test_the_settings_of_the_published_suite() -> None:
    """34 features on a mean token, 25 of them among the 4,096 most frequent, overlaps near 0.15."""
    truth = GroundTruth.draw(suite_16k())
    assert float(truth.density.sum()) == pytest.approx(34, abs=1)
    assert float(truth.density[:4096].sum()) == pytest.approx(25, abs=1)
    overlap = (truth.directions[:400] @ truth.directions.T).abs()
    overlap[torch.arange(400), torch.arange(400)] = 0
    assert float(overlap.amax(1).mean()) == pytest.approx(0.15, abs=0.02)
    code = truth.sample(2_000, np.random.default_rng(0))
    assert code.l0 == pytest.approx(34, abs=1.5)


def test_tokens_are_the_sum_of_their_features() -> None:
    truth = GroundTruth.draw(replace(suite_small(), bias=2.0))
    code = truth.sample(300, np.random.default_rng(0))
    wanted = code.to_dense().double() @ truth.directions.double() + truth.bias.double()
    assert torch.allclose(truth.activations(code).double(), wanted, atol=1e-5)
    assert float(truth.bias.norm()) == pytest.approx(2.0, abs=1e-5)
    assert torch.allclose(truth.directions.norm(dim=1), torch.ones(256), atol=1e-6)


def _same(a: SparseCode, b: SparseCode) -> bool:
    return torch.equal(a.indices, b.indices) and torch.equal(a.values, b.values) and torch.equal(a.starts, b.starts)


def test_a_piece_depends_on_the_settings_and_its_number_alone() -> None:
    small = SyntheticStore(suite_small(), train_rows=2_500, held_rows=700, piece_rows=1_000)
    large = SyntheticStore(suite_small(), train_rows=9_000, held_rows=2_000, piece_rows=1_000)
    assert [shard["rows"] for shard in small.shards("train")] == [1_000, 1_000, 500]
    assert (small.rows("train"), small.rows("held"), small.rows("all")) == (2_500, 700, 3_200)
    second = large.read(large.shards("train")[1])
    assert torch.equal(small.read(small.shards("train")[1]).x, second.x)
    assert second.token.tolist() == list(range(1_000, 2_000))
    assert second.x.dtype == torch.bfloat16
    codes = [small.code(shard) for shard in small.shards("all")]
    assert not _same(codes[0], codes[1])
    other = SyntheticStore(suite_small(seed=1), train_rows=2_500, held_rows=700, piece_rows=1_000)
    assert not _same(codes[0], other.code(other.shards("train")[0]))
    assert len({small.digest, large.digest, other.digest}) == 3


def test_a_true_code_is_sorted_and_above_zero() -> None:
    code = GroundTruth.draw(TREES).sample(3_000, np.random.default_rng(0))
    keys = code.rows * TREES.features + code.indices
    assert (keys[1:] > keys[:-1]).all()
    assert (code.values > 0).all()
    assert int(code.starts[-1]) == len(code.values)


@pytest.mark.parametrize(
    "change", [{"features": 0}, {"most": 1.0}, {"least": 0.3}, {"roots": 60}, {"rank": 30, "correlation": 0.2}]
)
def test_what_makes_no_world_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(BadRequest):
        replace(suite_small(), **change)


def test_suites_have_names() -> None:
    assert set(SUITES) == {"16k", "2k", "small", "correlated", "trees"}
    assert float(GroundTruth.draw(SUITES["2k"]()).density.sum()) == pytest.approx(11, abs=0.5)
