"""Activations whose features are known, to find out what a dictionary really recovers.

A world is N unit directions in D dimensions and a law by which they fire. Every token is the sum of the directions that
fire on it, each times its magnitude. Which of them fire follows a Gaussian copula: feature j fires where

    factor_j · g + rest_j · e_j > level_j,      g ~ N(0, I_rank) once a token,  e_j ~ N(0, 1)

so that features hang together through the few numbers g and yet fire as often as they should. Some features stand in
trees: a child fires only on tokens where its parent does, and of the siblings at most one.

The settings of `suite_16k` are those of SynthSAEBench-16k (Chanin and Garriga-Alonso 2026, arXiv:2602.14687); the
draw is our own, and the directions are not made more orthogonal than chance makes them.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from monoscope.core.artifact import digest_of
from monoscope.core.blocks import ActivationBlock
from monoscope.core.errors import BadRequest
from monoscope.core.runtime import numpy_stream, random_stream
from monoscope.core.site import Site
from monoscope.core.sparse import SparseCode, starts_from_counts
from monoscope.dictionary.kernels.choose import kernels_for

PIECE_ROWS = 16_384
# Free features are sampled by blocks, some rows at a time: small blocks have tight bounds, large ones are fewer.
_BLOCK, _CHUNK = 32, 512
_NEVER = -30.0


@dataclass(frozen=True)
class SyntheticSettings:
    """What a world is made of.

    features, width  N directions in D dimensions, drawn at random.
    most, least, zipf  firing probabilities: the j-th of j = 1 ... N fires in proportion to 1/j^zipf, moved and
                     stretched so that the first has `most` and the last `least`.
    rank, correlation  shape of `factor` and the standard deviation of its entries; rank 0 is independence.
    roots, branching, depth  the first `roots` features are roots of trees whose nodes have `branching` children down to
                     `depth` levels below the root, numbered level by level; the others are free. 0 roots: no trees.
    first_size, last_size  mean magnitude of the first and the last feature; between them it falls linearly.
    spread, spread_of_spread  the standard deviation of a feature's magnitude is |N(spread, spread_of_spread)|.
    scaled           a child's magnitude is multiplied by its parent's, as a share of the parent's mean.
    bias             length of a constant vector that is added to every token.
    """

    features: int
    width: int
    most: float
    least: float
    zipf: float = 0.5
    rank: int = 0
    correlation: float = 0.1
    roots: int = 0
    branching: int = 4
    depth: int = 3
    first_size: float = 5.0
    last_size: float = 4.0
    spread: float = 0.5
    spread_of_spread: float = 0.5
    scaled: bool = True
    bias: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what belongs together.

        Raises
            BadRequest  naming the settings.
        """
        if self.features < 1 or self.width < 1:
            raise BadRequest("A synthetic world needs at least one feature and one dimension.")
        if not 0 < self.least <= self.most < 1:
            raise BadRequest(f"least {self.least} and most {self.most} must be probabilities, least not above most.")
        if self.in_trees > self.features:
            raise BadRequest(f"The trees need {self.in_trees} features, and there are {self.features}.")
        if self.rank * self.correlation**2 >= 0.9:
            raise BadRequest(f"rank {self.rank} with correlation {self.correlation} leaves no chance of its own.")

    @property
    def level_starts(self) -> list[int]:
        """The first feature of each level of the trees, and the first free one behind them."""
        sizes = [self.roots * self.branching**level for level in range(self.depth + 1)]
        return [0, *np.cumsum(sizes).tolist()]

    @property
    def in_trees(self) -> int:
        """How many features stand in trees, roots included."""
        return self.level_starts[-1]


def suite_16k(seed: int = 0) -> SyntheticSettings:
    """16,384 features in 768 dimensions, 34 of them on a mean token: the settings of SynthSAEBench-16k."""
    return SyntheticSettings(16_384, 768, 0.4, 5e-4, rank=25, roots=128, seed=seed)


def suite_2k(seed: int = 0) -> SyntheticSettings:
    """The same kind of world an eighth as wide, for a laptop's minute: 2,048 features in 192 dimensions, 11 a token."""
    return SyntheticSettings(2_048, 192, 0.4, 5e-4, rank=6, correlation=0.2, roots=16, seed=seed)


def suite_small(seed: int = 0) -> SyntheticSettings:
    """256 independent features in 64 dimensions, four on a mean token."""
    return SyntheticSettings(256, 64, 0.15, 7e-3, seed=seed)


