"""Activations straight from the model, for texts whose activations would not fit on a disk.

The rows are those that a harvest would have stored, in the same shards and with the same held-out split; each shard is
computed when it is read. An epoch costs one pass of the model.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch

from monoscope.core.artifact import digest_of
from monoscope.core.blocks import ActivationBlock
from monoscope.core.site import Site
from monoscope.harvest.read import Gate, Reader, groups_of_windows, read_windows
from monoscope.harvest.token_store import TokenStore


class LiveRows:
    """Reads like a finished harvest; `request` is what a harvest of the same would have."""

    def __init__(self, model: Reader, store: TokenStore, site: Site, gate: Gate, *, request: dict[str, Any]) -> None:
        self._model, self._store, self.gate = model, store, gate
        self.site = self.target = site
        self.sink_limit = gate.sink_limit
        self.manifest = {"request": request}
        self._groups = {
            split: groups_of_windows(store, held=split == "held", seed=gate.seed) for split in ("train", "held")
        }
        self.digest = digest_of(request)

    @cached_property
    def d_model(self) -> int:
        """Width of a row, seen on one window."""
        block = self._store.block(self._groups["train"][0][:1])
        return int(self._model.residual(block.ids, self.site).shape[-1])

    @property
    def d_in(self) -> int:
        """The same."""
        return self.d_model

    @property
    def model_bytes(self) -> int:
        """What the model's weights take in memory."""
        return int(self._model.weight_bytes)

    def shards(self, split: str) -> list[dict[str, Any]]:
        """Groups of windows; `rows` is the number of their tokens, an upper bound."""
        found = []
        groups = self._groups["train"] + self._groups["held"] if split == "all" else self._groups[split]
        for windows in groups:
            tokens = self._store.windows.length[windows].long() + self._store.windows.prefixed[windows].long()
            found.append({"windows": windows, "rows": int(tokens.sum())})
        return found

    def rows(self, split: str) -> int:
        """An upper bound."""
        return sum(shard["rows"] for shard in self.shards(split))

    def read(self, shard: dict[str, Any]) -> ActivationBlock:
        """Run the model over a group of windows."""
        blocks = [block for block, _ in read_windows(self._model, self._store, self.site, self.gate, shard["windows"])]
        x = torch.cat([block.x.bfloat16() for block in blocks])
        return ActivationBlock(x, torch.cat([block.token for block in blocks]).int())

    def blocks(self, split: str) -> Iterator[ActivationBlock]:
        """The groups, one after another."""
        for shard in self.shards(split):
            yield self.read(shard)
