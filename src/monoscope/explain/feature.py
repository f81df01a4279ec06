"""One feature from its examples to a scored label, and which features to begin with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from monoscope.atlas.query import Atlas
from monoscope.core.runtime import numpy_stream
from monoscope.explain.judge import Asks
from monoscope.explain.score import Scores, enough, score_label
from monoscope.explain.write import Material, choose_examples, write_label

# The control's label comes from one of so many features that fire about as often.
_ALIKE = 50


@dataclass(frozen=True)
class Statistical:
    """What the atlas says of a living feature without any judge; `control` is its label on another's windows."""

    feature: int
    label: str
    score: float
    control: float
    density: float
    concept: float
    duplicate: bool


@dataclass(frozen=True)
class Explained:
    """What a judge made of a feature. Without `label` it gave none; without `scores` it was not asked for any."""

    feature: int
    label: str | None
    scores: Scores | None
    statistical: Statistical
    asked: bool = True

    @property
    def better(self) -> bool:
        """Does the judge's label score higher than the statistical one?"""
        return self.scores is not None and self.scores.detection > self.statistical.score

    def values(self) -> dict[str, Any]:
        """As plain values."""
        scores = self.scores
        return {
            "feature": self.feature,
            "label": self.label,
            "score": None if scores is None else round(scores.detection, 4),
            "statistical_label": self.statistical.label,
            "statistical_score": round(self.statistical.score, 4),
            "fuzzing": _rounded(scores and scores.fuzzing),
            "specificity": _rounded(scores and scores.specificity),
            "shuffled": None if scores is None else round(scores.shuffled, 4),
            "kept": self.better,
        }


def living_features(atlas: Atlas) -> dict[int, Statistical]:
    """The features that fire, with their statistical labels."""
    concepts = atlas.concepts
    columns = "feature, label, label_score, label_control, density, firings, duplicate_of"
    return {
        row["feature"]: Statistical(
            feature=row["feature"],
            label=row["label"],
            score=float(row["label_score"]),
            control=float(row["label_control"]),
            density=float(row["density"]),
            concept=float(concepts[row["feature"]]),
            duplicate=row["duplicate_of"] >= 0,
        )
        for row in atlas.rows(columns)
        if row["firings"] > 0
    }


def most_conceptual(living: dict[int, Statistical], count: int) -> list[int]:
    """The features that look most like concepts, best first; doubles of others are left out."""
    singles = [one for one in living.values() if not one.duplicate]
    return [one.feature for one in sorted(singles, key=lambda one: (-one.concept, -one.score, one.feature))[:count]]


def other_label(living: dict[int, Statistical], feature: int, seed: int) -> str:
    """The label of another feature that fires about as often, drawn by `seed`; empty where there is no other label."""
    mine = living[feature]
    others = [one for one in living.values() if one.label != mine.label]
    near = sorted(others, key=lambda one: (abs(one.density - mine.density), one.feature))[:_ALIKE]
    return near[int(numpy_stream(seed, "shuffled", feature).integers(len(near)))].label if near else ""


def explain_feature(
    asks: Asks, atlas: Atlas, living: dict[int, Statistical], feature: int, *, batch: int = 5, seed: int = 0
) -> Explained:
    """A label by the judge and its scores.

    Not asked at all are features with too few examples, or too few held-out windows to score a label on.
    """
    mine = living[feature]
    record, trials = atlas.feature(feature), atlas.trials(feature)
    material = Material(record, choose_examples(_seen(atlas, record.contexts)), mine.label)
    if not material.enough or not enough(trials):
        return Explained(feature, None, None, mine, asked=False)
    label = write_label(asks, material)
    if label is None:
        return Explained(feature, None, None, mine)
    other = other_label(living, feature, seed)
    scores = score_label(asks, label, other, trials, feature=feature, batch=batch, seed=seed)
    return Explained(feature, label, scores, mine)


def _seen(atlas: Atlas, contexts: Sequence[Any]) -> list[Any]:
    """The contexts of documents that are not held out: no label is made from what it is scored on."""
    held = atlas.store.held_documents
    return [context for context in contexts if not bool(held[context.document])]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
