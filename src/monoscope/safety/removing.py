"""Which features carry a topic, how to take them out, and how strongly.

A feature is taken that fires on the topic and hardly ever elsewhere: of those that fire on at most `MOST_RETAIN` of the
tokens of the texts to be kept, the ones whose mean activation rises most on the topic (the sparsity limit is that of
SAEBench's unlearning). Setting a feature to zero forgets next to nothing, so it is clamped below zero:

    clamp        on every token: F clamp -c
    conditional  only where a gate is open: F clamp -c if G > t, where G is the feature itself or the one feature that
                 tells the topic's tokens best, and t leaves all but `MOST_TOUCHED` of the tokens to be kept alone
    weights      the features' directions, less what they share with other text, are taken out of what the blocks write
                 (`weight_edit`)

What they share are the mean of other texts, the axes along which these vary most, and what the first token carries, on
which attention rests: taken out as they are, ten directions of the demo break every text.

Strength and number of features are those of a small grid that raise the topic's loss most while the texts to be kept
cost at most a given share of perplexity.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from monoscope.core.errors import BadRequest
from monoscope.core.progress import SILENT, Progress
from monoscope.core.runtime import random_stream
from monoscope.core.site import Site
from monoscope.core.sparse import SparseCode
from monoscope.dictionary.base import Dictionary
from monoscope.model.transformer import LanguageModel
from monoscope.safety.passages import PLAIN, Passage, Scores, Version, score_passages
from monoscope.safety.pooling import columns_of
from monoscope.safety.reading import Reading
from monoscope.safety.statistics import conformal_threshold
from monoscope.safety.weight_edit import WeightEdit, features_directions, random_subspace, subspace
from monoscope.steer.edits import Condition, Edit
from monoscope.steer.resolve import resolve_all

CLAMP, CONDITIONAL, WEIGHTS = "clamp", "conditional", "weights"
WAYS = (CLAMP, CONDITIONAL, WEIGHTS)
# Shares of tokens of the texts to be kept: on which a chosen feature may fire, and which the gates may let through.
MOST_RETAIN, MOST_TOUCHED = 0.01, 0.005
# A feature of one text is no feature of the topic.
LEAST_TEXTS = 0.05
OWN, BEST = "own", "best"
# Clamps in mean residual norms; factors of what the blocks write along the features.
STRENGTHS = {CLAMP: (0.01, 0.02, 0.04, 0.08), CONDITIONAL: (0.2, 0.4, 0.8), WEIGHTS: (0.5, 1.0, 1.5)}
# Behind a gate many features do no harm; elsewhere fewer may do more for their cost: a share of those chosen.
SHARES = {CLAMP: (0.3, 1.0), CONDITIONAL: (1.0,), WEIGHTS: (0.0, 0.3, 1.0)}
# Of so many axes of the residual stream one is spared: those along which other texts vary most.
_SPARED = 16
_LEAST_OWN = 0.1
_NEAR = 40


@dataclass(frozen=True)
class Chosen:
    """A feature of the topic, with the share of tokens on which it fires and its mean activation over all of them."""

    feature: int
    topic_rate: float
    retain_rate: float
    topic_mean: float
    retain_mean: float


@dataclass(frozen=True)
class Gate:
    """A feature and the activation above which it says that a token is of the topic."""

    feature: int
    above: float


@dataclass(frozen=True)
class Removal:
    """One way to take a topic out, at one strength. `gates` are one for each feature, or none."""

    way: str
    features: tuple[int, ...]
    strength: float
    gates: tuple[Gate, ...] = ()
    gating: str = ""

    def edits(self) -> tuple[Edit, ...]:
        """As edits; none where the weights are changed."""
        if self.way == WEIGHTS:
            return ()
        conditions = [Condition(gate.feature, gate.above) for gate in self.gates] or [None] * len(self.features)
        return tuple(
            Edit(feature, "clamp", -self.strength, "r", condition=condition)
            for feature, condition in zip(self.features, conditions, strict=True)
        )

    def version(self, dictionary: Dictionary, spared: Float[Tensor, "d_model some"] | None = None) -> Version:
        """As a version of the model that the dictionary is of; `spared` is what weights leave alone.

        Raises
            BadRequest  the features' directions lie in what is spared.
        """
        if self.way == WEIGHTS:
            basis = apart_from(features_directions(dictionary.W_dec, self.features), spared)
            return Version(weights=WeightEdit(basis, self.strength, dictionary.site.layer))
        return Version(resolve_all(self.edits(), dictionary))


@dataclass(frozen=True)
class Tried:
    """A removal on the choosing half: the rise of the topic's loss in nats a token, and the share of perplexity that
    the texts to be kept cost."""

    removal: Removal
    loss_rise: float
    retain_cost: float

    def to_json(self) -> dict[str, Any]:
        """A row of the grid."""
        return {
            "features": len(self.removal.features),
            "strength": self.removal.strength,
            **({"gating": self.removal.gating} if self.removal.gating else {}),
            "loss_rise": round(self.loss_rise, 4),
            "retain_cost": round(self.retain_cost, 4),
        }


def choose_features(topic: Reading, retain: Reading, count: int, *, most_retain: float = MOST_RETAIN) -> list[Chosen]:
    """The features to take out, the one that rises most first; fewer than `count` where fewer fit.

    Raises
        BadRequest  none fires on the topic and hardly ever elsewhere.
    """
    rates, means = zip(*[_rates(reading) for reading in (topic, retain)], strict=True)
    texts = _texts_firing(topic)
    fits = (rates[1] <= most_retain) & (means[0] > means[1]) & (rates[0] > rates[1])
    fits &= texts >= max(2, math.ceil(LEAST_TEXTS * len(topic)))
    rise = torch.where(fits, means[0] - means[1], -math.inf)
    order = torch.argsort(rise, descending=True, stable=True)[:count]
    found = [feature for feature in order.tolist() if fits[feature]]
    if not found:
        raise BadRequest(
            f"No feature fires on the topic and on at most {most_retain:.1%} of the tokens of the other texts; give "
            "topic texts that are more alike, or a wider dictionary."
        )
    return [
        Chosen(feature, *(float(values[feature]) for values in (rates[0], rates[1], means[0], means[1])))
        for feature in found
    ]


def _rates(reading: Reading) -> tuple[Float[Tensor, "n_latents"], Float[Tensor, "n_latents"]]:
    """The share of tokens on which each feature fires, and its mean activation over all tokens."""
    code, tokens = reading.code, reading.code.n_rows
    indices = code.indices.long()
    sums = torch.zeros(code.n_latents, dtype=torch.double).index_add_(0, indices, code.values.double())
    return torch.bincount(indices, minlength=code.n_latents) / tokens, sums / tokens


def _texts_firing(reading: Reading) -> Int[Tensor, "n_latents"]:
    """In how many texts each feature fires."""
    code = reading.code
    pairs = torch.repeat_interleave(reading.text_of_token, code.counts) * code.n_latents + code.indices.long()
    return torch.bincount(pairs.unique() % code.n_latents, minlength=code.n_latents)


def own_gates(retain: Reading, features: Sequence[int], *, most_touched: float = MOST_TOUCHED) -> tuple[Gate, ...]:
    """Each feature gates itself: all gates together open on at most about a share `most_touched` of retain tokens."""
    each = most_touched / len(features)
    return tuple(Gate(feature, _above(retain.code, feature, each)) for feature in features)


def best_gate(topic: Reading, retain: Reading, features: Sequence[int], *, most_touched: float = MOST_TOUCHED) -> Gate:
    """The one feature that, with its threshold for `most_touched`, opens on most of the topic's tokens."""
    gates = [Gate(feature, _above(retain.code, feature, most_touched)) for feature in features]
    return max(gates, key=lambda gate: open_share(topic.code, [gate]))


