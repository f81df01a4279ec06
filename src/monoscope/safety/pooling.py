"""From tokens to texts: one number for each feature of each text."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from monoscope.core.errors import BadRequest
from monoscope.core.sparse import SparseCode, starts_from_counts
from monoscope.safety.reading import Reading

POOLS = ("max", "mean", "top")
TOP_TOKENS = 8


def check_pool(pool: str) -> None:
    """Agree that there is such a way to pool.

    Raises
        BadRequest  there is not.
    """
    if pool not in POOLS:
        raise BadRequest(f"--pool {pool!r} is not known; choose {', '.join(POOLS)}.")


def pool_features(reading: Reading, pool: str) -> SparseCode:
    """Each text's features, one row a text: the largest activation, the mean over all its tokens, or the mean of its
    `TOP_TOKENS` largest (over as many tokens as there are where these are fewer).

    Raises
        BadRequest  the pool is unknown.
    """
    check_pool(pool)
    code, width = reading.code, reading.code.n_latents
    texts = torch.repeat_interleave(reading.text_of_token, code.counts)
    keys, place = torch.unique(texts * width + code.indices.long(), return_inverse=True)
    values = code.values.float()
    tokens = reading.counts[keys // width].float()
    if pool == "max":
        pooled = torch.zeros(len(keys)).scatter_reduce_(0, place, values, "amax")
    elif pool == "mean":
        pooled = torch.zeros(len(keys)).index_add_(0, place, values) / tokens
    else:
        kept = _rank_within(place, values) < TOP_TOKENS
        pooled = torch.zeros(len(keys)).index_add_(0, place[kept], values[kept]) / tokens.clamp(max=TOP_TOKENS)
    counts = torch.bincount(keys // width, minlength=len(reading))
    return SparseCode(keys % width, pooled, starts_from_counts(counts), width)


def pool_residual(reading: Reading) -> Float[Tensor, "texts d_model"]:
    """The mean residual of each text: what a linear probe of a mean reads."""
    total = torch.zeros(len(reading), reading.x.shape[1]).index_add_(0, reading.text_of_token, reading.x.float())
    return total / reading.counts[:, None]


def columns_of(code: SparseCode, features: Int[Tensor, "wanted"]) -> Float[Tensor, "rows wanted"]:
    """Some features of each row, dense."""
    column = torch.full((code.n_latents,), -1, dtype=torch.long)
    column[features] = torch.arange(len(features))
    place = column[code.indices.long()]
    dense = torch.zeros(code.n_rows, len(features))
    dense[code.rows[place >= 0], place[place >= 0]] = code.values[place >= 0].float()
    return dense


def firing_texts(code: SparseCode) -> Int[Tensor, "n_latents"]:
    """In how many rows each feature fires."""
    return torch.bincount(code.indices.long(), minlength=code.n_latents)


def _rank_within(place: Int[Tensor, "entries"], values: Float[Tensor, "entries"]) -> Int[Tensor, "entries"]:
    """The rank of each value among those of its place, the largest first."""
    by_value = torch.argsort(values, descending=True, stable=True)
    order = by_value[torch.argsort(place[by_value], stable=True)]
    counts = torch.bincount(place)
    first = torch.repeat_interleave(starts_from_counts(counts)[:-1], counts)
    rank = torch.empty_like(place)
    rank[order] = torch.arange(len(place)) - first
    return rank
