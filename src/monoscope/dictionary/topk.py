"""TopK: exactly the k largest pre-activations of each token (Gao et al. 2024)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.rule import Tiles, TrainingRule, of_each_tile


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

    name: ClassVar[str] = "topk"
    reads_as: ClassVar[str] = "topk"
    k: int

    @property
    def wanted_l0(self) -> float:
        """k."""
        return float(self.k)

    def begin_code(self, pre: Float[Tensor, "rows n_latents"], l0: float, kernels: Any) -> SparseCode:  # noqa: ARG002
        """Row by row, as in training."""
        return kernels.top_rows(pre, self.k)

    def select(self, tiles: Tiles, own: dict[str, Tensor], state: dict[str, Tensor], kernels: Any) -> SparseCode:  # noqa: ARG002
        """Keep the k largest of each row."""
        return of_each_tile(tiles, lambda pre: kernels.top_rows(pre, self.k))