def open_share(code: SparseCode, gates: Sequence[Gate]) -> float:
    """The share of tokens on which at least one gate is open."""
    values = columns_of(code, torch.tensor([gate.feature for gate in gates]).unique())
    column = {feature: place for place, feature in enumerate(sorted({gate.feature for gate in gates}))}
    opened = [values[:, column[gate.feature]] > gate.above for gate in gates]
    return float(torch.stack(opened).any(0).double().mean())


def _above(code: SparseCode, feature: int, share: float) -> float:
    values = columns_of(code, torch.tensor([feature]))[:, 0]
    found = conformal_threshold(values, share)
    # Too few tokens to promise the share: nothing that was seen gets through.
    found = found if math.isfinite(found) else float(values.max())
    # Rounded up, so that the line of text that is told says the same.
    return math.ceil(found * 1e4) / 1e4


def candidates(
    way: str, features: Sequence[int], topic: Reading, retain: Reading, *, strengths: Sequence[float] = ()
) -> list[Removal]:
    """The grid of one way: the first few or all features, each at all strengths, behind either gating.

    Raises
        BadRequest  there is no such way.
    """
    if way not in WAYS:
        raise BadRequest(f"--way {way!r} is not known; choose {', '.join(WAYS)}.")
    counts = sorted({max(1, round(share * len(features))) for share in SHARES[way]})
    grid = strengths or STRENGTHS[way]
    plain = [Removal(way, tuple(features[:count]), strength) for count in counts for strength in grid]
    if way != CONDITIONAL:
        return plain
    gatings = {OWN: own_gates(retain, features), BEST: (best_gate(topic, retain, features),) * len(features)}
    return [replace(one, gates=gates, gating=name) for one in plain for name, gates in gatings.items()]


