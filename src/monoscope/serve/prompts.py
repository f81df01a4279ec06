"""A text token by token, each with the features that fire on it."""

from typing import Any

from monoscope.render.scale import level_class
from monoscope.render.tokens import Unit, display_units, lone_html
from monoscope.serve.library import Library
from monoscope.serve.lookup import labels_of
from monoscope.serve.reading import read_text

TOP_FEATURES = 5
MOST_OVERALL = 12


def prompt_view(books: Library, name: str, text: str) -> dict[str, Any]:
    """What the page draws: tokens as links to their rows, a row for each, and the strongest features of the whole.

    Raises
        BadRequest   the text is empty or too long.
        Unavailable  the model is not loaded yet.
    """
    dictionary, model = books.dictionary(name), books.model()
    with books.queue.turn():
        read = read_text(model, dictionary, text)
        codes = read.codes(dictionary)
    units = display_units(read.tokens, special=read.special)
    best = [_strongest(codes, unit) for unit in units]
    largest = {feature: float(dictionary.stats.max[feature]) for row in best for feature, _ in row}
    overall = _overall(best, largest)
    wanted = {feature for row in best for feature, _ in row[:TOP_FEATURES]} | {feature for feature, _, _ in overall}
    labels = labels_of(books, name, wanted)

    def told(feature: int, value: float) -> dict[str, Any]:
        shade = level_class(value, largest[feature])
        return {"feature": feature, "label": labels[feature], "value": f"{value:.2f}", "shade": shade}

    return {
        "tokens": len(read.tokens),
        "rows": [
            {
                "at": unit.first,
                "html": lone_html(unit.raw),
                "features": [told(feature, value) for feature, value in row[:TOP_FEATURES]],
                "more": max(0, len(row) - TOP_FEATURES),
                "kept": any(read.kept[unit.first : unit.first + len(unit.values)]),
            }
            for unit, row in zip(units, best, strict=True)
        ],
        "overall": [{**told(feature, value), "at": units[place].first} for feature, value, place in overall],
    }


def _strongest(codes: list[list[tuple[int, float]]], unit: Unit) -> list[tuple[int, float]]:
    """The features of a unit's tokens, each with its largest activation among them, strongest first."""
    found: dict[int, float] = {}
    for row in codes[unit.first : unit.first + len(unit.values)]:
        for feature, value in row:
            found[feature] = max(value, found.get(feature, 0.0))
    return sorted(found.items(), key=lambda pair: -pair[1])


def _overall(best: list[list[tuple[int, float]]], largest: dict[int, float]) -> list[tuple[int, float, int]]:
    """The features that come nearest to their own maximum anywhere, with where; so that dense ones do not lead."""
    found: dict[int, tuple[float, int]] = {}
    for place, row in enumerate(best):
        for feature, value in row:
            if value > found.get(feature, (0.0, 0))[0]:
                found[feature] = (value, place)
    ranked = sorted(found.items(), key=lambda item: -item[1][0] / max(largest[item[0]], 1e-9))
    return [(feature, value, place) for feature, (value, place) in ranked[:MOST_OVERALL]]
