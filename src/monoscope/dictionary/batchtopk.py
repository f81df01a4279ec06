"""BatchTopK: the k × tokens largest of a whole batch, so that tokens may differ in how many features they need.

For reading, batch statistics give way to one stored threshold, the running mean of the smallest value that was kept
(Bussmann et al. 2024). The trained dictionary is a `JumpReluDictionary`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from monoscope.core.sparse import SparseCode
from monoscope.dictionary.rule import Tiles, TrainingRule, of_each_tile

_MEMORY = 0.99
_FIRST_LOOK = 64


@dataclass(frozen=True)
class BatchTopKRule(TrainingRule):
    """Selection over the batch, and the threshold that remembers it."""

    name: ClassVar[str] = "batchtopk"
    reads_as: ClassVar[str] = "jumprelu"
    k: int

    @property
    def wanted_l0(self) -> float:
        """k, as a mean over tokens."""
        return float(self.k)

    def start_state(self) -> dict[str, Tensor]:
        """The running threshold; zero before the first batch."""
        return {"threshold": torch.zeros(())}

    def select(self, tiles: Tiles, own: dict[str, Tensor], state: dict[str, Tensor], kernels: Any) -> SparseCode:  # noqa: ARG002
        """Keep the k × tokens largest. The search starts a little below the running threshold."""
        running, total = float(state["threshold"]), self.k * tiles.n_rows
        floor = 0.9 * running if running else 0.7 * _least_of_some(tiles, self.k)
        while True:
            code = of_each_tile(tiles, lambda pre: kernels.above(pre, torch.full((pre.shape[1],), floor)))  # noqa: B023
            if len(code.values) >= total or floor <= 0:
                break
            floor = 0.8 * floor if floor > 1e-6 else 0.0
        code = kernels.keep_entries(code, kernels.keep_largest(code.values, total))
        if len(code.values):
            least = float(code.values.min())
            state["threshold"].fill_(least if running == 0 else _MEMORY * running + (1 - _MEMORY) * least)
        return code

    def threshold(self, own: dict[str, Tensor], state: dict[str, Tensor]) -> Tensor:  # noqa: ARG002
        """The running threshold."""
        return state["threshold"]

    def unfolded(self, weights: dict[str, Tensor], own: dict[str, Tensor], state: dict[str, Tensor]) -> None:  # noqa: ARG002
        """The stored threshold is the running one; where latents differ, their mean."""
        state["threshold"].fill_(float(weights["threshold"].mean()))


def _least_of_some(tiles: Tiles, k: int) -> float:
    """The k × rows-th largest of the first rows: before anything is known, a guess that spares a look at everything."""
    some = next(iter(tiles))[:_FIRST_LOOK].float().flatten()
    wanted = min(len(some), k * min(_FIRST_LOOK, tiles.n_rows))
    return max(0.0, float(some.kthvalue(len(some) - wanted + 1).values))
