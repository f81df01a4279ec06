"""The weights that learn, how they begin, and one step of learning.

Everything here is in the scaled space: x' = (x - mean) / scale with E|x'|² = 1. A transcoder has two such spaces, one
for what it reads and one for what it is to tell.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.core.errors import BadNumbers
from monoscope.core.runtime import fast_bfloat16, random_stream
from monoscope.dictionary.base import Dictionary
from monoscope.dictionary.kernels.choose import kernels_for
from monoscope.dictionary.rule import Backward, Scene, TrainingRule
from monoscope.train.dead import aux_gradients, count_silence, new_rows
from monoscope.train.recipes import Recipe

_FIT_ROWS = 2048
_FIT_FLOATS = 1 << 25
_CLIP = 1.0
_PIECE = 8192
_MAIN = ("encoder", "decoder", "b_enc", "b_dec")


@dataclass(frozen=True)
class Scaling:
    """x' = (x - mean) / scale."""

    mean: Float[Tensor, "d_model"]
    scale: float

    @classmethod
    def measure(cls, sample: Float[Tensor, "rows d_model"]) -> "Scaling":
        """Choose mean and scale so that the sample has E|x'|² = 1.

        Raises
            BadNumbers  the sample does not vary, or holds NaN or infinity.
        """
        pieces = sample.split(_PIECE)
        mean = sum(piece.double().sum(0) for piece in pieces) / len(sample)
        spread = float(sum((piece.double() - mean).square().sum() for piece in pieces)) / len(sample)
        if not spread > 0 or not torch.isfinite(mean).all():
            raise BadNumbers(
                "The activations do not vary, or hold NaN or infinity; harvest other text or check the model."
            )
        return cls(mean.float(), spread**0.5)

    def apply(self, x: Tensor) -> Float[Tensor, "rows d_model"]:
        """Rows into the scaled space."""
        return (x.float() - self.mean) / self.scale


@dataclass(frozen=True)
class Spaces:
    """The scaled space of what is read and of what is told; the same one but for transcoders."""

    reads: Scaling
    tells: Scaling

    @classmethod
    def measure(cls, sample: Float[Tensor, "rows d"], d_in: int) -> "Spaces":
        """Rows hold what is read, and after `d_in` columns what is to be told where that is something else."""
        reads = Scaling.measure(sample[:, :d_in])
        return cls(reads, reads if sample.shape[1] == d_in else Scaling.measure(sample[:, d_in:]))

    def apply(self, rows: Tensor) -> tuple[Float[Tensor, "rows d_in"], Float[Tensor, "rows d_out"]]:
        """Rows as they come from the feed into both spaces."""
        d_in = len(self.reads.mean)
        x = self.reads.apply(rows[:, :d_in])
        return x, x if self.tells is self.reads else self.tells.apply(rows[:, d_in:])


