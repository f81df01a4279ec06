"""Shards mixed into training batches, every row once an epoch.

Shards are taken in a shuffled order, as many at a time as fit the buffer; the rows in the buffer are shuffled and dealt
out in batches whose sizes differ by at most one. All of it follows from the seed and the shards, so a position is two
numbers and going on from there costs one buffer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.core.blocks import ActivationBlock
from monoscope.core.runtime import random_stream
from monoscope.core.site import Site

BUFFER_ROWS = 2_000_000
RESERVED_ROWS, _RESERVED_SHARE = 16_384, 20


class Rows(Protocol):
    """Where rows come from, a shard at a time: shards on disk, pairs of them, or a model that runs as it is read.

    A shard's `rows` may be an upper bound where only reading tells. `d_model` is the width of a row; the first `d_in`
    columns are what a dictionary reads, and where `target` differs from `site` the others are what it is to tell.
    """

    @property
    def site(self) -> Site:
        """What is read."""
        ...

    @property
    def target(self) -> Site:
        """What is told."""
        ...

    @property
    def d_in(self) -> int:
        """Width of what is read."""
        ...

    @property
    def d_model(self) -> int:
        """Width of a row."""
        ...

    @property
    def sink_limit(self) -> float:
        """The norm above which a token is a sink."""
        ...

    @property
    def digest(self) -> str:
        """Differs whenever the rows do."""
        ...

    @property
    def manifest(self) -> dict[str, Any]:
        """Holds the `request` of the harvest, made or not."""
        ...

    def shards(self, split: str) -> list[dict[str, Any]]:
        """The shards of `train` or `held`."""
        ...

    def rows(self, split: str) -> int:
        """How many rows a side of the split has, at most."""
        ...

    def read(self, shard: dict[str, Any]) -> ActivationBlock:
        """One shard."""
        ...

    def blocks(self, split: str) -> Iterator[ActivationBlock]:
        """The shards of a side, one after another."""
        ...


class Batches(Protocol):
    """Training batches without end, from one source of rows or several."""

    d_in: int
    rows: int
    beginning: Any

    def batches(self, cursor: Any) -> Iterator[tuple[Float[Tensor, "rows d_model"], Any]]:
        """Batches from a place on, each with the place after it."""
        ...

    def sample(self, rows: int) -> Float[Tensor, "rows d_model"]:
        """Some rows, the same ones every time."""
        ...

    def cursor(self, note: dict[str, Any]) -> Any:
        """A place as a checkpoint keeps it."""
        ...


@dataclass(frozen=True)
class Cursor:
    """The next batch: its epoch, the buffer within the epoch, the batch within the buffer."""

    epoch: int = 0
    buffer: int = 0
    batch: int = 0


class Feed:
    """Training batches without end."""

    beginning: Any = Cursor()

    def __init__(self, store: Rows, *, batch_rows: int, seed: int, buffer_rows: int = BUFFER_ROWS) -> None:
        self._store, self._batch_rows, self._seed, self._buffer_rows = store, batch_rows, seed, buffer_rows
        self._shards = store.shards("train")
        self._loaded: tuple[tuple[int, int], Tensor] | None = None
        self.d_in, self.rows = store.d_in, store.rows("train")

    @staticmethod
    def cursor(note: dict[str, int]) -> Cursor:
        """A place as a checkpoint keeps it."""
        return Cursor(**note)

    def batches(self, cursor: Cursor) -> Iterator[tuple[Float[Tensor, "rows d_model"], Cursor]]:
        """Batches from `cursor` on, each with the cursor of the batch after it."""
        while True:
            plan = self._plan(cursor.epoch)
            rows = self._buffer(cursor, plan)
            order = torch.randperm(len(rows), generator=self._stream("rows", cursor.epoch, cursor.buffer))
            pieces = order.tensor_split(max(1, -(-len(rows) // self._batch_rows)))
            for number in range(cursor.batch, len(pieces)):
                last = number + 1 == len(pieces)
                following = self._after(cursor, plan) if last else Cursor(cursor.epoch, cursor.buffer, number + 1)
                yield rows[pieces[number]], following
            cursor = self._after(cursor, plan)

    def sample(self, rows: int) -> Float[Tensor, "rows d_model"]:
        """The first rows of the training shards: shards are shuffled windows, so they are a fair sample."""
        pieces, found = [], 0
        for shard in self._shards:
            pieces.append(self._store.read(shard).x)
            found += len(pieces[-1])
            if found >= rows:
                break
        return torch.cat(pieces)[:rows]

    def _after(self, cursor: Cursor, plan: list[list[int]]) -> Cursor:
        if cursor.buffer + 1 < len(plan):
            return Cursor(cursor.epoch, cursor.buffer + 1)
        return Cursor(cursor.epoch + 1)

    def _plan(self, epoch: int) -> list[list[int]]:
        if self._store.rows("train") <= self._buffer_rows:
            return [list(range(len(self._shards)))]
        plan, held = [[]], 0
        for number in torch.randperm(len(self._shards), generator=self._stream("shards", epoch)).tolist():
            if plan[-1] and held + self._shards[number]["rows"] > self._buffer_rows:
                plan.append([])
                held = 0
            plan[-1].append(number)
            held += self._shards[number]["rows"]
        return plan

    def _buffer(self, cursor: Cursor, plan: list[list[int]]) -> Tensor:
        whole = len(plan) == 1
        key = (0, 0) if whole else (cursor.epoch, cursor.buffer)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None
            chosen = [self._shards[number] for number in plan[cursor.buffer]]
            rows = torch.empty(sum(shard["rows"] for shard in chosen), self._store.d_model, dtype=torch.bfloat16)
            at = 0
            for shard in chosen:
                x = self._store.read(shard).x
                if shard is self._shards[-1]:
                    x = x[: len(x) - reserved(self._store, len(x))]
                rows[at : at + len(x)] = x
                at += len(x)
            self._loaded = (key, rows[:at])
        return self._loaded[1]

    def _stream(self, *names: str | int) -> torch.Generator:
        return random_stream(self._seed, "feed", *names)


def reserved(store: Rows, rows: int) -> int:
    """How many rows at the end of the last training shard, which has `rows`, are never dealt out: about 5 % of all.

    A threshold is set on them: on rows that were learnt fewer latents fire than on rows that were not.
    """
    return min(RESERVED_ROWS, len(store.shards("train")) * rows // _RESERVED_SHARE, rows // 2)


def reserved_rows(store: Rows) -> Float[Tensor, "rows d_model"]:
    """Those rows."""
    x = store.read(store.shards("train")[-1]).x
    return x[len(x) - reserved(store, len(x)) :]


@dataclass(frozen=True)
class MixedCursor:
    """The place in each of several feeds."""

    parts: tuple[Cursor, ...]


class MixedFeed:
    """Batches of which each feed gives a fixed number of rows, so that old text is not forgotten over new."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = feeds
        self.d_in, self.rows = feeds[0].d_in, sum(feed.rows for feed in feeds)
        self.beginning: Any = MixedCursor(tuple(feed.beginning for feed in feeds))

    @staticmethod
    def cursor(note: dict[str, Any]) -> MixedCursor:
        """A place as a checkpoint keeps it."""
        return MixedCursor(tuple(Cursor(**part) for part in note["parts"]))

    def batches(self, cursor: MixedCursor) -> Iterator[tuple[Float[Tensor, "rows d_model"], MixedCursor]]:
        """The feeds' batches, joined."""
        sources = [feed.batches(part) for feed, part in zip(self._feeds, cursor.parts, strict=True)]
        for found in zip(*sources, strict=True):
            yield torch.cat([rows for rows, _ in found]), MixedCursor(tuple(part for _, part in found))

    def sample(self, rows: int) -> Float[Tensor, "rows d_model"]:
        """As many of each as the batches have."""
        share = rows // len(self._feeds)
        return torch.cat([feed.sample(share) for feed in self._feeds])
