"""Features whose decoder rows point alike, and tokens that a decoder row points to."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from monoscope.atlas.near_index import approximate_nearest
from monoscope.core.progress import SILENT, Progress

# Up to this many living features the product of all pairs is taken.
EXACT = 1_000_000
_PIECE_FLOATS = 1 << 24
_GROUP = 32
# A tile of products is 2 MB; rows are multiplied again some at a time, as each gathers a few hundred columns.
_TILE_ROWS, _TILE_COLUMNS, _AGAIN_ROWS = 256, 2048, 32


def nearest(
    rows: Float[Tensor, "n_latents d"],
    count: int = 10,
    among: Bool[Tensor, "n_latents"] | None = None,
    progress: Progress = SILENT,
) -> tuple[Int[Tensor, "n_latents count"], Float[Tensor, "n_latents count"]]:
    """The rows with the largest cosine to each row, itself left out, and the cosines, largest first.

    Edges  only rows marked in `among` are candidates; with fewer than `count` of them the lists are shorter.
           A zero row has cosine 0 with all.
    Cost   n_latents² × d multiply-adds; memory is bounded by blocks.
    """
    unit = torch.nn.functional.normalize(rows.float(), dim=1)
    candidates = torch.arange(len(rows)) if among is None else torch.nonzero(among).flatten()
    mine = torch.full((len(rows),), -1).scatter(0, candidates, torch.arange(len(candidates)))
    count = max(0, min(count, len(candidates) - 1))
    indices = torch.zeros(len(rows), count, dtype=torch.long)
    cosines = torch.zeros(len(rows), count)
    if not count:
        return indices, cosines
    table = _Tiles(unit[candidates])
    progress.start("neighbours", len(rows), "features")
    for numbers in torch.arange(len(rows)).split(_TILE_ROWS):
        best, places = table.largest(unit[numbers], count, mine[numbers])
        indices[numbers], cosines[numbers] = candidates[places], best
        progress.advance(len(numbers))
    progress.finish()
    return indices, cosines


class _Tiles:
    """The products of some rows with a long table, of which only the largest of each row are wanted.

    A tile of products fits in the processor's cache, where it is reduced to the maxima of groups of columns; only the
    columns of the groups with the largest maxima are multiplied again.
    """

    def __init__(self, table: Float[Tensor, "columns d"]) -> None:
        self._table, self._columns = table, len(table)
        missing = -len(table) % _TILE_COLUMNS
        padded = torch.nn.functional.pad(table, (0, 0, 0, missing))
        self._tiles = padded.unflatten(0, (-1, _TILE_COLUMNS)).transpose(1, 2).contiguous()
        self._in_last = _TILE_COLUMNS - missing

    def largest(
        self, rows: Float[Tensor, "rows d"], count: int, own: Int[Tensor, "rows"]
    ) -> tuple[Float[Tensor, "rows count"], Int[Tensor, "rows count"]]:
        """The largest products of each row but with its `own` column (-1 for none), in falling order, and where."""
        maxima = self._maxima(rows)
        # The own column may be the largest of a group that has none of the others that are wanted.
        groups = maxima.topk(min(count + 1, maxima.shape[1]), dim=1).indices
        per_tile = _TILE_COLUMNS // _GROUP
        first = groups // per_tile * _TILE_COLUMNS + groups % per_tile
        columns = (first[:, :, None] + per_tile * torch.arange(_GROUP)).flatten(1)
        found = [
            torch.bmm(self._table[some.clamp(max=self._columns - 1)], row[:, :, None]).squeeze(2)
            for some, row in zip(columns.split(_AGAIN_ROWS), rows.split(_AGAIN_ROWS), strict=True)
        ]
        products = torch.cat(found).masked_fill_((columns >= self._columns) | (columns == own[:, None]), -2.0)
        best, places = products.topk(count, dim=1)
        return best, columns.gather(1, places)

    def _maxima(self, rows: Float[Tensor, "rows d"]) -> Float[Tensor, "rows groups"]:
        """The largest product of each group; in a tile of n groups, column i belongs to group i % n."""
        product = torch.empty(len(rows), _TILE_COLUMNS)
        maxima = torch.empty(len(rows), len(self._tiles), _TILE_COLUMNS // _GROUP)
        for number, tile in enumerate(self._tiles):
            torch.mm(rows, tile, out=product)
            if number == len(self._tiles) - 1:
                product[:, self._in_last :] = -2.0
            torch.amax(product.unflatten(1, (_GROUP, -1)), 1, out=maxima[:, number])
        return maxima.flatten(1)


def find_nearest(
    rows: Float[Tensor, "n_latents d"],
    count: int,
    among: Bool[Tensor, "n_latents"],
    *,
    exact: int = EXACT,
    progress: Progress = SILENT,
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest living rows of each row, int32, and their cosines: exact up to `exact` candidates, beyond by an
    index.

    Raises
        Unavailable  the index is needed and its library is missing.
    """
    if int(among.sum()) > exact:
        return approximate_nearest(rows, count, among, progress)
    indices, cosines = nearest(rows, count, among, progress)
    return indices.int().numpy(), cosines.numpy()


def pointed_tokens(
    rows: Float[Tensor, "n_latents d"],
    unembedding: Float[Tensor, "vocab d"],
    allowed: Int[Tensor, "allowed"],
    count: int,
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The tokens that each row raises most and lowers most: (ids, values) twice, the strongest first.

    The unembedding is centred over the allowed tokens, so that a value says how much more a token gains than the
    average one, in logits for an activation of 1.
    """
    table = unembedding[allowed].float()
    table = (table - table.mean(0)).T.contiguous()
    count = min(count, len(allowed))
    raised, lowered = [], []
    for piece in rows.float().split(max(1, _PIECE_FLOATS // max(1, len(allowed)))):
        logits = piece @ table
        raised.append(largest(logits, count))
        lowered.append(largest(logits.neg_(), count))
    up, down = (
        [torch.cat(parts) for parts in zip(*raised, strict=True)],
        [torch.cat(parts) for parts in zip(*lowered, strict=True)],
    )
    return (allowed[up[1]], up[0]), (allowed[down[1]], -down[0])


def largest(
    values: Float[Tensor, "rows columns"], count: int
) -> tuple[Float[Tensor, "rows count"], Int[Tensor, "rows count"]]:
    """The largest values of each row, in falling order, and where they stand; of equals, any.

    Two stages, because a plain top-k over a long row is slow: each of the largest lies in one of the groups with the
    largest maxima.
    """
    groups = values.shape[1] // _GROUP
    if groups <= 2 * count:
        best, places = values.topk(count, dim=1)
        return best, places
    body = values[:, : groups * _GROUP].unflatten(1, (_GROUP, groups))
    chosen = body.amax(1).topk(count, dim=1).indices
    columns = (chosen[:, :, None] + groups * torch.arange(_GROUP)).flatten(1)
    rest = torch.arange(groups * _GROUP, values.shape[1]).expand(len(values), -1)
    columns = torch.cat([columns, rest], dim=1)
    best, places = values.gather(1, columns).topk(count, dim=1)
    return best, columns.gather(1, places)
