"""What a monitor is worth on labelled texts: its figures beside those of its rivals on the same texts."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from monoscope.safety.baselines import Rivals
from monoscope.safety.detector import score_texts
from monoscope.safety.examples import Example
from monoscope.safety.monitor import Monitor
from monoscope.safety.reading import Reading
from monoscope.safety.statistics import area, area_interval, binomial_interval, drift, rate_above, rate_at_rate

# A drift is told from this p on.
DRIFTED = 0.01


def figures_of(monitor: Monitor, reading: Reading, examples: Sequence[Example], *, seed: int = 0) -> dict[str, Any]:
    """AUROC, false alarms and hits of a monitor on labelled texts, beside its baselines on the same texts."""
    positive = torch.tensor([example.positive for example in examples])
    groups = [example.group for example in examples]
    scores = score_texts(monitor.detector, reading)
    hits, alarms = scores[positive], scores[~positive]
    hard = torch.tensor([example.hard for example in examples])[~positive]
    moved = drift(monitor.reference, alarms)
    return {
        "auroc": round(area(scores, positive), 4),
        "auroc_interval": area_interval(scores, positive, groups, seed=seed).to_json(),
        "fpr": round(rate_above(alarms, monitor.threshold), 4),
        "fpr_interval": _rate_interval(alarms, monitor.threshold),
        "fpr_hard": round(rate_above(alarms[hard], monitor.threshold), 4) if hard.any() else None,
        "tpr": round(rate_above(hits, monitor.threshold), 4),
        "tpr_interval": _rate_interval(hits, monitor.threshold),
        "tpr_at_fpr": {f"{rate:g}": round(rate_at_rate(scores, positive, rate), 4) for rate in (0.01, 0.05)},
        "threshold": round(monitor.threshold, 6) if math.isfinite(monitor.threshold) else None,
        "stated_fpr": monitor.fpr,
        "calibrated_on": monitor.calibrated_on,
        "texts": [int(positive.sum()), int((~positive).sum())],
        "features": [
            {"feature": feature, "weight": round(weight, 5), "label": monitor.labels.get(feature, "")}
            for feature, weight in zip(
                monitor.detector.features.tolist(), monitor.detector.weights.tolist(), strict=True
            )
        ],
        "baselines": _baseline_values(monitor.rivals, reading, examples, groups, seed),
        "drift": {"distance": round(moved.distance, 4), "p": moved.p, "moved": moved.p < DRIFTED},
        "fvu": round(reading.fvu, 4),
    }


def _rate_interval(scores: Float[Tensor, "texts"], threshold: float) -> list[float]:
    count = int((~(scores <= threshold)).sum())
    return [round(end, 4) for end in binomial_interval(count, len(scores))]


def _baseline_values(
    rivals: Rivals | None, reading: Reading, examples: Sequence[Example], groups: Sequence[str], seed: int
) -> dict[str, Any]:
    if rivals is None:
        return {}
    positive = torch.tensor([example.positive for example in examples])
    scores = rivals.scores(reading, examples)
    intervals = {name: area_interval(scores[name], positive, groups, seed=seed).to_json() for name in scores}
    areas = {name: round(area(values, positive), 4) for name, values in scores.items()}
    return {**areas, "intervals": {name: told for name, told in intervals.items() if name != "random_feature"}}
