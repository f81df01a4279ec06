"""Encoding against fixed thresholds at the price of a bfloat16 product, with float32 results.

The product in bfloat16 only says which entries may pass. Rounding moves a number by at most 2⁻⁸ of it: rounding both
factors moves a product by at most 2 · 2⁻⁸ |x| |w| (Cauchy-Schwarz over the rounded terms), rounding the result by at
most 2⁻⁸ of it. Whatever comes within that of its threshold is computed again in float32, and only that decides.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from monoscope.core.sparse import SparseCode

_ROUNDING = 2.0**-8 * 1.02


class Sieve:
    """Thresholds, and weights in both precisions, about a centre near which the activations lie."""

    def __init__(
        self,
        rows: Float[Tensor, "n_latents d_in"],
        bias: Float[Tensor, "n_latents"],
        threshold: Float[Tensor, "n_latents"],
        centre: Float[Tensor, "d_in"],
        kernels: Any,
    ) -> None:
        self._rows, self._bias, self._kernels = rows, bias, kernels
        self._threshold = threshold.clamp(min=0)
        self._centre = centre
        self._half = rows.bfloat16()
        self._norms = rows.norm(dim=1)
        # About the centre the bias becomes this; without the centre the mean would eat half of bfloat16's digits.
        self._level = self._threshold - (bias.double() + rows.double() @ centre.double()).float()

    def encode(self, x: Float[Tensor, "tokens d_in"]) -> SparseCode:
        """The entries strictly above their threshold, with float32 values."""
        x = x.float().contiguous()
        centred = x - self._centre
        slack = _ROUNDING * (2 * float(centred.norm(dim=1).max()) * self._norms + self._level.abs())
        maybe = self._kernels.above_any(centred.bfloat16() @ self._half.T, self._level - slack)
        values = self._kernels.products(maybe, x, self._rows) + self._bias[maybe.indices.long()]
        found = SparseCode(maybe.indices, values, maybe.starts, maybe.n_latents)
        return self._kernels.keep_entries(found, values > self._threshold[maybe.indices.long()])
