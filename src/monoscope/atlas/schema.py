"""The files of an atlas: `docs/formats/atlas.md`."""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from monoscope.atlas.contexts import REACH
from monoscope.atlas.examples import Counts, Examples
from monoscope.atlas.label import Label

VERSION = 1
DATABASE, MANIFEST, TOKENS, WORDS = "atlas.duckdb", "manifest.json", "tokens", "words.sqlite"


def features_table(
    counts: Counts,
    examples: Examples,
    labels: list[Label],
    tokens: tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    neighbours: tuple[np.ndarray, np.ndarray],
) -> pa.Table:
    """One row for each feature, its contexts and lists packed into it."""
    firings = counts.firings
    (raised, raised_by), (lowered, lowered_by) = tokens
    return pa.table(
        {
            "feature": pa.array(np.arange(len(firings), dtype=np.int32)),
            "label": pa.array([label.text for label in labels]),
            "label_score": pa.array(np.array([label.score for label in labels], np.float32)),
            "label_kind": pa.array([label.kind for label in labels]),
            "density": pa.array(firings / max(1, counts.tokens)),
            "firings": pa.array(firings),
            "mean": pa.array((counts.total / np.maximum(1, firings)).astype(np.float32)),
            "max_activation": pa.array(counts.maximum),
            "max_token": pa.array(counts.max_token),
            "histogram": _rows(counts.histogram),
            "promoted": _rows(raised.astype(np.int32)),
            "promoted_by": _rows(raised_by),
            "suppressed": _rows(lowered.astype(np.int32)),
            "suppressed_by": _rows(lowered_by),
            "neighbours": _rows(neighbours[0].astype(np.int32)),
            "cosines": _rows(neighbours[1]),
            "peaks": _packed(examples.token, examples.offsets),
            "values": _packed(examples.value, examples.offsets),
            "quantiles": _packed(examples.quantile, examples.offsets),
            "starts": _packed(examples.start, examples.offsets),
            "stops": _packed(examples.stop, examples.offsets),
            "activations": _activations(examples),
        }
    )


def write_database(path: Path, table: pa.Table) -> None:
    """Make the DuckDB file."""
    with duckdb.connect(str(path)) as database:
        database.register("found", table)
        database.execute("CREATE TABLE features AS SELECT * FROM found ORDER BY feature")
        database.execute("ALTER TABLE features ADD PRIMARY KEY (feature)")
        database.unregister("found")
        database.execute("CHECKPOINT")


def _rows(matrix: np.ndarray) -> pa.Array:
    bounds = np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1]
    return pa.ListArray.from_arrays(pa.array(bounds), pa.array(np.ascontiguousarray(matrix).ravel()))


def _packed(values: np.ndarray, offsets: np.ndarray) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))


def _activations(examples: Examples) -> pa.Array:
    """The activations of the shown tokens only, one context after another."""
    column = examples.token[:, None] + np.arange(-REACH, REACH + 1)
    shown = (column >= examples.start[:, None]) & (column < examples.stop[:, None])
    ends = np.concatenate([[0], np.cumsum(examples.stop - examples.start)])
    return pa.LargeListArray.from_arrays(pa.array(ends[examples.offsets]), pa.array(examples.activations[shown]))