@dataclass
class Learner:
    """All that changes while learning; a checkpoint is exactly this.

    The encoder is kept as rows, one for each latent, like the decoder. `own` are tensors that the rule learns beside.
    """

    encoder: Float[Tensor, "n_latents d_in"]
    decoder: Float[Tensor, "n_latents d_out"]
    b_enc: Float[Tensor, "n_latents"]
    b_dec: Float[Tensor, "d_out"]
    own: dict[str, Tensor]
    rule_state: dict[str, Tensor]
    silent_rows: Tensor
    optimiser: torch.optim.Adam
    scratch: dict[str, Tensor]

    @classmethod
    def begin(
        cls, rule: TrainingRule, recipe: Recipe, x: Float[Tensor, "rows d_in"], target: Tensor | None = None
    ) -> "Learner":
        """Random unit decoder rows; the encoder the same rows times the one factor that reconstructs a sample best.

        With the rows random instead of taken from the data almost no latent dies; the factor, in closed form
        c = <x, r> / <r, r> for the reconstruction r at factor 1, saves the first hundreds of steps. A transcoder's
        decoder rows are where the best linear map sends its encoder rows.
        """
        rows = max(64, min(_FIT_ROWS, _FIT_FLOATS // recipe.latents))
        stream = random_stream(recipe.seed, "decoder")
        encoder = _unit(torch.randn(recipe.latents, x.shape[1], generator=stream))
        decoder = encoder.clone() if target is None else _unit(encoder @ _linear_map(x, target))
        own = rule.start_own(recipe.latents, x.shape[1], decoder.shape[1])
        learner = cls._assemble(encoder, decoder, own, rule.start_state(), rule, recipe)
        x, target = x[:rows], x[:rows] if target is None else target[:rows]
        pre = x @ encoder.T
        l0 = rule.wanted_l0 or float(recipe.k)
        kernels = kernels_for(x.device)
        found = kernels.decode(rule.begin_code(pre, l0, kernels), decoder, learner.b_dec)
        factor = max(1e-3, float((target * found).sum() / found.square().sum().clamp(min=1e-12)))
        encoder.mul_(factor)
        level = kernels.top_batch(pre, round(l0 * len(pre))).values.min() * factor
        rule.settle(float(level), learner.b_enc, own, learner.rule_state)
        return learner

    @classmethod
    def begin_from(cls, rule: TrainingRule, recipe: Recipe, dictionary: Dictionary, spaces: Spaces) -> "Learner":
        """Where a finished dictionary stands, in the scaled space of other activations: `finish.fold` backwards."""
        old, reads, tells = dictionary.weights, spaces.reads, spaces.tells
        ratio = reads.scale / tells.scale
        skip = torch.zeros(()) if old.W_skip is None else old.W_skip @ reads.mean
        weights = {
            "encoder": old.W_enc.T * ratio,
            "b_enc": (old.b_enc + reads.mean @ old.W_enc) / tells.scale,
            "threshold": (torch.zeros(()) if old.threshold is None else old.threshold) / tells.scale,
        }
        weights = {name: tensor.clone().contiguous() for name, tensor in weights.items()}
        own, state = rule.start_own(recipe.latents, dictionary.d_in, dictionary.d_out), rule.start_state()
        rule.unfolded(weights, own, state)
        if old.W_skip is not None:
            own["W_skip"].copy_(old.W_skip.T * ratio)
        learner = cls._assemble(weights["encoder"], old.W_dec.clone(), own, state, rule, recipe)
        learner.b_enc.copy_(weights["b_enc"])
        learner.b_dec.copy_((old.b_dec + skip - tells.mean) / tells.scale)
        return learner

    @classmethod
    def _assemble(  # noqa: PLR0913  the parts of a learner
        cls,
        encoder: Tensor,
        decoder: Tensor,
        own: dict[str, Tensor],
        state: dict[str, Tensor],
        rule: TrainingRule,
        recipe: Recipe,
    ) -> "Learner":
        n_latents, d_out = decoder.shape
        weights = [encoder, decoder, torch.zeros(n_latents), torch.zeros(d_out)]
        for tensor in (*weights, *own.values()):
            tensor.grad = torch.zeros_like(tensor)
        groups = [
            {"params": [encoder, decoder, weights[3]], "pace": 1.0},
            {"params": [weights[2]], "pace": rule.bias_pace},
        ]
        if own:
            groups.append({"params": list(own.values()), "pace": rule.own_pace})
        betas = (0.9, max(recipe.beta2, rule.least_beta2))
        optimiser = torch.optim.Adam(groups, lr=recipe.learning_rate, betas=betas, eps=1e-8, fused=True)
        silent = torch.zeros(n_latents, dtype=torch.long)
        return cls(*weights, own=own, rule_state=state, silent_rows=silent, optimiser=optimiser, scratch={})

    def release(self) -> None:
        """Let go of gradients, moments and buffers: no more steps."""
        for weights in self._learnt().values():
            weights.grad = None
        self.optimiser.state.clear()
        self.scratch.clear()

    def _learnt(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) for name in _MAIN} | {f"own.{n}": tensor for n, tensor in self.own.items()}

    def tensors(self) -> dict[str, Tensor]:
        """Everything a checkpoint holds, by name."""
        found = self._learnt() | {"silent_rows": self.silent_rows}
        found |= {f"rule.{name}": tensor for name, tensor in self.rule_state.items()}
        for name, weights in self._learnt().items():
            found |= {f"adam.{name}:{key}": tensor for key, tensor in self.optimiser.state.get(weights, {}).items()}
        return found

    @classmethod
    def restore(cls, tensors: dict[str, Tensor], rule: TrainingRule, recipe: Recipe) -> "Learner":
        """The learner whose `tensors` these are."""

        def under(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): tensor.clone() for n, tensor in tensors.items() if n.startswith(prefix)}

        weights = tensors["encoder"].clone(), tensors["decoder"].clone()
        learner = cls._assemble(*weights, under("own."), under("rule."), rule, recipe)
        learner.b_enc.copy_(tensors["b_enc"])
        learner.b_dec.copy_(tensors["b_dec"])
        learner.silent_rows.copy_(tensors["silent_rows"])
        for name, learnt in learner._learnt().items():
            if state := under(f"adam.{name}:"):
                learner.optimiser.state[learnt] = state
        return learner


