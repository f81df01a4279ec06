"""A threshold for each latent: what BatchTopK becomes once it is trained."""

from functools import cached_property
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from monoscope.core.runtime import fast_bfloat16
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.sieve import Sieve

_FEW_ROWS = 64


class JumpReluDictionary(Dictionary):
    """Active strictly above the latent's own threshold. Saved as SAELens `jumprelu`."""

    architecture: ClassVar[str] = "jumprelu"

    def select(self, pre: Float[Tensor, "tokens n_latents"]) -> SparseCode:
        """Keep what is above its threshold."""
        return self.kernels.above(pre, self.weights.threshold)

    def encode_piece(self, x: Float[Tensor, "tokens d_in"]) -> SparseCode:
        """Through the sieve where that is faster: the same entries, four times sooner."""
        if len(x) >= _FEW_ROWS and hasattr(self.kernels, "products") and fast_bfloat16():
            return self._sieve.encode(x)
        return super().encode_piece(x)

    @cached_property
    def _sieve(self) -> Sieve:
        return Sieve(self.encoder_rows, self.b_enc, self.weights.threshold, self.stats.mean_vector, self.kernels)
