"""The picture of a sweep: what was measured, and the laws through it."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from monoscope.render.chart import Chart, Series, write_chart
from monoscope.train.law import Optimum, Point
from monoscope.train.law_fit import advised_rates
from monoscope.train.law_trust import Fit, HeldBack, budget_groups


def draw(
    path: Path, fit: Fit, points: Sequence[Point], held_back: HeldBack | None, cost: Callable[[float], float]
) -> None:
    """Four panels: loss against width, best width and tokens, best loss, and predicted against measured loss."""
    groups = budget_groups(advised_rates(points))
    panels = (_parabolas(fit, groups), _sizes(fit, cost), _losses(fit, held_back), _agreement(fit, groups))
    write_chart(path, *panels)


def _parabolas(fit: Fit, groups: list[list[Point]]) -> Chart:
    by_budget = {optimum.budget: optimum for optimum in fit.optima}
    series = []
    for group in groups:
        name = f"{group[0].budget:.1e}"
        series.append(Series(name, [p.latents for p in group], [p.loss for p in group], mark="points"))
        if group[0].budget in by_budget:
            series.append(_parabola(name, group, by_budget[group[0].budget]))
    return Chart(
        "Each budget has a best width", "latents", "held-out FVU", tuple(series), x_log=True, y_log=True, ordered=True,
        legend="FLOPs",
    )  # fmt: skip


def _parabola(name: str, group: list[Point], optimum: Optimum) -> Series:
    x = np.geomspace(group[0].latents, group[-1].latents, 60)
    y = optimum.loss * np.exp(optimum.curvature * np.log(x / optimum.latents) ** 2)
    return Series(name, x.tolist(), y.tolist(), mark="line")


def _sizes(fit: Fit, cost: Callable[[float], float]) -> Chart:  # noqa: ARG001
    budgets = [optimum.budget for optimum in fit.optima]
    line = np.geomspace(budgets[0], budgets[-1] * 4, 40)
    series = []
    for name, law, found in (("latents", fit.width, "latents"), ("tokens", fit.tokens, "tokens")):
        told = f"{name} as C^{law.exponent:.2f}"
        series.append(Series(told, budgets, [getattr(optimum, found) for optimum in fit.optima], mark="points"))
        series.append(Series(told, line.tolist(), law.at(line).tolist(), mark="line"))
    return Chart(
        "Best width and tokens by budget", "FLOPs", "count", tuple(series), x_log=True, y_log=True, x_format="~e",
        y_format="~s",
    )  # fmt: skip


def _losses(fit: Fit, held_back: HeldBack | None) -> Chart:
    budgets = [optimum.budget for optimum in fit.optima]
    line = np.geomspace(budgets[0], budgets[-1] * 4, 40)
    plain, floored = fit.loss, fit.loss_with_floor
    series = [
        Series("measured", budgets, [optimum.loss for optimum in fit.optima], mark="points"),
        Series(f"as C^{plain.exponent:.3f}", line.tolist(), plain.at(line).tolist(), mark="line"),
        Series(f"with floor {floored.floor:.3f}", line.tolist(), floored.at(line).tolist(), mark="line", dashed=True),
    ]
    if held_back is not None:
        series.append(Series("predicted without it", [held_back.budget], [held_back.predicted], mark="points"))
    return Chart("Best loss by budget", "FLOPs", "held-out FVU", tuple(series), x_log=True, y_log=True, x_format="~e")


def _agreement(fit: Fit, groups: list[list[Point]]) -> Chart:
    series, losses = [], [point.loss for group in groups for point in group]
    for group in groups:
        found = [float(fit.joint.loss(p.latents, p.tokens, p.rows)) for p in group]
        series.append(Series(f"{group[0].budget:.1e}", found, [p.loss for p in group], mark="points"))
    ends = [min(losses), max(losses)]
    title = f"Joint law, {100 * fit.spread:.1f} % apart" if math.isfinite(fit.spread) else "Joint law"
    series.append(Series("equal", ends, ends, mark="line"))
    return Chart(
        title, "predicted FVU", "measured FVU", tuple(series), x_log=True, y_log=True, ordered=True, legend="FLOPs",
        x_format="~g",
    )  # fmt: skip
