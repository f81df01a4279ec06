"""SAEDashboard's batch files, which Neuronpedia's own converter reads: `docs/formats/exports.md`.

Its words: `bin_contains` is the share of all tokens whose activation lies between `bin_min` and `bin_max`, and -1 for
the top activations, whose `bin_min` is -1; the keys that end in `_l1` beside Pearson correlations hold cosines.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monoscope.atlas.records import Context, FeatureRecord, Near
from monoscope.core.progress import Progress
from monoscope.porch.checking import largest_difference, rounded
from monoscope.porch.origin import Origin
from monoscope.render.svg import filled

BATCH = 128
TOP = "top"
_ALIGNED = 3
DIGITS = {
    **dict.fromkeys(("values", "neg_values", "pos_values", "bin_min", "bin_max", "freq_hist_data_bar_values"), 3),
    **dict.fromkeys(("neuron_alignment_values", "neuron_alignment_l1"), 3),
    **dict.fromkeys(("correlated_features_pearson", "correlated_features_l1"), 3),
    "vector": 6,
}


def write_batches(folder: Path, origin: Origin, progress: Progress) -> float:
    """`batch-0.json` and on, 128 features each; the largest rounding error comes back."""
    error = 0.0
    for number, records in enumerate(origin.batches(BATCH)):
        path = folder / f"batch-{number}.json"
        meant = batch_values(origin, records)
        text = json.dumps(rounded(meant, DIGITS), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        path.write_text(text, encoding="utf-8")
        error = max(error, largest_difference(meant, json.loads(path.read_text(encoding="utf-8")), path.name))
        progress.advance(len(records))
    return error


def batch_values(origin: Origin, records: Sequence[FeatureRecord]) -> dict[str, Any]:
    """One file, before rounding."""
    return {
        "model_id": origin.model_id,
        "layer": origin.site.layer,
        "sae_set": origin.set_name,
        "sae_id_suffix": None,
        "features": [dashboard_feature(origin, record) for record in records],
    }


def dashboard_feature(origin: Origin, record: FeatureRecord) -> dict[str, Any]:
    """One feature, before rounding."""
    store = origin.atlas.store
    first, last = filled(record.histogram.counts)
    edges = record.histogram.edges
    return {
        "feature_index": record.feature,
        **_alignment(origin, record.feature),
        "correlated_neurons_indices": [],
        "correlated_neurons_pearson": [],
        "correlated_neurons_l1": [],
        **_correlated(record.cofiring),
        "neg_str": [token for token, _ in record.suppressed],
        "neg_values": [float(value) for _, value in record.suppressed],
        "pos_str": [token for token, _ in record.promoted],
        "pos_values": [float(value) for _, value in record.promoted],
        "frac_nonzero": float(record.density),
        "freq_hist_data_bar_heights": list(record.histogram.counts[first:last]),
        "freq_hist_data_bar_values": [(edges[i] + edges[i + 1]) / 2 for i in range(first, last)],
        "logits_hist_data_bar_heights": [],
        "logits_hist_data_bar_values": [],
        "decoder_weights_dist": [],
        "vector": vector_of(origin, record.feature),
        "n_prompts_total": len(store.windows),
        "n_tokens_in_prompt": store.context,
        "dataset": str(store.request.get("text", "")),
        "activations": [_activation(origin, record, context) for context in record.contexts],
    }


def vector_of(origin: Origin, feature: int) -> list[float]:
    """The feature's decoder row, of norm 1; empty without a dictionary."""
    return [] if origin.dictionary is None else origin.dictionary.weights.W_dec[feature].float().tolist()


def _alignment(origin: Origin, feature: int) -> dict[str, Any]:
    """The coordinates of the residual stream in which the decoder row is largest, and their share of its L1 norm."""
    row = np.asarray(vector_of(origin, feature))
    places = np.argsort(-row, kind="stable")[:_ALIGNED]
    total = max(float(np.abs(row).sum()), 1e-12)
    return {
        "neuron_alignment_indices": [int(place) for place in places],
        "neuron_alignment_values": [float(row[place]) for place in places],
        "neuron_alignment_l1": [float(row[place]) / total for place in places],
    }


def _correlated(cofiring: Sequence[Near]) -> dict[str, Any]:
    best = sorted(cofiring, key=lambda near: -near.correlation)
    return {
        "correlated_features_indices": [near.feature for near in best],
        "correlated_features_pearson": [float(near.correlation) for near in best],
        "correlated_features_l1": [float(near.cosine) for near in best],
    }


def _activation(origin: Origin, record: FeatureRecord, context: Context) -> dict[str, Any]:
    low, high, share = _bin(origin, record, context.quantile)
    return {
        "bin_min": low,
        "bin_max": high,
        "bin_contains": share,
        "tokens": list(context.tokens),
        "values": [float(value) for value in context.activations],
        "qualifying_token_index": context.peak,
    }


def _bin(origin: Origin, record: FeatureRecord, quantile: str) -> tuple[float, float, float]:
    """The bounds of a quantile in units of activation, and by the histogram the share of all tokens between them."""
    most = float(record.max_activation)
    if quantile == TOP:
        return -1.0, most, -1.0
    low, high = (int(part) / 100 * most for part in quantile.removesuffix(" %").split("-"))
    edges, tokens = record.histogram.edges, max(1, origin.atlas.manifest["tokens"])
    middles = [(edges[i] + edges[i + 1]) / 2 for i in range(len(edges) - 1)]
    inside = sum(n for middle, n in zip(middles, record.histogram.counts, strict=True) if low <= middle < high)
    silent = 1 - float(record.density) if low == 0 else 0.0
    return low, high, silent + inside / tokens
