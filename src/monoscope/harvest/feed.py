"""Shards mixed into training batches, every row once an epoch.

Shards are taken in a shuffled order, as many at a time as fit the buffer; the rows in the buffer are shuffled and dealt
out in batches whose sizes differ by at most one. All of it follows from the seed and the shards, so a position is two
numbers and going on from there costs one buffer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.core.runtime import random_stream
from monoscope.harvest.shards import ShardStore

BUFFER_ROWS = 2_000_000


@dataclass(frozen=True)
class Cursor:
    """The next batch: its epoch, the buffer within the epoch, the batch within the buffer."""

    epoch: int = 0
    buffer: int = 0
    batch: int = 0


class Feed:
    """Training batches without end."""

    def __init__(self, store: ShardStore, *, batch_rows: int, seed: int, buffer_rows: int = BUFFER_ROWS) -> None:
        self._store, self._batch_rows, self._seed, self._buffer_rows = store, batch_rows, seed, buffer_rows
        self._shards = store.shards("train")
        self._loaded: tuple[tuple[int, int], Tensor] | None = None

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
                rows[at : at + shard["rows"]] = self._store.read(shard).x
                at += shard["rows"]
            self._loaded = (key, rows)
        return self._loaded[1]

    def _stream(self, *names: str | int) -> torch.Generator:
        return random_stream(self._seed, "feed", *names)
