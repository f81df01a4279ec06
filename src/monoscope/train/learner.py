"""The weights that learn, how they begin, and one step of learning.

Everything here is in the scaled space: x' = (x - mean) / scale with E|x'|² = 1 for architectures with unit decoder
rows and E|x'|² = d for those that are penalised.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.core.errors import BadNumbers
from monoscope.core.runtime import random_stream
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import TrainingRule
from monoscope.dictionary.kernels.choose import kernels_for
from monoscope.train.recipes import Recipe

_FIT_ROWS = 2048
_FREE_DECODER_NORM = 0.1
_AUX_ROWS, _AUX_K, _AUX_COEFFICIENT = 512, 64, 1 / 32


@dataclass(frozen=True)
class Scaling:
    """x' = (x - mean) / scale."""

    mean: Float[Tensor, "d_model"]
    scale: float

    @classmethod
    def measure(cls, sample: Float[Tensor, "rows d_model"], *, mean_square: float) -> "Scaling":
        """Choose mean and scale so that the sample has E|x'|² = `mean_square`.

        Raises
            BadNumbers  the sample does not vary, or holds NaN or infinity.
        """
        rows = sample.double()
        mean = rows.mean(0)
        spread = float((rows - mean).square().sum(1).mean())
        if not spread > 0 or not torch.isfinite(mean).all():
            raise BadNumbers(
                "The activations do not vary, or hold NaN or infinity; harvest other text or check the model."
            )
        return cls(mean.float(), (spread / mean_square) ** 0.5)

    def apply(self, x: Tensor) -> Float[Tensor, "rows d_model"]:
        """Rows into the scaled space."""
        return (x.float() - self.mean) / self.scale


@dataclass
class Learner:
    """All that changes while learning; a checkpoint is exactly this.

    The encoder is kept as rows, one for each latent, like the decoder.
    """

    encoder: Float[Tensor, "n_latents d_in"]
    decoder: Float[Tensor, "n_latents d_out"]
    b_enc: Float[Tensor, "n_latents"]
    b_dec: Float[Tensor, "d_out"]
    rule_state: dict[str, Tensor]
    silent_rows: Tensor
    optimiser: torch.optim.Adam
    scratch: dict[str, Tensor]

    @classmethod
    def begin(cls, rule: TrainingRule, recipe: Recipe, sample: Float[Tensor, "rows d"]) -> "Learner":
        """Random unit decoder rows; the encoder the same rows times the one factor that reconstructs a sample best.

        With the rows random instead of taken from the data almost no latent dies; the factor, in closed form
        c = <x, r> / <r, r> for the reconstruction r at factor 1, saves the first hundreds of steps.
        """
        d = sample.shape[1]
        decoder = torch.randn(recipe.latents, d, generator=random_stream(recipe.seed, "decoder"))
        decoder /= decoder.norm(dim=1, keepdim=True)
        if not rule.unit_decoder:
            decoder *= _FREE_DECODER_NORM
        learner = cls._assemble(decoder.clone(), decoder, rule.start_state(), recipe)
        if rule.unit_decoder:
            x = sample[:_FIT_ROWS]
            code = rule.select(x @ decoder.T, rule.start_state(), kernels_for(x.device))
            found = kernels_for(x.device).decode(code, decoder, learner.b_dec)
            learner.encoder.mul_(float((x * found).sum() / found.square().sum()))
        return learner

    @classmethod
    def _assemble(cls, encoder: Tensor, decoder: Tensor, rule_state: dict[str, Tensor], recipe: Recipe) -> "Learner":
        n_latents, d = decoder.shape
        weights = [encoder, decoder, torch.zeros(n_latents), torch.zeros(d)]
        for tensor in weights:
            tensor.grad = torch.zeros_like(tensor)
        optimiser = torch.optim.Adam(weights, lr=recipe.learning_rate, betas=(0.9, 0.999), eps=1e-8, fused=True)
        silent = torch.zeros(n_latents, dtype=torch.long)
        return cls(*weights, rule_state=rule_state, silent_rows=silent, optimiser=optimiser, scratch={})

    def tensors(self) -> dict[str, Tensor]:
        """Everything a checkpoint holds, by name."""
        names = ("encoder", "decoder", "b_enc", "b_dec")
        found = {name: getattr(self, name) for name in names} | {"silent_rows": self.silent_rows}
        found |= {f"rule.{name}": tensor for name, tensor in self.rule_state.items()}
        for name in names:
            state = self.optimiser.state.get(getattr(self, name), {})
            found |= {f"adam.{name}.{key}": tensor for key, tensor in state.items()}
        return found

    @classmethod
    def restore(cls, tensors: dict[str, Tensor], recipe: Recipe) -> "Learner":
        """The learner whose `tensors` these are."""
        rule_state = {name[5:]: tensor.clone() for name, tensor in tensors.items() if name.startswith("rule.")}
        learner = cls._assemble(tensors["encoder"].clone(), tensors["decoder"].clone(), rule_state, recipe)
        learner.b_enc.copy_(tensors["b_enc"])
        learner.b_dec.copy_(tensors["b_dec"])
        learner.silent_rows.copy_(tensors["silent_rows"])
        for name in ("encoder", "decoder", "b_enc", "b_dec"):
            keys = [key for key in tensors if key.startswith(f"adam.{name}.")]
            if keys:
                state = {key.rsplit(".", 1)[1]: tensors[key].clone() for key in keys}
                learner.optimiser.state[getattr(learner, name)] = state
        return learner


