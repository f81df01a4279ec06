"""A label for each feature from statistics alone, and how well it predicts firing.

Candidate rules are made from half of a feature's contexts. The rule that tells most about firing is chosen, and its
score is the balanced accuracy on the other half:

    score = (P(rule | peak of a context not used) + P(no rule | token without firing)) / 2

so 0.5 is useless and 1 is perfect. How often the rule holds without firing is counted on the whole text.
"""

import math
from dataclasses import dataclass

import numpy as np

from monoscope.atlas.candidates import Corpus, Rule, rules_for
from monoscope.atlas.examples import Counts, Examples
from monoscope.core.progress import SILENT, Progress

# Fewer contexts than this cannot be halved.
_FEWEST = 4
# Two rules at once must tell clearly more than one does.
_TWO_RULES = 0.8


@dataclass(frozen=True)
class Label:
    """What a feature is about in a few words; `kind` says which sort of rule it is. A score of 0.5 is chance."""

    text: str
    score: float
    kind: str


def label_features(corpus: Corpus, examples: Examples, counts: Counts, *, progress: Progress = SILENT) -> list[Label]:
    """A label for every feature. Cost: about a millisecond a feature."""
    progress.start("labels", len(counts.firings), "features")
    labels = []
    for feature, (first, last) in enumerate(zip(examples.offsets[:-1], examples.offsets[1:], strict=True)):
        density = counts.firings[feature] / max(1, counts.tokens)
        labels.append(label_one(corpus, examples.token[first:last], examples.value[first:last], float(density)))
        if feature % 256 == 255:
            progress.advance(256)
    progress.finish()
    return labels


def label_one(corpus: Corpus, token: np.ndarray, value: np.ndarray, density: float) -> Label:
    """The label of a feature that peaks at `token` with `value` and fires on a share `density` of the tokens."""
    if not len(token):
        return Label("never fires", 0.5, "silent")
    making = np.arange(len(token)) % 2 == 0
    if len(token) < _FEWEST:
        making[:] = True
    scoring = ~making if len(token) >= _FEWEST else making
    rules = rules_for(corpus, token, value.astype(np.float64), making)
    told = [_told(rule, scoring, density) * (_TWO_RULES if rule.kind == "both" else 1.0) for rule in rules]
    best = int(np.argmax(told))
    score = balanced_accuracy(rules[best], scoring, density) if len(token) >= _FEWEST else 0.5
    return Label(rules[best].text, score, rules[best].kind)


def balanced_accuracy(rule: Rule, scoring: np.ndarray, density: float) -> float:
    """The mean of the two rates at which the rule is right: on contexts not used, and on tokens without firing."""
    hit = float(rule.holds[scoring].mean())
    false = max(0.0, rule.share - hit * density) / max(1e-9, 1 - density)
    return (hit + 1 - min(1.0, false)) / 2


def _told(rule: Rule, scoring: np.ndarray, density: float) -> float:
    """The information in nats that the rule gives about firing, as a share of all there is."""
    density = min(max(density, 1e-7), 1 - 1e-7)
    hit = density * float(rule.holds[scoring].mean())
    share = max(rule.share, hit)
    cells = (hit, density - hit, share - hit, 1 - density - share + hit)
    outer = (density * share, density * (1 - share), (1 - density) * share, (1 - density) * (1 - share))
    known = sum(cell * math.log(cell / max(alone, 1e-30)) for cell, alone in zip(cells, outer, strict=True) if cell > 0)
    return known / (-density * math.log(density) - (1 - density) * math.log(1 - density))
