"""ReLU with a penalty on activation times decoder norm: the recipe of Scaling Monosemanticity (2024)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary, TrainingRule


class ReluDictionary(Dictionary):
    """Everything above zero is active. Saved as SAELens `standard`."""

    architecture: ClassVar[str] = "standard"

    def select(self, pre: Float[Tensor, "tokens n_latents"]) -> SparseCode:
        """Keep what is above zero."""
        return self.kernels.above(pre, torch.zeros(self.n_latents))


@dataclass(frozen=True)
class ReluRule(TrainingRule):
    """loss = |x - reconstruction|² + coefficient * sum of value * |decoder row|, with E|x|² = d.

    The decoder is free; the norm inside the penalty keeps it from growing. The coefficient rises linearly over the
    first 5 % of training.
    """

    coefficient: float = 5.0
    unit_decoder: ClassVar[bool] = False

    def select(self, pre: Float[Tensor, "tokens n_latents"], state: dict[str, Tensor], kernels: Any) -> SparseCode:  # noqa: ARG002
        """Keep what is above zero."""
        return kernels.above(pre, torch.zeros(pre.shape[1]))

    def penalty(self, code: SparseCode, norms: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        strength = self.coefficient * min(1.0, share / 0.05) / code.n_rows
        of_entry = norms[code.indices.long()]
        by_norm = torch.zeros_like(norms).index_add_(0, code.indices.long(), code.values) * strength
        return strength * (code.values * of_entry).sum(), strength * of_entry, by_norm
