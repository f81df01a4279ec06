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
    table = unit[candidates].T.contiguous()
    progress.start("neighbours", len(rows), "features")
    for numbers in torch.arange(len(rows)).split(max(1, _PIECE_FLOATS // max(1, len(candidates)))):
        cosine = unit[numbers] @ table
        own = mine[numbers] >= 0
        cosine[torch.nonzero(own).flatten(), mine[numbers][own]] = -2.0
        best, places = largest(cosine, count)
        indices[numbers], cosines[numbers] = candidates[places], best
        progress.advance(len(numbers))
    progress.finish()
    return indices, cosines


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
