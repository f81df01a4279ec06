"""All laws of a sweep, and how far they can be trusted: what they say of a budget they have not seen, and intervals."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from monoscope.core.errors import BadRequest
from monoscope.train.law import Array, JointLaw, Optimum, Point, PowerLaw, RateLaw, cheapest_loss, span_of
from monoscope.train.law_fit import (
    advised_rates,
    columns_of,
    joint_law,
    parabola,
    power_law,
    power_law_with_floor,
    rate_law,
)


@dataclass(frozen=True)
class Fit:
    """All laws of one sweep. `optima` has one entry a budget.

    `joint` predicts within the sweep; beyond it, `without_floor` and `with_floor` are two ends of what may be.
    `spread` is the typical relative distance of a point from the joint law (root of the mean square).
    """

    joint: JointLaw
    without_floor: JointLaw
    with_floor: JointLaw
    rate: RateLaw
    optima: tuple[Optimum, ...]
    width: PowerLaw
    tokens: PowerLaw
    loss: PowerLaw
    loss_with_floor: PowerLaw
    spread: float


def fit_laws(points: Sequence[Point], cost: Callable[[float], float]) -> Fit:
    """All laws through the points; of several learning rates the best counts.

    `cost` gives the FLOPs a token of a width. Budgets with fewer than three widths, and points on part of the rows,
    take part in the joint law only.

    Raises
        BadRequest  too few points.
    """
    best = advised_rates(points)
    ends = {floor: joint_law(best, floor=floor) for floor in (False, True)}
    joint = ends[floor_helps(best)]
    groups = budget_groups(best)
    optima = tuple(parabola(group, cost) for group in groups if len(group) >= 3)
    if len(optima) < 2:
        raise BadRequest("A scaling law needs at least two budgets with three widths each.")
    budgets = [optimum.budget for optimum in optima]
    losses = [optimum.loss for optimum in optima]
    return Fit(
        joint=joint,
        without_floor=ends[False],
        with_floor=ends[True],
        rate=rate_law(points),
        optima=optima,
        width=power_law(budgets, [optimum.latents for optimum in optima]),
        tokens=power_law(budgets, [optimum.tokens for optimum in optima]),
        loss=power_law(budgets, losses),
        loss_with_floor=power_law_with_floor(budgets, losses),
        spread=float(np.sqrt(np.mean(_distances(joint, best) ** 2))),
    )


def floor_helps(points: Sequence[Point]) -> bool:
    """Whether a law with a floor predicts the dearest budget better from the cheaper ones than a law without.

    Over the budgets of a sweep a floor and a bend can hardly be told apart, so the closer fit is no guide.
    """
    dearest = max(point.budget for point in points)
    cheaper = [point for point in points if point.budget < dearest]
    unseen = [point for point in points if point.budget == dearest]
    if len({point.budget for point in cheaper}) < 3:
        return False
    tried = {floor: joint_law(cheaper, floor=floor) for floor in (False, True)}
    errors = {floor: float(np.abs(_distances(law, unseen)).mean()) for floor, law in tried.items()}
    return errors[True] < errors[False]


def _distance(law: JointLaw, point: Point) -> float:
    return math.log(float(law.loss(point.latents, point.tokens, point.rows)) / point.loss)


def _distances(joint: JointLaw, points: Sequence[Point]) -> Array:
    return np.array([_distance(joint, point) for point in points])


def budget_groups(points: Sequence[Point]) -> list[list[Point]]:
    """The points on all rows, by budget, cheapest first."""
    whole = max(point.rows for point in points)
    budgets = sorted({point.budget for point in points})
    groups = [[point for point in points if point.budget == budget and point.rows == whole] for budget in budgets]
    return [group for group in groups if group]


@dataclass(frozen=True)
class HeldBack:
    """How well the cheaper budgets predicted the dearest, which the fit had not seen.

    `predicted` and `measured` are the smallest loss at that budget, `latents_*` the width where it is reached; `worst`
    is the largest relative error over the budget's single points.
    """

    budget: float
    predicted: float
    measured: float
    relative_error: float
    worst: float
    latents_predicted: float
    latents_measured: float
    by_loss_law: float


def hold_back(points: Sequence[Point], cost: Callable[[float], float]) -> HeldBack:
    """Fit without the largest budget, then predict it.

    `by_loss_law` is what the bare power law of the minima, without floor, would have said.
    """
    best = advised_rates(points)
    last = budget_groups(best)[-1]
    fit = fit_laws([point for point in points if point.budget < last[0].budget], cost)
    latents, _, predicted = cheapest_loss(fit.joint, last[0].budget, cost, last[0].rows, span_of(best))
    found = parabola(last, cost)
    return HeldBack(
        budget=found.budget,
        predicted=predicted,
        measured=found.loss,
        relative_error=predicted / found.loss - 1,
        worst=float(np.abs(np.expm1(_distances(fit.joint, last))).max()),
        latents_predicted=latents,
        latents_measured=found.latents,
        by_loss_law=float(fit.loss.at(found.budget)),
    )


@dataclass(frozen=True)
class Draw:
    """The laws of one resampled sweep."""

    joint: JointLaw
    width_exponent: float
    token_exponent: float
    loss_exponent: float
    residual: float


def bootstrap(
    points: Sequence[Point], fit: Fit, cost: Callable[[float], float], *, draws: int, seed: int
) -> list[Draw]:
    """Laws of sweeps that might have been: the law's own losses with resampled distances, and one budget left out.

    Every other one has a floor, and the others none: what that makes of the advice is part of the uncertainty.
    """
    best = advised_rates(points)
    distances = _distances(fit.joint, best)
    budgets = sorted({point.budget for point in best})
    F, N, U, _ = columns_of(best)
    expected = fit.joint.loss(F, N, U)
    stream = np.random.default_rng(seed)
    found = []
    for number in range(draws):
        # Scaled up for the parameters that the fit itself used.
        drawn = stream.choice(distances, len(best)) * math.sqrt(len(best) / max(1, len(best) - 6))
        losses = expected * np.exp(drawn)
        dropped = stream.choice(budgets) if len(budgets) > 3 else None
        made = [
            replace(point, loss=float(loss))
            for point, loss in zip(best, losses, strict=True)
            if point.budget != dropped
        ]
        optima = [parabola(group, cost) for group in budget_groups(made) if len(group) >= 3]
        kept = [optimum.budget for optimum in optima]
        laws = [power_law(kept, [getattr(o, name) for o in optima]) for name in ("latents", "tokens", "loss")]
        exponents = [law.exponent for law in laws]
        with_floor = number % 2 == 1
        joint = joint_law(made, fit.with_floor if with_floor else fit.without_floor, floor=with_floor)
        found.append(Draw(joint, *exponents, residual=float(stream.choice(drawn))))
    return found


def interval(values: Sequence[float], share: float = 0.9) -> tuple[float, float]:
    """The middle `share` of the values."""
    low, high = np.quantile(np.asarray(values, float), [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
