"""How well the activation of one latent tells some rows from all others."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from monoscope.evaluate.codes import Codes

CANDIDATES = 20


@dataclass(frozen=True)
class Teller:
    """The latent that tells best; -1 where none fires. `threshold` is the activation from which on it says yes."""

    feature: int
    threshold: float
    f1: float
    precision: float
    recall: float


def best_cut(
    right: Bool[np.ndarray, "firings"], values: Float[np.ndarray, "firings"], wanted: int
) -> tuple[float, int, int]:
    """The largest F1 over all thresholds, the number of firings that pass, and of those that are right.

    `values` fall; rows on which the latent is silent are never told; `wanted` counts the rows to be told. Equal values
    pass together.
    """
    if not len(values):
        return 0.0, 0, 0
    hits = np.cumsum(right)
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + wanted)
    f1[:-1][values[:-1] == values[1:]] = 0
    at = int(f1.argmax())
    return float(f1[at]), at + 1, int(hits[at])


def best_teller(codes: Codes, wanted: Bool[Tensor, "rows"]) -> Teller:
    """Of the 20 latents whose firing rates differ most between the wanted rows and the rest, the one with the best F1.

    Threshold and F1 are of the same rows: a choice, not a measurement.
    """
    code = codes.code
    count = int(wanted.sum())
    hits = torch.bincount(code.indices[wanted[code.rows]].long(), minlength=code.n_latents)
    rest = (codes.fires - hits) / max(1, code.n_rows - count)
    lead = torch.where(hits > 0, hits / max(1, count) - rest, -math.inf)
    best = Teller(-1, math.inf, 0.0, 0.0, 0.0)
    for feature in lead.topk(min(CANDIDATES, code.n_latents)).indices.tolist():
        rows, values = codes.columns.of_latent(feature)
        order = torch.argsort(values, descending=True, stable=True)
        right = wanted[rows[order]].numpy()
        f1, passed, hit = best_cut(right, values[order].numpy(), count)
        if f1 > best.f1:
            threshold = float(values[order][passed - 1])
            best = Teller(feature, threshold, f1, hit / passed, hit / max(1, count))
    return best
