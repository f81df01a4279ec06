"""Turning a planted feature up makes texts about it likelier against others; no edit does nothing."""

import numpy as np
import pytest
import torch

from monoscope.safety.causal import TURNED_UP, CausalBench, difference
from monoscope.steer.compare import random_push
from monoscope.steer.edits import Edit
from monoscope.steer.resolve import resolve

from .conftest import CONCEPT, talk_of


@pytest.fixture(scope="module")
def bench(toy, dictionary) -> CausalBench:
    return CausalBench(toy, dictionary, talk_of(groups=6))


def test_no_edit_has_no_effect(bench) -> None:
    found = bench.effect(())
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


def test_a_planted_feature_has_the_signs_foretold(bench, planted) -> None:
    ticks = []

    class Ticks:
        def advance(self, count: int) -> None:
            ticks.append(count)

    found = bench.try_feature(planted.numbers[CONCEPT], progress=Ticks())
    assert found.amplified.low > 0, "turned up, texts about it become likelier than the others"
    assert found.ablated.high < 0
    assert found.amplified.value > 3 * abs(found.random.value)
    assert sum(ticks) == 3
    assert set(found.to_json()) == {"ablated", "amplified", "random"}
    other = bench.try_feature(planted.numbers["music"])
    assert abs(other.ablated.value) < 0.3 * abs(found.ablated.value)
    assert other.amplified.value < 0.3 * found.amplified.value


def test_the_random_push_is_as_long_as_the_amplification(dictionary, planted) -> None:
    up = Edit(planted.numbers[CONCEPT], "add", TURNED_UP, "r")
    move, push = resolve(up, dictionary), random_push(dictionary, [up], 5)
    assert move.value is not None
    length = float((move.value * move.direction).norm())
    assert float((push.value * push.direction).norm()) == pytest.approx(length, rel=1e-5)
    assert length == pytest.approx(TURNED_UP * dictionary.stats.mean_norm, rel=1e-5)


def test_what_costs_every_text_the_same_cancels() -> None:
    positive, groups = torch.arange(20) < 10, [str(place % 10) for place in range(20)]
    stream = torch.Generator().manual_seed(0)
    values = torch.rand(20, generator=stream, dtype=torch.double)
    found = difference(values, positive, groups)
    assert found.value == pytest.approx(float(values[:10].mean() - values[10:].mean()))
    assert found.low <= found.value <= found.high
    moved = difference(values - 3.5, positive, groups)
    assert (moved.value, moved.low, moved.high) == pytest.approx((found.value, found.low, found.high))
    one = difference(values, positive, ["all"] * 20)
    assert (one.low, one.high) == pytest.approx((one.value, one.value))


def test_pairs_share_a_group_so_what_they_share_widens_nothing() -> None:
    stream = np.random.default_rng(0)
    shared = stream.normal(size=12) * 10
    values = torch.tensor(np.concatenate([shared + 1 + 0.01 * stream.normal(size=12), shared]))
    positive = torch.arange(24) < 12
    paired = difference(values, positive, [str(place % 12) for place in range(24)])
    alone = difference(values, positive, [str(place) for place in range(24)])
    assert paired.high - paired.low < 0.1 < alone.high - alone.low
