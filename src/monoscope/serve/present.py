"""Records of the atlas as plain values: what the interface answers and what templates draw."""

from typing import Any

from monoscope.atlas.records import Context, FeatureRecord
from monoscope.atlas.values import context_values, feature_values
from monoscope.render.card import density_text, snippet_html
from monoscope.render.svg import sparkline, sparkline_path
from monoscope.render.tokens import Unit, around, display_units, plain_text, units_json

LONGEST_LABEL = 120
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
    contexts = [context_with_units(context, record.max_activation) for context in (*record.contexts, *record.silent)]
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
