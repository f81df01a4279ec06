"""Keys and values of rows that come and go.

Each row has a seat in buffers [seats, heads, columns, d_head]. All rows write their newest token into the same column,
so that a step costs one copy of a token and hands the model a view; what comes before a row's first token is never
looked at. Rows of another cache move in at the right edge, and a row that leaves gives its seat to the last one. Only
models whose layers all keep keys and values fit in here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer

from monoscope.core.errors import BadRequest
from monoscope.model.transformer import LanguageModel

_FEWEST_COLUMNS = 128
# Room made on the left at once, so that prompts that are a little longer than those before do not move all rows again.
_LEFT_ROOM = 64


@dataclass
class _Seats:
    """Where rows sit: their first columns, the column that is written next, and how large the buffers are. Mutable."""

    starts: list[int] = field(default_factory=list)
    stop: int = 0
    seats: int = 0
    columns: int = 0

    @property
    def first(self) -> int:
        return min(self.starts, default=self.stop)


class _Layer(CacheLayerMixin):
    """One layer's buffers."""

    is_sliding = False

    def __init__(self, seats: _Seats) -> None:
        super().__init__()
        self._seats = seats
        self.keys: Any = None
        self.values: Any = None

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make the buffers, like the first keys and values in heads, width and type."""
        here = self._seats
        self.keys, self.values = (
            new.new_zeros(here.seats, new.shape[1], here.columns, new.shape[3]) for new in (key_states, value_states)
        )
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_args: Any, **_more: Any) -> tuple[Tensor, Tensor]:
        """Write the newest columns; what the rows may look at."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        here = self._seats
        rows, stop = len(here.starts), here.stop + key_states.shape[2]
        self.keys[:rows, :, here.stop : stop] = key_states
        self.values[:rows, :, here.stop : stop] = value_states
        return self.keys[:rows, :, here.first : stop], self.values[:rows, :, here.first : stop]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many columns are looked at, and that the mask begins with the first of them."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Columns in use."""
        return self._seats.stop - self._seats.first

    def get_max_length(self) -> int:
        """No end."""
        return -1

    def moved(self, shift: int) -> None:
        """Into buffers of the size that is wanted now, all columns `shift` further to the right."""
        here, rows = self._seats, len(self._seats.starts)
        if not self.is_initialized:
            return
        first, stop = here.first, here.stop
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_zeros(here.seats, old.shape[1], here.columns, old.shape[3])
            new[:rows, :, first + shift : stop + shift] = old[:rows, :, first:stop]
            setattr(self, name, new)


class SeatCache(Cache):
    """The cache of some rows, for one model. Mutable. `starts` of its rows count in columns of the buffers."""

    def __init__(self, model: LanguageModel) -> None:
        self._seats = _Seats()
        super().__init__(layers=[_Layer(self._seats) for _ in range(_layers_of(model))])

    @property
    def rows(self) -> int:
        """Rows that are seated."""
        return len(self._seats.starts)

    def open(self, lengths: Sequence[int]) -> None:
        """Seat rows in an empty cache. The longest begins at once, the others so that all end together."""
        longest = max(lengths)
        self._seats.starts = [longest - length for length in lengths]

    def reserve(self, columns: int) -> None:
        """Make room for the next columns of all rows."""
        here = self._seats
        if here.stop + columns <= here.columns and self.rows <= here.seats:
            return
        used = here.stop - here.first
        wanted = max(_FEWEST_COLUMNS, 2 * (used + columns))
        self._move(here.first and -here.first, max(here.seats, self.rows), max(here.columns, wanted))

    def seen(self, columns: int) -> Int[Tensor, "rows columns_in_use"]:
        """What each row may look at, once the next columns are written; 1 is its own."""
        here = self._seats
        starts = torch.tensor(here.starts)
        return (torch.arange(here.first, here.stop + columns)[None] >= starts[:, None]).long()

    def advance(self, columns: int) -> None:
        """The next columns have been written."""
        self._seats.stop += columns

    def take_in(self, other: "SeatCache") -> None:
        """Seat the rows of another cache behind one's own; the other is not to be used afterwards."""
        if not self.rows:
            self._seats, self.layers = other._seats, other.layers
            return
        here, there = self._seats, other._seats
        width, rows = there.stop - there.first, self.rows
        missing = max(0, width - here.stop)
        seats = here.seats if rows + other.rows <= here.seats else max(2 * here.seats, rows + other.rows)
        if missing or seats > here.seats:
            shift = missing + _LEFT_ROOM if missing else 0
            self._move(shift, seats, here.columns + shift)
        here.starts += [here.stop - there.stop + start for start in there.starts]
        for mine, its in zip(self.layers, other.layers, strict=True):
            if its.is_initialized:
                place = (slice(rows, self.rows), slice(None), slice(here.stop - width, here.stop))
                mine.keys[place] = its.keys[: other.rows, :, there.first : there.stop]
                mine.values[place] = its.values[: other.rows, :, there.first : there.stop]

    def arrange(self, order: Sequence[int], *, wipe: bool = False) -> None:
        """Seat row `order[i]` on seat i; rows that are not named leave. Rows only move to the front.

        With `wipe` the seats that become free are zeroed: what is not a number there would be one for nobody after.
        """
        here, before = self._seats, self.rows
        used = slice(here.first, here.stop)
        here.starts = [here.starts[row] for row in order]
        moves = [(seat, row) for seat, row in enumerate(order) if seat != row]
        for layer in self.layers:
            if layer.is_initialized:
                for seat, row in moves:
                    layer.keys[seat, :, used] = layer.keys[row, :, used]
                    layer.values[seat, :, used] = layer.values[row, :, used]
                if wipe:
                    layer.keys[len(order) : before], layer.values[len(order) : before] = 0, 0
        if not order:
            here.stop = 0

    def _move(self, shift: int, seats: int, columns: int) -> None:
        here = self._seats
        here.seats, here.columns = seats, columns
        for layer in self.layers:
            layer.moved(shift)
        here.starts = [start + shift for start in here.starts]
        here.stop += shift


def _layers_of(model: LanguageModel) -> int:
    """How many layers of the model keep keys and values.

    Raises
        BadRequest  some keep another kind of state, which rows cannot take along.
    """
    layers = DynamicCache(config=model.module.config).layers
    if any(type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers):
        raise BadRequest(f"{model.source} has layers that keep no keys and values; such models cannot be steered here.")
    return max(len(layers), model.n_layers)
