"""A threshold for each latent: what BatchTopK becomes once it is trained."""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary


class JumpReluDictionary(Dictionary):
    """Active strictly above the latent's own threshold. Saved as SAELens `jumprelu`."""

    architecture: ClassVar[str] = "jumprelu"

    def select(self, pre: Float[Tensor, "tokens n_latents"]) -> SparseCode:
        """Keep what is above its threshold."""
        return self.kernels.above(pre, self.weights.threshold)