def suite_correlated(seed: int = 0) -> SyntheticSettings:
    """The small suite with strong correlations: features of few factors."""
    return replace(suite_small(seed), rank=4, correlation=0.4)


def suite_trees(seed: int = 0) -> SyntheticSettings:
    """The small suite with 32 trees: a root and three children."""
    return replace(suite_small(seed), roots=32, branching=3, depth=1)


SUITES = {"16k": suite_16k, "2k": suite_2k, "small": suite_small, "correlated": suite_correlated, "trees": suite_trees}


@dataclass(frozen=True)
class GroundTruth:
    """A world: its directions, and the law by which they fire.

    `chance` is the probability by which a feature is offered: on all tokens for roots and free features, on the tokens
    of its parent for a child. `parent` is -1 where there is none, `first_child` where there are none.
    """

    settings: SyntheticSettings
    directions: Float[Tensor, "features width"]
    bias: Float[Tensor, "width"]
    factor: Float[Tensor, "features rank"]
    rest: Float[Tensor, "features"]
    level: Float[Tensor, "features"]
    chance: Float[Tensor, "features"]
    parent: Int[Tensor, "features"]
    first_child: Int[Tensor, "features"]
    size: Float[Tensor, "features"]
    spread: Float[Tensor, "features"]

    @classmethod
    def draw(cls, settings: SyntheticSettings) -> "GroundTruth":
        """The world of these settings; all of it follows from them."""
        n, stream = settings.features, random_stream(settings.seed, "synthetic", "world")
        directions = torch.randn(n, settings.width, generator=stream)
        bias = torch.randn(settings.width, generator=stream)
        factor = settings.correlation * torch.randn(n, settings.rank, generator=stream)
        # A row that would leave its feature no chance of its own is shortened.
        factor /= (factor.norm(dim=1, keepdim=True) / 0.95).clamp(min=1.0)
        spread = (settings.spread + settings.spread_of_spread * torch.randn(n, generator=stream)).abs()
        parent, first_child = _trees(settings)
        chance = _offered(_zipf(settings), parent, settings)
        return cls(
            settings=settings,
            directions=directions / directions.norm(dim=1, keepdim=True),
            bias=settings.bias * bias / bias.norm(),
            factor=factor,
            rest=(1 - factor.square().sum(1)).sqrt(),
            level=-torch.special.ndtri(chance).float(),
            chance=chance.float(),
            parent=parent,
            first_child=first_child,
            size=torch.linspace(settings.first_size, settings.last_size, n),
            spread=spread,
        )

    @cached_property
    def density(self) -> Float[Tensor, "features"]:
        """The share of tokens on which each feature fires; exact where nothing is correlated, close where it is."""
        density = self.chance.double()
        for children in self._sibling_groups():
            wins = _wins(self.chance.double()[children])
            density[children] = density[self.parent[children[:, :1]]] * wins
        return density.float()

    def _sibling_groups(self) -> Iterator[Int[Tensor, "groups siblings"]]:
        starts = self.settings.level_starts
        for first, last in zip(starts[1:-1], starts[2:], strict=True):
            yield torch.arange(first, last).view(-1, self.settings.branching)

    def sample(self, rows: int, rng: np.random.Generator) -> SparseCode:
        """The true codes of some tokens. Draws from `rng` only."""
        parts = [self._chunk(min(_CHUNK, rows - at), at, rng) for at in range(0, rows, _CHUNK)]
        row, feature, value = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
        kept = value > 0
        row, feature, value = row[kept], feature[kept], value[kept]
        order = torch.argsort(row * self.settings.features + feature)
        starts = starts_from_counts(torch.bincount(row, minlength=rows))
        return SparseCode(feature[order], value[order], starts, self.settings.features)

    def activations(self, code: SparseCode) -> Float[Tensor, "rows width"]:
        """The tokens that true codes stand for."""
        return kernels_for(self.directions.device).decode(code, self.directions, self.bias)

    def _chunk(self, rows: int, at: int, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        g = _normal(rng, rows, self.settings.rank)
        row, feature = self._fire_free(g, rng)
        value = self._magnitudes(feature, rng)
        found = [(row, feature, value)]
        for _ in range(self.settings.depth if self.settings.roots else 0):
            row, feature, value = self._fire_children(row, feature, value, g, rng)
            found.append((row, feature, value))
        rows_, features_, values_ = (torch.cat(pieces) for pieces in zip(*found, strict=True))
        return rows_ + at, features_, values_

    def _fire_free(self, g: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Roots and free features: a Poisson process, thinned.

        Feature j fires on a token with probability p = Φ((factor_j · g - level_j) / rest_j), that is, where a Poisson
        count of mean -log(1 - p) is not zero. Points are strewn with the largest mean of each block of features, and
        a point is kept with the share that its own feature has of it. So the cost grows with what fires, not with N.
        """
        free, weights, offset = self._free
        height = torch.addmm(offset, g, weights.T) if g.shape[1] else offset.expand(len(g), -1)
        top = height.reshape(len(g), -1, _BLOCK).amax(2)
        bound = _mean_points(top)
        edges = bound.double().flatten().cumsum(0)
        # In rising order, which is how sums of exponentials come: the search then stays in the cache.
        place = torch.from_numpy(rng.standard_exponential(rng.poisson(float(edges[-1]) * _BLOCK) + 1)).cumsum(0)
        place = place[:-1] * (edges[-1] / place[-1])
        block = torch.searchsorted(edges, place, right=True).clamp(max=len(edges) - 1)
        inside = torch.from_numpy(rng.integers(0, _BLOCK, len(place)))
        row, column = block // top.shape[1], block % top.shape[1] * _BLOCK + inside
        own = _mean_points(height[row, column])
        kept = torch.from_numpy(rng.random(len(place), np.float32)) * bound.flatten()[block] < own
        # A feature may be hit twice; it fires once.
        once = torch.unique(row[kept] * len(free) + column[kept])
        return once // len(free), free[once % len(free)]

    @cached_property
    def _free(self) -> tuple[Tensor, Tensor, Tensor]:
        """Features without parents, factor / rest and -level / rest of each, filled up to whole blocks."""
        free = torch.nonzero(self.parent < 0).flatten()
        empty = -len(free) % _BLOCK
        weights = torch.nn.functional.pad(self.factor[free] / self.rest[free, None], (0, 0, 0, empty))
        offset = torch.nn.functional.pad(-self.level[free] / self.rest[free], (0, empty), value=_NEVER)
        return torch.nn.functional.pad(free, (0, empty)), weights.contiguous(), offset

    def _fire_children(
        self, row: Tensor, feature: Tensor, value: Tensor, g: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The children of what fires: each is offered by its own chance, and one of those that accept is drawn."""
        first = self.first_child[feature]
        row, feature, value, first = (part[first >= 0] for part in (row, feature, value, first))
        child = first[:, None] + torch.arange(self.settings.branching)
        height = torch.einsum("ecr,er->ec", self.factor[child], g[row]) - self.level[child]
        chance = torch.special.ndtr(height / self.rest[child])
        shape = tuple(child.shape)
        accepts = torch.from_numpy(rng.random(shape, np.float32)) < chance
        lot = torch.where(accepts, torch.from_numpy(rng.random(shape, np.float32)), -1.0)
        best, winner = lot.max(1)
        fires = best >= 0
        chosen = child.gather(1, winner[:, None]).flatten()[fires]
        size = self._magnitudes(chosen, rng)
        if self.settings.scaled:
            size = size * value[fires] / self.size[feature[fires]]
        return row[fires], chosen, torch.where(value[fires] > 0, size, 0.0)

    def _magnitudes(self, feature: Tensor, rng: np.random.Generator) -> Tensor:
        return (self.size[feature] + self.spread[feature] * _normal(rng, len(feature))).clamp(min=0)


def _mean_points(height: Tensor) -> Tensor:
    """The mean of the Poisson count that is not zero with probability Φ(height)."""
    return -torch.log1p(-torch.special.ndtr(height).clamp(max=1 - 1e-6))


def _normal(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, np.float32))


def _zipf(settings: SyntheticSettings) -> Float[Tensor, "features"]:
    share = torch.arange(1, settings.features + 1, dtype=torch.float64) ** -settings.zipf
    if settings.features == 1:
        return torch.full((1,), settings.most, dtype=torch.float64)
    stretched = (share - share[-1]) / (share[0] - share[-1])
    return settings.least + (settings.most - settings.least) * stretched


def _trees(settings: SyntheticSettings) -> tuple[Int[Tensor, "features"], Int[Tensor, "features"]]:
    """Parent and first child of each feature. The children of a node have consecutive numbers."""
    parent = torch.full((settings.features,), -1)
    first_child = torch.full((settings.features,), -1)
    starts = settings.level_starts
    for above, first, last in zip(starts[:-2], starts[1:-1], starts[2:], strict=True):
        children = torch.arange(first, last)
        parent[children] = above + (children - first) // settings.branching
        first_child[above:first] = torch.arange(first, last, settings.branching)
    return parent, first_child


def _offered(wanted: Tensor, parent: Tensor, settings: SyntheticSettings) -> Float[Tensor, "features"]:
    """The chance by which each feature is offered, so that it comes near the density it should have.

    With s = wanted / wanted of the parent, a child is offered s (1 + sum of its siblings' s), at most 1: more than s
    because siblings exclude each other. Where siblings together want more than their parent has, they get less.
    """
    chance = wanted.clone()
    starts = settings.level_starts
    for first, last in zip(starts[1:-1], starts[2:], strict=True):
        children = torch.arange(first, last).view(-1, settings.branching)
        share = wanted[children] / wanted[parent[children]]
        chance[children] = (share * (1 + share.sum(1, keepdim=True) - share)).clamp(max=1.0)
    return chance


def _wins(chance: Float[Tensor, "groups siblings"]) -> Float[Tensor, "groups siblings"]:
    """How often each sibling is the one: chance times E[1 / (1 + others that accept)].

    That mean is the integral over t from 0 to 1 of the product of (1 - q + q t) over the other siblings, a polynomial,
    so Gauss-Legendre nodes give it exactly.
    """
    nodes, weights = np.polynomial.legendre.leggauss(chance.shape[1])
    t = torch.from_numpy((nodes + 1) / 2)[:, None, None]
    terms = 1 - chance + chance * t
    others = terms.prod(2, keepdim=True) / terms.clamp(min=1e-300)
    return chance * (torch.from_numpy(weights / 2)[:, None, None] * others).sum(0)


class SyntheticStore:
    """Tokens of a world, read like harvested activations (`ShardStore`) and made while they are read.

    Piece i of a side of the split depends on the settings and on i only, so a store with more rows begins with the
    rows of a smaller one. Rows are bfloat16, as those on disk are.
    """

    def __init__(
        self, settings: SyntheticSettings, *, train_rows: int, held_rows: int, piece_rows: int = PIECE_ROWS
    ) -> None:
        self.truth = GroundTruth.draw(settings)
        self.settings = settings
        self.site = self.target = Site(0)
        self.sink_limit = float("inf")
        self.manifest = {
            "request": {"text": "synthetic", "site": str(self.site), **asdict(settings)},
            "d_model": settings.width,
            "shards": _pieces("train", train_rows, piece_rows) + _pieces("held", held_rows, piece_rows),
        }

    @property
    def d_model(self) -> int:
        """Width of a row."""
        return self.settings.width

    d_in = d_model

    @cached_property
    def digest(self) -> str:
        """Depends on the settings and on how many rows there are."""
        return digest_of(self.manifest)

    def shards(self, split: str) -> list[dict[str, Any]]:
        """The pieces of `train`, `held` or `all`."""
        return [piece for piece in self.manifest["shards"] if split in ("all", piece["split"])]

    def rows(self, split: str) -> int:
        """How many rows a side of the split has."""
        return sum(piece["rows"] for piece in self.shards(split))

    def read(self, shard: dict[str, Any]) -> ActivationBlock:
        """One piece; `token` counts rows from the start of its side."""
        x = self.truth.activations(self.code(shard)).bfloat16()
        return ActivationBlock(x, torch.arange(shard["first"], shard["first"] + shard["rows"], dtype=torch.int32))

    def code(self, shard: dict[str, Any]) -> SparseCode:
        """What fires on the rows of a piece, and how strongly: the answer that a dictionary should find."""
        stream = numpy_stream(self.settings.seed, "synthetic", shard["split"], shard["number"])
        return self.truth.sample(shard["rows"], stream)

    def blocks(self, split: str) -> Iterator[ActivationBlock]:
        """The pieces, one after another."""
        for shard in self.shards(split):
            yield self.read(shard)


def _pieces(split: str, rows: int, piece_rows: int) -> list[dict[str, Any]]:
    return [
        {"split": split, "number": number, "first": first, "rows": min(piece_rows, rows - first)}
        for number, first in enumerate(range(0, rows, piece_rows))
    ]
