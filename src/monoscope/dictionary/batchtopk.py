"""BatchTopK: the k × tokens largest of a whole batch, so that tokens may differ in how many features they need.

For reading, batch statistics give way to one stored threshold, the running mean of the smallest value that was kept
(Bussmann et al. 2024). The trained dictionary is a `JumpReluDictionary`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import TrainingRule

_MEMORY = 0.99


@dataclass(frozen=True)
class BatchTopKRule(TrainingRule):
    """Selection over the batch, and the threshold that remembers it."""

    k: int

    def start_state(self) -> dict[str, Tensor]:
        """The running threshold; zero before the first batch."""
        return {"threshold": torch.zeros(())}

    def select(self, pre: Float[Tensor, "tokens n_latents"], state: dict[str, Tensor], kernels: Any) -> SparseCode:
        """Keep the k × tokens largest. The search starts a little below the running threshold."""
        running = float(state["threshold"])
        code = kernels.top_batch(pre, self.k * len(pre), 0.9 * running)
        if len(code.values):
            least = float(code.values.min())
            state["threshold"].fill_(least if running == 0 else _MEMORY * running + (1 - _MEMORY) * least)
        return code

    def threshold(self, state: dict[str, Tensor]) -> Tensor:
        """The running threshold."""
        return state["threshold"]
