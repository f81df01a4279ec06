"""Scores of what is known to be right, wrong, shuffled, doubled; and one training that finds its features."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from monoscope.core.errors import BadRequest
from monoscope.core.sparse import SparseCode
from monoscope.evaluate.recovery import Matching, Recovery, assign, recovery, score
from monoscope.harvest.feed import Feed
from monoscope.harvest.synthetic import SyntheticSettings, SyntheticStore
from monoscope.train.finish import finish
from monoscope.train.loop import train
from monoscope.train.recipes import Recipe

TINY = SyntheticSettings(24, 32, 0.2, 0.05)


@pytest.fixture(scope="module")
def world() -> SyntheticStore:
    return SyntheticStore(TINY, train_rows=1, held_rows=6_000, piece_rows=2_500)


@dataclass
class _Knows:
    """Codes like the truth, its features renumbered by `of`; an entry is dropped or added where a test says so."""

    store: SyntheticStore
    of: Tensor
    drop: float = 0.0
    extra: float = 0.0

    def __post_init__(self) -> None:
        self._rest = iter([self.store.code(shard) for shard in self.store.shards("held")])
        self.rows = self.store.truth.directions[self.of]

    def encode(self, x: Tensor) -> SparseCode:
        dense = next(self._rest).to_dense()[:, self.of]
        stream = torch.Generator().manual_seed(0)
        dense = dense * (torch.rand(dense.shape, generator=stream) >= self.drop)
        return SparseCode.from_dense(torch.where(torch.rand(dense.shape, generator=stream) < self.extra, 1.0, dense))

    def decode(self, code: SparseCode) -> Tensor:
        return code.to_dense() @ self.rows


def _scored(coder: _Knows) -> Recovery:
    matching = Matching.of(coder.rows, coder.store.truth.directions)
    return score(coder, matching, coder.store, coder.store.shards("held"))


def test_a_perfect_dictionary_scores_one(world: SyntheticStore) -> None:
    found = _scored(_Knows(world, torch.arange(24)))
    for figure in (found.f1, found.matched_f1, found.mcc, found.uniqueness, found.shrinkage):
        assert figure == pytest.approx(1.0, abs=1e-5)
    assert found.fvu < 1e-10
    assert (found.dead, found.tokens) == (0, 6_000)
    assert found.l0 == found.true_l0


def test_the_order_of_latents_changes_nothing(world: SyntheticStore) -> None:
    order = torch.randperm(24, generator=torch.Generator().manual_seed(3))
    plain, mixed = (_scored(_Knows(world, of)) for of in (torch.arange(24), order))
    assert plain.plain() == pytest.approx(mixed.plain(), abs=1e-6)
    assert torch.equal(mixed.nearest.feature, order)
    assert torch.equal(mixed.matched.feature, order)


def test_misses_lower_recall_and_false_alarms_lower_precision(world: SyntheticStore) -> None:
    missing = _scored(_Knows(world, torch.arange(24), drop=0.25))
    assert missing.precision == 1.0
    assert missing.recall == pytest.approx(0.75, abs=0.02)
    loud = _scored(_Knows(world, torch.arange(24), extra=0.1))
    assert loud.recall == 1.0
    density = world.truth.density.double()
    assert loud.precision == pytest.approx(float((density / (density + 0.1 * (1 - density))).mean()), abs=0.02)


def test_two_latents_for_one_feature(world: SyntheticStore) -> None:
    """Both are good detectors; only one of them can be matched, and the other gets a feature it knows nothing of."""
    of = torch.tensor([0, 0, *range(2, 24)])
    found = _scored(_Knows(world, of))
    assert found.f1 == pytest.approx(1.0)
    assert found.uniqueness == pytest.approx(23 / 24)
    assert found.matched_f1 < 0.98
    assert found.mcc < 0.98
    assert sorted(found.matched.feature.tolist()) == list(range(24))


def test_more_latents_than_features_leaves_some_unmatched(world: SyntheticStore) -> None:
    of = torch.tensor([*range(24), 3, 4])
    found = _scored(_Knows(world, of))
    assert int((found.matched.feature < 0).sum()) == 2
    assert found.mcc == pytest.approx(1.0, abs=1e-5)
    assert found.matched_f1 == pytest.approx(1.0)


def test_a_random_dictionary_scores_low(world: SyntheticStore) -> None:
    class _Random(_Knows):
        def encode(self, x: Tensor) -> SparseCode:
            return SparseCode.from_dense((x @ self.rows.T - 2.0).relu())

    coder = _Random(world, torch.arange(24))
    coder.rows = torch.nn.functional.normalize(torch.randn(24, 32, generator=torch.Generator().manual_seed(5)))
    found = _scored(coder)
    assert found.f1 < 0.5
    assert found.mcc < 0.6


@pytest.mark.parametrize("shape", [(5, 5), (4, 6), (6, 4), (1, 3)])
def test_the_assignment_is_the_best_of_all(shape: tuple[int, int]) -> None:
    stream = torch.Generator().manual_seed(0)
    few = min(shape)
    for _ in range(15):
        # Rounded, so that there are ties.
        table = (torch.rand(shape, generator=stream) * 6).round() / 6
        column = assign(table)
        rows = torch.nonzero(column >= 0).flatten()
        assert len(rows) == len(column[rows].unique()) == few
        chosen = ((list(r), list(c)) for r in itertools.combinations(range(shape[0]), few)
                  for c in itertools.permutations(range(shape[1]), few))  # fmt: skip
        assert float(table[rows, column[rows]].sum()) == pytest.approx(max(float(table[r, c].sum()) for r, c in chosen))


def test_what_cannot_be_scored_is_refused(world: SyntheticStore) -> None:
    coder = _Knows(world, torch.arange(24))
    with pytest.raises(BadRequest, match="held"):
        score(coder, Matching.of(coder.rows, world.truth.directions), world, [])
    with pytest.raises(BadRequest, match="32"):
        Matching.of(coder.rows[:, :8], world.truth.directions)


def test_training_finds_the_features_of_a_small_world(tmp_path: Path) -> None:
    store = SyntheticStore(SyntheticSettings(64, 32, 0.08, 0.02), train_rows=150_000, held_rows=8_000)
    recipe = Recipe(
        latents=64,
        k=2,
        tokens=300_000,
        batch_rows=512,
        learning_rate=1e-2,
        dead_tokens=3_000,
        resample_tokens=15_000,
    )
    found = train(Feed(store, batch_rows=512, seed=0), recipe, tmp_path, request={})
    assert found is not None
    dictionary, _ = finish(*found[:2], recipe, store, name="small")
    scores = recovery(dictionary, store)
    assert scores.mcc >= 0.9
    assert scores.f1 >= 0.75
