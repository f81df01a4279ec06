"""Two sites of the same text side by side, for dictionaries that read one and tell the other."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import torch

from monoscope.core.artifact import digest_of
from monoscope.core.blocks import ActivationBlock
from monoscope.core.errors import BadRequest
from monoscope.harvest.feed import Rows


class PairedRows:
    """Rows that hold what stands at `site` and then what stands at `target`, of the tokens that both have.

    Shards of one text come in the same order with the same windows; which tokens are sinks differs from site to site.
    """

    def __init__(self, reads: Rows, tells: Rows) -> None:
        """Raises BadRequest when the two are not of one text and one seed."""
        if not _of_one_text(reads, tells):
            raise BadRequest(
                f"The activations at {reads.site} and at {tells.site} are not of the same model, text and seed; "
                "harvest both alike."
            )
        self._reads, self._tells = reads, tells
        self.site, self.target = reads.site, tells.site
        self.d_in, self.d_model = reads.d_model, reads.d_model + tells.d_model
        self.sink_limit = reads.sink_limit

    @cached_property
    def digest(self) -> str:
        """Depends on every byte of both."""
        return digest_of([self._reads.digest, self._tells.digest])

    @property
    def manifest(self) -> dict[str, Any]:
        """That of what is read."""
        return self._reads.manifest

    def shards(self, split: str) -> list[dict[str, Any]]:
        """Pairs of shards; `rows` is the smaller number of the two, an upper bound."""
        pairs = zip(self._reads.shards(split), self._tells.shards(split), strict=True)
        return [{"pair": (one, other), "rows": min(one["rows"], other["rows"])} for one, other in pairs]

    def rows(self, split: str) -> int:
        """An upper bound."""
        return sum(shard["rows"] for shard in self.shards(split))

    def read(self, shard: dict[str, Any]) -> ActivationBlock:
        """The tokens that both shards hold."""
        one, other = (rows.read(part) for rows, part in zip((self._reads, self._tells), shard["pair"], strict=True))
        mine, yours = torch.isin(one.token, other.token), torch.isin(other.token, one.token)
        return ActivationBlock(torch.cat([one.x[mine], other.x[yours]], dim=1), one.token[mine])

    def blocks(self, split: str) -> Iterator[ActivationBlock]:
        """The shards, one after another."""
        for shard in self.shards(split):
            yield self.read(shard)


def _of_one_text(reads: Rows, tells: Rows) -> bool:
    keys = ("model_digest", "text_digest", "seed")
    one, other = reads.manifest["request"], tells.manifest["request"]
    return all(one.get(key) == other.get(key) for key in keys)
