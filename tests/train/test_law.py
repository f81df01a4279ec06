"""Laws that are known because the points were made from them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monoscope.core.errors import BadNumbers, BadRequest
from monoscope.train.law import (
    JointLaw,
    Point,
    cheapest_loss,
    effective_tokens,
    flops_per_token,
    span_of,
)
from monoscope.train.law_fit import (
    advised_rate,
    advised_rates,
    best_rate,
    cells_of_rates,
    joint_law,
    parabola,
    power_law,
    power_law_with_floor,
    rate_law,
    robust_least_squares,
    speed_law,
)
from monoscope.train.law_trust import (
    bootstrap,
    budget_groups,
    fit_laws,
    floor_helps,
    hold_back,
    interval,
)

D = 64
TRUE = JointLaw(0.0, 1.0, 0.2, 20.0, 0.3, 3.0, 15.0)
FLOORED = JointLaw(0.1, 2.0, 0.4, 90.0, 0.5, 1.0, 15.0)
ROWS = 10**9


def cost(latents: float) -> float:
    return 2.0 * D * latents


def made(law: JointLaw = TRUE, *, noise: float = 0.0, rows: int = ROWS, budgets: int = 6) -> list[Point]:
    """IsoFLOP groups about the true optimum, three learning rates each, the middle one best."""
    stream, points = np.random.default_rng(1), []
    for number in range(budgets):
        budget = 1e12 * 2**number
        middle, _, _ = cheapest_loss(law, budget, cost, rows, (16, 10**6))
        for place in range(-2, 3):
            latents = round(middle * 1.7**place)
            tokens = round(budget / cost(latents))
            loss = float(law.loss(latents, tokens, rows)) * math.exp(noise * stream.standard_normal())
            for factor in (0.5, 1.0, 2.0):
                rate = 8e-3 * latents**-0.2 * factor
                points.append(Point(budget, latents, tokens, rows, rate, loss * (1 + 0.02 * math.log2(factor) ** 2)))
    return points


@pytest.mark.parametrize("law", [TRUE, FLOORED])
def test_the_joint_law_is_found_again(law: JointLaw) -> None:
    points = advised_rates(made(law))
    assert floor_helps(points) == (law is FLOORED)
    found = joint_law(points, floor=law is FLOORED)
    assert found.floor == pytest.approx(law.floor, rel=1e-2, abs=1e-9)
    assert found.width_exponent == pytest.approx(law.width_exponent, rel=2e-2)
    assert found.token_exponent == pytest.approx(law.token_exponent, rel=2e-2)
    assert found.sharpness == pytest.approx(law.sharpness, rel=5e-2)
    # A hundred times beyond what was seen.
    assert float(found.loss(50_000, 1e10, ROWS)) == pytest.approx(float(law.loss(50_000, 1e10, ROWS)), rel=5e-3)


def test_with_noise_the_largest_budget_is_predicted_within_two_per_cent() -> None:
    held = hold_back(made(noise=0.005), cost)
    assert held.budget == 32e12
    assert abs(held.relative_error) < 0.02
    assert held.latents_predicted == pytest.approx(held.latents_measured, rel=0.25)


def test_the_exponents_of_width_and_tokens_sum_to_one() -> None:
    """For costs that are proportional to width, C = 2 d F N, whatever the losses are."""
    for points in (made(), made(noise=0.02)):
        optima = [parabola(group, cost) for group in budget_groups(advised_rates(points))]
        width, tokens = (
            power_law([o.budget for o in optima], [getattr(o, name) for o in optima]) for name in ("latents", "tokens")
        )
        assert width.exponent + tokens.exponent == pytest.approx(1.0, abs=1e-6)  # tokens are whole
    # At the true optimum (A F^-a)^p a = (B N^-b)^p b, so F grows with C^(b / (a + b)).
    exact = fit_laws(made(), cost)
    assert exact.width.exponent == pytest.approx(0.3 / 0.5, abs=0.01)
    assert exact.spread < 1e-4


def test_one_wild_point_does_not_move_the_law() -> None:
    points = advised_rates(made(noise=0.002))
    points[7] = replace(points[7], loss=points[7].loss * 1.5)
    found = joint_law(points)
    assert float(found.loss(5000, 3e7, ROWS)) == pytest.approx(float(TRUE.loss(5000, 3e7, ROWS)), rel=0.01)


def test_rows_that_are_read_again_count_for_less() -> None:
    law = replace(TRUE, reuse=6.0)
    rows = 2 * 10**6
    points = made(law, rows=rows)
    again = [replace(p, rows=p.tokens // 10) for p in points[::9]]
    again = [replace(p, loss=float(law.loss(p.latents, p.tokens, p.rows))) for p in again]
    found = joint_law([*advised_rates(points), *again])
    assert found.reuse == pytest.approx(6.0, rel=0.05)


@given(st.floats(1, 1e9), st.floats(1, 1e9), st.floats(0.5, 100))
def test_effective_tokens_grow_and_stay_below_the_tokens(tokens: float, rows: float, reuse: float) -> None:
    few, more = (float(effective_tokens(np.array(t), np.array(rows), reuse)) for t in (tokens, 2 * tokens))
    assert few <= tokens * (1 + 1e-9)
    assert more >= few
    assert few <= rows * (1 + reuse) * (1 + 1e-9)


def test_a_parabola_finds_its_own_minimum() -> None:
    points = [
        Point(1e12, f, 1, ROWS, 1e-3, math.exp(-1 + 0.3 * math.log(f / 900) ** 2)) for f in (300, 600, 1200, 2400)
    ]
    found = parabola(points, cost)
    assert found.inside
    assert found.latents == pytest.approx(900)
    assert found.loss == pytest.approx(math.exp(-1))
    assert found.tokens == pytest.approx(1e12 / cost(900))


def test_a_budget_without_a_minimum_says_so() -> None:
    points = [Point(1e12, f, 10, ROWS, 1e-3, 1 / math.log(f)) for f in (300, 600, 1200)]
    found = parabola(points, cost)
    assert not found.inside
    assert found.latents == 1200
    with pytest.raises(BadRequest, match="three widths"):
        parabola(points[:2], cost)


def test_power_laws_with_and_without_a_floor() -> None:
    x = [1e12 * 2**n for n in range(6)]
    bare = power_law(x, [3 * v**-0.2 for v in x])
    assert (bare.factor, bare.exponent) == (pytest.approx(3), pytest.approx(-0.2))
    floored = power_law_with_floor(x, [0.1 + 900 * v**-0.3 for v in x])
    assert floored.floor == pytest.approx(0.1, rel=0.02)
    assert floored.exponent == pytest.approx(-0.3, rel=0.02)
    assert power_law_with_floor(x, [3 * v**-0.2 for v in x]).at(1e15) == pytest.approx(3 * 1e15**-0.2, rel=1e-3)


def test_the_rate_law_finds_the_best_rates_and_stays_near_them() -> None:
    points = made()
    law = rate_law(points)
    middle = advised_rates(points)[12]
    assert law.at(middle.latents, middle.tokens) == pytest.approx(8e-3 * middle.latents**-0.2, rel=0.03)
    best = [best_rate(cell).rate for cell in cells_of_rates(points)]
    assert law.at(1e12, 1e15) == law.low == pytest.approx(min(best) / 8)
    assert law.at(1e-3, 1) == law.high == pytest.approx(max(best) * 8)
    with pytest.raises(BadRequest, match="several learning rates"):
        rate_law(advised_rates(points))
    cell = [Point(1, 8, 1, 1, rate, loss) for rate, loss in ((1e-3, 1.1), (2e-3, 1.0), (4e-3, 1.1))]
    assert best_rate(cell).rate == pytest.approx(2e-3)
    assert best_rate(cell[:2]) == cell[1]


def test_losses_are_told_at_the_rate_that_is_advised() -> None:
    cell = [
        Point(1, 8, 1, 1, rate, math.exp(0.1 * math.log(rate / 2e-3) ** 2), share=0.7) for rate in (1e-3, 2e-3, 4e-3)
    ]
    found = advised_rate(cell)
    assert found.rate == pytest.approx(1.4e-3)
    assert found.loss == pytest.approx(math.exp(0.1 * math.log(0.7) ** 2))
    assert advised_rate(cell[1:2]) == cell[1], "a single training was at the advised rate"
    falling = [replace(point, loss=1 + point.rate) for point in cell]
    assert advised_rate(falling) == falling[0]


def test_speed_takes_the_undisturbed_times() -> None:
    law = speed_law([100, 100, 1000, 1000], [9e-5, 2e-5, 1.1e-4, 3e-4])
    assert law.at(100) == pytest.approx(2e-5)
    assert law.at(1000) == pytest.approx(1.1e-4)
    assert speed_law([100], [2e-5]).at(200) == pytest.approx(4e-5)


def test_the_bootstrap_covers_the_truth() -> None:
    points = made(noise=0.005)
    fit = fit_laws(points, cost)
    draws = bootstrap(points, fit, cost, draws=40, seed=0)
    again = bootstrap(points, fit, cost, draws=3, seed=0)
    assert [drawn.joint for drawn in again] == [drawn.joint for drawn in draws[:3]]
    low, high = interval([float(d.joint.loss(9000, 5e7, ROWS)) * math.exp(d.residual) for d in draws])
    assert low < float(TRUE.loss(9000, 5e7, ROWS)) < high
    assert (high - low) / low < 0.1
    low, high = interval([drawn.width_exponent for drawn in draws])
    assert low < 0.3 / 0.5 < high


def test_flops_follow_the_table() -> None:
    assert flops_per_token("batchtopk", 576, 9216, 32) == 2 * 576 * 9216 + 8 * 576 * 32
    assert flops_per_token("relu", 576, 9216, 32) == 10 * 576 * 9216
    assert flops_per_token("gated", 576, 9216, 32) == 14 * 576 * 9216
    assert flops_per_token("transcoder", 576, 9216, 32, d_out=64) == 2 * 576 * 9216 + 4 * 32 * 640
    with pytest.raises(BadRequest, match="No FLOPs"):
        flops_per_token("pca", 1, 1, 1)


def test_what_cannot_be_fitted_is_refused() -> None:
    points = advised_rates(made())
    with pytest.raises(BadRequest, match="too few"):
        joint_law(points[:5])
    with pytest.raises(BadNumbers, match="not a positive number"):
        joint_law([*points, replace(points[0], loss=float("nan"))])
    assert len(budget_groups(points)) == 6
    assert span_of(points) == (min(p.latents for p in points) / 4, max(p.latents for p in points) * 4)


def test_least_squares_leaves_what_it_cannot_see() -> None:
    x = np.linspace(0, 1, 20)
    found = robust_least_squares(lambda p: p[0] + p[1] * x - 2 - 3 * x, np.zeros(3), scale=10.0)
    assert found[:2] == pytest.approx([2, 3], abs=1e-5)
    assert found[2] == 0
