"""Evidence that an edit did something, gathered while text is generated.

Only the edited tokens are kept, and features are read from many of them at once, so a step pays for a copy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.steer.apply import Applied, Reader, SitePlan
from monoscope.steer.resolve import Move

# Kept tokens are read when they fill this many floats.
_HELD_FLOATS = 1 << 23


@dataclass(frozen=True)
class EditProof:
    """What one edit did to one text.

    `mean_norm_change` is the mean length of x' - x over the tokens the edit acted on, all edits together.
    `realised_activation` is the feature's mean activation there, read again after all edits, and
    `mean_activation_before` the one before. For a push both are projections on its direction. Without a token: zeros.
    After a clamp it may fall short of `value` where the feature was silent: the formula starts from 0, but what the
    encoder summed was below 0. Units: the residual stream's, for `value` too; for a scale it is the factor.
    """

    edit: str
    feature: int | None
    mode: str
    value: float | None
    positions_edited: int
    mean_norm_change: float
    realised_activation: float
    mean_activation_before: float


class ProofBook:
    """Sums over edited tokens, for each slot and row of a plan. Mutable; it lives as long as the plan."""

    def __init__(self, plan: SitePlan, moves: Sequence[Sequence[Move]]) -> None:
        self._plan, self._moves = plan, moves
        self._reader = Reader.of([move.reading for row in moves for move in row if move.reading is not None])
        self._columns = [
            torch.tensor([self._reader.column(row[k].reading) if k < len(row) else 0 for row in moves])
            for k in range(len(plan.slots))
        ]
        self._is_push = [
            torch.tensor([k < len(row) and row[k].reading is None for row in moves]) for k in range(len(plan.slots))
        ]
        # Columns: tokens, norm change, before, after.
        self._sums = torch.zeros(len(plan.slots), len(moves), 4, dtype=torch.float64)
        self._held: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        self._floats = 0

    def add(self, applied: Applied) -> None:
        """Keep the edited tokens of one application."""
        row, place = torch.nonzero(applied.edited.any(0), as_tuple=True)
        if not len(row):
            return
        held = (applied.before[row, place], applied.after[row, place], applied.edited[:, row, place], row)
        self._held.append(held)
        self._floats += held[0].numel()
        if self._floats > _HELD_FLOATS:
            self._settle()

    def sums(self, row: int) -> Float[Tensor, "edits 4"]:
        """For each edit of a row, in order: tokens, and sums over them of norm change, level before, level after."""
        self._settle()
        return self._sums[: len(self._moves[row]), row]

    def _settle(self) -> None:
        if not self._held:
            return
        before, after = (torch.cat([held[part] for held in self._held]) for part in (0, 1))
        edited = torch.cat([held[2] for held in self._held], dim=1)
        rows = torch.cat([held[3] for held in self._held])
        self._held, self._floats = [], 0
        change = (after - before).norm(dim=-1)
        read_before, read_after = self._reader.read(before), self._reader.read(after)
        for k in range(len(self._plan.slots)):
            facts = torch.stack(
                [
                    torch.ones_like(change),
                    change,
                    self._level(k, before, read_before, rows),
                    self._level(k, after, read_after, rows),
                ],
                dim=1,
            )
            facts = torch.where(edited[k][:, None], facts, 0.0)
            self._sums[k].index_add_(0, rows.cpu(), facts.double().cpu())

    def _level(
        self, k: int, x: Float[Tensor, "tokens d_model"], read: Float[Tensor, "tokens columns"], rows: Tensor
    ) -> Float[Tensor, "tokens"]:
        """The feature's activation, or for a push the projection on its direction."""
        is_push = self._is_push[k].to(x.device)[rows]
        along = (x * self._plan.slots[k].direction[rows]).sum(1) if bool(is_push.any()) else x.new_zeros(len(x))
        if not read.shape[1]:
            return along
        activation = read.gather(1, self._columns[k].to(x.device)[rows][:, None]).squeeze(1)
        return torch.where(is_push, along, activation)


def edit_proof(move: Move, sums: Float[Tensor, "4"]) -> EditProof:
    """The proof of an edit from what was summed of it."""
    tokens, change, before, after = sums.tolist()
    count = max(tokens, 1.0)
    return EditProof(
        str(move), move.feature, move.mode, move.value, int(tokens), change / count, after / count, before / count
    )
