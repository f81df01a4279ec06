"""From labelled texts to a detector: few readable features, a dense probe, or both together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from monoscope.core.errors import BadRequest
from monoscope.core.sparse import SparseCode
from monoscope.safety.baselines import fit_probe
from monoscope.safety.detector import STATISTICS, Detector, score_texts
from monoscope.safety.logistic import fit_nonnegative, fit_readable
from monoscope.safety.pooling import columns_of, firing_texts, pool_features, pool_residual
from monoscope.safety.reading import Reading

KINDS = ("features", "probe", "both")
MOST_FEATURES = 20
_NONE = torch.zeros(0, dtype=torch.long)


@dataclass(frozen=True)
class Manner:
    """How a detector is made: its kind, how channels are pooled, and how many features it may have.

    Raises
        BadRequest  the kind or statistic is unknown, or no feature is allowed.
    """

    kind: str = "features"
    statistic: str = "mean"
    window: int = 16
    warm_up: int = 16
    most: int = MOST_FEATURES

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadRequest(f"There is no kind {self.kind!r} of detector; choose {', '.join(KINDS)}.")
        if self.statistic not in STATISTICS:
            raise BadRequest(f"There is no statistic {self.statistic!r}; choose {', '.join(STATISTICS)}.")
        if self.most < 1:
            raise BadRequest(f"A detector needs at least one feature, not {self.most}.")


def fit_detector(
    reading: Reading, positive: Bool[Tensor, "texts"], folds: Sequence[int], manner: Manner = Manner()
) -> Detector:
    """Fit one detector on all the texts given. `folds` serve the choice of penalties, and the weighing of both parts.

    Features get weights above zero only: each is evidence for the concept and can be read and struck out by hand. A
    rolling mean is fitted on means of whole texts.

    Raises
        BadRequest  all texts have the same label.
    """
    if positive.all() or not positive.any():
        raise BadRequest("A detector needs texts with the concept and texts without it; all of these have one label.")
    if manner.kind == "both":
        return _fit_both(reading, positive, folds, manner)
    part = _fit_features if manner.kind == "features" else _fit_probe
    return part(reading, positive, folds, manner)


def _fit_features(reading: Reading, positive: Tensor, folds: Sequence[int], manner: Manner) -> Detector:
    pooled = pool_features(reading, "max" if manner.statistic == "max" else "mean")
    features = speaking_for(pooled, positive)
    table = columns_of(pooled, features).log1p()
    model = fit_readable(table, positive, most=manner.most, folds=folds)
    used = torch.nonzero(model.weights > 0).flatten()
    used = used[torch.argsort(-model.weights[used] * table[positive][:, used].double().mean(0), stable=True)]
    return Detector(features[used], model.weights[used], model.bias, manner.statistic, manner.window, manner.warm_up)


def speaking_for(pooled: SparseCode, positive: Bool[Tensor, "texts"]) -> Tensor:
    """The features that fire in at least two positive texts, and whose mean log(1 + pooled) is larger there than in the
    others."""
    counts = firing_texts(pooled.take(torch.nonzero(positive).flatten()))
    strength = _means(pooled, positive) - _means(pooled, ~positive)
    return torch.nonzero((counts >= 2) & (strength > 0)).flatten()


def _means(code: SparseCode, wanted: Tensor) -> Float[Tensor, "n_latents"]:
    some = code.take(torch.nonzero(wanted).flatten())
    total = torch.zeros(code.n_latents).index_add_(0, some.indices.long(), some.values.float().log1p())
    return total / wanted.sum().clamp(min=1)


def _fit_probe(reading: Reading, positive: Tensor, folds: Sequence[int], manner: Manner) -> Detector:
    model = fit_probe(pool_residual(reading), positive, folds)
    return Detector(
        _NONE, torch.zeros(0, dtype=torch.double), 0.0, manner.statistic, manner.window, manner.warm_up,
        probe=model.weights.float(), probe_bias=model.bias, probe_weight=1.0,
    )  # fmt: skip


def _fit_both(reading: Reading, positive: Tensor, folds: Sequence[int], manner: Manner) -> Detector:
    """The two parts fitted on everything, their weights on texts that neither part was fitted on."""
    features = _fit_features(reading, positive, folds, manner)
    probe = _fit_probe(reading, positive, folds, manner)
    # Two weights need no more than halves, each scored by fits on the other.
    halves = [fold % 2 for fold in folds]
    parts = [replace(manner, kind=kind) for kind in ("features", "probe")]
    held = held_scores(reading, positive, halves, parts, inner=folds)
    both = fit_nonnegative((held - held.min(0).values) / _spread(held), positive)
    weights = both.weights / _spread(held)
    bias = both.bias - float(weights @ held.min(0).values)
    return replace(
        features,
        weights=features.weights * weights[0],
        bias=bias + float(weights[0]) * features.bias,
        probe=probe.probe,
        probe_bias=probe.probe_bias,
        probe_weight=float(weights[1]),
    )


def _spread(scores: Float[Tensor, "texts ways"]) -> Float[Tensor, "ways"]:
    return (scores.max(0).values - scores.min(0).values).clamp(min=1e-9)


def held_scores(
    reading: Reading,
    positive: Bool[Tensor, "texts"],
    folds: Sequence[int],
    manners: Sequence[Manner],
    *,
    inner: Sequence[int] = (),
) -> Float[Tensor, "texts ways"]:
    """The score of each text by detectors that were fitted on the other folds; `inner` are the folds by which those
    choose their penalties, the same ones where none are given."""
    place, within = torch.tensor(folds), torch.tensor(inner or folds)
    scores = torch.zeros(len(positive), len(manners), dtype=torch.double)
    for fold in sorted(set(folds)):
        held, rest = torch.nonzero(place == fold).flatten(), torch.nonzero(place != fold).flatten()
        mine, others = reading.choose(rest), reading.choose(held)
        for way, manner in enumerate(manners):
            detector = fit_detector(mine, positive[rest], within[rest].tolist(), manner)
            scores[held, way] = score_texts(detector, others)
    return scores
