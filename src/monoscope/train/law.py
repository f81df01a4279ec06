"""Scaling laws: what a dictionary of a given width, trained on a given number of tokens, will reach.

Pure arithmetic on measured points. The protocol is that of Scaling Monosemanticity (2024): groups of equal FLOPs, a
parabola in log width for each, power laws through the minima. What predicts is a joint law in the form of Kaplan et al.
(2020), with a sharpness and a floor of its own, and with tokens that are read again counted for less, as in Muennighoff
et al. (2023):

    L(F, N) = floor + ((A F^-a)^p + (B M^-b)^p)^(1/p)
    M = U + U r (1 - exp(-(N/U - 1) / r)) for N > U, else N

F latents, N training tokens with repetition, U different tokens there are.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monoscope.core.errors import BadNumbers, BadRequest

Array = NDArray[np.floating[Any]]

# Residuals above this relative size count linearly, not squared.
_ROBUST = 0.01
# What Muennighoff et al. found for language models; used where no point reads its rows more than once.
ASSUMED_REUSE = 15.0
_WIDTH_STARTS, _TOKEN_STARTS, _SHARPNESS_STARTS, _FLOOR_STARTS = (0.1, 0.3), (0.3,), (1.0, 3.0), (0.3, 0.7)
_SHARPEST, _MOST_REUSE = 20.0, 1000.0
_SPARSE = ("topk", "batchtopk", "matryoshka")
_DENSE = {"relu": 10, "jumprelu": 10, "gated": 14}


def flops_per_token(arch: str, d_in: int, latents: int, k: int, *, d_out: int | None = None) -> float:
    """Training FLOPs of one token, a multiply-add counted as 2; optimiser and selection are not counted.

    TopK and its kin: 2 d F for the encoder's product and 8 d k for the active entries. Penalised architectures: 10 d F
    (14 with Gated's frozen second decoding) when every product is dense. A transcoder: 2 d_in F + 4 k (d_in + d_out).

    Raises
        BadRequest  the architecture is not in the table.
    """
    family = arch.removeprefix("matryoshka-").removesuffix("-matryoshka")
    if d_out is not None and d_out != d_in or family == "transcoder":
        return 2.0 * d_in * latents + 4.0 * k * (d_in + (d_out or d_in))
    if family in _SPARSE:
        return 2.0 * d_in * latents + 8.0 * d_in * k
    if family in _DENSE:
        return float(_DENSE[family]) * d_in * latents
    raise BadRequest(f"No FLOPs are known for the architecture {arch!r}; known are {', '.join((*_SPARSE, *_DENSE))}.")


@dataclass(frozen=True)
class Point:
    """One training: FLOPs, latents, tokens (repeats counted), different tokens, peak learning rate, held-out loss."""

    budget: float
    latents: int
    tokens: int
    rows: int
    rate: float
    loss: float


@dataclass(frozen=True)
class Optimum:
    """The minimum of one budget's parabola; `inside` says that it lies between the widths that were measured.

    log loss = log `loss` + `curvature` (log F - log `latents`)².
    """

    budget: float
    latents: float
    tokens: float
    loss: float
    curvature: float
    inside: bool


@dataclass(frozen=True)
class PowerLaw:
    """y = floor + factor x^exponent."""

    factor: float
    exponent: float
    floor: float = 0.0

    def at(self, x: Any) -> Any:
        """The value at x; x a number or an array."""
        return self.floor + self.factor * x**self.exponent


@dataclass(frozen=True)
class JointLaw:
    """Loss by width and tokens: floor, A, a, B, b, p and r of the formula at the head of this file."""

    floor: float
    width_factor: float
    width_exponent: float
    token_factor: float
    token_exponent: float
    sharpness: float
    reuse: float

    def loss(self, latents: Any, tokens: Any, rows: Any) -> Any:
        """The expected held-out loss; numbers or arrays."""
        fresh = effective_tokens(np.asarray(tokens, float), np.asarray(rows, float), self.reuse)
        width = math.log(self.width_factor) - self.width_exponent * np.log(np.asarray(latents, float))
        token = math.log(self.token_factor) - self.token_exponent * np.log(fresh)
        return self.floor + np.exp(np.logaddexp(self.sharpness * width, self.sharpness * token) / self.sharpness)


@dataclass(frozen=True)
class Ensemble:
    """Several joint laws that the points allow; the loss is their mean."""

    laws: tuple[JointLaw, ...]

    def loss(self, latents: Any, tokens: Any, rows: Any) -> Any:
        """The expected held-out loss; numbers or arrays."""
        return np.mean([law.loss(latents, tokens, rows) for law in self.laws], axis=0)


@dataclass(frozen=True)
class RateLaw:
    """The best peak learning rate: factor F^by_width N^by_tokens, held between `low` and `high`."""

    factor: float
    by_width: float
    by_tokens: float
    low: float
    high: float

    def at(self, latents: float, tokens: float) -> float:
        """The rate for a width and a number of tokens."""
        found = self.factor * latents**self.by_width * tokens**self.by_tokens
        return float(min(self.high, max(self.low, found)))


@dataclass(frozen=True)
class SpeedLaw:
    """Seconds of one token: base + per_latent F."""

    base: float
    per_latent: float

    def at(self, latents: Any) -> Any:
        """Seconds a token at a width."""
        return self.base + self.per_latent * latents


def effective_tokens(tokens: Array, rows: Array, reuse: float) -> Array:
    """How many fresh tokens are worth as much as `tokens` tokens drawn from `rows` different ones."""
    again = np.maximum(tokens / rows - 1, 0)
    return np.minimum(tokens, rows) + rows * reuse * -np.expm1(-again / reuse)


# ---- fits ------------------------------------------------------------------------------------------------------------


def robust_least_squares(residuals: Callable[[Array], Array], start: Array, *, scale: float, steps: int = 60) -> Array:
    """The parameters with the smallest sum of Huber losses: squares up to `scale`, straight lines beyond.

    Levenberg and Marquardt with weights from the residuals; derivatives by differences. Parameters that the residuals
    do not depend on stay where they were.
    """
    found, damping = np.asarray(start, float), 1e-3
    cost = _huber(residuals(found), scale)
    for _ in range(steps):
        now = residuals(found)
        weights = np.sqrt(np.minimum(1.0, scale / np.maximum(np.abs(now), 1e-300)))
        slope = weights[:, None] * _jacobian(residuals, found, now)
        pull = slope.T @ (weights * now)
        curve = slope.T @ slope
        moved = False
        while damping < 1e12:
            step = np.linalg.solve(curve + damping * (np.diag(np.diag(curve)) + 1e-9 * np.eye(len(found))), -pull)
            trial = found + np.clip(step, -1, 1)
            tried = _huber(residuals(trial), scale)
            if tried < cost:
                moved = cost - tried > 1e-10 * cost
                found, cost, damping = trial, tried, max(damping / 5, 1e-12)
                break
            damping *= 4
        if not moved:
            break
    return found


def _jacobian(residuals: Callable[[Array], Array], at: Array, now: Array) -> Array:
    width = 1e-6
    return np.stack([(residuals(at + width * unit) - now) / width for unit in np.eye(len(at))], axis=1)


def _huber(residuals: Array, scale: float) -> float:
    size = np.abs(residuals)
    found = float(np.where(size <= scale, 0.5 * size**2, scale * (size - 0.5 * scale)).sum())
    return found if math.isfinite(found) else math.inf


def best_of_rates(points: Sequence[Point]) -> list[Point]:
    """Points that differ in the learning rate alone become one, at the bottom of their parabola in log rate."""
    return [best_rate(cell) for cell in cells_of_rates(points)]


def cells_of_rates(points: Sequence[Point]) -> list[list[Point]]:
    """The points that differ in the learning rate alone, by budget, width and rows."""
    cells: dict[tuple[float, int, int], list[Point]] = {}
    for point in points:
        cells.setdefault((point.budget, point.latents, point.rows), []).append(point)
    return [cells[key] for key in sorted(cells)]


def best_rate(cell: Sequence[Point]) -> Point:
    """Rate and loss at the bottom of a parabola in log rate through the best point and its two neighbours.

    The best point itself where there are no three, or where they have no bottom between them.
    """
    best = min(cell, key=lambda point: point.loss)
    if len(cell) < 3:
        return best
    x, y = np.log([point.rate for point in cell]), np.log([point.loss for point in cell])
    near = np.argsort(np.abs(x - math.log(best.rate)), kind="stable")[:3]
    about = float(x[near].mean())
    bend, slope, base = np.polyfit(x[near] - about, y[near], 2)
    bottom = about - slope / (2 * bend) if bend > 0 else math.nan
    if not x[near].min() <= bottom <= x[near].max():
        return best
    return replace(best, rate=math.exp(bottom), loss=math.exp(base - slope**2 / (4 * bend)))


def parabola(points: Sequence[Point], cost: Callable[[float], float]) -> Optimum:
    """The minimum over width of one budget's points; `cost` gives FLOPs a token of a width.

    Where the losses do not bend upwards, or the minimum lies far outside, the best point stands in, marked as such.

    Raises
        BadRequest  fewer than three widths.
    """
    if len({point.latents for point in points}) < 3:
        raise BadRequest("A parabola needs at least three widths in each budget.")
    budget = points[0].budget
    x, y = np.log([point.latents for point in points]), np.log([point.loss for point in points])
    about = x.mean()
    bend, slope, base = np.polyfit(x - about, y, 2)
    vertex = about - slope / (2 * bend) if bend > 0 else math.nan
    reach = x.max() - x.min()
    if not x.min() - reach / 4 <= vertex <= x.max() + reach / 4:
        best = min(points, key=lambda point: point.loss)
        return Optimum(budget, best.latents, best.tokens, best.loss, float(max(bend, 0)), inside=False)
    latents, loss = math.exp(vertex), math.exp(base - slope**2 / (4 * bend))
    inside = bool(x.min() <= vertex <= x.max())
    return Optimum(budget, latents, budget / cost(latents), loss, float(bend), inside)


def power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw:
    """A straight line through the logarithms."""
    exponent, base = np.polyfit(np.log(x), np.log(y), 1)
    return PowerLaw(float(np.exp(base)), float(exponent))


def power_law_with_floor(x: Sequence[float], y: Sequence[float]) -> PowerLaw:
    """y = floor + factor x^exponent by relative error; a floor of 0 where none is better."""
    plain_law, xs, ys = power_law(x, y), np.asarray(x, float), np.asarray(y, float)
    about = float(np.exp(np.log(xs).mean()))

    def made(free: Array) -> PowerLaw:
        floor = float(ys.min()) / (1 + math.exp(-free[2]))
        return PowerLaw(math.exp(free[0]) * about ** -float(free[1]), float(free[1]), floor)

    residuals = lambda free: np.log(made(free).at(xs) / ys)  # noqa: E731
    candidates = [plain_law]
    for share in (0.3, 0.6, 0.9):
        floor = share * ys.min()
        begun = power_law(list(xs), list(ys - floor))
        middle = math.log(begun.factor) + begun.exponent * math.log(about)
        start = np.array([middle, begun.exponent, math.log(share / (1 - share))])
        candidates.append(made(robust_least_squares(residuals, start, scale=_ROBUST)))
    return min(candidates, key=lambda law: _huber(np.log(law.at(xs) / ys), _ROBUST))


def joint_law(points: Sequence[Point], start: JointLaw | None = None, *, floor: bool = True) -> JointLaw:
    """The joint law through the points, by relative error and robustly; without `floor` the floor is 0.

    From several starts, or from `start` alone. Without rows read twice `reuse` is `ASSUMED_REUSE`.

    Raises
        BadRequest  fewer than six points, or no two widths or numbers of tokens.
        BadNumbers  a loss is not positive.
    """
    F, N, U, y = _columns(points)
    reused = bool((N > 1.2 * U).any())
    # Factors are taken about the middle of the data, where they hardly depend on the exponents.
    mid_F, mid_N = float(np.exp(np.log(F).mean())), float(np.exp(np.log(N).mean()))

    def made(free: Array) -> JointLaw:
        a, b, sharpness, reuse = (math.exp(min(value, 10.0)) for value in free[[1, 3, 4, 5]])
        return JointLaw(
            floor=float(y.min()) / (1 + math.exp(-free[6])) if floor else 0.0,
            width_factor=math.exp(free[0]) * mid_F**a,
            width_exponent=a,
            token_factor=math.exp(free[2]) * mid_N**b,
            token_exponent=b,
            sharpness=min(sharpness, _SHARPEST),
            reuse=min(reuse, _MOST_REUSE) if reused else ASSUMED_REUSE,
        )

    def freed(law: JointLaw) -> Array:
        share = min(max(law.floor / float(y.min()), 1e-3), 0.999)
        width, token = law.width_factor * mid_F**-law.width_exponent, law.token_factor * mid_N**-law.token_exponent
        values = (width, law.width_exponent, token, law.token_exponent, law.sharpness, law.reuse, share / (1 - share))
        return np.log(values)

    residuals = lambda free: np.log(made(free).loss(F, N, U) / y)  # noqa: E731
    starts = [start] if start else _starts(mid_F, mid_N, float(np.median(y)), float(y.min()), floor)
    found = [made(robust_least_squares(residuals, freed(law), scale=_ROBUST)) for law in starts]
    return min(found, key=lambda law: _huber(np.log(law.loss(F, N, U) / y), _ROBUST))


def _columns(points: Sequence[Point]) -> tuple[Array, Array, Array, Array]:
    columns = [np.array([getattr(point, name) for point in points], float) for name in ("latents", "tokens", "rows")]
    y = np.array([point.loss for point in points], float)
    if len(points) < 6 or len(set(columns[0])) < 2 or len(set(columns[1])) < 2:
        raise BadRequest(f"{len(points)} points are too few for a law; measure at least six, of several widths.")
    if not (np.isfinite(y).all() and (y > 0).all()):
        raise BadNumbers("A loss in the sweep is not a positive number; look at its points.")
    return columns[0], columns[1], columns[2], y


def _starts(mid_F: float, mid_N: float, middle: float, least: float, floor: bool) -> list[JointLaw]:
    """Laws through the middle of the data, with width and tokens weighing alike there."""
    shares = _FLOOR_STARTS if floor else (0.0,)
    found = []
    for a, b, p, share in itertools.product(_WIDTH_STARTS, _TOKEN_STARTS, _SHARPNESS_STARTS, shares):
        part = (middle - share * least) * 2 ** (-1 / p)
        found.append(JointLaw(share * least, part * mid_F**a, a, part * mid_N**b, b, p, ASSUMED_REUSE))
    return found


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


def rate_law(points: Sequence[Point]) -> RateLaw:
    """The learning rate law through all cells (budget and width) in which several rates were tried.

    Exponents are pulled a little towards 0, so that a few cells do not carry far. The rate is held within a factor of 2
    of the best rates that were found.

    Raises
        BadRequest  no cell has several rates.
    """
    swept = [cell for cell in cells_of_rates(points) if len(cell) > 1]
    if not swept:
        raise BadRequest("No width was trained at several learning rates, so there is no learning rate law.")
    rates = np.array([best_rate(cell).rate for cell in swept])
    x = np.log([[cell[0].latents, cell[0].tokens] for cell in swept])
    about = x.mean(0)
    columns = np.concatenate([np.ones((len(x), 1)), x - about], axis=1)
    pull = np.diag([0.0, 0.3, 0.3])
    base, by_width, by_tokens = np.linalg.solve(columns.T @ columns + pull, columns.T @ np.log(rates))
    factor = math.exp(base - by_width * about[0] - by_tokens * about[1])
    return RateLaw(factor, float(by_width), float(by_tokens), float(rates.min() / 2), float(rates.max() * 2))


def speed_law(latents: Sequence[float], seconds: Sequence[float]) -> SpeedLaw:
    """Seconds a token by width; of several times at one width the shortest counts, others were disturbed."""
    best: dict[float, float] = {}
    for width, time in zip(latents, seconds, strict=True):
        best[width] = min(time, best.get(width, math.inf))
    x, y = np.array(list(best)), np.array(list(best.values()))
    if len(x) == 1:
        return SpeedLaw(0.0, float(y[0] / x[0]))
    columns = np.stack([np.ones_like(x), x], axis=1) / y[:, None]
    base, per_latent = np.linalg.lstsq(columns, np.ones(len(x)), rcond=None)[0]
    if base < 0 or per_latent <= 0:
        return SpeedLaw(0.0, float((x / y).sum() / ((x / y) ** 2).sum()))
    return SpeedLaw(float(base), float(per_latent))


# ---- the whole -------------------------------------------------------------------------------------------------------


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
    best = best_of_rates(points)
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


def budget_groups(points: Sequence[Point]) -> list[list[Point]]:
    """The points on all rows, by budget, cheapest first."""
    whole = max(point.rows for point in points)
    budgets = sorted({point.budget for point in points})
    groups = [[point for point in points if point.budget == budget and point.rows == whole] for budget in budgets]
    return [group for group in groups if group]


def _distances(joint: JointLaw, points: Sequence[Point]) -> Array:
    return np.array([_distance(joint, point) for point in points])


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
    best = best_of_rates(points)
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


def span_of(points: Sequence[Point], beyond: float = 4.0) -> tuple[float, float]:
    """The widths that may be advised: those measured and up to a factor of `beyond` outside."""
    widths = [point.latents for point in points]
    return min(widths) / beyond, max(widths) * beyond


def cheapest_loss(
    joint: JointLaw | Ensemble, budget: float, cost: Callable[[float], float], rows: int, span: tuple[float, float]
) -> tuple[float, float, float]:
    """Width, tokens and loss of the best use of a budget, in whatever unit `cost` (a token, by width) has."""
    widths = np.geomspace(*span, 1001)
    tokens = budget / np.array([cost(float(width)) for width in widths])
    losses = joint.loss(widths, tokens, rows)
    at = int(losses.argmin())
    return float(widths[at]), float(tokens[at]), float(losses[at])


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
    best = best_of_rates(points)
    distances = _distances(fit.joint, best)
    budgets = sorted({point.budget for point in best})
    F, N, U, _ = _columns(best)
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
