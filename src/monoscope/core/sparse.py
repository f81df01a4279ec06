"""Codes as values and indices, never as a dense matrix of tokens by latents."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class SparseCode:
    """The active latents of some tokens, row after row (compressed sparse rows).

    The entries of row `r` are `indices[starts[r]:starts[r + 1]]` and `values[...]`; inside a row they come in rising
    order of index. Every value is above zero, in units of the residual stream.
    """

    indices: Int[Tensor, "entries"]
    values: Float[Tensor, "entries"]
    starts: Int[Tensor, "rows_plus_1"]
    n_latents: int

    @property
    def n_rows(self) -> int:
        """How many tokens the code is for."""
        return len(self.starts) - 1

    @property
    def counts(self) -> Int[Tensor, "rows"]:
        """Active latents of each token."""
        return self.starts[1:] - self.starts[:-1]

    @property
    def rows(self) -> Int[Tensor, "entries"]:
        """The row of each entry."""
        return torch.repeat_interleave(torch.arange(self.n_rows, device=self.starts.device), self.counts)

    @property
    def l0(self) -> float:
        """Mean number of active latents a token; 0 for no tokens."""
        return len(self.values) / max(1, self.n_rows)

    def to_dense(self) -> Float[Tensor, "rows n_latents"]:
        """The dense matrix. Cost: rows × n_latents floats; meant for small pieces."""
        dense = self.values.new_zeros(self.n_rows, self.n_latents)
        dense[self.rows, self.indices.long()] = self.values
        return dense

    @classmethod
    def from_dense(cls, dense: Float[Tensor, "rows n_latents"]) -> "SparseCode":
        """Keep the entries above zero."""
        rows, indices = torch.nonzero(dense > 0, as_tuple=True)
        counts = torch.bincount(rows, minlength=len(dense))
        return cls(indices, dense[rows, indices], starts_from_counts(counts), dense.shape[1])

    def select(self, wanted: Bool[Tensor, "n_latents"]) -> "SparseCode":
        """The same rows with only the wanted latents; numbering is kept."""
        keep = wanted[self.indices.long()]
        counts = torch.bincount(self.rows[keep], minlength=self.n_rows)
        return SparseCode(self.indices[keep], self.values[keep], starts_from_counts(counts), self.n_latents)

    def row_slice(self, start: int, stop: int) -> "SparseCode":
        """Rows `start` to `stop`, half-open."""
        first, last = int(self.starts[start]), int(self.starts[stop])
        starts = self.starts[start : stop + 1] - first
        return SparseCode(self.indices[first:last], self.values[first:last], starts, self.n_latents)

    def take(self, rows: Int[Tensor, "wanted"]) -> "SparseCode":
        """Some rows, in the order given."""
        counts = self.counts[rows]
        starts = starts_from_counts(counts)
        places = torch.arange(int(starts[-1])) + torch.repeat_interleave(self.starts[rows] - starts[:-1], counts)
        return SparseCode(self.indices[places], self.values[places], starts, self.n_latents)

    @classmethod
    def concatenate(cls, codes: list["SparseCode"]) -> "SparseCode":
        """Codes of one dictionary, one after another."""
        counts = torch.cat([code.counts for code in codes])
        return cls(
            torch.cat([code.indices for code in codes]),
            torch.cat([code.values for code in codes]),
            starts_from_counts(counts),
            codes[0].n_latents,
        )


def starts_from_counts(counts: Int[Tensor, "rows"]) -> Int[Tensor, "rows_plus_1"]:
    """Where each row begins, given how many entries each has."""
    starts = torch.zeros(len(counts) + 1, dtype=torch.long, device=counts.device)
    torch.cumsum(counts, 0, out=starts[1:])
    return starts
