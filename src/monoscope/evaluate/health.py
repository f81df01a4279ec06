"""Latents that never fire, or nearly always."""

from dataclasses import dataclass

import torch
from torch import Tensor

DENSE = 0.10


@dataclass(frozen=True)
class Health:
    """`dead` latents never fired on the tokens counted, `dense` ones fired on more than a tenth of them."""

    dead: int
    dense: int
    n_latents: int
    median_density: float

    @property
    def dead_fraction(self) -> float:
        """Share of latents that never fired."""
        return self.dead / self.n_latents

    @property
    def dense_fraction(self) -> float:
        """Share of latents that fired on more than 10 % of tokens."""
        return self.dense / self.n_latents


def health(fires: Tensor, tokens: int) -> Health:
    """Read the firing counts of `tokens` tokens."""
    density = fires.double() / max(1, tokens)
    return Health(
        dead=int((fires == 0).sum()),
        dense=int((density > DENSE).sum()),
        n_latents=len(fires),
        median_density=float(torch.median(density)),
    )
