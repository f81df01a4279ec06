"""Logistic regression, twice: with an L2 penalty over anything, and readable, over few features with weights >= 0."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

_STEPS = 40
_PATH, _PATH_END = 20, 1e-3
_SWEEPS = 200
_CANDIDATES = 256


@dataclass(frozen=True)
class Linear:
    """score = x · weights + bias, in the units of the x that it was fitted on."""

    weights: Float[Tensor, "columns"]
    bias: float

    def score(self, x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows"]:
        """The log-odds, both labels taken as equally frequent."""
        return x.double() @ self.weights + self.bias


def fit_ridge(x: Float[Tensor, "rows columns"], positive: Bool[Tensor, "rows"], *, penalty: float = 1.0) -> Linear:
    """Logistic regression with an L2 penalty; columns are centred and scaled to variance 1 first.

    The loss is the weighted mean over rows (each label weighs one half) plus penalty / (2 rows) · |w|². With more
    columns than rows it is solved in the rows' own span, where the solution lies; the cost is then rows² columns.
    """
    return fit_ridges(x, positive, [penalty])[0]


def fit_ridges(
    x: Float[Tensor, "rows columns"], positive: Bool[Tensor, "rows"], penalties: Sequence[float]
) -> list[Linear]:
    """The same for several penalties, which share all but the last step."""
    values = x.double()
    mean = values.mean(0)
    deviation = (values - mean).square().mean(0).sqrt()
    scale = torch.where(deviation > 1e-9, deviation, torch.inf)
    z = (values - mean) / scale
    back, inside = None, z
    if z.shape[1] > len(z):
        squares, vectors = torch.linalg.eigh(z @ z.T)
        kept = squares > squares[-1] * 1e-12
        size = squares[kept].sqrt()
        back, inside = vectors[:, kept] / size, vectors[:, kept] * size
    found = []
    for penalty in penalties:
        inner, bias = _newton(inside, positive, penalty / len(z))
        weights = (inner if back is None else z.T @ (back @ inner)) / scale
        found.append(Linear(weights, bias - float(mean @ weights)))
    return found


def ridge_penalty(
    x: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows"],
    folds: Sequence[int],
    penalties: Sequence[float] = (0.1, 1.0, 10.0, 100.0, 1000.0),
) -> float:
    """The penalty with the smallest held-out loss, over folds of the rows; the first where no fold can tell."""
    place = torch.tensor(folds)
    losses = torch.zeros(len(penalties), dtype=torch.double)
    for fold in sorted(set(folds)):
        held = place == fold
        if not positive[~held].any() or positive[~held].all():
            continue
        for number, model in enumerate(fit_ridges(x[~held], positive[~held], penalties)):
            scores = model.score(x[held])
            losses[number] += torch.nn.functional.softplus(torch.where(positive[held], -scores, scores)).sum()
    return penalties[int(losses.argmin())]


def fit_readable(
    x: Float[Tensor, "rows columns"], positive: Bool[Tensor, "rows"], *, most: int = 20, folds: Sequence[int] = ()
) -> Linear:
    """Logistic regression over at most `most` columns, all with weights above zero: each is evidence *for*.

    Columns (activations, at least 0) are scaled by their root mean square, not centred. An L1 penalty chooses columns
    and shrinks weights: the one with the smallest held-out loss over `folds` of the rows, or without folds the weakest
    that leaves at most `most`. Weights are left as shrunken as they are: fitted anew on the chosen columns they do a
    little better on the same source and worse on others (docs/lab_log.md).

    Edges  where no column speaks for the positives, all weights are 0. Where more than `most` enter at once, as twins
           do, those with the largest weights are taken.
    """
    if not x.shape[1]:
        return Linear(torch.zeros(0, dtype=torch.double), 0.0)
    values = x.double()
    scale = values.square().mean(0).sqrt()
    z = values / torch.where(scale > 1e-12, scale, torch.inf)
    weights = torch.zeros(z.shape[1], dtype=torch.double)
    pull = -_gradient(z, positive, weights, 0.0)[0]
    start = float(pull.max())
    if start <= 0:
        return Linear(weights, 0.0)
    # Columns that pull least at the start hardly ever enter among the first few; leaving them out bounds the cost.
    near = torch.argsort(-pull, stable=True)[: max(_CANDIDATES, 8 * most)].sort().values
    penalties = [start * _PATH_END ** (step / _PATH) for step in range(1, _PATH + 1)]
    path = _path(z[:, near], positive, penalties, most)
    inner, bias = path[_best_step(z[:, near], positive, penalties[: len(path)], folds)]
    weights[near] = inner / torch.where(scale[near] > 1e-12, scale[near], torch.inf)
    return Linear(weights, bias)


def fit_nonnegative(x: Float[Tensor, "rows columns"], positive: Bool[Tensor, "rows"]) -> Linear:
    """Logistic regression with weights of at least zero and a weak L2 penalty, over few columns of like size."""
    weights, bias = _nonnegative(x.double(), positive, l1=0.0, l2=1.0 / len(x))
    return Linear(weights, bias)


_Fit = tuple[Float[Tensor, "columns"], float]


def _path(
    z: Float[Tensor, "rows columns"], positive: Bool[Tensor, "rows"], penalties: Sequence[float], most: int
) -> list[_Fit]:
    """The fit at each penalty, from the strongest on, as long as at most `most` columns are in play; at least one."""
    found: list[_Fit] = []
    for penalty in penalties:
        weights, bias = _nonnegative(z, positive, l1=penalty, l2=0.0, start=found[-1] if found else None, still=1e-5)
        if int((weights > 0).sum()) <= most:
            found.append((weights, bias))
            continue
        if not found:
            kept = torch.zeros_like(weights)
            largest = torch.argsort(-weights, stable=True)[:most]
            kept[largest] = weights[largest]
            found.append((kept, bias))
        break
    return found


def _best_step(
    z: Float[Tensor, "rows columns"], positive: Bool[Tensor, "rows"], penalties: Sequence[float], folds: Sequence[int]
) -> int:
    """The penalty of a path with the smallest held-out loss; the last where no fold can tell."""
    place, losses, told = torch.tensor(folds), torch.zeros(len(penalties), dtype=torch.double), False
    for fold in sorted(set(folds)):
        held = place == fold
        if not positive[~held].any() or positive[~held].all():
            continue
        told, fit = True, None
        for step, penalty in enumerate(penalties):
            fit = _nonnegative(z[~held], positive[~held], l1=penalty, l2=0.0, start=fit, still=1e-4)
            scores = z[held] @ fit[0] + fit[1]
            losses[step] += torch.nn.functional.softplus(torch.where(positive[held], -scores, scores)).sum()
    return int(losses.argmin()) if told else len(penalties) - 1


def _nonnegative(
    z: Float[Tensor, "rows columns"],
    positive: Bool[Tensor, "rows"],
    *,
    l1: float,
    l2: float,
    start: tuple[Tensor, float] | None = None,
    still: float = 1e-7,
) -> tuple[Float[Tensor, "columns"], float]:
    """Accelerated projected gradient (FISTA with restarts) on weights >= 0 and a free bias, until nothing moves by more
    than `still`.

    In NumPy: the tables are small and the sweeps many, so that the overhead of each step is most of the cost.
    """
    table, target, shares = z.numpy(), positive.double().numpy(), _balanced(positive).numpy()
    weights, bias = (np.zeros(z.shape[1]), 0.0) if start is None else (start[0].numpy(), start[1])
    # The Hessian is at most a quarter of the weighted Gram matrix with a column of ones.
    step = 1.0 / (0.25 * _largest(z, _balanced(positive)) + l2)
    ahead, ahead_bias, pace = weights, bias, 1.0
    for _ in range(_SWEEPS):
        # The logistic function by tanh, which cannot overflow.
        error = (0.5 + 0.5 * np.tanh(0.5 * (table @ ahead + ahead_bias)) - target) * shares
        fresh = np.maximum(ahead - step * (error @ table + l2 * ahead + l1), 0.0)
        fresh_bias = ahead_bias - step * float(error.sum())
        moved = fresh - weights
        if float((ahead - fresh) @ moved) > 0:
            pace = 1.0
        faster = (1 + (1 + 4 * pace * pace) ** 0.5) / 2
        push = (pace - 1) / faster
        ahead, ahead_bias = fresh + push * moved, fresh_bias + push * (fresh_bias - bias)
        change = max(float(np.abs(moved).max()), abs(fresh_bias - bias))
        weights, bias, pace = fresh, fresh_bias, faster
        if change < still:
            break
    return torch.from_numpy(weights), bias


def _largest(z: Tensor, row_weights: Tensor) -> float:
    """The largest eigenvalue of the weighted Gram matrix with a column of ones, by power iteration; never too small."""
    vector = torch.ones(len(z), dtype=torch.double)
    root, norm = row_weights.sqrt(), 0.0
    for _ in range(30):
        inner = root * vector
        fresh = root * (z @ (z.T @ inner) + inner.sum())
        norm = float(fresh.norm())
        vector = fresh / norm
    return 1.05 * norm


def _gradient(z: Tensor, positive: Tensor, weights: Tensor, bias: float) -> tuple[Tensor, float]:
    error = (torch.sigmoid(z @ weights + bias) - positive.double()) * _balanced(positive)
    return z.T @ error, float(error.sum())


def _balanced(positive: Bool[Tensor, "rows"]) -> Float[Tensor, "rows"]:
    """Row weights that sum to 1, half on each label."""
    share = positive.double().mean().clamp(1e-9, 1 - 1e-9)
    return torch.where(positive, 0.5 / share, 0.5 / (1 - share)) / len(positive)


def _newton(z: Tensor, positive: Tensor, penalty: float) -> tuple[Tensor, float]:
    """Damped Newton steps on the penalised loss; the bias is the last column and pays no penalty."""
    table = torch.cat([z, z.new_ones(len(z), 1)], dim=1)
    ridge = torch.full((table.shape[1],), penalty, dtype=torch.double)
    ridge[-1] = 0.0
    row_weights, sign = _balanced(positive), torch.where(positive, -1.0, 1.0).double()

    def loss(weights: Tensor) -> float:
        fit = (row_weights * torch.nn.functional.softplus(sign * (table @ weights))).sum()
        return float(fit + 0.5 * (ridge * weights.square()).sum())

    weights = torch.zeros(table.shape[1], dtype=torch.double)
    value = loss(weights)
    for _ in range(_STEPS):
        chance = torch.sigmoid(table @ weights)
        gradient = table.T @ (row_weights * (chance - positive.double())) + ridge * weights
        curvature = (table * (row_weights * chance * (1 - chance))[:, None]).T @ table + torch.diag(ridge + 1e-12)
        step = torch.linalg.solve(curvature, gradient)
        pace, fresh = 1.0, loss(weights - step)
        while fresh > value and pace > 1e-6:
            pace /= 2
            fresh = loss(weights - pace * step)
        if value - fresh < 1e-11:
            break
        weights, value = weights - pace * step, fresh
    return weights[:-1], float(weights[-1])