def _unit(rows: Float[Tensor, "rows d"]) -> Float[Tensor, "rows d"]:
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)


def _linear_map(x: Float[Tensor, "rows d_in"], y: Float[Tensor, "rows d_out"]) -> Float[Tensor, "d_in d_out"]:
    """Least squares with a small ridge, in float64."""
    x, y = x.double(), y.double()
    square = x.T @ x
    square.diagonal().add_(1e-3 * square.diagonal().mean())
    return torch.linalg.solve(square, x.T @ y).float()


@dataclass(frozen=True)
class StepFigures:
    """What one step showed: the loss, the share of the batch's energy unexplained, and features a token."""

    loss: float
    fvu: float
    l0: float
    dead: int


def learn(  # noqa: PLR0913  a step has these parts
    learner: Learner,
    rule: TrainingRule,
    recipe: Recipe,
    x: Float[Tensor, "rows d_in"],
    target: Float[Tensor, "rows d_out"] | None = None,
    *,
    share: float,
) -> StepFigures:
    """One step on one batch: forward, backward through the active latents only, Adam, unit rows.

    Raises
        BadNumbers  the loss is not finite; the weights are left as they were.
    """
    kernels, target = kernels_for(x.device), x if target is None else target
    code = rule.select(_Tiles(learner, x, recipe.tile_rows), learner.own, learner.rule_state, kernels)
    dead = torch.nonzero(learner.silent_rows > recipe.dead_tokens).flatten()
    weights = (learner.decoder, learner.b_enc, learner.b_dec, learner.own, learner.rule_state)
    found = rule.backward(code, Scene(x, target, *weights, share, dead, kernels))
    if found.loss != found.loss or abs(found.loss) == float("inf"):
        raise BadNumbers(
            "The training loss is not finite; the activations hold NaN or infinity, or the learning rate is too high."
        )
    _gather(learner, found, x, kernels)
    count_silence(learner.silent_rows, found.active)
    dead = torch.nonzero(learner.silent_rows > recipe.dead_tokens).flatten()
    if len(dead):
        _revive(learner, found, x, dead, kernels)
    _update(learner, rule)
    fvu = float(found.residual.square().sum()) / max(float(target.square().sum()), 1e-30)
    return StepFigures(found.loss, fvu, found.active.l0, len(dead))


