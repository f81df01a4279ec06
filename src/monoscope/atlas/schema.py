"""The files of an atlas: `docs/formats/atlas.md`."""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from monoscope.atlas.contexts import REACH
from monoscope.atlas.examples import Counts, Examples, Kinship
from monoscope.atlas.label import Known, Labelled
from monoscope.atlas.sample import WINDOW, Sample
from monoscope.harvest.token_store import TokenStore

VERSION = 2
DATABASE, MANIFEST, TOKENS, WORDS, DARK = "atlas.duckdb", "manifest.json", "tokens", "words.sqlite", "dark.npy"
MEANING = "meaning.npz"
_MISSES_SHOWN = 4


@dataclass(frozen=True)
class Block:
    """What is known of the features `features[0]` to `features[-1]`. `counts`, `examples`, `activations` are of all."""

    features: np.ndarray
    counts: Counts
    p999: np.ndarray
    examples: Examples
    activations: np.ndarray
    labelled: Labelled
    concepts: np.ndarray
    promoted: tuple[np.ndarray, np.ndarray]
    suppressed: tuple[np.ndarray, np.ndarray]
    neighbours: np.ndarray
    cosines: np.ndarray
    correlations: np.ndarray
    cofiring: np.ndarray
    lift: np.ndarray
    cofiring_correlations: np.ndarray
    cofiring_cosines: np.ndarray
    duplicate_of: np.ndarray
    absorbed_into: np.ndarray
    misses: list[np.ndarray]


def features_table(block: Block, store: TokenStore, sample: Sample) -> pa.Table:
    """One row for each feature, its contexts and lists packed into it."""
    return pa.table(
        {
            **_figures(block),
            **_labels(block),
            **_relations(block),
            **_contexts(block),
            **_misses(block, store),
            **_trials(block, sample, store),
        }
    )


def _figures(block: Block) -> dict[str, pa.Array]:
    counts, here = block.counts, slice(block.features[0], block.features[-1] + 1)
    firings = counts.firings[here]
    return {
        "feature": pa.array(block.features.astype(np.int32)),
        "density": pa.array(firings / max(1, counts.tokens)),
        "firings": pa.array(firings),
        "mean": pa.array((counts.total[here] / np.maximum(1, firings)).astype(np.float32)),
        "p999": pa.array(block.p999),
        "max_activation": pa.array(counts.maximum[here]),
        "max_token": pa.array(counts.max_token[here]),
        "histogram": _rows(counts.histogram[here].astype(np.int64)),
        "source_rates": _rates(counts.by_source[here], counts.sources),
        "language_rates": _rates(counts.by_language[here], counts.languages),
    }


def _rates(counted: np.ndarray, names: Kinship) -> pa.Array:
    return _rows((counted / np.maximum(1, names.tokens)).astype(np.float32))


def _labels(block: Block) -> dict[str, pa.Array]:
    labels, known = block.labelled.labels, block.labelled.known
    return {
        "label": pa.array([label.text for label in labels]),
        "label_kind": pa.array([label.kind for label in labels]),
        "label_score": pa.array(np.array([label.score for label in labels], np.float32)),
        "label_control": pa.array(np.array([label.control for label in labels], np.float32)),
        "label_told": pa.array(np.array([label.told for label in labels], np.float32)),
        "concept": pa.array(block.concepts),
        "typical_token": pa.array(np.array([one.typical for one in known], np.int32)),
        "typical_share": pa.array(np.array([one.typical_share for one in known], np.float32)),
    }


def _relations(block: Block) -> dict[str, pa.Array]:
    listed = block.cofiring >= 0
    ends = np.concatenate([[0], np.cumsum(listed.sum(1))])
    return {
        "promoted": _rows(block.promoted[0].astype(np.int32)),
        "promoted_by": _rows(block.promoted[1]),
        "suppressed": _rows(block.suppressed[0].astype(np.int32)),
        "suppressed_by": _rows(block.suppressed[1]),
        "neighbours": _rows(block.neighbours.astype(np.int32)),
        "cosines": _rows(block.cosines),
        "correlations": _rows(block.correlations),
        "cofiring": _packed(block.cofiring[listed], ends),
        "cofiring_lift": _packed(block.lift[listed], ends),
        "cofiring_correlation": _packed(block.cofiring_correlations[listed], ends),
        "cofiring_cosine": _packed(block.cofiring_cosines[listed], ends),
        "duplicate_of": pa.array(block.duplicate_of),
        "absorbed_into": pa.array(block.absorbed_into),
    }


