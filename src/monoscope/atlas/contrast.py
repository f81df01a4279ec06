"""Two sets of texts to the features that tell them apart, proved on texts that did not choose them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from monoscope.core.errors import BadRequest
from monoscope.core.sparse import SparseCode

Pooled = Float[Tensor, "texts n_latents"] | Sequence[Tensor] | Sequence[SparseCode]

# Comparisons go in pieces of at most this many.
_PIECE = 1 << 26


@dataclass(frozen=True)
class ContrastHit:
    """How well one feature tells positive from negative texts.

    `auroc_heldout` is the chance that a positive text which did not choose the feature has a larger maximum than a
    negative one; rates are the shares of all texts of a set in which it fires. `direction` is +1 where it fires in the
    positive texts, -1 where it fires in the negative ones, whose AUROC is then below 0.5.
    """

    feature: int
    score: float
    auroc_heldout: float
    rate_pos: float
    rate_neg: float
    direction: int


def contrast(positive: Pooled, negative: Pooled, *, limit: int = 20, both_ways: bool = False) -> list[ContrastHit]:
    """Rank features by how much they belong to the positive texts, best first.

    Every second text of each set chooses, the others prove. With m the maximum over a text's tokens,

        score = (2 · AUROC(m) − 1) · P(fires | positive) / (P(fires | positive) + P(fires | negative))

    Only the negatives say what is being asked: they should have the same format as the positives, else the format is
    found. `both_ways` also ranks features of the negative texts, by the same score with the sets exchanged.

    Raises
        BadRequest  a set has fewer than two texts.
    """
    positive, negative = pooled(positive), pooled(negative)
    for name, texts in (("positive", positive), ("negative", negative)):
        if len(texts) < 2:
            raise BadRequest(f"A contrast needs at least two {name} texts; there are {len(texts)}.")
    features = torch.nonzero((positive > 0).any(0) | (negative > 0).any(0)).flatten()
    chooser = positive[::2][:, features], negative[::2][:, features]
    proof = positive[1::2][:, features], negative[1::2][:, features]
    told, held = 2 * auroc(*chooser) - 1, auroc(*proof)
    fires, misfires = ((texts > 0).double().mean(0) for texts in chooser)
    share = fires / (fires + misfires).clamp(min=1e-12)
    score = told * share
    direction = torch.ones_like(score)
    if both_ways:
        other = -told * (1 - share)
        direction = torch.where(other > score, -1.0, 1.0)
        score = torch.maximum(score, other)
    rates = (positive[:, features] > 0).double().mean(0), (negative[:, features] > 0).double().mean(0)
    order = torch.argsort(-score, stable=True)[:limit]
    return [
        ContrastHit(
            feature=int(features[i]),
            score=float(score[i]),
            auroc_heldout=float(held[i]),
            rate_pos=float(rates[0][i]),
            rate_neg=float(rates[1][i]),
            direction=int(direction[i]),
        )
        for i in order.tolist()
        if score[i] > 0
    ]


def pooled(texts: Pooled) -> Float[Tensor, "texts n_latents"]:
    """One row for each text: the largest activation of each latent. Codes of tokens are pooled, vectors are stacked."""
    if isinstance(texts, Tensor):
        return texts.float()
    rows = [strongest(text) if isinstance(text, SparseCode) else text.float() for text in texts]
    return torch.stack(rows) if rows else torch.zeros(0, 0)


def strongest(code: SparseCode) -> Float[Tensor, "n_latents"]:
    """The largest activation of each latent over the tokens of a code; 0 where it never fires."""
    best = torch.zeros(code.n_latents)
    return best.scatter_reduce_(0, code.indices.long(), code.values.float(), "amax")


def auroc(
    positive: Float[Tensor, "positives features"], negative: Float[Tensor, "negatives features"]
) -> Float[Tensor, "features"]:
    """The chance that a positive is larger than a negative, ties counted half, for each feature.

    Edges  0.5 where a set is empty.
    """
    pairs = len(positive) * len(negative)
    if not pairs:
        return torch.full((positive.shape[1],), 0.5, dtype=torch.double)
    won = torch.zeros(positive.shape[1], dtype=torch.double)
    for rows in positive.split(max(1, _PIECE // max(1, negative.numel()))):
        won += _count(rows[:, None] > negative) + 0.5 * _count(rows[:, None] == negative)
    return won / pairs


def _count(table: Bool[Tensor, "rows negatives features"]) -> Tensor:
    return table.sum((0, 1)).double()