class _Tiles:
    """In bfloat16 where that is faster, and in a buffer that stays: fresh pages would cost more than the product."""

    def __init__(self, learner: Learner, x: Tensor, rows: int | None) -> None:
        self.n_rows = len(x)
        self._dtype = torch.bfloat16 if fast_bfloat16() else torch.float32
        self._pieces = x.to(self._dtype).split(min(len(x), rows or len(x)))
        self._bias = learner.b_enc.to(self._dtype)
        self._rows = learner.encoder
        if self._dtype != self._rows.dtype:
            self._rows = learner.scratch.setdefault("encoder", torch.empty_like(learner.encoder, dtype=self._dtype))
            self._rows.copy_(learner.encoder)
        self._scratch = learner.scratch
        self._whole: Tensor | None = None

    def __iter__(self) -> Iterator[Tensor]:
        if self._whole is not None:
            yield self._whole
            return
        for piece in self._pieces:
            pre = torch.addmm(self._bias, piece, self._rows.T, out=self._buffer(len(piece)))
            if len(self._pieces) == 1:
                self._whole = pre
            yield pre

    def _buffer(self, rows: int) -> Tensor:
        buffer = self._scratch.get("pre")
        if buffer is None or len(buffer) < rows:
            buffer = self._scratch["pre"] = torch.empty(rows, len(self._rows), dtype=self._dtype)
        return buffer[:rows]


def _gather(learner: Learner, found: Backward, x: Tensor, kernels: Any) -> None:
    """The gradients of a step, written over those of the last one."""
    for part in found.parts:
        span = slice(part.first, part.first + part.code.n_latents)
        out = learner.decoder.grad[span], learner.encoder.grad[span], learner.b_enc.grad[span]
        kernels.weight_gradients(part.code, part.pull, part.pushes, x, out)
    learner.b_dec.grad.copy_(found.b_dec)
    if found.b_enc is not None:
        learner.b_enc.grad.add_(found.b_enc)
    if found.by_norm is not None:
        norms = learner.decoder.norm(dim=1).clamp(min=1e-12)
        learner.decoder.grad.addcmul_(learner.decoder, (found.by_norm / norms)[:, None])
    for name, gradient in found.own.items():
        learner.own[name].grad.copy_(gradient)


def _revive(learner: Learner, found: Backward, x: Tensor, dead: Tensor, kernels: Any) -> None:
    out = aux_gradients(learner.encoder, learner.decoder, dead, found.residual, x, kernels)
    if out is not None:
        for weights, gradient in zip((learner.decoder, learner.encoder, learner.b_enc), out, strict=True):
            weights.grad[dead] += gradient


def resample(learner: Learner, rule: TrainingRule, recipe: Recipe, x: Tensor, target: Tensor, *, step: int) -> int:
    """Put dead latents where the error is; how many there were. Their moments and their silence begin anew."""
    kernels = kernels_for(x.device)
    dead = torch.nonzero(learner.silent_rows > recipe.dead_tokens).flatten()
    if not len(dead):
        return 0
    state = {name: tensor.clone() for name, tensor in learner.rule_state.items()}
    code = rule.select(_Tiles(learner, x, recipe.tile_rows), learner.own, state, kernels)
    scene = Scene(x, target, learner.decoder, learner.b_enc, learner.b_dec, learner.own, state, 1.0, dead, kernels)
    residual = rule.backward(code, scene).residual
    living = learner.silent_rows <= recipe.dead_tokens
    alive = learner.encoder[living]
    stream = random_stream(recipe.seed, "resample", step)
    learner.encoder[dead], learner.decoder[dead] = new_rows(x, residual, len(dead), alive, stream)
    # Where the bias is the threshold, zero would open the newcomers to everything.
    learner.b_enc[dead] = learner.b_enc[living].median() if len(alive) else 0.0
    for weights in (learner.encoder, learner.decoder, learner.b_enc):
        for name, moment in learner.optimiser.state.get(weights, {}).items():
            if name != "step":
                moment[dead] = 0.0
    learner.silent_rows[dead] = 0
    return len(dead)


def _update(learner: Learner, rule: TrainingRule) -> None:
    if rule.unit_decoder:
        along = torch.linalg.vecdot(learner.decoder.grad, learner.decoder)
        learner.decoder.grad.addcmul_(learner.decoder, along[:, None], value=-1)
    else:
        torch.nn.utils.clip_grad_norm_([learner.encoder, learner.decoder, learner.b_enc, learner.b_dec], _CLIP)
    learner.optimiser.step()
    if rule.unit_decoder:
        learner.decoder.div_(learner.decoder.norm(dim=1, keepdim=True).clamp(min=1e-12))