def _contexts(block: Block) -> dict[str, pa.Array]:
    examples, offsets = block.examples, block.examples.offsets
    bounds = offsets[block.features[0] : block.features[-1] + 2]
    here, inside = slice(bounds[0], bounds[-1]), bounds - bounds[0]
    # Where the activations of each context begin among those of all.
    shown = examples.stop - examples.start
    first = int(shown[: here.start].sum())
    ends = np.concatenate([[0], np.cumsum(shown[here])])
    return {
        "peaks": _packed(examples.token[here], inside),
        "values": _packed(examples.value[here], inside),
        "quantiles": _packed(examples.quantile[here], inside),
        "starts": _packed(examples.start[here], inside),
        "stops": _packed(examples.stop[here], inside),
        "activations": pa.LargeListArray.from_arrays(
            pa.array(ends[inside]), pa.array(np.array(block.activations[first : first + int(ends[-1])]))
        ),
    }


def _misses(block: Block, store: TokenStore) -> dict[str, pa.Array]:
    shown = [tokens[:_MISSES_SHOWN] for tokens in block.misses]
    ends = np.concatenate([[0], np.cumsum([len(tokens) for tokens in shown])])
    token = np.concatenate(shown).astype(np.int64) if shown else np.zeros(0, np.int64)
    starts = store.windows.start.numpy().astype(np.int64)
    window = np.searchsorted(starts, token, side="right") - 1
    stops = starts + store.windows.length.numpy()
    return {
        "misses": _packed(token, ends),
        "miss_starts": _packed(np.maximum(starts[window], token - REACH), ends),
        "miss_stops": _packed(np.minimum(stops[window], token + REACH + 1), ends),
    }


def _trials(block: Block, sample: Sample, store: TokenStore) -> dict[str, pa.Array]:
    """The held-out windows, firing ones first, and the activations on those; the mean place of its firings."""
    held = [known.held for known in block.labelled.known]
    windows = [one.windows for one in held]
    ends = np.concatenate([[0], np.cumsum([len(one) for one in windows])])
    firing = np.array([len(one.firing) for one in held], np.int32)
    activations = [
        _activations(sample, feature, known)
        for feature, known in zip(block.features.tolist(), block.labelled.known, strict=True)
    ]
    position = [_position(known, sample, store) for known in block.labelled.known]
    joined = np.concatenate(windows).astype(np.int64) if windows else np.zeros(0, np.int64)
    return {
        "trial_starts": _packed(sample.start[joined], ends),
        "trial_firing": pa.array(firing),
        "trial_lookalikes": pa.array(np.array([one.lookalikes for one in held], np.int32)),
        "trial_activations": _packed(
            np.concatenate(activations) if activations else np.zeros(0, np.float32),
            np.concatenate([[0], np.cumsum(firing)]) * WINDOW,
        ),
        "typical_position": pa.array(np.array(position, np.float32)),
    }


def _activations(sample: Sample, feature: int, known: Known) -> np.ndarray:
    """The activations of a feature on the tokens of the firing windows of its trial, [windows × 32]."""
    windows = known.held.firing
    found = np.zeros((len(windows), WINDOW), np.float32)
    rows, values = sample.columns.of(feature)
    order = np.argsort(windows)
    at = np.searchsorted(windows[order], sample.window[rows]).clip(max=max(0, len(windows) - 1))
    if len(windows):
        inside = windows[order][at] == sample.window[rows]
        rows, place = rows[inside], order[at[inside]]
        found[place, sample.token[rows] - sample.start[sample.window[rows]]] = values[inside]
    return found.ravel()


def _position(known: Known, sample: Sample, store: TokenStore) -> float:
    """The mean number of tokens between the start of a document and a firing; NaN without one."""
    if not len(known.firings.peak):
        return float("nan")
    token = sample.token[known.firings.peak]
    starts = store.offsets.numpy()
    return float((token - starts[np.searchsorted(starts, token, side="right") - 1]).mean())


class Writer:
    """Puts tables of features into a new DuckDB file, one after another. A context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> "Writer":
        self._database = duckdb.connect(str(self._path))
        self._made = False
        return self

    def append(self, table: pa.Table) -> None:
        """Add the rows of a table, whose features follow those of the one before."""
        self._database.register("found", table)
        if self._made:
            self._database.execute("INSERT INTO features SELECT * FROM found")
        else:
            self._database.execute("CREATE TABLE features AS SELECT * FROM found")
        self._database.unregister("found")
        self._made = True

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._database.execute("ALTER TABLE features ADD PRIMARY KEY (feature)")
                self._database.execute("CHECKPOINT")
        finally:
            self._database.close()


def _rows(matrix: np.ndarray) -> pa.Array:
    bounds = np.arange(len(matrix) + 1, dtype=np.int32) * matrix.shape[1]
    return pa.ListArray.from_arrays(pa.array(bounds), pa.array(np.ascontiguousarray(matrix).ravel()))


def _packed(values: np.ndarray, offsets: np.ndarray) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(values))
