"""Records of the atlas as plain values, with the keys that `--json` and the HTTP interface share."""

from typing import Any

from monoscope.atlas.records import Context, FeatureRecord, Near
from monoscope.atlas.search import SearchHit


def feature_values(record: FeatureRecord) -> dict[str, Any]:
    """A feature as `monoscope show --json` prints it."""
    return {
        "feature": record.feature,
        "label": record.label,
        "label_score": record.label_score,
        "label_kind": record.label_kind,
        "label_control": record.label_control,
        "concept": record.concept,
        "density": record.density,
        "firings": record.firings,
        "mean": record.mean,
        "p999": record.p999,
        "max_activation": record.max_activation,
        "max_token": record.max_token,
        "histogram": {"edges": list(record.histogram.edges), "counts": list(record.histogram.counts)},
        "contexts": [context_values(context) for context in (*record.contexts, *record.silent)],
        "promoted": [{"token": token, "value": value} for token, value in record.promoted],
        "suppressed": [{"token": token, "value": value} for token, value in record.suppressed],
        "neighbours": [near_values(near) for near in record.neighbours],
        "cofiring": [near_values(near) for near in record.cofiring],
        "typical_token": record.typical_token,
        "typical_share": record.typical_share,
        "typical_position": record.typical_position,
        "sources": record.sources,
        "languages": record.languages,
        "duplicate_of": record.duplicate_of,
        "absorbed_into": record.absorbed_into,
        "map": list(record.map) if record.map is not None else None,
    }


def near_values(near: Near) -> dict[str, Any]:
    """A feature beside another."""
    return {key: value for key, value in vars(near).items() if value is not None}


def context_values(context: Context) -> dict[str, Any]:
    """A context of a feature."""
    return {
        "tokens": list(context.tokens),
        "activations": list(context.activations),
        "document": context.title,
        "source": context.source,
        "quantile": context.quantile,
    }


def hit_values(hit: SearchHit) -> dict[str, Any]:
    """A search result as `monoscope search --json` prints it."""
    return {
        "feature": hit.feature,
        "label": hit.label,
        "score": hit.score,
        "why": hit.why,
        "example": "".join(hit.example.tokens) if hit.example is not None else "",
    }
