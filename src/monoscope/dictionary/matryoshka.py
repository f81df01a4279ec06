"""Matryoshka: nested dictionaries, each prefix of the latents a dictionary of its own (Bussmann et al. 2025).

The latents are cut into groups; the prefix up to each group has to reconstruct by itself:

    loss = sum over g of w_g |target - b_dec - sum of value * row over latents before the end of group g|²

with weights that sum to 1. So early latents learn what is general and stay whole when later ones split it. Selection
and reading are those of BatchTopK.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from monoscope.core.sparse import SparseCode, starts_from_counts
from monoscope.dictionary.batchtopk import BatchTopKRule
from monoscope.dictionary.rule import Backward, Part, Scene

SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4)


@dataclass(frozen=True)
class MatryoshkaRule(BatchTopKRule):
    """BatchTopK whose prefixes are judged too. `outer` is the weight of the whole; the inner ones share the rest."""

    name: ClassVar[str] = "matryoshka"
    outer: float = 0.2

    def backward(self, code: SparseCode, scene: Scene) -> Backward:
        """One decode, group after group; a group is pushed by the weighted residuals of all prefixes it is in."""
        kernels, rows, ends = scene.kernels, len(scene.x), group_ends(code.n_latents)
        groups = [_group(code, first, last) for first, last in zip((0, *ends), ends, strict=False)]
        weights = [(1 - self.outer) / (len(ends) - 1)] * (len(ends) - 1) + [self.outer] if len(ends) > 1 else [1.0]
        residual = scene.b_dec - scene.target
        residuals, firsts = [], (0, *ends)
        for first, group in zip(firsts, groups, strict=False):
            rows_of_group = scene.decoder[first : first + group.n_latents]
            residual = residual + kernels.decode(group, rows_of_group, torch.zeros_like(scene.b_dec))
            residuals.append(residual)
        loss = sum(w * float(r.square().sum()) for w, r in zip(weights, residuals, strict=True)) / rows
        parts: list[Part] = []
        pushes = torch.zeros_like(residual)
        for number in reversed(range(len(groups))):
            pushes = pushes + residuals[number] * (2 * weights[number] / rows)
            first, group = firsts[number], groups[number]
            pull = kernels.products(group, pushes, scene.decoder[first : first + group.n_latents])
            parts.append(Part(first, group, pull, pushes))
        return Backward(loss, residuals[-1], code, parts, pushes.sum(0))


def group_ends(n_latents: int) -> tuple[int, ...]:
    """The end of each group: 1/32, 1/16, 1/8 and 1/4 of the latents, then the rest; tiny dictionaries have fewer."""
    ends, at = [], 0.0
    for share in SHARES:
        at += share * n_latents
        ends.append(round(at))
    return tuple(sorted({end for end in ends if 0 < end < n_latents} | {n_latents}))


def _group(code: SparseCode, first: int, last: int) -> SparseCode:
    keep = (code.indices >= first) & (code.indices < last)
    counts = torch.zeros(code.n_rows + 1, dtype=torch.long)
    torch.cumsum(keep.long(), 0, out=(summed := torch.empty(len(keep), dtype=torch.long)))
    before: Tensor = torch.cat([counts[:1], summed])[code.starts]
    starts = starts_from_counts(before[1:] - before[:-1])
    return SparseCode(code.indices[keep] - first, code.values[keep], starts, last - first)
