"""Counting silent latents, and waking them."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from monoscope.core.sparse import SparseCode

_AUX_ROWS, _AUX_K, _AUX_COEFFICIENT = 512, 64, 1 / 32
_QUIET = 0.2


def count_silence(silent_rows: Int[Tensor, "n_latents"], active: SparseCode) -> None:
    """Add a batch to the rows since each latent last fired, in place."""
    silent_rows += active.n_rows
    silent_rows[active.indices.long()] = 0


def aux_gradients(  # noqa: PLR0913  what a loss needs
    encoder: Float[Tensor, "n_latents d_in"],
    decoder: Float[Tensor, "n_latents d_out"],
    dead: Int[Tensor, "dead"],
    residual: Float[Tensor, "rows d_out"],
    x: Float[Tensor, "rows d_in"],
    kernels: Any,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """AuxK: dead latents learn to explain what the living leave over, encoder included (Gao et al. 2024).

    Gradients of decoder rows, encoder rows and encoder bias of the dead, of 1/32 of the share of the residual's
    variance that they leave unexplained. Their bias is left out of the choice: one that has sunk low would keep a
    latent from ever being chosen. None where none would fire.
    """
    rows = slice(0, _AUX_ROWS)
    missing, x = -residual[rows], x[rows].contiguous()
    code = kernels.top_rows(x @ encoder[dead].T, min(_AUX_K, len(dead)))
    if not len(code.values):
        return None
    some = decoder[dead]
    left, pull = kernels.residual_and_pull(code, some, torch.zeros(missing.shape[1]), missing)
    factor = 2 * _AUX_COEFFICIENT / (missing - missing.mean(0)).square().sum().clamp(min=1e-12)
    out = torch.empty_like(some), torch.empty(len(dead), x.shape[1]), torch.empty(len(dead))
    kernels.weight_gradients(code, pull * factor, left * factor, x, out)
    return out


def new_rows(
    x: Float[Tensor, "rows d_in"],
    residual: Float[Tensor, "rows d_out"],
    count: int,
    alive: Float[Tensor, "alive d_in"],
    stream: torch.Generator,
) -> tuple[Float[Tensor, "count d_in"], Float[Tensor, "count d_out"]]:
    """Encoder and decoder rows for dead latents, by resampling (Bricken et al. 2023).

    Rows of the batch are drawn with a chance that grows with the square of their error; the new decoder row is the
    unit error, the encoder row the unit input at a fifth of the mean norm of living encoder rows.
    """
    chance = residual.square().sum(1).square()
    chosen = torch.multinomial(chance, count, replacement=True, generator=stream)
    norm = float(alive.norm(dim=1).mean()) if len(alive) else 1.0
    unit = lambda rows: rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)  # noqa: E731
    return _QUIET * norm * unit(x[chosen]), unit(-residual[chosen])
