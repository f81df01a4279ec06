"""A text token by token, each with the features that fire on it."""

from typing import Any

from monoscope.render.scale import level_class
from monoscope.render.tokens import Unit, display_units, lone_html, told_html
from monoscope.serve.library import Library
from monoscope.serve.lookup import labels_of
from monoscope.serve.reading import read_text

TOP_FEATURES = 5
MOST_OVERALL = 12
# Shares of a token's variance from which on the line under it is thicker.
UNEXPLAINED = (0.0, 0.1, 0.2, 0.4)


def prompt_view(books: Library, name: str, text: str) -> dict[str, Any]:
    """What the page draws: the text with what is unexplained under it, a row for each token, the strongest features.

    Raises
        BadRequest   the text is empty or too long.
        Unavailable  the model is not loaded yet.
    """
    dictionary, model = books.dictionary(name), books.model()
    with books.queue.turn():
        read = read_text(model, dictionary, text)
        encoded = read.encoded(dictionary)
    codes = encoded.codes
    units = display_units(read.tokens, special=read.special)
    best = [_strongest(codes, unit) for unit in units]
    largest = {feature: float(dictionary.stats.max[feature]) for row in best for feature, _ in row}
    overall = _overall(best, largest)
    wanted = {feature for row in best for feature, _ in row[:TOP_FEATURES]} | {feature for feature, _, _ in overall}
    labels = labels_of(books, name, wanted)

    def told(feature: int, value: float) -> dict[str, Any]:
        shade = level_class(value, largest[feature])
        return {"feature": feature, "label": labels[feature], "value": f"{value:.2f}", "shade": shade}

    missed = [_missed(encoded.unexplained, unit) for unit in units]
    known = [share for share in encoded.unexplained if share is not None]
    return {
        "tokens": len(read.tokens),
        "missed": _percent(sum(known) / len(known)) if known else "",
        "legend": [_level_told(number) for number in range(len(UNEXPLAINED))],
        "text_html": told_html(units, [_told(unit, share) for unit, share in zip(units, missed, strict=True)], "#t"),
        "rows": [
            {
                "at": unit.first,
                "html": lone_html(unit.raw),
                "features": [told(feature, value) for feature, value in row[:TOP_FEATURES]],
                "more": max(0, len(row) - TOP_FEATURES),
                "missed": _percent(share) if share is not None else "",
                "missed_class": _level(share),
                "kept": any(read.kept[unit.first : unit.first + len(unit.values)]),
            }
            for unit, row, share in zip(units, best, missed, strict=True)
        ],
        "overall": [{**told(feature, value), "at": units[place].first} for feature, value, place in overall],
    }


def _missed(unexplained: list[float | None], unit: Unit) -> float | None:
    """The largest unexplained share among a unit's tokens; None where none is known."""
    shares = unexplained[unit.first : unit.first + len(unit.values)]
    return max((share for share in shares if share is not None), default=None)


def _level(share: float | None) -> str:
    """The class that underlines a share, u1 to u4."""
    return "" if share is None else f"u{sum(share >= least for least in UNEXPLAINED)}"


def _level_told(number: int) -> dict[str, str]:
    upper = UNEXPLAINED[number + 1] if number + 1 < len(UNEXPLAINED) else None
    told = f"{_percent(UNEXPLAINED[number])} and more" if upper is None else f"below {_percent(upper)}"
    return {"class": f"u{number + 1}", "told": told}


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _told(unit: Unit, share: float | None) -> tuple[str, str]:
    says = "no share is known here" if share is None else f"{_percent(share)} unexplained"
    return _level(share), f"\u201c{unit.shown}\u201d  {says}  \u00b7  token {unit.first}"


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
