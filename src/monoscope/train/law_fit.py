"""Laws through measured points: by relative error, and so that one odd training does not bend them."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from monoscope.core.errors import BadNumbers, BadRequest
from monoscope.train.law import Array, JointLaw, Optimum, Point, PowerLaw, RateLaw, SpeedLaw

# Residuals above this relative size count linearly, not squared.
ROBUST = 0.01
# What Muennighoff et al. found for language models; used where no point reads its rows more than once.
ASSUMED_REUSE = 15.0
_WIDTH_STARTS, _TOKEN_STARTS, _SHARPNESS_STARTS, _FLOOR_STARTS = (0.1, 0.3), (0.3,), (1.0, 3.0), (0.3, 0.7)
_SHARPEST, _MOST_REUSE = 20.0, 1000.0


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


def advised_rates(points: Sequence[Point]) -> list[Point]:
    """Points that differ in the learning rate alone become one, at the rate that is advised (`advised_rate`)."""
    return [advised_rate(cell) for cell in cells_of_rates(points)]


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
    found = _bottom(cell, best)
    return best if found is None else replace(best, rate=math.exp(found[0]), loss=math.exp(found[1]))


def advised_rate(cell: Sequence[Point]) -> Point:
    """Rate and loss at a point's `share` of the rate of least loss, by the same parabola.

    Of a cell with one point that point, which was trained at the advised rate; where there is no parabola, the point
    whose rate is nearest to the advised one.
    """
    best = min(cell, key=lambda point: point.loss)
    found = _bottom(cell, best)
    if found is None:
        wanted = math.log(best.rate * best.share)
        return min(cell, key=lambda point: abs(math.log(point.rate) - wanted))
    bottom, least, bend = found
    down = math.log(best.share)
    return replace(best, rate=math.exp(bottom + down), loss=math.exp(least + bend * down**2))


def _bottom(cell: Sequence[Point], best: Point) -> tuple[float, float, float] | None:
    """Log rate, log loss and curvature at the bottom of the parabola, if there is one."""
    if len(cell) < 3:
        return None
    x, y = np.log([point.rate for point in cell]), np.log([point.loss for point in cell])
    near = np.argsort(np.abs(x - math.log(best.rate)), kind="stable")[:3]
    about = float(x[near].mean())
    bend, slope, base = np.polyfit(x[near] - about, y[near], 2)
    bottom = about - slope / (2 * bend) if bend > 0 else math.nan
    if not x[near].min() <= bottom <= x[near].max():
        return None
    return float(bottom), float(base - slope**2 / (4 * bend)), float(bend)


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
        candidates.append(made(robust_least_squares(residuals, start, scale=ROBUST)))
    return min(candidates, key=lambda law: _huber(np.log(law.at(xs) / ys), ROBUST))


def joint_law(points: Sequence[Point], start: JointLaw | None = None, *, floor: bool = True) -> JointLaw:
    """The joint law through the points, by relative error and robustly; without `floor` the floor is 0.

    From several starts, or from `start` alone. Without rows read twice `reuse` is `ASSUMED_REUSE`.

    Raises
        BadRequest  fewer than six points, or no two widths or numbers of tokens.
        BadNumbers  a loss is not positive.
    """
    F, N, U, y = columns_of(points)
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
    found = [made(robust_least_squares(residuals, freed(law), scale=ROBUST)) for law in starts]
    return min(found, key=lambda law: _huber(np.log(law.loss(F, N, U) / y), ROBUST))


def columns_of(points: Sequence[Point]) -> tuple[Array, Array, Array, Array]:
    """Latents, tokens, different rows and loss of each point.

    Raises
        BadRequest  too few points for a law.
        BadNumbers  a loss is not positive.
    """
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


def rate_law(points: Sequence[Point]) -> RateLaw:
    """The learning rate law through all cells (budget and width) in which several rates were tried.

    Exponents are pulled a little towards 0, so that a few cells do not carry far. The rate is held within a factor of 8
    of the best rates that were found: long trainings of wide dictionaries want far less than a sweep's.

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
    return RateLaw(factor, float(by_width), float(by_tokens), float(rates.min() / 8), float(rates.max() * 8))


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
