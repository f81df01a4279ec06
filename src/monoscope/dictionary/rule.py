"""How an architecture behaves while it learns. The training loop asks; it does everything else.

All values here are in the scaled space of training: x' = (x - mean) / scale with E|x'|² = 1. An architecture is a child
of `TrainingRule` that states which entries take part in a step and, where the plain squared error is not all of it, the
loss with its gradients. `catalogue` finds the children by itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.core.sparse import SparseCode


class Tiles(Protocol):
    """The pre-activations of a batch, some rows at a time, in order; they may be read more than once."""

    n_rows: int

    def __iter__(self) -> Iterator[Float[Tensor, "rows n_latents"]]:
        """Blocks of rows that together are the batch."""
        ...


@dataclass(frozen=True)
class Scene:
    """One batch, and the weights as they are before the step.

    `own` are the tensors that the rule itself learns, `state` those it merely remembers; `share` of the training is
    done; `dead` are the latents that have not fired for long.
    """

    x: Float[Tensor, "rows d_in"]
    target: Float[Tensor, "rows d_out"]
    decoder: Float[Tensor, "n_latents d_out"]
    b_enc: Float[Tensor, "n_latents"]
    b_dec: Float[Tensor, "d_out"]
    own: dict[str, Tensor]
    state: dict[str, Tensor]
    share: float
    dead: Tensor
    kernels: Any


@dataclass(frozen=True)
class Part:
    """Some entries with what moves them: the latents from `first` on, numbered from 0 in `code`.

    decoder[i] gets the sum of value * `pushes`, encoder[i] the sum of `pull` * x; both are gradients of the loss.
    """

    first: int
    code: SparseCode
    pull: Float[Tensor, "entries"]
    pushes: Float[Tensor, "rows d_out"]


@dataclass
class Backward:
    """A step's loss for each row of the batch, and its gradients.

    `residual` is reconstruction - target. `by_norm` is the gradient by each decoder row's norm, `own` by the rule's
    own tensors, `b_enc` what the encoder bias gets beyond the sum of its entries' pulls. `active` are the entries that
    fire; `Part.code` may hold more, with value 0.
    """

    loss: float
    residual: Float[Tensor, "rows d_out"]
    active: SparseCode
    parts: list[Part]
    b_dec: Float[Tensor, "d_out"]
    by_norm: Tensor | None = None
    b_enc: Tensor | None = None
    own: dict[str, Tensor] = field(default_factory=dict)


class TrainingRule(ABC):
    """An architecture while it learns.

    `name` is what users type; `reads_as` the kind of dictionary it becomes. With `unit_decoder` the decoder rows are
    kept at norm 1. `own_pace` multiplies the learning rate of the rule's own tensors, `bias_pace` that of the encoder
    bias: a few steps of Adam move it over the distance to the threshold, and what sinks below does not come back.
    `least_beta2` is how long Adam's memory of squared gradients must at least be.
    """

    name: ClassVar[str]
    reads_as: ClassVar[str]
    unit_decoder: ClassVar[bool] = True
    two_sites: ClassVar[bool] = False
    own_pace: ClassVar[float] = 1.0
    bias_pace: ClassVar[float] = 0.1
    least_beta2: ClassVar[float] = 0.0

    @property
    @abstractmethod
    def wanted_l0(self) -> float | None:
        """Active latents a token that were asked for; None where a fixed penalty decides."""

    def start_state(self) -> dict[str, Tensor]:
        """What the rule remembers between steps."""
        return {}

    def start_own(self, n_latents: int, d_in: int, d_out: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The tensors the rule itself learns."""
        return {}

    def settle(self, level: float, b_enc: Tensor, own: dict[str, Tensor], state: dict[str, Tensor]) -> None:  # noqa: B027
        """Place thresholds or biases before the first step, in place.

        `level` is the pre-activation above which as many entries lie as were asked for, over a sample.
        """

    @abstractmethod
    def select(self, tiles: Tiles, own: dict[str, Tensor], state: dict[str, Tensor], kernels: Any) -> SparseCode:
        """The entries of a batch that take part in the step, with their pre-activations; may change `state`."""

    def begin_code(self, pre: Float[Tensor, "rows n_latents"], l0: float, kernels: Any) -> SparseCode:
        """A first code at the wanted sparsity, by which the encoder's factor is fitted."""
        return kernels.top_batch(pre, round(l0 * len(pre)))

    def backward(self, code: SparseCode, scene: Scene) -> Backward:
        """Loss |reconstruction - target|², gradients through the entries alone.

        With r = reconstruction - target: decoder[i] = sum of value * 2r/B, encoder[i] = sum of (2r/B · decoder[i]) * x.
        """
        residual, pull = scene.kernels.residual_and_pull(code, scene.decoder, scene.b_dec, scene.target)
        rows = len(scene.x)
        loss = float(residual.square().sum()) / rows
        pushes = residual * (2 / rows)
        return Backward(loss, residual, code, [Part(0, code, pull.mul_(2 / rows), pushes)], pushes.sum(0))

    def threshold(self, own: dict[str, Tensor], state: dict[str, Tensor]) -> Tensor | None:  # noqa: ARG002
        """The threshold for reading, one for all latents or one each, or None."""
        return None

    def folded(self, weights: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """The encoder (as rows), bias and threshold as a reader needs them, still in the scaled space."""
        return weights

    def unfolded(self, weights: dict[str, Tensor], own: dict[str, Tensor], state: dict[str, Tensor]) -> None:  # noqa: B027
        """The way back: put a finished dictionary's threshold into `own` or `state`, so that training can go on."""


def of_each_tile(tiles: Tiles, select: Any) -> SparseCode:
    """The entries of all tiles, for rules that decide row by row."""
    found = [select(pre) for pre in tiles]
    return found[0] if len(found) == 1 else SparseCode.concatenate(found)


def active_entries(code: SparseCode, values: Float[Tensor, "entries"], kernels: Any) -> SparseCode:
    """The entries whose value is above zero."""
    return kernels.keep_entries(SparseCode(code.indices, values, code.starts, code.n_latents), values > 0)


def sums_by_latent(code: SparseCode, amounts: Float[Tensor, "entries"]) -> Float[Tensor, "n_latents"]:
    """For each latent the sum over its entries. Same entries, same sum: the order of addition is theirs."""
    return torch.zeros(code.n_latents).index_add_(0, code.indices.long(), amounts)
