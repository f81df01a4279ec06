"""The kernels with stock torch operators: always there, and the only path on an accelerator."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from monoscope.core.sparse import SparseCode, starts_from_counts


def above(pre: Float[Tensor, "rows n_latents"], threshold: Float[Tensor, "n_latents"]) -> SparseCode:
    """See reference.above."""
    rows, indices = torch.nonzero(pre > threshold.clamp(min=0), as_tuple=True)
    return _code(rows, indices, pre[rows, indices].float(), pre.shape)


def top_rows(pre: Float[Tensor, "rows n_latents"], k: int) -> SparseCode:
    """See reference.top_rows. Two stages: a true top-k element always lies in one of the top k groups."""
    indices = _top_indices(pre, k).sort(dim=1).values
    values = pre.gather(1, indices).float()
    keep = values > 0
    rows = torch.arange(len(pre), device=pre.device)[:, None].expand_as(indices)
    return _code(rows[keep], indices[keep], values[keep], pre.shape)


def _top_indices(pre: Float[Tensor, "rows n_latents"], k: int) -> Int[Tensor, "rows k"]:
    size = 16
    groups = pre.shape[1] // size
    if pre.shape[1] % size or groups <= k:
        return pre.topk(k, dim=1, sorted=False).indices
    chosen = pre.view(len(pre), size, groups).amax(1).topk(k, dim=1, sorted=False).indices
    candidates = (chosen[:, None, :] + groups * torch.arange(size, device=pre.device)[None, :, None]).flatten(1)
    best = pre.gather(1, candidates).topk(k, dim=1, sorted=False).indices
    return candidates.gather(1, best)


def top_batch(pre: Float[Tensor, "rows n_latents"], total: int, floor: float = 0.0) -> SparseCode:
    """See reference.top_batch. `floor` is a guess below the smallest kept value; a wrong guess costs only time."""
    while True:
        rows, indices = torch.nonzero(pre > floor, as_tuple=True)
        if len(rows) >= total or floor <= 0:
            break
        floor = floor * 0.8 if floor > 1e-6 else 0.0
    values = pre[rows, indices].float()
    keep = keep_largest(values, total)
    return _code(rows[keep], indices[keep], values[keep], pre.shape)


def keep_largest(values: Float[Tensor, "entries"], total: int) -> Tensor:
    """A mask of exactly the `total` largest values; of equals, the first ones."""
    surplus = len(values) - total
    if surplus <= 0:
        return torch.ones(len(values), dtype=torch.bool, device=values.device)
    least = torch.kthvalue(values, surplus + 1).values
    keep = values > least
    ties = torch.nonzero(values == least).flatten()
    keep[ties[: total - int(keep.sum())]] = True
    return keep


def keep_entries(code: SparseCode, keep: Bool[Tensor, "entries"]) -> SparseCode:
    """The entries that a mask picks, rows kept."""
    counts = torch.bincount(code.rows[keep], minlength=code.n_rows)
    return SparseCode(code.indices[keep], code.values[keep], starts_from_counts(counts), code.n_latents)


def products(
    code: SparseCode, x: Float[Tensor, "rows d_in"], weights: Float[Tensor, "n_latents d_in"]
) -> Float[Tensor, "entries"]:
    """The product of each entry's row of `x` with its latent's row of `weights`, in float32."""
    out, rows, piece = torch.empty_like(code.values), code.rows, 8192
    for start in range(0, len(out), piece):
        entries = slice(start, start + piece)
        out[entries] = (x[rows[entries]] * weights[code.indices[entries].long()]).sum(1)
    return out


def decode(
    code: SparseCode, W_dec: Float[Tensor, "n_latents d_out"], b_dec: Float[Tensor, "d_out"]
) -> Float[Tensor, "rows d_out"]:
    """See reference.decode."""
    if not len(code.indices):
        return b_dec.expand(code.n_rows, -1).clone()
    return _bags(W_dec, code.indices, code.starts[:-1], code.values) + b_dec


def residual_and_pull(
    code: SparseCode,
    W_dec: Float[Tensor, "n_latents d_out"],
    b_dec: Float[Tensor, "d_out"],
    target: Float[Tensor, "rows d_out"],
) -> tuple[Float[Tensor, "rows d_out"], Float[Tensor, "entries"]]:
    """See reference.residual_and_pull. Gathers decoder rows for a few thousand entries at a time."""
    residual = decode(code, W_dec, b_dec) - target
    return residual, products(code, residual, W_dec)


def weight_gradients(
    code: SparseCode,
    pull: Float[Tensor, "entries"],
    residual: Float[Tensor, "rows d_out"],
    x: Float[Tensor, "rows d_in"],
    out: tuple[Float[Tensor, "n_latents d_out"], Float[Tensor, "n_latents d_in"], Float[Tensor, "n_latents"]],
) -> None:
    """See reference.weight_gradients. Entries are sorted by latent once; each latent is then one bag."""
    indices = code.indices.long()
    order = torch.argsort(indices, stable=True)
    starts = starts_from_counts(torch.bincount(indices, minlength=code.n_latents))[:-1]
    rows = code.rows[order]
    out[0].copy_(_bags(residual, rows, starts, code.values[order]))
    out[1].copy_(_bags(x, rows, starts, pull[order]))
    out[2].zero_().index_add_(0, indices, pull)


def _bags(table: Tensor, indices: Tensor, starts: Tensor, weights: Tensor) -> Tensor:
    return embedding_bag(indices.long(), table, starts, per_sample_weights=weights.to(table.dtype), mode="sum")


def _code(rows: Tensor, indices: Tensor, values: Tensor, shape: torch.Size) -> SparseCode:
    starts = starts_from_counts(torch.bincount(rows, minlength=shape[0]))
    return SparseCode(indices.int(), values, starts, shape[1])
