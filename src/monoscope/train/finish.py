"""A learner becomes a dictionary: mean and scale folded in, rows of norm 1, statistics measured."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.core.progress import SILENT, Progress
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary, Stats, TrainingRule, Weights
from monoscope.dictionary.shelf import CLASSES
from monoscope.harvest.shards import ShardStore
from monoscope.train.learner import Learner, Scaling
from monoscope.train.recipes import Recipe

STATS_ROWS = 262_144
_BINS, _LOWEST, _BINS_PER_DOUBLING = 512, -10.0, 16
_ARCHITECTURE = {"batchtopk": "jumprelu", "topk": "topk", "relu": "standard"}


def fold(learner: Learner, scaling: Scaling, rule: TrainingRule) -> Weights:
    """Weights that read and write the residual stream as it is.

    With x' = (x - mean)/scale, n the decoder norms and codes multiplied by scale * n:
    W_enc = n W', b_enc = n (scale b' - mean W'), W_dec = W_dec'/n, b_dec = scale b_dec' + mean, threshold = scale t'.
    """
    norms = learner.decoder.norm(dim=1)
    kept = scaling.mean.double()
    bias = scaling.scale * learner.b_enc.double() - learner.encoder.double() @ kept
    threshold = rule.threshold(learner.rule_state)
    return Weights(
        W_enc=(learner.encoder * norms[:, None]).T.contiguous(),
        b_enc=(bias * norms).float(),
        W_dec=learner.decoder / norms[:, None],
        b_dec=scaling.scale * learner.b_dec + scaling.mean,
        threshold=None if threshold is None else torch.full_like(norms, float(threshold) * scaling.scale) * norms,
    )


def finish(
    learner: Learner,
    scaling: Scaling,
    recipe: Recipe,
    shards: ShardStore,
    *,
    name: str,
    progress: Progress = SILENT,
) -> tuple[Dictionary, Float[Tensor, "rows d_model"]]:
    """The dictionary, and a few rows for its self-check."""
    weights = fold(learner, scaling, recipe.rule())
    empty = torch.zeros(recipe.latents)
    blank = Stats(empty, empty, empty, scaling.mean, 0, 0.0, shards.sink_limit)
    kind = CLASSES[_ARCHITECTURE[recipe.arch]]
    settings = {"k": recipe.k, "trained_as": recipe.arch, "scale": scaling.scale}

    def made(stats: Stats) -> Dictionary:
        return kind(weights, site=shards.site, name=name, stats=stats, settings=settings)

    stats, probe = measure(made(blank), shards, progress)
    return made(stats), probe


def measure(
    dictionary: Dictionary, shards: ShardStore, progress: Progress = SILENT
) -> tuple[Stats, Float[Tensor, "rows d_model"]]:
    """Statistics over up to `STATS_ROWS` training rows, and the first rows of them."""
    tally = _Tally.empty(dictionary.n_latents, dictionary.d_in)
    probe = torch.zeros(0, dictionary.d_in)
    wanted = min(STATS_ROWS, shards.rows("train"))
    progress.start("statistics", wanted, "tokens")
    for block in shards.blocks("train"):
        x = block.x[: wanted - tally.rows].float()
        for piece in x.split(8192):
            tally.add(piece, dictionary.encode(piece))
            progress.advance(len(piece))
        probe = x[:64].clone() if not len(probe) else probe
        if tally.rows >= wanted:
            break
    progress.finish()
    return tally.stats(shards.sink_limit), probe


@dataclass
class _Tally:
    """Sums over rows; the quantile comes from a histogram with sixteen bins to a doubling."""

    fires: Tensor
    largest: Tensor
    histogram: Tensor
    vector: Tensor
    norm: float = 0.0
    rows: int = 0

    @classmethod
    def empty(cls, n_latents: int, d: int) -> "_Tally":
        counts = torch.zeros(n_latents, dtype=torch.long)
        histogram = torch.zeros(n_latents, _BINS, dtype=torch.int32)
        return cls(counts, torch.zeros(n_latents), histogram, torch.zeros(d, dtype=torch.float64))

    def add(self, x: Tensor, code: SparseCode) -> None:
        indices = code.indices.long()
        self.fires += torch.bincount(indices, minlength=len(self.fires))
        self.largest.scatter_reduce_(0, indices, code.values, "amax")
        bins = ((code.values.log2() - _LOWEST) * _BINS_PER_DOUBLING).long().clamp(0, _BINS - 1)
        ones = torch.ones_like(bins, dtype=torch.int32)
        self.histogram.view(-1).index_add_(0, indices * _BINS + bins, ones)
        self.vector += x.double().sum(0)
        self.norm += float(x.norm(dim=1).sum())
        self.rows += len(x)

    def stats(self, sink_limit: float) -> Stats:
        reached = self.histogram.cumsum(1) >= (0.999 * self.fires)[:, None]
        edge = reached.int().argmax(1) + 1
        quantile = torch.exp2(edge / _BINS_PER_DOUBLING + _LOWEST)
        return Stats(
            max=self.largest,
            p999=torch.minimum(quantile, self.largest),
            density=(self.fires / max(1, self.rows)).float(),
            mean_vector=(self.vector / max(1, self.rows)).float(),
            tokens=self.rows,
            mean_norm=self.norm / max(1, self.rows),
            sink_limit=sink_limit,
        )
