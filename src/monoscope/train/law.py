"""Scaling laws: what a dictionary of a given width, trained on a given number of tokens, will reach.

Pure arithmetic on measured points. The protocol is that of Scaling Monosemanticity (2024): groups of equal FLOPs, a
parabola in log width for each, power laws through the minima. What predicts is a joint law in the form of Kaplan et al.
(2020), with a sharpness and a floor of its own, and with tokens that are read again counted for less, as in Muennighoff
et al. (2023):

    L(F, N) = floor + ((A F^-a)^p + (B M^-b)^p)^(1/p)
    M = U + U r (1 - exp(-(N/U - 1) / r)) for N > U, else N

F latents, N training tokens with repetition, U different tokens there are.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monoscope.core.errors import BadRequest

Array = NDArray[np.floating[Any]]

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
    """One training: FLOPs, latents, tokens (repeats counted), different tokens, peak learning rate, held-out loss.

    The laws are to hold at `share` of the rate of least loss. Of several rates at one budget and width the loss there
    is read off; a training that is alone there ran at it.
    """

    budget: float
    latents: int
    tokens: int
    rows: int
    rate: float
    loss: float
    share: float = 1.0


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
