"""Records as a page from the disk draws them: clean text and numbers, in few bytes.

The text of an example is a list of pieces. A string is text on which nothing fires; `[level, value, part, …]` is a
shaded unit, level 1 to 8 (below 0 for a negative value); a part is a string, or `[kind, text]` for a mark, a break or a
chip; `[kind, text]` between pieces is a part on which nothing fires.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from monoscope.atlas.query import Context, FeatureRecord, Near
from monoscope.porch.checking import Rounding
from monoscope.porch.origin import Origin
from monoscope.render.scale import level
from monoscope.render.svg import filled, sparkline_path
from monoscope.render.tokens import BREAK, SPACE, TEXT, Part, display_units, plain_text

_LONGEST_LABEL, _LONGEST_TITLE = 120, 160
_SNIPPET_TOKENS = 22
TOP, SILENT = "top", "silent"
_TITLES = {TOP: "Top activations", SILENT: "Silent near misses"}

Piece = str | list[Any]


def label_of(feature: int, label: str) -> str:
    """A label on one line of clean text; the number where there is none."""
    return _short(label, _LONGEST_LABEL) or f"feature {feature}"


def index_values(origin: Origin, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the page knows from the start: a column for each figure of all features, and what they are of."""
    chosen = set(origin.features)
    first = [record.feature for record in origin.atlas.highlights(24) if record.feature in chosen]
    return {
        "about": {key: origin.about[key] for key in ("model", "site", "dictionary", "tokens", "of_features")},
        "credits": list(origin.credits),
        "highlights": first,
        "feature": list(origin.features),
        **{name: [line[name] for line in lines] for name in ("label", "score", "density", "concept")},
    }


def line_values(record: FeatureRecord, keep: Rounding) -> dict[str, Any]:
    """A feature's part of the index."""
    return {
        "label": label_of(record.feature, record.label),
        "score": keep(record.label_score),
        "density": keep(record.density, 8),
        "concept": keep(record.concept),
    }


