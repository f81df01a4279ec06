"""The kernels compiled for the processor with numba.

Three facts carry the speed. Positive floats order like the integers of their bits, so a threshold test over bfloat16
or float32 is one vector compare of int16 or int32. A decoder row that was just added to a reconstruction is still in
cache when its product with the residual is wanted. And with the entries sorted by latent, each weight row is written
by one thread, so that results are the same in every run.
"""

import numba
import numpy as np
import torch
from jaxtyping import Bool, Float
from numba import prange
from torch import Tensor

from monoscope.core.sparse import SparseCode
from monoscope.dictionary.kernels import portable

_BLOCK = 64
_BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32}


def above(pre: Float[Tensor, "rows n_latents"], threshold: Float[Tensor, "n_latents"]) -> SparseCode:
    """See reference.above."""
    pre = pre.contiguous()
    # Adding zero makes a negative zero positive: as an integer it is the least of all.
    keys = _rounded_down(threshold.clamp(min=0) + 0.0, pre.dtype).view(_BITS[pre.dtype])
    return _scan(pre, keys.numpy())


def above_any(pre: Float[Tensor, "rows n_latents"], level: Float[Tensor, "n_latents"]) -> SparseCode:
    """The entries above their latent's level. Where a level is below zero all entries are given: bits of negative
    floats do not order like integers, and few latents have one.
    """
    bits = _BITS[pre.dtype]
    lower = _rounded_down(level, pre.dtype)
    keys = torch.where(lower > 0, lower.view(bits), torch.iinfo(bits).min)
    return _scan(pre, keys.numpy())


def _rounded_down(level: Float[Tensor, "n_latents"], dtype: torch.dtype) -> Float[Tensor, "n_latents"]:
    rounded = level.to(dtype)
    down = torch.nextafter(rounded, torch.full_like(rounded, -torch.inf))
    return torch.where(rounded.float() > level, down, rounded)


def top_rows(pre: Float[Tensor, "rows n_latents"], k: int) -> SparseCode:
    """See reference.top_rows."""
    return portable.top_rows(pre, k)


def top_batch(pre: Float[Tensor, "rows n_latents"], total: int, floor: float = 0.0) -> SparseCode:
    """See portable.top_batch."""
    pre = pre.contiguous()
    while True:
        key = torch.tensor([floor], dtype=pre.dtype).view(_BITS[pre.dtype])
        code = _scan(pre, key.expand(pre.shape[1]).contiguous().numpy())
        if len(code.values) >= total or floor <= 0:
            break
        floor = floor * 0.8 if floor > 1e-6 else 0.0
    return keep_entries(code, portable.keep_largest(code.values, total))


keep_largest = portable.keep_largest


def keep_entries(code: SparseCode, keep: Bool[Tensor, "entries"]) -> SparseCode:
    """See portable.keep_entries."""
    starts = torch.empty_like(code.starts)
    _recount(keep.numpy(), code.starts.numpy(), starts.numpy())
    return SparseCode(code.indices[keep], code.values[keep], starts, code.n_latents)


def decode(
    code: SparseCode, W_dec: Float[Tensor, "n_latents d_out"], b_dec: Float[Tensor, "d_out"]
) -> Float[Tensor, "rows d_out"]:
    """See reference.decode."""
    out = torch.empty(code.n_rows, W_dec.shape[1])
    _decode(*_arrays(code), W_dec.detach().numpy(), b_dec.detach().numpy(), out.numpy())
    return out


def residual_and_pull(
    code: SparseCode,
    W_dec: Float[Tensor, "n_latents d_out"],
    b_dec: Float[Tensor, "d_out"],
    target: Float[Tensor, "rows d_out"],
) -> tuple[Float[Tensor, "rows d_out"], Float[Tensor, "entries"]]:
    """See reference.residual_and_pull."""
    residual, pull = torch.empty_like(target), torch.empty_like(code.values)
    weights = W_dec.detach().numpy(), b_dec.detach().numpy()
    _residual_and_pull(*_arrays(code), *weights, target.numpy(), residual.numpy(), pull.numpy())
    return residual, pull


def products(
    code: SparseCode, x: Float[Tensor, "rows d_in"], weights: Float[Tensor, "n_latents d_in"]
) -> Float[Tensor, "entries"]:
    """See portable.products."""
    out = torch.empty_like(code.values)
    starts, indices, _ = _arrays(code)
    _products(starts, indices, x.numpy(), weights.numpy(), out.numpy())
    return out


def weight_gradients(
    code: SparseCode,
    pull: Float[Tensor, "entries"],
    residual: Float[Tensor, "rows d_out"],
    x: Float[Tensor, "rows d_in"],
    out: tuple[Float[Tensor, "n_latents d_out"], Float[Tensor, "n_latents d_in"], Float[Tensor, "n_latents"]],
) -> None:
    """See reference.weight_gradients. A warm `out` is worth five times here: page faults cost more than the sums."""
    decoder, encoder, bias = (place.numpy() for place in out)
    starts, rows, order = _by_latent(code.starts.numpy(), code.indices.numpy(), code.n_latents)
    entries = (starts, rows, order, code.values.numpy(), pull.numpy())
    _weight_gradients(*entries, residual.numpy(), x.numpy(), decoder, encoder, bias)
    return decoder, encoder, bias


