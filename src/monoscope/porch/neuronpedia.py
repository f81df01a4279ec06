"""Neuronpedia's export tree, made from the same values as the batch files: `docs/formats/exports.md`."""

import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from monoscope.atlas.records import FeatureRecord
from monoscope.core.progress import Progress
from monoscope.porch.checking import largest_difference, rounded
from monoscope.porch.dashboard import BATCH, DIGITS, dashboard_feature
from monoscope.porch.origin import Origin

CREATOR = "monoscope"
_PACKED = 5
# JSON may hold them as they are, and readers that cut a text into lines cut there.
_BREAKS = "\u0085\u2028\u2029"
_LONGEST_DESCRIPTION = 512
_DIGITS = {
    **DIGITS,
    **dict.fromkeys(("maxValue", "minValue", "binMin", "binMax", "maxActApprox", "vectorDefaultSteerStrength"), 3),
    **dict.fromkeys(("umap_x", "umap_y", "topkCosSimValues"), 4),
}
_HANDED_ON = (
    *(f"neuron_alignment_{part}" for part in ("indices", "values", "l1")),
    *(f"correlated_{kind}_{part}" for kind in ("neurons", "features") for part in ("indices", "pearson", "l1")),
    *("neg_str", "neg_values", "pos_str", "pos_values", "frac_nonzero", "decoder_weights_dist"),
    *(f"{kind}_hist_data_bar_{part}" for kind in ("freq", "logits") for part in ("heights", "values")),
)


