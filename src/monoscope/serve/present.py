"""Records of the atlas as plain values: what the interface answers and what templates draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from monoscope.atlas.query import Atlas, Context, FeatureRecord
from monoscope.atlas.values import context_values, feature_values
from monoscope.render.card import density_text, snippet_html
from monoscope.render.scale import LEVELS, level_class, signed
from monoscope.render.svg import filled, histogram, sparkline, sparkline_path
from monoscope.render.tokens import Unit, around, display_units, lone_html, plain_text, units_html, units_json

LONGEST_LABEL = 120
TOP = "top"
_SNIPPET_UNITS = 22


def label_of(feature: int, label: str | None) -> str:
    """A label for people, on one line; the number where there is none."""
    text = plain_text(label or "").strip()
    if not text:
        return f"feature {feature}"
    return text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "…"


def units_of(context: Context) -> tuple[Unit, ...]:
    """An example's units."""
    return display_units(context.token_bytes, context.activations)


def feature_with_units(record: FeatureRecord) -> dict[str, Any]:
    """A feature as the interface answers it: the keys of `monoscope show --json`, and display units beside tokens."""
    contexts = [context_with_units(context, record.max_activation) for context in record.contexts]
    return {**feature_values(record), "contexts": contexts}


def context_with_units(context: Context, largest: float) -> dict[str, Any]:
    """An example as the interface answers it."""
    return {**context_values(context), "units": units_json(units_of(context), largest)}


def shown_values(record: FeatureRecord, why: str) -> dict[str, Any]:
    """A search result's card, for a script that draws it."""
    best = _best(record)
    units, before, after = around(units_of(best), _SNIPPET_UNITS) if best else ((), False, False)
    return {
        "label": label_of(record.feature, record.label),
        "density": density_text(record.density),
        "spark": sparkline_path(record.histogram.counts),
        "units": units_json(units, record.max_activation),
        "before": before,
        "after": after,
        "why": plain_text(why),
    }


@dataclass(frozen=True)
class PointedTokens:
    """The tokens that a feature raises and lowers, as bytes: half a character has no text."""

    raised: tuple[tuple[bytes, float], ...]
    lowered: tuple[tuple[bytes, float], ...]


def pointed_tokens(atlas: Atlas, feature: int) -> PointedTokens:
    """The tokens that a feature's direction points at and away from, strongest first."""
    (row,) = atlas.rows("promoted, promoted_by, suppressed, suppressed_by", [feature])
    words = atlas.store.vocabulary

    def listed(name: str) -> tuple[tuple[bytes, float], ...]:
        return tuple((words[token], value) for token, value in zip(row[name], row[f"{name}_by"], strict=True))

    return PointedTokens(listed("promoted"), listed("suppressed"))


def feature_view(record: FeatureRecord, pointed: PointedTokens) -> dict[str, Any]:
    """A feature as its page draws it; values that are HTML end in `_html` and are escaped already."""
    most = record.max_activation
    values = [abs(value) for _, value in (*pointed.raised, *pointed.lowered)]
    strongest = max(values, default=0.0)
    return {
        "feature": record.feature,
        "label": label_of(record.feature, record.label),
        "label_score": record.label_score,
        "density": density_text(record.density),
        "firings": record.firings,
        "max": most,
        "histogram_html": histogram(record.histogram.edges, record.histogram.counts),
        "least": f"{record.histogram.edges[filled(record.histogram.counts)[0]]:.2f}",
        "bins": _bins(record),
        "legend": [f"p{n}" for n in range(1, LEVELS + 1)],
        "groups": _groups(record.contexts, most),
        "promoted": [_token_row(token, value, strongest) for token, value in pointed.raised],
        "suppressed": [_token_row(token, value, strongest) for token, value in pointed.lowered],
        "neighbours": [
            {"feature": near.feature, "cosine": f"{near.cosine:.2f}", "label": label_of(near.feature, near.label)}
            for near in record.neighbours
        ],
    }


def card_view(record: FeatureRecord, *, score: float | None = None, why: str = "") -> dict[str, Any]:
    """A feature as a card in a list: label, thumbnail, best example."""
    best = _best(record)
    return {
        "feature": record.feature,
        "label": label_of(record.feature, record.label),
        "density": density_text(record.density),
        "max": record.max_activation,
        "spark_html": sparkline(record.histogram.counts),
        "snippet_html": snippet_html(units_of(best), record.max_activation, _SNIPPET_UNITS) if best else "",
        "score": score,
        "why": plain_text(why),
    }


def _best(record: FeatureRecord) -> Context | None:
    return max(record.contexts, key=lambda context: max(context.activations, default=0.0), default=None)


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
    """Examples by quantile: the top ones, then each interval from the strongest down."""
    names = sorted({context.quantile for context in contexts}, key=_group_order)
    return [
        {
            "name": "Top activations" if name == TOP else f"Interval {name.replace('-', '–')}",
            "examples": [_example(context, largest) for context in contexts if context.quantile == name],
        }
        for name in names
    ]


def _group_order(name: str) -> tuple[int, int]:
    digits = "".join(c for c in name.split("-")[0] if c.isdigit())
    return (0, 0) if name == TOP else (1, -int(digits or 0))


def _example(context: Context, largest: float) -> dict[str, str]:
    where = ", ".join(plain_text(text) for text in (context.title, context.source) if text)
    return {
        "html": units_html(units_of(context), largest),
        "peak": f"{max(context.activations, default=0.0):.2f}",
        "where": where,
        "language": context.language or "",
    }
