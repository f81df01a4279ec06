"""The codes of some tokens of a text, and quick questions to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from monoscope.core.progress import SILENT, Progress
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary
from monoscope.harvest.shards import ShardStore

_PIECE = 8192


@dataclass(frozen=True)
class Codes:
    """The code of each row, with the index of the row's token in the text store."""

    code: SparseCode
    token: Int[Tensor, "rows"]

    @cached_property
    def fires(self) -> Int[Tensor, "n_latents"]:
        """On how many rows each latent fires."""
        return torch.bincount(self.code.indices.long(), minlength=self.code.n_latents)

    @cached_property
    def columns(self) -> "Columns":
        """The same entries, latent after latent."""
        return Columns.of(self.code)

    @cached_property
    def _keys(self) -> Int[Tensor, "entries"]:
        return self.code.rows * self.code.n_latents + self.code.indices.long()

    def values_at(self, rows: Int[Tensor, "wanted"], latents: Int[Tensor, "wanted"]) -> Float[Tensor, "wanted"]:
        """The activation of a latent on a row, for many pairs of them; 0 where it is silent.

        Cost  one binary search a pair.
        """
        if not len(self._keys):
            return torch.zeros(len(rows))
        wanted = rows.long() * self.code.n_latents + latents.long()
        place = torch.searchsorted(self._keys, wanted).clamp(max=len(self._keys) - 1)
        return torch.where(self._keys[place] == wanted, self.code.values[place], 0.0)


@dataclass(frozen=True)
class Columns:
    """A code by latents: latent `i` fires on `rows[starts[i]:starts[i + 1]]`, in rising order, with `values[...]`."""

    rows: Int[Tensor, "entries"]
    values: Float[Tensor, "entries"]
    starts: Int[Tensor, "n_latents_plus_1"]

    @classmethod
    def of(cls, code: SparseCode) -> "Columns":
        """Turn a code by rows around."""
        latents = code.indices.long()
        order = torch.argsort(latents, stable=True)
        counts = torch.bincount(latents, minlength=code.n_latents)
        starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return cls(code.rows[order], code.values[order], starts)

    def of_latent(self, latent: int) -> tuple[Int[Tensor, "firings"], Float[Tensor, "firings"]]:
        """Where one latent fires, and how much."""
        here = slice(int(self.starts[latent]), int(self.starts[latent + 1]))
        return self.rows[here], self.values[here]


def read_codes(
    dictionary: Dictionary,
    shards: ShardStore,
    split: str = "held",
    *,
    most: int | None = None,
    wanted: Bool[Tensor, "n_tokens"] | None = None,
    only: Sequence[int] | None = None,
    progress: Progress = SILENT,
) -> Codes:
    """Encode the rows of a split, or only those whose token is `wanted`, up to `most` of them.

    With `only`, all other latents stay silent, and where latents can be read alone the cost is that of these few.
    Memory is that of the codes (some 300 bytes a row at 32 latents a token) and one shard.
    """
    codes, tokens, rows = [SparseCode.from_dense(torch.zeros(0, dictionary.n_latents))], [], 0
    progress.start(f"encode {dictionary.name}", shards.rows(split), "tokens")
    for block in shards.blocks(split):
        keep = torch.ones(len(block.token), dtype=torch.bool) if wanted is None else wanted[block.token.long()]
        chosen = torch.nonzero(keep).flatten()
        chosen = chosen if most is None else chosen[: most - rows]
        rows += len(chosen)
        tokens.append(block.token[chosen].long())
        codes += [_encode(dictionary, block.x[piece].float(), only) for piece in chosen.split(_PIECE) if len(piece)]
        progress.advance(len(block.token))
        if most is not None and rows >= most:
            break
    progress.finish()
    return Codes(SparseCode.concatenate(codes), torch.cat(tokens) if tokens else torch.zeros(0, dtype=torch.long))


def _encode(dictionary: Dictionary, x: Float[Tensor, "rows d"], only: Sequence[int] | None) -> SparseCode:
    if only is None:
        return dictionary.encode(x)
    latents = torch.tensor(sorted(only), dtype=torch.long)
    found = SparseCode.from_dense(dictionary.activations_of(x, latents))
    return SparseCode(latents[found.indices.long()], found.values, found.starts, dictionary.n_latents)
