"""Features, contexts and relations as three Parquet files: `docs/formats/exports.md`."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from monoscope.atlas.records import Context, FeatureRecord
from monoscope.core.errors import Damaged
from monoscope.core.progress import Progress
from monoscope.porch.checking import largest_difference
from monoscope.porch.origin import Origin

_GROUP = 512
_PLAIN = ("feature", "label", "label_score", "label_kind", "label_control", "concept", "density", "firings", "mean")
_PLAIN += ("p999", "max_activation", "typical_token", "typical_share", "duplicate_of")
_PLAIN += ("absorbed_into",)
_TOKENS = pa.list_(pa.struct({"token": pa.string(), "value": pa.float32()}))
_RATES = pa.list_(pa.struct({"name": pa.string(), "rate": pa.float32()}))
SCHEMAS = {
    "features": pa.schema(
        {
            "feature": pa.int32(),
            "label": pa.string(),
            "label_score": pa.float32(),
            "label_kind": pa.string(),
            "label_control": pa.float32(),
            "concept": pa.float32(),
            "density": pa.float64(),
            "firings": pa.int64(),
            "mean": pa.float32(),
            "p999": pa.float32(),
            "max_activation": pa.float32(),
            "typical_token": pa.string(),
            "typical_share": pa.float32(),
            "typical_position": pa.float32(),
            "duplicate_of": pa.int32(),
            "absorbed_into": pa.int32(),
            "map_x": pa.float32(),
            "map_y": pa.float32(),
            "histogram_edges": pa.list_(pa.float32()),
            "histogram": pa.list_(pa.int64()),
            "promoted": _TOKENS,
            "suppressed": _TOKENS,
            "sources": _RATES,
            "languages": _RATES,
        }
    ),
    "contexts": pa.schema(
        {
            "feature": pa.int32(),
            "quantile": pa.string(),
            "peak": pa.int32(),
            "tokens": pa.list_(pa.string()),
            "activations": pa.list_(pa.float32()),
            "document": pa.int32(),
            "title": pa.string(),
            "source": pa.string(),
            "language": pa.string(),
            "first_token": pa.int64(),
        }
    ),
    "neighbours": pa.schema(
        {
            "feature": pa.int32(),
            "by": pa.string(),
            "other": pa.int32(),
            "label": pa.string(),
            "cosine": pa.float32(),
            "correlation": pa.float32(),
            "lift": pa.float32(),
        }
    ),
}


def write_tables(folder: Path, origin: Origin, progress: Progress) -> float:
    """`features.parquet`, `contexts.parquet`, `neighbours.parquet`; the largest rounding error comes back."""
    facts = {"atlas": origin.atlas.digest, "credits": "\n".join(origin.credits)}
    schemas = {name: schema.with_metadata(facts) for name, schema in SCHEMAS.items()}
    written: dict[str, list[str]] = {name: [] for name in schemas}
    error = 0.0
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(pq.ParquetWriter(folder / f"{name}.parquet", schema, compression="zstd"))
            for name, schema in schemas.items()
        }
        for records in origin.batches(_GROUP):
            for name, rows in _rows(records).items():
                table = pa.Table.from_pylist(rows, schemas[name])
                error = max(error, largest_difference(rows, table.to_pylist(), name))
                writers[name].write_table(table, row_group_size=max(1, len(rows)))
                written[name].append(_digest(table))
            progress.advance(len(records))
    for name, digests in written.items():
        _check(folder / f"{name}.parquet", schemas[name], digests)
    return error


def _check(path: Path, schema: pa.Schema, digests: Sequence[str]) -> None:
    """Agree that every group of rows reads back as it was."""
    with pq.ParquetFile(path) as file:
        found = [
            _digest(pa.Table.from_pylist(file.read_row_group(group).to_pylist(), schema))
            for group in range(file.num_row_groups)
            if file.metadata.row_group(group).num_rows
        ]
    empty = _digest(schema.empty_table())
    if found != [digest for digest in digests if digest != empty]:
        raise Damaged(f"{path.name} does not read back as it was written; check the disk and export again.")


def _digest(table: pa.Table) -> str:
    """Of two tables made from rows of the same schema equal where all values are."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def _rows(records: Sequence[FeatureRecord]) -> dict[str, list[dict[str, Any]]]:
    return {
        "features": [_feature(record) for record in records],
        "contexts": [
            _context(record.feature, context) for record in records for context in (*record.contexts, *record.silent)
        ],
        "neighbours": [row for record in records for row in _neighbours(record)],
    }


def _feature(record: FeatureRecord) -> dict[str, Any]:
    x, y = record.map or (None, None)
    return {
        **{name: getattr(record, name) for name in _PLAIN},
        "typical_position": record.typical_position,
        "map_x": x,
        "map_y": y,
        "histogram_edges": list(record.histogram.edges),
        "histogram": list(record.histogram.counts),
        "promoted": [{"token": token, "value": value} for token, value in record.promoted],
        "suppressed": [{"token": token, "value": value} for token, value in record.suppressed],
        "sources": [{"name": name, "rate": rate} for name, rate in record.sources.items()],
        "languages": [{"name": name, "rate": rate} for name, rate in record.languages.items()],
    }


def _context(feature: int, context: Context) -> dict[str, Any]:
    return {
        "feature": feature,
        "quantile": context.quantile,
        "peak": context.peak,
        "tokens": list(context.tokens),
        "activations": list(context.activations),
        "document": context.document,
        "title": context.title,
        "source": context.source,
        "language": context.language,
        "first_token": context.first_token,
    }


def _neighbours(record: FeatureRecord) -> Iterator[dict[str, Any]]:
    for by, others in (("direction", record.neighbours), ("firing", record.cofiring)):
        for near in others:
            yield {
                "feature": record.feature,
                "by": by,
                "other": near.feature,
                "label": near.label,
                "cosine": near.cosine,
                "correlation": near.correlation,
                "lift": near.lift,
            }
