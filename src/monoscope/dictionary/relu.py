"""ReLU with a penalty on activation times decoder norm: the recipe of Scaling Monosemanticity (2024)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.rule import Backward, Scene, Tiles, of_each_tile, sums_by_latent
from monoscope.dictionary.sparsity import PenalisedRule


class ReluDictionary(Dictionary):
    """Everything above zero is active. Saved as SAELens `standard`."""

    architecture: ClassVar[str] = "standard"

    def select(self, pre: Float[Tensor, "tokens n_latents"]) -> SparseCode:
        """Keep what is above zero."""
        return self.kernels.above(pre, torch.zeros(self.n_latents))


@dataclass(frozen=True)
class ReluRule(PenalisedRule):
    """loss = |x - reconstruction|² + coefficient/√d * sum of value * |decoder row|.

    The paper scales activations to E|x|² = d, where the coefficient stands without the root: 5 here is its 5. The
    decoder is free; the norm inside the penalty keeps it from growing. Either the coefficient is given as `penalty`,
    then it rises linearly over the first 5 % of training, or `target_l0`, then it is steered.
    """

    name: ClassVar[str] = "relu"
    reads_as: ClassVar[str] = "standard"
    unit_decoder: ClassVar[bool] = False
    first_coefficient: ClassVar[float] = 5.0

    def settle(self, level: float, b_enc: Tensor, own: dict[str, Tensor], state: dict[str, Tensor]) -> None:  # noqa: ARG002
        """With a target, begin there: biases that let as many entries through as were asked for."""
        if self.wanted_l0 is not None:
            b_enc.fill_(-level)

    def select(self, tiles: Tiles, own: dict[str, Tensor], state: dict[str, Tensor], kernels: Any) -> SparseCode:  # noqa: ARG002
        """Keep what is above zero."""
        return of_each_tile(tiles, lambda pre: kernels.above(pre, torch.zeros(pre.shape[1])))

    def backward(self, code: SparseCode, scene: Scene) -> Backward:
        """The squared error, and the penalty with its gradient by each value and each decoder row's norm."""
        found = super().backward(code, scene)
        norms = scene.decoder.norm(dim=1)
        strength = self.coefficient(code.l0, scene) / (scene.decoder.shape[1] ** 0.5 * code.n_rows)
        of_entry = norms[code.indices.long()]
        found.parts[0].pull.add_(strength * of_entry)
        found.by_norm = strength * sums_by_latent(code, code.values)
        found.loss += strength * float((code.values * of_entry).sum())
        return found