def _scan(pre: Tensor, keys: np.ndarray) -> SparseCode:
    bits = pre.detach().view(_BITS[pre.dtype]).numpy()
    starts = np.zeros(len(bits) + 1, np.int64)
    _count_above(bits, keys, starts)
    np.cumsum(starts, out=starts)
    indices, found = np.empty(starts[-1], np.int32), np.empty(starts[-1], bits.dtype)
    _fill_above(bits, keys, starts, indices, found)
    values = torch.from_numpy(found).view(pre.dtype).float()
    return SparseCode(torch.from_numpy(indices), values, torch.from_numpy(starts), bits.shape[1])


def _arrays(code: SparseCode) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return code.starts.numpy(), code.indices.int().numpy(), code.values.numpy()


@numba.njit(parallel=True, cache=True, nogil=True)
def _count_above(bits, keys, starts):
    for row in prange(bits.shape[0]):
        total = 0
        for j in range(bits.shape[1]):
            total += np.int32(bits[row, j] > keys[j])
        starts[row + 1] = total


@numba.njit(parallel=True, cache=True, nogil=True)
def _fill_above(bits, keys, starts, indices, found):
    n_latents = bits.shape[1]
    for row in prange(bits.shape[0]):
        at, end = starts[row], starts[row + 1]
        for first in range(0, n_latents, _BLOCK):
            if at == end:
                break
            last = min(first + _BLOCK, n_latents)
            hits = 0
            for j in range(first, last):
                hits += np.int32(bits[row, j] > keys[j])
            if hits == 0:
                continue
            for j in range(first, last):
                if bits[row, j] > keys[j]:
                    indices[at] = j
                    found[at] = bits[row, j]
                    at += 1


@numba.njit(cache=True, nogil=True)
def _recount(keep, starts, kept_starts):
    total = 0
    for row in range(len(starts) - 1):
        kept_starts[row] = total
        for entry in range(starts[row], starts[row + 1]):
            total += keep[entry]
    kept_starts[len(starts) - 1] = total


@numba.njit(parallel=True, cache=True, nogil=True, fastmath=True)
def _decode(starts, indices, values, weights, bias, out):
    width = weights.shape[1]
    for row in prange(len(starts) - 1):
        for j in range(width):
            out[row, j] = bias[j]
        for entry in range(starts[row], starts[row + 1]):
            latent, value = indices[entry], values[entry]
            for j in range(width):
                out[row, j] += value * weights[latent, j]


@numba.njit(parallel=True, cache=True, nogil=True, fastmath=True)
def _residual_and_pull(starts, indices, values, weights, bias, target, residual, pull):
    width = weights.shape[1]
    for row in prange(len(starts) - 1):
        for j in range(width):
            residual[row, j] = bias[j] - target[row, j]
        for entry in range(starts[row], starts[row + 1]):
            latent, value = indices[entry], values[entry]
            for j in range(width):
                residual[row, j] += value * weights[latent, j]
        for entry in range(starts[row], starts[row + 1]):
            latent = indices[entry]
            total = np.float32(0)
            for j in range(width):
                total += residual[row, j] * weights[latent, j]
            pull[entry] = total


@numba.njit(parallel=True, cache=True, nogil=True, fastmath=True)
def _products(starts, indices, x, weights, out):
    for row in prange(len(starts) - 1):
        for entry in range(starts[row], starts[row + 1]):
            latent = indices[entry]
            total = np.float32(0)
            for j in range(weights.shape[1]):
                total += x[row, j] * weights[latent, j]
            out[entry] = total


@numba.njit(cache=True, nogil=True)
def _by_latent(starts, indices, n_latents):
    ends = np.zeros(n_latents + 1, np.int64)
    for latent in indices:
        ends[latent + 1] += 1
    for latent in range(n_latents):
        ends[latent + 1] += ends[latent]
    place = ends[:-1].copy()
    rows, order = np.empty(len(indices), np.int32), np.empty(len(indices), np.int64)
    for row in range(len(starts) - 1):
        for entry in range(starts[row], starts[row + 1]):
            at = place[indices[entry]]
            place[indices[entry]] = at + 1
            rows[at] = row
            order[at] = entry
    return ends, rows, order


@numba.njit(parallel=True, cache=True, nogil=True, fastmath=True)
def _weight_gradients(starts, rows, order, values, pull, residual, x, decoder, encoder, bias):  # noqa: PLR0913  arrays
    for latent in prange(len(starts) - 1):
        total = np.float32(0)
        decoder[latent, :] = 0
        encoder[latent, :] = 0
        for at in range(starts[latent], starts[latent + 1]):
            row, value, force = rows[at], values[order[at]], pull[order[at]]
            total += force
            for j in range(residual.shape[1]):
                decoder[latent, j] += value * residual[row, j]
            for j in range(x.shape[1]):
                encoder[latent, j] += force * x[row, j]
        bias[latent] = total