def card_values(record: FeatureRecord, keep: Rounding) -> dict[str, Any]:
    """A feature in a list: thumbnail, and the strongest place of its best example."""
    best = max(record.contexts, key=lambda context: context.activations[context.peak], default=None)
    found: dict[str, Any] = {"spark": sparkline_path(record.histogram.counts), "pieces": [], "cut": [False, False]}
    if best is None:
        return found
    tokens, count = best.token_bytes, len(best.token_bytes)
    first = max(0, min(best.peak - 2 * _SNIPPET_TOKENS // 3, count - _SNIPPET_TOKENS))
    while first and tokens[first][:1] and tokens[first][0] & 0xC0 == 0x80:  # not into the middle of a character
        first -= 1
    last = min(count, first + _SNIPPET_TOKENS)
    pieces = pieces_of(tokens[first:last], best.activations[first:last], record.max_activation, keep)
    return {**found, "pieces": pieces, "cut": [first > 0, last < count]}


def feature_values(record: FeatureRecord, keep: Rounding) -> dict[str, Any]:
    """A feature's whole page."""
    first, last = filled(record.histogram.counts)
    contexts = (*record.contexts, *record.silent)
    return {
        "feature": record.feature,
        "label": label_of(record.feature, record.label),
        "score": keep(record.label_score),
        "control": keep(record.label_control),
        "density": keep(record.density, 8),
        "largest": keep(record.max_activation),
        "typical": [_token(record.typical_token), keep(record.typical_share)],
        "duplicate": record.duplicate_of,
        "absorbed": record.absorbed_into,
        "edges": [keep(edge) for edge in record.histogram.edges[first : last + 1]] if last else [],
        "counts": list(record.histogram.counts[first:last]),
        "raises": _pointed(record.promoted, keep),
        "lowers": _pointed(record.suppressed, keep),
        "near": [_near(near, keep(near.cosine)) for near in record.neighbours],
        "together": [_near(near, keep(near.lift or 0.0)) for near in record.cofiring],
        "sources": [[plain_text(name), keep(rate, 8)] for name, rate in _strongest(record.sources)],
        "groups": [
            {
                "name": _TITLES.get(name, f"Interval {name.replace('-', '–')}"),
                "contexts": [_context(each, record.max_activation, keep) for each in contexts if each.quantile == name],
            }
            for name in sorted({context.quantile for context in contexts}, key=_order)
        ],
    }


def pieces_of(tokens: Sequence[bytes], activations: Sequence[float], largest: float, keep: Rounding) -> list[Piece]:
    """An example's pieces; texts on which nothing fires are joined.

    Cost  tokens that are whole characters are looked up; only where a character is cut are units found anew.
    """
    found: list[Piece] = []
    text = ""
    for parts, quiet, value in _units(tokens, activations):
        if not value and quiet is not None:
            text += quiet
            continue
        before, inside, after = _around(parts) if value else (parts, (), ())
        pieces: list[Piece] = [_part(part) for part in before]
        if inside:
            shade = level(value, largest)
            pieces.append([shade if value > 0 else -shade, keep(value), *(_part(part) for part in inside)])
        for piece in (*pieces, *(_part(part) for part in after)):
            if isinstance(piece, str):
                text += piece
                continue
            if text:
                found.append(text)
                text = ""
            found.append(piece)
    return [*found, text] if text else found


def _units(
    tokens: Sequence[bytes], activations: Sequence[float]
) -> Iterator[tuple[tuple[Part, ...], str | None, float]]:
    """For each unit its parts, their text where that is all they are, and the value."""
    alone = [_alone(token, value != 0) for token, value in zip(tokens, activations, strict=True)]
    if None in alone:
        units = display_units(tokens, activations)
        return ((unit.parts, None, unit.value) for unit in units)
    return ((*found, value) for found, value in zip(alone, activations, strict=True) if found is not None)


@lru_cache(maxsize=1 << 18)
def _alone(token: bytes, active: bool) -> tuple[tuple[Part, ...], str | None] | None:
    """A token that is a unit by itself: its parts, and their text if that is all; None where it cuts a character."""
    try:
        token.decode()
    except UnicodeDecodeError:
        return None
    parts = display_units([token], [float(active)])[0].parts
    plain = all(part.kind in (TEXT, SPACE) for part in parts)
    return parts, "".join(part.text for part in parts) if plain else None


def _around(parts: tuple[Part, ...]) -> tuple[tuple[Part, ...], tuple[Part, ...], tuple[Part, ...]]:
    """What stands before, in and after the shade: spaces at either end are outside of it."""
    first = 1 if parts and parts[0].kind == SPACE else 0
    last = len(parts) - (1 if len(parts) > first and parts[-1].kind == SPACE else 0)
    return parts[:first], parts[first:last], parts[last:]


def _part(part: Part) -> Piece:
    return part.text if part.kind in (TEXT, SPACE) else [part.kind, part.text]


def _context(context: Context, largest: float, keep: Rounding) -> list[Any]:
    """Strongest value, pieces, where it is from, language."""
    where = ", ".join(_short(text, _LONGEST_TITLE) for text in (context.title, context.source) if text)
    pieces = pieces_of(context.token_bytes, context.activations, largest, keep)
    return [keep(max(context.activations, default=0.0)), pieces, where, _short(context.language, 20)]


def _pointed(tokens: Sequence[tuple[str, float]], keep: Rounding) -> list[list[Any]]:
    """Parts of each token, its level among the list's, its value."""
    strongest = max((abs(value) for _, value in tokens), default=0.0)
    return [[_token(token), level(value, strongest) * (1 if value > 0 else -1), keep(value)] for token, value in tokens]


@lru_cache(maxsize=1 << 17)
def _token(token: str) -> list[Piece]:
    """A token out of its context: spaces alone are seen, and only a break alone is one."""
    parts = [part for unit in display_units([token.encode()], [1.0]) for part in unit.parts]
    return [_part(part) for part in parts if part.kind != BREAK or len(parts) == 1] if token else []


def _near(near: Near, figure: float) -> list[Any]:
    return [near.feature, label_of(near.feature, near.label), figure]


def _strongest(rates: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(((name, rate) for name, rate in rates.items() if rate > 0), key=lambda pair: -pair[1])[:8]


def _order(quantile: str) -> tuple[int, int]:
    """Top first, then from the strongest interval down, silence last."""
    if quantile in _TITLES:
        return (0 if quantile == TOP else 2, 0)
    return (1, -int(quantile.split("-")[0]))


@lru_cache(maxsize=1 << 16)
def _short(text: str, most: int) -> str:
    text = plain_text(text or "").strip()
    return text if len(text) <= most else text[: most - 1] + "…"
