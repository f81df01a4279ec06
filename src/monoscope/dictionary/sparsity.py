"""How a penalty is steered so that as many latents are active as were asked for.

A penalised dictionary has no k: its L0 follows from the coefficient, in a way nobody knows beforehand. Here the
logarithm of the coefficient is steered by how far the logarithm of L0 is from its goal, in proportion to the error and
to its sum over the steps (a PI controller). What it remembers is part of a checkpoint: a resumed run is steered alike.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from monoscope.dictionary.rule import Scene, TrainingRule

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


@dataclass(frozen=True)
class PenalisedRule(TrainingRule):
    """An architecture whose L0 follows from a penalty: `penalty` fixes its coefficient, else `target_l0` steers it."""

    first_coefficient: ClassVar[float] = 1.0
    rises_over: ClassVar[float] = 0.05
    bias_pace: ClassVar[float] = 1.0  # here the bias is what a penalty moves
    least_beta2: ClassVar[float] = 0.999  # with a shorter memory the controller swings
    penalty: float | None = None
    target_l0: float | None = None

    @property
    def wanted_l0(self) -> float | None:
        """The target, where the penalty is not fixed."""
        return self.target_l0 if self.penalty is None else None

    def start_state(self) -> dict[str, Tensor]:
        """The controller's memory."""
        return {} if self.wanted_l0 is None else Steering(self.first_coefficient).start()

    def coefficient(self, l0: float, scene: Scene) -> float:
        """The coefficient of this step, given the batch's L0. A fixed one rises linearly over the first steps."""
        if self.wanted_l0 is not None:
            return Steering(self.first_coefficient).coefficient(scene.state, l0, self.wanted_l0)
        fixed = self.first_coefficient if self.penalty is None else self.penalty
        return fixed * min(1.0, scene.share / self.rises_over)
