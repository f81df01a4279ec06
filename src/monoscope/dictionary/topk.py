"""TopK: exactly the k largest pre-activations of each token (Gao et al. 2024)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary, TrainingRule


class TopKDictionary(Dictionary):
    """The k largest of each token, those above zero. Saved as SAELens `topk`."""

    architecture: ClassVar[str] = "topk"

    @property
    def reads_alone(self) -> bool:
        """No: whether a latent is among the k largest depends on all others."""
        return False

    def select(self, pre: Float[Tensor, "tokens n_latents"]) -> SparseCode:
        """Keep the k largest of each row."""
        return self.kernels.top_rows(pre, int(self.settings["k"]))


@dataclass(frozen=True)
class TopKRule(TrainingRule):
    """The same while learning."""

    k: int

    def select(self, pre: Float[Tensor, "tokens n_latents"], state: dict[str, Tensor], kernels: Any) -> SparseCode:  # noqa: ARG002
        """Keep the k largest of each row."""
        return kernels.top_rows(pre, self.k)
