"""Small dictionaries and codes whose truth is known."""

import torch

from monoscope.core.site import Site
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary, Stats, Weights
from monoscope.dictionary.jumprelu import JumpReluDictionary
from monoscope.evaluate.codes import Codes


def codes_of(dense: torch.Tensor) -> Codes:
    return Codes(SparseCode.from_dense(dense), torch.arange(len(dense)))


def sparse_rows(rows: int, latents: int, share: float, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    values = torch.rand(rows, latents, generator=random) + 0.1
    return torch.where(torch.rand(rows, latents, generator=random) < share, values, 0.0)


def dictionary_of(rows: torch.Tensor, threshold: float = 0.5, name: str = "planted") -> Dictionary:
    """Reads along its own decoder rows."""
    unit = torch.nn.functional.normalize(rows, dim=1)
    n, d = unit.shape
    blank = torch.ones(n)
    stats = Stats(blank, blank, blank, torch.zeros(d), 1, 1.0, 1e9)
    weights = Weights(unit.T.contiguous(), torch.zeros(n), unit, torch.zeros(d), torch.full((n,), threshold))
    return JumpReluDictionary(weights, site=Site(2), name=name, stats=stats, settings={})


def permuted(codes: Codes, order: torch.Tensor) -> Codes:
    """The codes of a dictionary whose latent `i` is the old `order[i]`."""
    return codes_of(codes.code.to_dense()[:, order])
