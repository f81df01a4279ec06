"""The edits themselves, as one pure function of the residual stream.

With x the residual of a token, f the feature's activation read from x before the first edit, and w its unit decoder
row, an edit adds a multiple of w:

    add a        x + a w
    clamp c      x + (c - f) w          the reconstruction error stays, as it is never computed
    scale g      x + (g - 1) f w
    ablate       x - f w
    project-out  x - (x·w) w            x as the edits before it left it

so that all are x + (add + gain f - project (x·w)) w. A batch has a different list of edits in each row: the k-th edits
of all rows form a `Slot`, and a row without a k-th edit has an empty range there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from monoscope.core.site import Site
from monoscope.dictionary.base import Dictionary
from monoscope.steer.edits import acts_elsewhere, acts_in_template, scope_range
from monoscope.steer.resolve import Move, Reading

_NEVER = (0, 0)


@dataclass(frozen=True, eq=False)
class Reader:
    """Features of one or more dictionaries, and the column in which each is read."""

    features: tuple[tuple[Dictionary, Int[Tensor, "wanted"]], ...]
    columns: dict[tuple[int, int], int]

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> "Reader":
        """One column for each distinct feature."""
        by_dictionary: dict[int, tuple[Dictionary, list[int]]] = {}
        for reading in readings:
            _, wanted = by_dictionary.setdefault(id(reading.dictionary), (reading.dictionary, []))
            if reading.feature not in wanted:
                wanted.append(reading.feature)
        order = [(key, feature) for key, (_, wanted) in by_dictionary.items() for feature in wanted]
        features = tuple(
            (dictionary, torch.tensor(wanted, device=dictionary.W_enc.device))
            for dictionary, wanted in by_dictionary.values()
        )
        return cls(features, {key: column for column, key in enumerate(order)})

    def column(self, reading: Reading | None) -> int:
        """Where a feature is read; 0 where there is nothing to read or no such column."""
        return 0 if reading is None else self.columns.get((id(reading.dictionary), reading.feature), 0)

    def read(self, x: Float[Tensor, "tokens d_model"]) -> Float[Tensor, "tokens columns"]:
        """The activations; no columns when nothing is to be read."""
        parts = [
            dictionary.activations_of(x.to(wanted.device), wanted).to(x.device) for dictionary, wanted in self.features
        ]
        return torch.cat(parts, dim=1) if parts else x.new_zeros(len(x), 0)


@dataclass(frozen=True, eq=False)
class Slot:
    """The k-th edit of each row. Positions count from 0 in the row's own rendered prompt; `low` to `high` half-open.

    `in_template` and `elsewhere` say whether the edit acts on the chat template's tokens and on all others.
    """

    direction: Float[Tensor, "rows d_model"]
    add: Float[Tensor, "rows"]
    gain: Float[Tensor, "rows"]
    project: Float[Tensor, "rows"]
    low: Int[Tensor, "rows"]
    high: Int[Tensor, "rows"]
    sink_limit: Float[Tensor, "rows"]
    column: Int[Tensor, "rows"]
    gate_column: Int[Tensor, "rows"]
    gate_above: Float[Tensor, "rows"]
    in_template: Bool[Tensor, "rows"]
    elsewhere: Bool[Tensor, "rows"]
    gains: bool
    projects: bool
    gated: bool


@dataclass(frozen=True, eq=False)
class SitePlan:
    """All edits of a batch at one site. `first` and `stop` bound the positions that any edit may touch."""

    site: Site
    slots: tuple[Slot, ...]
    reader: Reader
    first: int
    stop: int

    def touches(self, first: int, last: int) -> bool:
        """Whether an edit may act on positions `first` to `last`."""
        return first < self.stop and last >= self.first


@dataclass(frozen=True, eq=False)
class Applied:
    """What one application did, in float32: before, after, and where each slot acted."""

    before: Float[Tensor, "rows length d_model"]
    after: Float[Tensor, "rows length d_model"]
    edited: Bool[Tensor, "slots rows length"]


def plan_site(
    site: Site, moves: Sequence[Sequence[Move]], prompt_tokens: Sequence[int], device: torch.device
) -> SitePlan:
    """The plan of one site, given each row's moves there and the length of its prompt.

    Raises
        BadEdit  a scope reaches past a row's prompt.
    """
    readings = [move.reading for row in moves for move in row if move.mode in ("clamp", "scale", "ablate")]
    gates = [move.gate for row in moves for move in row if move.gate is not None]
    reader = Reader.of([*(reading for reading in readings if reading is not None), *gates])
    ranges = [
        [scope_range(move.scope, tokens) for move in row] for row, tokens in zip(moves, prompt_tokens, strict=True)
    ]
    some = next(move for row in moves for move in row)
    depth = max(len(row) for row in moves)
    slots = []
    for k in range(depth):
        column = [row[k] if k < len(row) else None for row in moves]
        places = [places[k] if k < len(places) else _NEVER for places in ranges]
        slots.append(_slot(column, places, reader, len(some.direction), device))
    bounds = [place for row in ranges for place in row]
    # Position 0 carries the attention sink and is never edited.
    return SitePlan(site, tuple(slots), reader, max(1, min(low for low, _ in bounds)), max(high for _, high in bounds))


def apply_edits(
    x: Float[Tensor, "rows length d_model"],
    positions: Int[Tensor, "rows length"],
    plan: SitePlan,
    template: Bool[Tensor, "rows length"] | None = None,
) -> Applied:
    """Edit the residual stream of a batch; every activation is read before the first edit.

    Sinks (position 0 and norms above the dictionary's limit) and negative positions (padding) stay as they are, and so
    do tokens of the chat `template` but for edits that name them.
    """
    before = x.float()
    norms = before.norm(dim=-1)
    read = plan.reader.read(before.flatten(0, 1)).unflatten(0, before.shape[:2]) if plan.reader.features else None
    after, masks = before, []
    for slot in plan.slots:
        mask = _mask(slot, positions, norms, read, template)
        size = _size(slot, after, read)
        size = torch.where(mask, size, 0.0)
        after = after + size[..., None] * slot.direction[:, None, :]
        masks.append(mask)
    return Applied(before, after, torch.stack(masks))


def _mask(slot: Slot, positions: Tensor, norms: Tensor, read: Tensor | None, template: Tensor | None) -> Tensor:
    mask = (positions >= slot.low[:, None]) & (positions < slot.high[:, None]) & (norms <= slot.sink_limit[:, None])
    where = slot.elsewhere[:, None]
    mask = mask & (where if template is None else torch.where(template, slot.in_template[:, None], where))
    if slot.gated and read is not None:
        mask = mask & (_column(read, slot.gate_column) > slot.gate_above[:, None])
    return mask


def _size(slot: Slot, x: Tensor, read: Tensor | None) -> Tensor:
    size = slot.add[:, None].expand(x.shape[:2])
    if slot.gains and read is not None:
        size = size + slot.gain[:, None] * _column(read, slot.column)
    if slot.projects:
        size = size - slot.project[:, None] * (x @ slot.direction[:, :, None]).squeeze(-1)
    return size


def _column(read: Tensor, column: Tensor) -> Tensor:
    wanted = column[:, None, None].expand(-1, read.shape[1], 1)
    return read.gather(2, wanted).squeeze(-1)


def _slot(
    moves: Sequence[Move | None], places: Sequence[tuple[int, int]], reader: Reader, d_model: int, device: torch.device
) -> Slot:
    terms = [(0.0, 0.0, 0.0) if move is None else _terms(move) for move in moves]
    none = torch.zeros(d_model)
    thresholds = [_threshold(move) for move in moves]

    def floats(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    def whole(values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    def truths(values: Sequence[bool]) -> Tensor:
        return torch.tensor(values, dtype=torch.bool, device=device)

    return Slot(
        direction=torch.stack([none if move is None else move.direction.float().cpu() for move in moves]).to(device),
        add=floats([term[0] for term in terms]),
        gain=floats([term[1] for term in terms]),
        project=floats([term[2] for term in terms]),
        low=whole([max(1, low) for low, _ in places]),
        high=whole([high for _, high in places]),
        sink_limit=floats([0.0 if move is None else move.sink_limit for move in moves]),
        column=whole([0 if move is None else reader.column(move.reading) for move in moves]),
        gate_column=whole([0 if move is None else reader.column(move.gate) for move in moves]),
        gate_above=floats(thresholds),
        in_template=truths([move is not None and acts_in_template(move.scope) for move in moves]),
        elsewhere=truths([move is None or acts_elsewhere(move.scope) for move in moves]),
        gains=any(term[1] for term in terms),
        projects=any(term[2] for term in terms),
        gated=any(threshold != -torch.inf for threshold in thresholds),
    )


def _threshold(move: Move | None) -> float:
    return -torch.inf if move is None or move.gate is None else move.gate_above


def _terms(move: Move) -> tuple[float, float, float]:
    value = 0.0 if move.value is None else move.value
    return {
        "add": (value, 0.0, 0.0),
        "clamp": (value, -1.0, 0.0),
        "scale": (0.0, value - 1.0, 0.0),
        "ablate": (0.0, -1.0, 0.0),
        "project-out": (0.0, 0.0, 1.0),
    }[move.mode]
