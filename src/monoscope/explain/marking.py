"""Windows of text as a judge reads them: on one line, with marks around tokens."""

import math
from collections.abc import Collection, Sequence

LEFT, RIGHT = "«", "»"
_OTHER_MARKS = str.maketrans({LEFT: '"', RIGHT: '"', "\n": "⏎", "\r": " ", "\t": " ", "\u2028": " ", "\u2029": " "})
# Weaker tokens than this share of the window's strongest are not marked: they would blur the picture.
_FAINT = 0.3


def marked_places(activations: Sequence[float]) -> list[int]:
    """The places of the tokens on which a feature fires in earnest."""
    most = max(activations, default=0.0)
    return [place for place, value in enumerate(activations) if value > _FAINT * most and value > 0]


def marked_text(tokens: Sequence[str], places: Collection[int] = ()) -> str:
    """The text on one line, with marks around the tokens at `places`; neighbours share one pair.

    Marks in the text itself become plain quotes, line ends a sign.
    """
    parts, inside = [], False
    for place, token in enumerate(tokens):
        wanted = place in places
        if wanted != inside:
            parts.append(LEFT if wanted else RIGHT)
            inside = wanted
        parts.append(token.translate(_OTHER_MARKS))
    return _spaced("".join([*parts, RIGHT if inside else ""]))


def importance(value: float, most: float) -> int:
    """A strength from 0 to 10 against the largest there is."""
    return min(10, max(0, math.ceil(10 * value / most))) if most > 0 else 0


def importances(tokens: Sequence[str], activations: Sequence[float], most: float, limit: int = 8) -> str:
    """The strongest marked tokens with their strengths, in reading order."""
    places = marked_places(activations)
    chosen = sorted(sorted(places, key=lambda place: -activations[place])[:limit])
    said = [(tokens[place].translate(_OTHER_MARKS).strip(), importance(activations[place], most)) for place in chosen]
    return ", ".join(f'"{token}" {strength}' for token, strength in said)


def _spaced(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