def try_removals(  # noqa: PLR0913
    model: LanguageModel,
    dictionary: Dictionary,
    removals: Sequence[Removal],
    topic: Sequence[Passage],
    retain: Sequence[Passage],
    *,
    spared: Float[Tensor, "d_model some"] | None = None,
    progress: Progress = SILENT,
) -> list[Tried]:
    """Each removal of the grid on some texts of the choosing half."""
    both = [*topic, *retain]
    plain = score_passages(model, both, PLAIN, progress=progress)
    found = []
    for removal in removals:
        scores = score_passages(model, both, removal.version(dictionary, spared), progress=progress)
        rises = [_rise(plain, scores, part) for part in (range(len(topic)), range(len(topic), len(both)))]
        found.append(Tried(removal, rises[0], math.expm1(min(rises[1], 700.0))))
    return found


def _rise(plain: Scores, edited: Scores, some: range) -> float:
    return edited.choose(list(some)).mean_loss - plain.choose(list(some)).mean_loss


def best_of(tried: Sequence[Tried], most_cost: float) -> tuple[Tried, bool]:
    """The removal that raises the topic's loss most within the cost, and whether there was one within it.

    Where none is, the one that costs least comes back.
    """
    within = [one for one in tried if one.retain_cost <= most_cost]
    if within:
        return max(within, key=lambda one: one.loss_rise), True
    return min(tried, key=lambda one: one.retain_cost), False


def control_of(
    removal: Removal,
    dictionary: Dictionary,
    spared: Float[Tensor, "d_model some"] | None = None,
    *,
    seed: int = 0,
) -> tuple[Version, tuple[int, ...]]:
    """The same done to as many features drawn by lot that fire about as often, or in the weights to as many random
    directions; and those features.

    Gates stay those of the topic's features: the very same tokens are edited, as strongly, only elsewhere in space. A
    gate of the random feature's own would hardly ever open, and so say nothing.
    """
    if removal.way == WEIGHTS:
        rank = apart_from(features_directions(dictionary.W_dec, removal.features), spared).shape[1]
        basis = apart_from(random_subspace(dictionary.d_out, rank, seed=seed).T, spared)
        return Version(weights=WeightEdit(basis, removal.strength, dictionary.site.layer)), ()
    drawn = matched_features(dictionary, removal.features, seed=seed)
    return replace(removal, features=drawn).version(dictionary), drawn


def spared_directions(model: LanguageModel, retain: Reading, last_block: int) -> Float[Tensor, "d_model some"]:
    """What other text rests on, as an orthonormal basis: its mean residual, the axes along which it varies most, and
    what the first token carries after each block."""
    x = retain.x.float()
    mean = x.mean(0, keepdim=True)
    axes = torch.linalg.eigh((x - mean).T @ (x - mean)).eigenvectors.flip(1).T[: x.shape[1] // _SPARED]
    ids = torch.tensor([[model.prefix_id] * 2])
    first = [model.residual(ids, Site(layer))[:, 0].float().cpu() for layer in range(last_block + 1)]
    return subspace(torch.nn.functional.normalize(torch.cat([mean, axes, *first]), dim=1), least=1e-2)


def apart_from(
    directions: Float[Tensor, "k d_model"], spared: Float[Tensor, "d_model some"] | None
) -> Float[Tensor, "d_model rank"]:
    """An orthonormal basis of some unit directions, each less what of it is spared.

    Edges  a direction of which nearly all is spared is left out.

    Raises
        BadRequest  that goes for every one.
    """
    if spared is None:
        return subspace(directions)
    own = directions - directions @ spared @ spared.T
    norms = own.norm(dim=1, keepdim=True)
    kept = own[norms[:, 0] > _LEAST_OWN]
    if not len(kept):
        raise BadRequest("The features' directions are those along which all text varies; use --way conditional.")
    return subspace(torch.nn.functional.normalize(kept, dim=1))


def matched_features(dictionary: Dictionary, features: Sequence[int], *, seed: int = 0) -> tuple[int, ...]:
    """For each feature another that fires about as often, by lot among the nearest in density; no feature twice."""
    density = dictionary.stats.density.double().cpu().numpy()
    alive = np.flatnonzero(density > 0)
    stream = random_stream(seed, "matched features")
    taken, drawn = set(features), []
    for feature in features:
        free = np.array([other for other in alive if other not in taken])
        if not len(free):
            raise BadRequest("The dictionary has too few living features for a control; ask for fewer --features.")
        distance = np.abs(np.log(density[free]) - np.log(max(density[feature], 1e-12)))
        near = free[np.argsort(distance, kind="stable")[:_NEAR]]
        one = int(near[int(torch.randint(len(near), (1,), generator=stream))])
        taken.add(one)
        drawn.append(one)
    return tuple(drawn)


def touched(reading: Reading, removal: Removal) -> float:
    """The share of tokens of some texts that the edits act on: all without gates."""
    return open_share(reading.code, removal.gates) if removal.gates else 1.0
