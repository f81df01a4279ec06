"""From replies at several strengths to a dose: what was heard, whether the text is still fluent, and which to take.

    concept rate      the share of replies that hold a word of the concept (`lexicon`)
    perplexity        exp of the mean negative log-likelihood of the replies' tokens under the plain model, given the
                      plain prompt, whatever made the replies
    repetition        the mean over replies of the share of 3-grams that stood earlier in the reply
    KL                of the edited model's next token from the plain model's, on neutral text, in nats
    word probability  that the next token is one of the words, the mean over neutral text; it rises long before a word
                      is heard, and counts only words that are one token

A strength is fluent while perplexity and repetition stay within limits; of the fluent ones that with the largest
concept rate is taken, of equals the smallest.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

# Plain replies of the demo's model have a perplexity of 4. Steered ones read as English up to 20 or so, and fall apart
# between 30 and 50.
MOST_PERPLEXITY_RATIO = 6.0
# Fluent replies repeat next to no 3-gram; above a fifth they go in circles.
MOST_REPETITION = 0.2
# Two of twelve replies: one more may hold a word of the concept by chance.
LEAST_RISE = 0.15


@dataclass(frozen=True)
class Reply:
    """What is measured of one reply. `loss` in nats, summed over its `tokens`; not `sound` where numbers broke."""

    heard: bool
    loss: float
    tokens: int
    repetition: float
    sound: bool = True


@dataclass(frozen=True)
class Limits:
    """The most at which a text counts as fluent."""

    perplexity: float
    repetition: float = MOST_REPETITION

    @classmethod
    def beside(cls, plain: "Point") -> "Limits":
        """Those for replies to the same questions as the plain ones."""
        return cls(MOST_PERPLEXITY_RATIO * plain.perplexity)

    def hold(self, point: "Point") -> bool:
        """Whether the replies of a point are fluent."""
        return point.perplexity <= self.perplexity and point.repetition <= self.repetition


@dataclass(frozen=True)
class Point:
    """All questions answered in one way.

    `strength` is in mean residual norms. It and `kl` are None where nothing is edited, `word_probability` where it was
    not measured or no word is one token.
    """

    replies: tuple[Reply, ...]
    strength: float | None = None
    kl: float | None = None
    word_probability: float | None = None

    @property
    def concept_rate(self) -> float:
        """The share of replies in which the concept was heard; 0 of none."""
        return sum(reply.heard for reply in self.replies) / max(1, len(self.replies))

    @property
    def perplexity(self) -> float:
        """Of all tokens together; infinite where there are none, or where numbers broke."""
        tokens = sum(reply.tokens for reply in self.replies)
        if not tokens or not all(reply.sound for reply in self.replies):
            return math.inf
        return math.exp(min(700.0, sum(reply.loss for reply in self.replies) / tokens))

    @property
    def repetition(self) -> float:
        """The mean over replies."""
        return sum(reply.repetition for reply in self.replies) / max(1, len(self.replies))

    def part(self, half: int) -> "Point":
        """Every other question, from the first or from the second on."""
        return replace(self, replies=self.replies[half::2])

    def to_json(self) -> dict[str, Any]:
        """As the grid of `dose --json` holds it."""
        return {
            "strength": self.strength,
            "concept_rate": round(self.concept_rate, 4),
            "perplexity": None if math.isinf(self.perplexity) else round(self.perplexity, 3),
            "repetition": round(self.repetition, 4),
            "kl": None if self.kl is None else round(self.kl, 4),
            "word_probability": None if self.word_probability is None else round(self.word_probability, 6),
        }


def best_of(points: Sequence[Point], limits: Limits) -> int | None:
    """The place of the point to take; None where none is fluent. Points come with rising strength."""
    fluent = [number for number, point in enumerate(points) if limits.hold(point)]
    return max(fluent, key=lambda number: (points[number].concept_rate, -number), default=None)


def interval(points: Sequence[Point], chosen: int, limits: Limits, plain: Point) -> tuple[int, int]:
    """The places of the first and the last point around a chosen one between which text is fluent and concept risen."""
    good = [limits.hold(point) and rises(point, plain) for point in points]
    first = last = chosen
    while first > 0 and good[first - 1]:
        first -= 1
    while last + 1 < len(points) and good[last + 1]:
        last += 1
    return first, last


def rises(point: Point, plain: Point) -> bool:
    """Whether the concept is heard clearly more often than in plain replies."""
    return point.concept_rate >= plain.concept_rate + LEAST_RISE - 1e-9


def rate_on_others(points: Sequence[Point], plain: Point, limits: Limits) -> float | None:
    """The concept rate at a strength that was chosen on the other half of the questions, both ways round.

    The best of several strengths looks good by luck alone; this rate has no part in that. Where no strength is fluent
    on a half, nothing is edited on the other. None for a single question.
    """
    if len(plain.replies) < 2:
        return None
    heard = 0.0
    for half in (0, 1):
        chosen = best_of([point.part(half) for point in points], limits)
        told = (plain if chosen is None else points[chosen]).part(1 - half)
        heard += told.concept_rate * len(told.replies)
    return heard / len(plain.replies)
