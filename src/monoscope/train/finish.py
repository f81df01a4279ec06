"""A learner becomes a dictionary: mean and scale folded in, rows of norm 1, statistics measured."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.core.progress import SILENT, Progress
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary, Stats, Weights
from monoscope.dictionary.catalogue import kinds
from monoscope.dictionary.rule import TrainingRule
from monoscope.harvest.feed import Rows
from monoscope.train.calibrate import calibrate
from monoscope.train.learner import Learner, Spaces
from monoscope.train.recipes import Recipe

STATS_ROWS = 262_144
_PIECE = 8192
_BINS, _LOWEST, _BINS_PER_DOUBLING = 512, -10.0, 16


def fold(learner: Learner, spaces: Spaces, rule: TrainingRule) -> Weights:
    """Weights that read and write activations as they are.

    With x' = (x - mean)/scale, n the decoder norms, ρ the told scale over the read one, and codes multiplied by the
    told scale times n:
    W_enc = ρ n W', b_enc = n (scale b' - ρ mean W'), W_dec = W_dec'/n, threshold = scale n t', W_skip = ρ W_skip',
    b_dec = scale b_dec' + mean - W_skip mean.
    """
    raw: dict[str, Any] = {"encoder": learner.encoder, "b_enc": learner.b_enc}
    raw["threshold"] = rule.threshold(learner.own, learner.rule_state)
    raw = rule.folded(raw, learner.own)
    reads, tells, norms = spaces.reads, spaces.tells, learner.decoder.norm(dim=1)
    ratio = tells.scale / reads.scale
    bias = tells.scale * raw["b_enc"].double() - ratio * (raw["encoder"].double() @ reads.mean.double())
    threshold, skip = raw["threshold"], learner.own.get("W_skip")
    skip = None if skip is None else (ratio * skip.T).contiguous()
    return Weights(
        W_enc=(raw["encoder"] * (ratio * norms)[:, None]).T.contiguous(),
        b_enc=(bias * norms).float(),
        W_dec=learner.decoder / norms[:, None],
        b_dec=tells.scale * learner.b_dec + tells.mean - (0.0 if skip is None else skip @ reads.mean),
        threshold=None if threshold is None else threshold * tells.scale * norms,
        W_skip=skip,
    )


def finish(
    learner: Learner,
    spaces: Spaces,
    recipe: Recipe,
    shards: Rows,
    *,
    name: str,
    learnt_from: Rows | None = None,
    progress: Progress = SILENT,
) -> tuple[Dictionary, Float[Tensor, "rows d_model"]]:
    """The dictionary, and a few rows for its self-check.

    `shards` are for statistics; where they are a part only of the rows it was learnt from, name those too.
    """
    rule = recipe.rule()
    weights = fold(learner, spaces, rule)
    empty = torch.zeros(recipe.latents)
    told = None if spaces.tells is spaces.reads else spaces.tells.mean
    blank = Stats(empty, empty, empty, spaces.reads.mean, 0, 0.0, shards.sink_limit, told)
    settings = {"k": recipe.k, "trained_as": recipe.arch, "scale": spaces.tells.scale}
    if rule.wanted_l0 is not None:
        settings["wanted_l0"] = rule.wanted_l0
    if recipe.read_l0 is not None:
        settings["read_l0"] = recipe.read_l0

    def made(weights: Weights, stats: Stats) -> Dictionary:
        kind = kinds()[rule.reads_as]
        return kind(weights, site=shards.site, target=shards.target, name=name, stats=stats, settings=settings)

    l0 = recipe.read_l0 or rule.wanted_l0
    if l0 is not None:
        asked = recipe.read_l0 is not None
        weights = calibrate(lambda tried: made(tried, blank), weights, l0, learnt_from or shards, asked=asked)
    stats, probe = measure(made(weights, blank), shards, progress)
    return made(weights, stats), probe


def measure(
    dictionary: Dictionary, shards: Rows, progress: Progress = SILENT
) -> tuple[Stats, Float[Tensor, "rows d_model"]]:
    """Statistics over up to `STATS_ROWS` training rows, and the first rows of them."""
    tally = _Tally.empty(dictionary.n_latents, dictionary.d_in)
    probe = torch.zeros(0, dictionary.d_in)
    wanted = min(STATS_ROWS, shards.rows("train"))
    progress.start("statistics", wanted, "tokens")
    for block in shards.blocks("train"):
        x = block.x[: wanted - tally.rows, : dictionary.d_in].float()
        for piece in x.split(_PIECE):
            tally.add(piece, dictionary.encode(piece))
            progress.advance(len(piece))
        probe = x[:64].clone() if not len(probe) else probe
        if tally.rows >= wanted:
            break
    progress.finish()
    return replace(tally.stats(shards.sink_limit), mean_target=dictionary.stats.mean_target), probe


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
