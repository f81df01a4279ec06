"""Records as a page from the disk draws them: clean text and numbers, in few bytes.

The text of an example is a list of pieces. A string is text on which nothing fires; `[level, value, part, …]` is a
shaded unit, level 1 to 8 (below 0 for a negative value); a part is a string, or `[kind, text]` for a mark, a break or a
chip; `[kind, text]` between pieces is a part on which nothing fires.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from monoscope.atlas.records import Context, FeatureRecord, Near
from monoscope.porch.checking import Rounding
from monoscope.porch.origin import Origin
from monoscope.render.scale import level
from monoscope.render.svg import filled, sparkline_path
from monoscope.render.tokens import BREAK, SPACE, TEXT, Part, display_units, plain_text

_LONGEST_LABEL, _LONGEST_TITLE = 120, 160
_SNIPPET_TOKENS, _HIGHLIGHTS = 22, 24
_FENCE, _PARTED, _CUT = "\x00", "\x01", "\x02"
TOP, SILENT = "top", "silent"
_TITLES = {TOP: "Top activations", SILENT: "Silent near misses"}

Piece = str | list[Any]


def label_of(feature: int, label: str) -> str:
    """A label on one line of clean text; the number where there is none."""
    return _short(label, _LONGEST_LABEL) or f"feature {feature}"


def index_values(origin: Origin) -> dict[str, Any]:
    """What the page knows from the start, beside the columns of `line_values`."""
    chosen = set(origin.features)
    first = [record.feature for record in origin.atlas.highlights(_HIGHLIGHTS) if record.feature in chosen]
    return {
        "about": {key: origin.about[key] for key in ("model", "site", "dictionary", "tokens", "of_features")},
        "credits": list(origin.credits),
        "highlights": first,
        "feature": list(origin.features),
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

    Cost  silent tokens are looked up; only where a character is cut are the units of the whole example found anew.
    """
    texts = list(map(_SILENT_TEXT.__getitem__, tokens))
    if _CUT in texts:
        units = [(unit.parts, unit.value) for unit in display_units(tokens, activations)]
        texts = [_text(parts) for parts, _ in units]
    else:
        units = [(_alone(token) if value else (), value) for token, value in zip(tokens, activations, strict=True)]
    shaded: list[Piece] = []
    for place, (parts, value) in enumerate(units):
        if not value:
            continue
        before, inside, after = _around(parts)
        texts[place] = f"{_text(before)}{_FENCE}{len(shaded)}{_FENCE}{_text(after)}" if inside else _text(parts)
        if inside:
            shade = level(value, largest) * (1 if value > 0 else -1)
            shaded.append([shade, keep(value), *(_part(part) for part in inside)])
    return list(_pieces("".join(texts).split(_FENCE), shaded))


def _pieces(texts: Sequence[str], shaded: Sequence[Piece]) -> Iterator[Piece]:
    """Every second text lies between fences: the number of a shaded unit, or kind and text of a part."""
    for place, text in enumerate(texts):
        if place % 2 == 0:
            if text:
                yield text
            continue
        kind, parted, shown = text.partition(_PARTED)
        yield [kind, shown] if parted else shaded[int(text)]


def _text(parts: Sequence[Part]) -> str:
    """Parts as one text; those that are no text stand between fences, which no clean text holds."""
    return "".join(
        part.text if part.kind in (TEXT, SPACE) else f"{_FENCE}{part.kind}{_PARTED}{part.text}{_FENCE}"
        for part in parts
    )


class _SilentText(dict[bytes, str]):
    """What a token on which nothing fires shows; `_CUT` for one that begins or ends within a character."""

    def __missing__(self, token: bytes) -> str:
        try:
            token.decode()
        except UnicodeDecodeError:
            found = _CUT
        else:
            found = _text(display_units([token])[0].parts)
        self[token] = found
        return found


_SILENT_TEXT = _SilentText()


@lru_cache(maxsize=1 << 18)
def _alone(token: bytes) -> tuple[Part, ...]:
    """The parts of a whole token on which a feature fires."""
    return display_units([token], [1.0])[0].parts


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
