"""One concept of an audit: what can be detected, what turning its feature does, and what the dictionary is blind to."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from monoscope.core.progress import SILENT, Progress
from monoscope.dictionary.base import Dictionary
from monoscope.model.transformer import LanguageModel
from monoscope.safety.causal import CausalBench, CausalEffect
from monoscope.safety.comparison import DETECTORS, WAYS, Fitted, Judged, cross_scores, fit_ways, judge
from monoscope.safety.detector import score_texts
from monoscope.safety.examples import Example, split_by_group
from monoscope.safety.reading import Reading, read_examples
from monoscope.safety.statistics import binomial_interval, conformal_threshold, rate_above

FOLDS, FPR = 5, 0.01
CAUSAL_TEXTS = 64
# An interval that reaches down to chance has found nothing.
CHANCE = 0.5


@dataclass(frozen=True)
class Alarms:
    """A detector's threshold at work: set for 1 % of ordinary text, on pieces that are not those it is counted on.

    Rates are over texts that fitted nothing; `ordinary_interval` is exact.
    """

    hits: float
    negatives: float
    hard: float | None
    ordinary: float
    ordinary_interval: tuple[float, float]

    def to_json(self) -> dict[str, Any]:
        """Rounded."""
        return {
            "hits": round(self.hits, 4),
            "negatives": round(self.negatives, 4),
            "hard": None if self.hard is None else round(self.hard, 4),
            "ordinary": round(self.ordinary, 4),
            "ordinary_interval": [round(end, 4) for end in self.ordinary_interval],
        }


@dataclass(frozen=True)
class Concept:
    """What an audit found of one concept. `features` are those of the readable detector fitted on all texts, with
    their weights; `leading` is the single best one, whose effects are told. `fvu` is the share of variance of these
    texts that the dictionary leaves unexplained."""

    name: str
    texts: tuple[int, int]
    hard: int
    part: str
    judged: dict[str, Judged]
    alarms: dict[str, Alarms]
    features: tuple[tuple[int, float], ...]
    leading: int
    leading_sign: int
    effect: CausalEffect
    fvu: float

    @property
    def beats_words(self) -> bool:
        """Whether the readable set does better than a bag of words on the same texts."""
        return self.judged["features"].auroc.value >= self.judged["bag_of_words"].auroc.value

    @property
    def found(self) -> bool:
        """Whether the readable set tells the texts apart beyond chance."""
        return self.judged["features"].auroc.low > CHANCE

    @property
    def moves(self) -> bool:
        """Whether turning the leading feature up makes its texts likelier, beyond a random push as long."""
        up, lots = self.effect.amplified, self.effect.random
        return self.leading_sign * up.value > max(0.0, self.leading_sign * lots.value) and not up.low <= 0 <= up.high


@dataclass(frozen=True)
class Scene:
    """What all concepts of an audit share. `ordinary` is read once; one half sets thresholds, the other counts."""

    model: LanguageModel
    dictionary: Dictionary
    ordinary: Reading
    seed: int = 0


def audit_concept(scene: Scene, name: str, examples: Sequence[Example], progress: Progress = SILENT) -> Concept:
    """All figures of one concept; detection is cross-fitted over groups, so that every text is judged by fits that
    never saw its group."""
    part = "reply" if all(len(example.messages) > 1 for example in examples) else "said"
    reading = read_examples(scene.model, scene.dictionary, examples, part=part)
    scores, fits = cross_scores(reading, examples, folds=FOLDS, seed=scene.seed)
    whole = fit_ways(reading, examples, seed=scene.seed)
    bench = CausalBench(scene.model, scene.dictionary, causal_texts(examples))
    effect = bench.try_feature(whole.feature, seed=scene.seed, progress=progress)
    positive = sum(example.positive for example in examples)
    readable = whole.detectors["features"]
    return Concept(
        name=name,
        texts=(positive, len(examples) - positive),
        hard=sum(example.hard for example in examples),
        part=part,
        judged=judge(scores, examples, seed=scene.seed),
        alarms={kind: _alarms(scene, reading, examples, fits, kind) for kind in DETECTORS},
        features=tuple(zip(readable.features.tolist(), readable.weights.tolist(), strict=True)),
        leading=whole.feature,
        leading_sign=whole.sign,
        effect=effect,
        fvu=reading.fvu,
    )


def causal_texts(examples: Sequence[Example], most: int = CAUSAL_TEXTS) -> list[Example]:
    """Whole groups, in order, until there are enough texts."""
    chosen: list[Example] = []
    for group in dict.fromkeys(example.group for example in examples):
        members = [example for example in examples if example.group == group]
        if chosen and len(chosen) + len(members) > most:
            break
        chosen += members
    return chosen


def _alarms(scene: Scene, reading: Reading, examples: Sequence[Example], fits: Sequence[Fitted], kind: str) -> Alarms:
    place = torch.tensor(split_by_group(examples, FOLDS, seed=scene.seed))
    calibrating = torch.arange(len(scene.ordinary)) % 2 == 0
    flagged = torch.zeros(len(examples), dtype=torch.double)
    quiet = 0.0
    for fold, fitted in enumerate(fits):
        detector, held = fitted.detectors[kind], torch.nonzero(place == fold).flatten()
        ordinary = score_texts(detector, scene.ordinary)
        threshold = conformal_threshold(ordinary[calibrating], FPR)
        flagged[held] = (~(score_texts(detector, reading.choose(held)) <= threshold)).double()
        quiet += rate_above(ordinary[~calibrating], threshold) / len(fits)
    positive = torch.tensor([example.positive for example in examples])
    hard = torch.tensor([example.hard for example in examples])
    counted = int((~calibrating).sum())
    return Alarms(
        float(flagged[positive].mean()),
        float(flagged[~positive].mean()),
        float(flagged[hard].mean()) if hard.any() else None,
        quiet,
        binomial_interval(round(quiet * counted), counted),
    )


def concept_values(concept: Concept, labels: dict[int, str]) -> dict[str, Any]:
    """One concept as `audit --json` tells it."""
    return {
        "name": concept.name,
        "auroc_heldout": round(concept.judged["features"].auroc.value, 4),
        "baseline": {
            name: round(concept.judged[name].auroc.value, 4) for name in ("probe", "bag_of_words", "random_feature")
        },
        "steering_effect": round(concept.effect.amplified.value, 5),
        "features": [
            {"feature": feature, "weight": round(weight, 4), "label": labels.get(feature, "")}
            for feature, weight in concept.features
        ],
        "leading": {
            "feature": concept.leading,
            "label": labels.get(concept.leading, ""),
            "direction": concept.leading_sign,
            "effects": concept.effect.to_json(),
            "moves": concept.moves,
        },
        "ways": {name: concept.judged[name].to_json() for name in WAYS},
        "alarms": {name: told.to_json() for name, told in concept.alarms.items()},
        "texts": list(concept.texts),
        "hard": concept.hard,
        "part": concept.part,
        "fvu": round(concept.fvu, 4),
        "found": concept.found,
        "beats_words": concept.beats_words,
    }
