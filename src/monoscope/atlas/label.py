"""A label for each feature from statistics alone, and how well it says when the feature fires on text it has not seen.

Candidate rules are made from documents that are not held out. The rule that is right most often on windows of such
documents is chosen, and its score is the balanced accuracy on windows of held-out documents (`trials`):

    score = (P(rule holds | the feature fires in the window) + P(rule does not hold | it is silent)) / 2

0.5 is useless and 1 is perfect. Beside it stands the same label tried on the windows of another feature.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from monoscope.atlas.candidates import Corpus, Rule, rules_for
from monoscope.atlas.examples import Counts, Examples
from monoscope.atlas.sample import Sample
from monoscope.atlas.spoken import chosen_words
from monoscope.atlas.trials import CHOOSING, Firings, Trial, TrialMaker
from monoscope.atlas.trying import Bench, balanced_accuracy

# Two rules at once must tell clearly more than one does.
_TWO_RULES = 0.8
# What a rule tells about the peaks breaks ties between rules that are right equally often.
_TIE = 0.1
_UNSCORED = 0.5
# Words chosen one by one have no share of peaks to tell by; they count as a middling rule.
_WORDS_TOLD = 0.4


@dataclass(frozen=True)
class Label:
    """What a feature is about in a few words; `kind` says which sort of rule it is.

    `score` is the balanced accuracy on held-out windows, 0.5 is chance; `control` that of this label on the windows of
    another feature. `told` is the information about peaks that the rule gives, from 0 to 1. What was not `tried`, for
    want of held-out windows or of other documents to make the label from, scores 0.5.
    """

    text: str
    score: float
    kind: str
    control: float = _UNSCORED
    told: float = 0.0
    tried: bool = False


@dataclass(frozen=True)
class Known:
    """What the sample says of a feature: the token it typically fires on, its share, and the windows of its trials."""

    typical: int
    typical_share: float
    firings: Firings
    held: Trial
    open: Trial


class Labeller:
    """Labels features of one atlas. Built once; cost of a label with its trials: about five milliseconds."""

    def __init__(self, corpus: Corpus, sample: Sample, held: np.ndarray) -> None:
        """`held` marks the documents that no label may be made from."""
        self.corpus, self._bench = corpus, Bench(corpus, sample)
        self._held, self._maker = held, TrialMaker(sample, corpus.store)

    @property
    def maker(self) -> TrialMaker:
        """What chooses the windows."""
        return self._maker

    def known(self, feature: int) -> Known:
        """What the sample says of a feature."""
        firings = self._maker.firings(feature)
        typical, share = self._maker.typical_token(firings)
        held = self._maker.trial(feature, firings, typical, held=True)
        return Known(
            typical, share, firings, held, self._maker.trial(feature, firings, typical, held=False, times=CHOOSING)
        )

    def label(self, token: np.ndarray, value: np.ndarray, density: float, known: Known) -> tuple[Label, Rule | None]:
        """The label of a feature whose contexts peak at `token` with `value`, and the rule behind it."""
        if not len(token):
            return Label("never fires", _UNSCORED, "silent"), None
        making = ~self._held[self.corpus.words.document[self.corpus.words.of_token[token]]]
        tried = known.held.enough and bool(making.any())
        if not making.any():  # made from what it would be scored on
            making = np.ones(len(token), bool)
        rules = rules_for(self.corpus, token, value.astype(np.float64), making)
        told = [_told(rule, making, density) * (_TWO_RULES if rule.kind == "both" else 1.0) for rule in rules]
        right = [0.0] * len(rules)
        if known.open.enough:
            windows = self._bench.at(known.open.windows)
            rules += chosen_words(self.corpus, windows, self._maker.sample, known.open)
            told += [_WORDS_TOLD] * (len(rules) - len(told))
            right = [_right(windows.holds(rule.test), known.open) for rule in rules]
        best = int(np.argmax([a + _TIE * b for a, b in zip(right, told, strict=True)]))
        score = self.score(rules[best], known.held) if tried else _UNSCORED
        return Label(rules[best].text, score, rules[best].kind, told=told[best], tried=tried), rules[best]

    def score(self, rule: Rule, trial: Trial) -> float:
        """How often the rule is right about the windows of a trial."""
        return balanced_accuracy(self._bench.at(trial.windows).holds(rule.test), trial.fires)


@dataclass(frozen=True)
class Labelled:
    """The labels of all features and what the sample says of each."""

    labels: list[Label]
    known: list[Known]


def label_features(
    labeller: Labeller, examples: Examples, counts: Counts, features: np.ndarray, *, seed: int = 0
) -> Labelled:
    """A label for some features, and each label's control: another of their windows, drawn by `seed`."""
    labels, rules, known = [], [], []
    for feature in features.tolist():
        first, last = examples.offsets[feature], examples.offsets[feature + 1]
        known.append(labeller.known(feature))
        density = float(counts.firings[feature] / max(1, counts.tokens))
        label, rule = labeller.label(examples.token[first:last], examples.value[first:last], density, known[-1])
        labels.append(label)
        rules.append(rule)
    return Labelled(_controlled(labeller, labels, rules, known, seed), known)


def _controlled(
    labeller: Labeller, labels: list[Label], rules: list[Rule | None], known: list[Known], seed: int
) -> list[Label]:
    scored = [number for number, label in enumerate(labels) if label.tried]
    partners = np.roll(np.random.default_rng(seed).permutation(len(scored)), 1)
    order = np.roll(partners, -1)
    controlled = list(labels)
    for mine, other in zip(order.tolist(), partners.tolist(), strict=True):
        rule, trial = rules[scored[mine]], known[scored[other]].held
        if rule is not None and mine != other:
            controlled[scored[mine]] = replace(labels[scored[mine]], control=labeller.score(rule, trial))
    return controlled


def _right(predicted: np.ndarray, trial: Trial) -> float:
    """Balanced accuracy in which every fifth of the strengths weighs the same."""
    firing, silent = predicted[: len(trial.firing)], predicted[len(trial.firing) :]
    return (float(firing @ trial.weight) + 1 - np.count_nonzero(silent) / len(silent)) / 2


def _told(rule: Rule, scoring: np.ndarray, density: float) -> float:
    """The information in nats that the rule gives about firing, as a share of all there is."""
    density = min(max(density, 1e-7), 1 - 1e-7)
    hit = density * float(rule.holds[scoring].mean())
    share = max(rule.share, hit)
    cells = (hit, density - hit, share - hit, 1 - density - share + hit)
    outer = (density * share, density * (1 - share), (1 - density) * share, (1 - density) * (1 - share))
    known = sum(cell * math.log(cell / max(alone, 1e-30)) for cell, alone in zip(cells, outer, strict=True) if cell > 0)
    return known / (-density * math.log(density) - (1 - density) * math.log(1 - density))
