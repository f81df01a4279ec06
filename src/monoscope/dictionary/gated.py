"""Gated: one path decides whether a latent is active, another how much (Rajamanoharan et al. 2024a).

With tied weights the gate is `x @ W + b_gate > 0` and the magnitude `exp(r) * (x @ W) + b_mag`. The penalty and an
auxiliary reconstruction act on the gate's path only, so that magnitudes are not shrunk:

    loss = |x - decode(f)|² + coefficient/√d * sum of relu(gate) + |x - decode'(relu(gate))|²,   decode' held fixed.

Read as thresholds: magnitude > b_mag - exp(r) * b_gate is the same as gate > 0, so a trained one is a
`JumpReluDictionary`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from monoscope.core.sparse import SparseCode
from monoscope.dictionary.rule import Backward, Part, Scene, Tiles, active_entries, of_each_tile
from monoscope.dictionary.rule import sums_by_latent as by_latent
from monoscope.dictionary.sparsity import PenalisedRule


@dataclass(frozen=True)
class GatedRule(PenalisedRule):
    """The encoder bias is the gate's."""

    name: ClassVar[str] = "gated"
    reads_as: ClassVar[str] = "jumprelu"

    def start_own(self, n_latents: int, d_in: int, d_out: int) -> dict[str, Tensor]:  # noqa: ARG002
        """The logarithm of the magnitude's scale, and its bias."""
        return {"log_scale": torch.zeros(n_latents), "b_mag": torch.zeros(n_latents)}

    def settle(self, level: float, b_enc: Tensor, own: dict[str, Tensor], state: dict[str, Tensor]) -> None:  # noqa: ARG002
        """Gates that let as many entries through as were asked for, magnitudes as they are."""
        b_enc.fill_(-level)

    def select(self, tiles: Tiles, own: dict[str, Tensor], state: dict[str, Tensor], kernels: Any) -> SparseCode:  # noqa: ARG002
        """The entries whose gate is open, with the gate's pre-activation."""
        return of_each_tile(tiles, lambda pre: kernels.above(pre, torch.zeros(pre.shape[1])))

    def backward(self, code: SparseCode, scene: Scene) -> Backward:
        """Both reconstructions. Their gradients meet in the encoder rows; each bias has its own."""
        kernels, rows, latent = scene.kernels, len(scene.x), code.indices.long()
        scale = scene.own["log_scale"].exp()[latent]
        product = code.values - scene.b_enc[latent]
        magnitude = (scale * product + scene.own["b_mag"][latent]).clamp_(min=0)
        main = SparseCode(code.indices, magnitude, code.starts, code.n_latents)
        residual, by_value = kernels.residual_and_pull(main, scene.decoder, scene.b_dec, scene.target)
        by_value.mul_(2 / rows).mul_(magnitude > 0)
        missed, by_gate = kernels.residual_and_pull(code, scene.decoder, scene.b_dec, scene.target)
        active = active_entries(code, magnitude, kernels)
        strength = self.coefficient(active.l0, scene) / (scene.decoder.shape[1] ** 0.5 * rows)
        by_gate.mul_(2 / rows).add_(strength)
        through = by_value * scale
        pushes = residual * (2 / rows)
        loss = (float(residual.square().sum()) + float(missed.square().sum())) / rows
        return Backward(
            loss + strength * float(code.values.sum()),
            residual,
            active,
            [Part(0, main, by_gate + through, pushes)],
            pushes.sum(0),
            b_enc=-by_latent(code, through),
            own={"log_scale": by_latent(code, through * product), "b_mag": by_latent(code, by_value)},
        )

    def folded(self, weights: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
        """Magnitudes with a threshold where the gate opens."""
        scale = own["log_scale"].exp()
        threshold = (own["b_mag"] - scale * weights["b_enc"]).clamp(min=0)
        return {"encoder": weights["encoder"] * scale[:, None], "b_enc": own["b_mag"], "threshold": threshold}

    def unfolded(self, weights: dict[str, Tensor], own: dict[str, Tensor], state: dict[str, Tensor]) -> None:  # noqa: ARG002
        """The magnitude's bias is the reader's; the gate's lies a threshold below."""
        own["b_mag"].copy_(weights["b_enc"])
        weights["b_enc"].sub_(weights["threshold"])
