"""A feature's evidence as its page draws it; values that are HTML end in `_html` and are escaped already."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monoscope.atlas.query import Atlas
from monoscope.atlas.records import Context, FeatureRecord, Near
from monoscope.render.card import density_text
from monoscope.render.scale import LEVELS, level_class, signed
from monoscope.render.svg import filled, histogram, share_bar
from monoscope.render.tokens import lone_html, plain_text, units_html
from monoscope.serve.present import label_of, units_of

TOP, SILENT = "top", "silent"
_TITLES = {TOP: "Top activations", SILENT: "Silent: its typical token without it"}
_MOST_RATES = 6
_MOST_NOTES = 20
_KINDS = {
    "words": "words chosen at its peaks", "word": "a word at its peaks", "kind": "a kind of token",
    "language": "a language", "token": "the token at its peaks", "after": "what stands before its peaks",
    "near": "words near its peaks", "topic": "what the texts are about", "both": "two rules that hold together",
}  # fmt: skip
_JUDGE = "judge:"


@dataclass(frozen=True)
class PointedTokens:
    """Tokens as bytes, as half a character has no text: what a feature raises, lowers, and typically fires on."""

    raised: tuple[tuple[bytes, float], ...]
    lowered: tuple[tuple[bytes, float], ...]
    typical: bytes = b""


def pointed_tokens(atlas: Atlas, feature: int) -> PointedTokens:
    """The tokens that a feature's direction points at and away from, strongest first; and its typical one."""
    (row,) = atlas.rows("promoted, promoted_by, suppressed, suppressed_by, typical_token", [feature])
    words, typical = atlas.store.vocabulary, row["typical_token"]

    def listed(name: str) -> tuple[tuple[bytes, float], ...]:
        return tuple((words[token], value) for token, value in zip(row[name], row[f"{name}_by"], strict=True))

    return PointedTokens(listed("promoted"), listed("suppressed"), words[typical] if typical >= 0 else b"")


def feature_view(record: FeatureRecord, pointed: PointedTokens, others: Mapping[int, str]) -> dict[str, Any]:
    """A feature's page. `others` are the labels of the features that its flags name."""
    most = record.max_activation
    strongest = max((abs(value) for _, value in (*pointed.raised, *pointed.lowered)), default=0.0)
    return {
        "feature": record.feature,
        "label": label_of(record.feature, record.label),
        "label_score": record.label_score,
        "label_control": record.label_control,
        "label_kind": kind_of(record.label_kind),
        "density": density_text(record.density),
        "firings": record.firings,
        "max": most,
        "histogram_html": histogram(record.histogram.edges, record.histogram.counts),
        "least": f"{record.histogram.edges[filled(record.histogram.counts)[0]]:.2f}",
        "bins": _bins(record),
        "legend": [f"p{n}" for n in range(1, LEVELS + 1)],
        "groups": _groups((*record.contexts, *record.silent), most),
        "promoted": [_token_row(token, value, strongest) for token, value in pointed.raised],
        "suppressed": [_token_row(token, value, strongest) for token, value in pointed.lowered],
        "neighbours": [_near(near) for near in record.neighbours],
        "cofiring": [_near(near) for near in record.cofiring],
        "typical": _typical(record, pointed.typical),
        "flags": _flags(record, others),
        "rates": [
            {"name": name, "rows": _rates(rates, record.density)}
            for name, rates in (("source", record.sources), ("language", record.languages))
            if record.firings and len(rates) > 1
        ],
        "on_map": record.map is not None,
    }


def kind_of(kind: str) -> str:
    """Where a label comes from, in words; nothing where there is nothing to say."""
    if kind.startswith(_JUDGE):
        return f"written by {plain_text(kind.removeprefix(_JUDGE))[:80]}"
    return _KINDS.get(kind, "")


def desk_view(atlas: Atlas, feature: int) -> dict[str, Any]:
    """What people have put down about a feature: their label, the latest notes, the lists it is in."""
    desk = atlas.desk
    notes, given = desk.notes(feature), desk.given(feature, "person")
    return {
        "label": label_of(feature, given.text) if given is not None else "",
        "notes": ["\n".join(plain_text(line) for line in note.splitlines()) for note in notes[-_MOST_NOTES:]],
        "more": max(0, len(notes) - _MOST_NOTES),
        "lists": [plain_text(name) for name, features in desk.lists().items() if feature in features],
    }


def _near(near: Near) -> dict[str, Any]:
    return {
        "feature": near.feature,
        "label": label_of(near.feature, near.label),
        "cosine": f"{near.cosine:.2f}",
        "correlation": f"{near.correlation:.2f}",
        "lift": "–" if near.lift is None else f"{near.lift:,.0f}" if near.lift >= 10 else f"{near.lift:.1f}",
    }


def _typical(record: FeatureRecord, token: bytes) -> dict[str, str] | None:
    if not record.firings or not token:
        return None
    position = record.typical_position
    return {
        "token_html": lone_html(token),
        "share": f"{100 * record.typical_share:.0f} %",
        "position": "" if position is None else f"{position:,.0f}",
    }


def _flags(record: FeatureRecord, others: Mapping[int, str]) -> list[dict[str, Any]]:
    found = (("Repeats", record.duplicate_of), ("May lose tokens to", record.absorbed_into))
    return [
        {"says": says, "feature": other, "label": label_of(other, others.get(other))}
        for says, other in found
        if other is not None
    ]


def _rates(rates: Mapping[str, float], density: float) -> list[dict[str, str]]:
    """The largest rates, each beside the rate in the whole text."""
    ranked = sorted(rates.items(), key=lambda pair: -pair[1])[:_MOST_RATES]
    largest = max([density, *rates.values()]) or 1.0
    return [
        {
            "name": plain_text(name),
            "rate": density_text(rate),
            "bar_html": share_bar(rate / largest, density / largest),
        }
        for name, rate in ranked
    ]


def _token_row(token: bytes, value: float, strongest: float) -> dict[str, str]:
    return {
        "token_html": lone_html(token),
        "value": signed(value),
        "shade": level_class(value, strongest),
    }


def _bins(record: FeatureRecord) -> list[dict[str, str]]:
    edges, counts = record.histogram.edges, record.histogram.counts
    return [
        {"range": f"{edges[i]:.2f} to {edges[i + 1]:.2f}", "count": f"{count:,}"}
        for i, count in enumerate(counts)
        if count
    ]


def _groups(contexts: Sequence[Context], largest: float) -> list[dict[str, Any]]:
    """Examples by quantile: the top ones, then each interval from the strongest down, then the silent ones."""
    names = sorted({context.quantile for context in contexts}, key=_group_order)
    return [
        {
            "name": _TITLES.get(name, f"Interval {name.replace('-', '–')}"),
            "examples": [_example(context, largest) for context in contexts if context.quantile == name],
        }
        for name in names
    ]


def _group_order(name: str) -> tuple[int, int]:
    if name in _TITLES:
        return (0 if name == TOP else 2, 0)
    return (1, -int("".join(c for c in name.split("-")[0] if c.isdigit()) or 0))


def _example(context: Context, largest: float) -> dict[str, str]:
    silent = context.quantile == SILENT
    return {
        "html": units_html(units_of(context), largest, mark=context.peak if silent else None),
        "peak": "0" if silent else f"{max(context.activations, default=0.0):.2f}",
        "where": ", ".join(plain_text(text) for text in (context.title, context.source) if text),
        "language": context.language or "",
    }