@dataclass(frozen=True)
class StepFigures:
    """What one step showed: the loss, the share of the batch's energy unexplained, and features a token."""

    loss: float
    fvu: float
    l0: float
    dead: int


def learn(
    learner: Learner, rule: TrainingRule, recipe: Recipe, x: Float[Tensor, "rows d"], *, share: float
) -> StepFigures:
    """One step on one batch: forward, backward through the active latents only, Adam, unit rows.

    With r = reconstruction - x, the gradients are sums over the active entries alone (methods of TopK autoencoders):
    decoder[i] = sum of value * 2r/B, encoder[i] = sum of (2r/B · decoder[i]) * x.

    Raises
        BadNumbers  the loss is not finite; the weights are left as they were.
    """
    kernels = kernels_for(x.device)
    pre = _pre_activations(learner, x)
    code = rule.select(pre, learner.rule_state, kernels)
    residual, pull = kernels.residual_and_pull(code, learner.decoder, learner.b_dec, x)
    loss = float(residual.square().sum()) / len(x)
    if loss != loss or loss == float("inf"):
        raise BadNumbers(
            "The training loss is not finite; the activations hold NaN or infinity, or the learning rate is too high."
        )
    fvu = loss * len(x) / max(float(x.square().sum()), 1e-30)
    residual.mul_(2 / len(x))
    pull.mul_(2 / len(x))
    penalty = _penalise(learner, rule, code, pull, share)
    gradients = (learner.decoder.grad, learner.encoder.grad, learner.b_enc.grad)
    kernels.weight_gradients(code, pull, residual, x, gradients)
    learner.b_dec.grad.copy_(residual.sum(0))
    if penalty is not None:
        loss += float(penalty[0])
        learner.decoder.grad.addcmul_(learner.decoder, penalty[1][:, None])
    dead = _count_silence(learner, code, recipe)
    if rule.unit_decoder and len(dead):
        _revive(learner, kernels, dead, pre, residual.mul_(len(x) / 2), x)
    _update(learner, rule)
    return StepFigures(loss, fvu, code.l0, len(dead))


def _pre_activations(learner: Learner, x: Tensor) -> Tensor:
    """In bfloat16 and in a buffer that stays: fresh pages would cost more than the product."""
    shape = (len(x), len(learner.encoder))
    buffer = learner.scratch.get("pre")
    if buffer is None or buffer.shape != shape:
        buffer = learner.scratch["pre"] = torch.empty(shape, dtype=torch.bfloat16)
    weights = learner.scratch.setdefault("encoder", torch.empty_like(learner.encoder, dtype=torch.bfloat16))
    weights.copy_(learner.encoder)
    return torch.addmm(learner.b_enc.bfloat16(), x.bfloat16(), weights.T, out=buffer)


def _penalise(
    learner: Learner, rule: TrainingRule, code: SparseCode, pull: Tensor, share: float
) -> tuple[Tensor, Tensor] | None:
    norms = learner.decoder.norm(dim=1)
    found = rule.penalty(code, norms, share)
    if found is None:
        return None
    loss, by_value, by_norm = found
    pull += by_value
    return loss, by_norm / norms.clamp(min=1e-12)


def _count_silence(learner: Learner, code: SparseCode, recipe: Recipe) -> Tensor:
    learner.silent_rows += code.n_rows
    learner.silent_rows[code.indices.long()] = 0
    return torch.nonzero(learner.silent_rows > recipe.dead_tokens).flatten()


def _revive(learner: Learner, kernels: Any, dead: Tensor, pre: Tensor, residual: Tensor, x: Tensor) -> None:
    """AuxK: dead latents learn to explain what the living leave over, encoder included (Gao et al. 2024)."""
    rows = slice(0, _AUX_ROWS)
    missing, x = -residual[rows], x[rows]
    code = kernels.top_rows(pre[rows][:, dead].contiguous(), min(_AUX_K, len(dead)))
    if not len(code.values):
        return
    decoder = learner.decoder[dead]
    left, pull = kernels.residual_and_pull(code, decoder, torch.zeros(x.shape[1]), missing)
    spread = (missing - missing.mean(0)).square().sum().clamp(min=1e-12)
    factor = 2 * _AUX_COEFFICIENT / spread
    out = (torch.empty_like(decoder), torch.empty_like(decoder), torch.empty(len(dead)))
    kernels.weight_gradients(code, pull * factor, left * factor, x, out)
    for weights, gradient in zip((learner.decoder, learner.encoder, learner.b_enc), out, strict=True):
        weights.grad[dead] += gradient


def _update(learner: Learner, rule: TrainingRule) -> None:
    if rule.unit_decoder:
        along = torch.linalg.vecdot(learner.decoder.grad, learner.decoder)
        learner.decoder.grad.addcmul_(learner.decoder, along[:, None], value=-1)
    else:
        torch.nn.utils.clip_grad_norm_([learner.encoder, learner.decoder, learner.b_enc, learner.b_dec], 1.0)
    learner.optimiser.step()
    if rule.unit_decoder:
        learner.decoder.div_(learner.decoder.norm(dim=1, keepdim=True).clamp(min=1e-12))
