"""The record of a dose as plain values: what the desk keeps and `dose --json` prints."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from monoscope.effect.baselines import FEATURE
from monoscope.effect.choice import LEAST_RISE, Limits, Point, best_of, interval, rate_on_others, rises
from monoscope.steer.edits import Edit


@dataclass(frozen=True)
class Told:
    """A method's points over the grid, and the reply to the first question at each."""

    points: tuple[Point, ...]
    samples: tuple[str, ...]


def found_values(told: dict[str, Told], plain: Point, edit: Edit) -> dict[str, Any]:
    """Grid, recommendation and methods as plain values; `edit` is what was tried, at any strength."""
    limits, points = Limits.beside(plain), told[FEATURE].points
    recommended, reason = _recommended(points, plain, limits, edit)
    return {
        "baseline": plain.to_json(),
        "limits": {"perplexity": limits.perplexity, "repetition": limits.repetition, "rise": LEAST_RISE},
        "grid": [{**point.to_json(), "fluent": limits.hold(point)} for point in points],
        "recommended": recommended,
        "reason": reason,
        "methods": {name: _method(one.points, plain, limits) for name, one in told.items()},
    }


def _recommended(
    points: Sequence[Point], plain: Point, limits: Limits, edit: Edit
) -> tuple[dict[str, Any] | None, str]:
    chosen = best_of(points, limits)
    if chosen is None:
        return None, "no strength of the grid keeps the text fluent"
    if not rises(points[chosen], plain):
        return None, "at no strength that keeps the text fluent are the words heard clearly more often"
    first, last = interval(points, chosen, limits, plain)
    strength = points[chosen].strength
    return {
        "edit": str(replace(edit, value=strength)),
        "strength": strength,
        "low": points[first].strength,
        "high": points[last].strength,
    }, ""


def _method(points: Sequence[Point], plain: Point, limits: Limits) -> dict[str, Any]:
    """A method at its own best strength; where none is fluent, what doing nothing gives."""
    chosen = best_of(points, limits)
    shown = plain if chosen is None else points[chosen]
    elsewhere = rate_on_others(points, plain, limits)
    fluent = [point.word_probability for point in points if limits.hold(point) and point.word_probability is not None]
    return {
        "fluent": chosen is not None,
        **shown.to_json(),
        "rate_on_others": None if elsewhere is None else round(elsewhere, 4),
        "most_word_probability": round(max(fluent), 6) if fluent else None,
        "grid": [{**point.to_json(), "fluent": limits.hold(point)} for point in points],
    }


def sample_values(told: dict[str, Told], plain: Point) -> dict[str, str]:
    """The reply to the first question by each method at its best strength, or at its first where none is fluent."""
    limits = Limits.beside(plain)
    return {name: one.samples[best_of(one.points, limits) or 0] for name, one in told.items()}