def write_tree(folder: Path, origin: Origin, progress: Progress) -> float:
    """`<model>/<layer>-<set>/` with all its files; the largest rounding error comes back."""
    place = folder / origin.model_id / origin.source_id
    for part in ("features", "activations", "explanations"):
        (place / part).mkdir(parents=True)
    for name, row in _heads(origin).items():
        (place / f"{name}.jsonl").write_bytes(_lines([row]))
    error = 0.0
    for number, records in enumerate(origin.batches(BATCH)):
        for part, rows in _batch(origin, records).items():
            error = max(error, _write(place / part / f"batch-{number}.jsonl.gz", rows))
        progress.advance(len(records))
    return error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a packed file."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def _write(path: Path, rows: list[dict[str, Any]]) -> float:
    path.write_bytes(gzip.compress(_lines(rounded(rows, _DIGITS)), _PACKED, mtime=0))
    return largest_difference(rows, read_rows(path), path.name)


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
    lines = (json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n" for row in rows)
    text = "".join(lines)
    for character in _BREAKS:
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()


def _batch(origin: Origin, records: Sequence[FeatureRecord]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {"features": [], "activations": [], "explanations": []}
    for record in records:
        values = dashboard_feature(origin, record)
        found["features"].append(_feature(origin, record, values))
        found["activations"] += [
            _activation(origin, record.feature, number, shown) for number, shown in enumerate(values["activations"])
        ]
        if record.firings and record.label:
            found["explanations"].append(_explanation(origin, record))
    return found


def _key(origin: Origin, feature: int) -> dict[str, Any]:
    return {"modelId": origin.model_id, "layer": origin.source_id, "index": str(feature)}


def _feature(origin: Origin, record: FeatureRecord, values: dict[str, Any]) -> dict[str, Any]:
    most = float(record.max_activation)
    return {
        **_key(origin, record.feature),
        "creatorId": CREATOR,
        "createdAt": origin.written,
        "maxActApprox": most,
        "hasVector": bool(values["vector"]),
        "vector": values["vector"],
        "vectorLabel": None,
        "vectorDefaultSteerStrength": most,
        "hookName": origin.site.transformer_lens,
        "topkCosSimIndices": [near.feature for near in record.neighbours],
        "topkCosSimValues": [float(near.cosine) for near in record.neighbours],
        **{name: values[name] for name in _HANDED_ON},
        "umap_x": float(record.map[0]) if record.map else None,
        "umap_y": float(record.map[1]) if record.map else None,
        "umap_cluster": None,
        "sourceSetName": origin.set_name,
    }


def _activation(origin: Origin, feature: int, number: int, shown: dict[str, Any]) -> dict[str, Any]:
    values = shown["values"]
    most = max(values)
    return {
        "id": _id(origin, "activation", feature, number),
        "tokens": shown["tokens"],
        **_key(origin, feature),
        "maxValue": most,
        "maxValueTokenIndex": values.index(most),
        "minValue": min(values),
        "values": values,
        "dfaValues": [],
        "dfaTargetIndex": None,
        "dfaMaxValue": None,
        "lossValues": [],
        "logitContributions": None,
        "binMin": shown["bin_min"],
        "binMax": shown["bin_max"],
        "binContains": shown["bin_contains"],
        "qualifyingTokenIndex": shown["qualifying_token_index"],
        "dataIndex": None,
        "dataSource": None,
        "creatorId": CREATOR,
        "createdAt": origin.written,
    }


def _explanation(origin: Origin, record: FeatureRecord) -> dict[str, Any]:
    judge = record.label_kind.removeprefix("judge:") if record.label_kind.startswith("judge:") else None
    return {
        "id": _id(origin, "explanation", record.feature, 0),
        **_key(origin, record.feature),
        "description": record.label[:_LONGEST_DESCRIPTION],
        "authorId": CREATOR,
        "typeName": "monoscope-judge" if judge else "monoscope-statistics",
        "explanationModelName": judge,
        "embedding": None,
        "triggeredById": None,
        "notes": f"balanced accuracy {record.label_score:.3f} on held-out windows",
        "createdAt": origin.written,
    }


def _id(origin: Origin, kind: str, feature: int, number: int) -> str:
    """25 letters that depend on the atlas and the row alone."""
    return "c" + hashlib.sha256(f"{origin.atlas.digest} {kind} {feature} {number}".encode()).hexdigest()[:24]


def _heads(origin: Origin) -> dict[str, dict[str, Any]]:
    """One row each on the release, the model, the set of dictionaries and the dictionary."""
    model = str(origin.atlas.manifest["model"])
    told = f"{origin.atlas.dictionary}: {origin.atlas.n_features:,} features at {origin.site} of {model}"
    made = {"creatorId": CREATOR, "createdAt": origin.written}
    release = f"monoscope-{origin.set_name}"
    return {
        "release": {**_release(release, told), **made},
        "model": {**_model(origin), **made, "updatedAt": origin.written},
        "sourceset": {**_source_set(origin, release, told), **made},
        "source": {**_source(origin), **made},
    }


def _release(name: str, told: str) -> dict[str, Any]:
    return {
        "name": name,
        "description": told,
        "descriptionShort": told,
        "creatorName": CREATOR,
        "creatorNameShort": CREATOR,
        "creatorEmail": None,
        "urls": [],
        "visibility": "PUBLIC",
        "isNewUi": False,
        "featured": False,
        "defaultSourceSetName": None,
        "defaultSourceId": None,
        "defaultUmapSourceIds": [],
    }


def _model(origin: Origin) -> dict[str, Any]:
    return {
        "id": origin.model_id,
        "displayName": str(origin.atlas.manifest["model"]),
        "displayNameShort": origin.model_id,
        "instruct": False,
        "tlensId": None,
        "dimension": None if origin.dictionary is None else int(origin.dictionary.weights.W_dec.shape[1]),
        "layers": 0,
        "neuronsPerLayer": 0,
        "owner": "",
        "website": None,
        "visibility": "PUBLIC",
        "inferenceEnabled": False,
        "defaultSourceSetName": None,
        "defaultSourceId": None,
    }


def _source_set(origin: Origin, release: str, told: str) -> dict[str, Any]:
    return {
        "modelId": origin.model_id,
        "name": origin.set_name,
        "description": told,
        "type": "",
        "creatorName": CREATOR,
        "creatorEmail": None,
        "releaseName": release,
        "urls": [],
        "visibility": "PUBLIC",
        "hasDashboards": True,
        "defaultOfModelId": None,
        "defaultRange": 1,
        "defaultShowBreaks": True,
        "showDfa": False,
        "showCorrelated": True,
        "showHeadAttribution": False,
        "showUmap": origin.atlas.map is not None,
    }


def _source(origin: Origin) -> dict[str, Any]:
    store = origin.atlas.store
    return {
        "id": origin.source_id,
        "modelId": origin.model_id,
        "setName": origin.set_name,
        "visibility": "PUBLIC",
        "hasDashboards": True,
        "inferenceEnabled": False,
        "inferenceHosts": [],
        "saelensConfig": None,
        "saelensRelease": None,
        "saelensSaeId": None,
        "hfRepoId": None,
        "hfFolderId": None,
        "defaultOfModelId": None,
        "hasUmap": origin.atlas.map is not None,
        "hasUmapLogSparsity": False,
        "hasUmapClusters": False,
        "num_prompts": len(store.windows),
        "num_tokens_in_prompt": store.context,
        "dataset": str(store.request.get("text", "")),
        "notes": " ".join(origin.credits) or None,
    }
