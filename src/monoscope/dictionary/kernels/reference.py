"""The slow, obvious twin of every kernel: dense matrices, no tricks. Tests hold the fast paths to it."""

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.core.sparse import SparseCode


def above(pre: Float[Tensor, "rows n_latents"], threshold: Float[Tensor, "n_latents"]) -> SparseCode:
    """The entries strictly above their latent's threshold and above zero."""
    return SparseCode.from_dense(torch.where((pre > threshold) & (pre > 0), pre.float(), 0.0))


def top_rows(pre: Float[Tensor, "rows n_latents"], k: int) -> SparseCode:
    """The k largest of each row, those above zero."""
    values, indices = pre.float().topk(k, dim=1)
    return SparseCode.from_dense(torch.zeros(pre.shape).scatter_(1, indices, values.clamp(min=0)))


def top_batch(pre: Float[Tensor, "rows n_latents"], total: int) -> SparseCode:
    """The `total` largest of the whole batch, those above zero; of equals, the first in reading order."""
    flat = pre.float().flatten()
    order = torch.sort(flat, descending=True, stable=True).indices[:total]
    dense = torch.zeros_like(flat)
    dense[order] = flat[order].clamp(min=0)
    return SparseCode.from_dense(dense.view(pre.shape))


def decode(
    code: SparseCode, W_dec: Float[Tensor, "n_latents d_out"], b_dec: Float[Tensor, "d_out"]
) -> Float[Tensor, "rows d_out"]:
    """The sum of the active decoder rows, weighted, plus the bias."""
    return code.to_dense() @ W_dec + b_dec


def residual_and_pull(
    code: SparseCode,
    W_dec: Float[Tensor, "n_latents d_out"],
    b_dec: Float[Tensor, "d_out"],
    target: Float[Tensor, "rows d_out"],
) -> tuple[Float[Tensor, "rows d_out"], Float[Tensor, "entries"]]:
    """What is missing, `reconstruction - target`, and its product with each active decoder row."""
    residual = decode(code, W_dec, b_dec) - target
    return residual, (residual @ W_dec.T)[code.rows, code.indices.long()]


def weight_gradients(
    code: SparseCode,
    pull: Float[Tensor, "entries"],
    residual: Float[Tensor, "rows d_out"],
    x: Float[Tensor, "rows d_in"],
    out: tuple[Float[Tensor, "n_latents d_out"], Float[Tensor, "n_latents d_in"], Float[Tensor, "n_latents"]],
) -> None:
    """Gradients of the decoder, of the encoder (as rows) and of the encoder bias, written over `out`.

    decoder[i] = sum over tokens of value * residual, encoder[i] = sum of pull * x, bias[i] = sum of pull.
    """
    pulls = torch.zeros(code.n_rows, code.n_latents)
    pulls[code.rows, code.indices.long()] = pull
    for place, gradient in zip(out, (code.to_dense().T @ residual, pulls.T @ x, pulls.sum(0)), strict=True):
        place.copy_(gradient)
