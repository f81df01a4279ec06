"""A part of a harvest, for trainings that are to see few rows."""

import math
from typing import Any

from monoscope.core.blocks import ActivationBlock
from monoscope.harvest.shards import ShardStore


class Excerpt(ShardStore):
    """A shard store of which only the first rows of some shards are seen."""

    @classmethod
    def take(cls, store: ShardStore, *, train: int | None = None, held: int | None = None) -> "Excerpt":
        """The first `train` and `held` rows; None is all of them."""
        left = {"train": math.inf if train is None else train, "held": math.inf if held is None else held}
        shards = []
        for shard in store.manifest["shards"]:
            rows = int(min(shard["rows"], left[shard["split"]]))
            left[shard["split"]] -= rows
            if rows:
                shards.append({**shard, "rows": rows})
        return cls(store.folder, {**store.manifest, "shards": shards})

    def read(self, shard: dict[str, Any]) -> ActivationBlock:
        """The rows of one shard that are seen."""
        block = super().read(shard)
        return ActivationBlock(block.x[: shard["rows"]], block.token[: shard["rows"]])
