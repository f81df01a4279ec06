"""How a penalty is steered so that as many latents are active as were asked for.

A penalised dictionary has no k: its L0 follows from the coefficient, in a way nobody knows beforehand. Here the
logarithm of the coefficient is steered by how far the logarithm of L0 is from its goal, in proportion to the error and
to its sum over the steps (a PI controller). What it remembers is part of a checkpoint, so a resumed run is steered alike.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_MEMORY = 0.8
_MOST = 1.0


@dataclass(frozen=True)
class Steering:
    """Gains of the controller, and where the coefficient begins."""

    begin: float
    sum_gain: float = 0.06
    error_gain: float = 0.6

    def start(self) -> dict[str, Tensor]:
        """The remembered sum is the logarithm of the coefficient at no error."""
        log = torch.tensor(math.log(self.begin), dtype=torch.float64)
        return {"log_coefficient": log, "log_l0": torch.zeros((), dtype=torch.float64), "steps": torch.zeros(())}

    def coefficient(self, state: dict[str, Tensor], l0: float, goal: float) -> float:
        """The coefficient for this step, after seeing this batch's L0; changes `state`."""
        seen = math.log(max(l0, 1e-3))
        kept = seen if float(state["steps"]) == 0 else float(state["log_l0"]) * _MEMORY + seen * (1 - _MEMORY)
        error = min(_MOST, max(-_MOST, kept - math.log(goal)))
        state["log_l0"].fill_(kept)
        state["steps"].add_(1)
        state["log_coefficient"].add_(self.sum_gain * error)
        return math.exp(float(state["log_coefficient"]) + self.error_gain * error)
