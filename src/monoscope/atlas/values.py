"""Records of the atlas as plain values, with the keys that `--json` and the HTTP interface share."""

from typing import Any

from monoscope.atlas.query import Context, FeatureRecord
from monoscope.atlas.search import SearchHit


def feature_values(record: FeatureRecord) -> dict[str, Any]:
    """A feature as `monoscope show --json` prints it."""
    return {
        "feature": record.feature,
        "label": record.label,
        "label_score": record.label_score,
        "density": record.density,
        "firings": record.firings,
        "max_activation": record.max_activation,
        "histogram": {"edges": list(record.histogram.edges), "counts": list(record.histogram.counts)},
        "contexts": [context_values(context) for context in record.contexts],
        "promoted": [{"token": token, "value": value} for token, value in record.promoted],
        "suppressed": [{"token": token, "value": value} for token, value in record.suppressed],
        "neighbours": [
            {"feature": other, "cosine": cosine, "label": label} for other, cosine, label in record.neighbours
        ],
        "map": None,
    }


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
