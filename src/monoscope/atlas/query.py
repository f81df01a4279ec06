"""Questions to a finished atlas: plain records come back. Many may read at once."""

import math
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import torch

from monoscope.atlas.contexts import QUANTILES, SILENT
from monoscope.atlas.desk import Desk, DeskLabel
from monoscope.atlas.highlights import COLUMNS, rank_highlights
from monoscope.atlas.layout import FeatureMap
from monoscope.atlas.records import Context, FeatureRecord, Histogram, Near, Trial
from monoscope.atlas.sample import WINDOW
from monoscope.atlas.schema import DARK, DATABASE, MANIFEST, MEANING, TOKENS, VERSION
from monoscope.core.artifact import digest_file, digest_of, read_json
from monoscope.core.errors import ArtifactNotFound, BadRequest, Damaged, FeatureNotFound
from monoscope.core.pieces import token_pieces
from monoscope.harvest.token_store import TokenStore

_SUMMARY = ("features", "alive", "tokens", "seconds", "bytes", "dictionary", "model", "site")
_KEYS = (*_SUMMARY, "histogram_edges", "digests", "sources", "languages", "quality", "dictionary_digest")


# At this mean cosine the words of a feature are as good as one concept; far below, a little of the score stays.
_COHERENT, _INCOHERENT = 0.5, 0.25
_PLAIN = ("feature", "label_control", "density", "firings", "mean", "p999", "max_activation", "max_token")
_PLAIN += ("typical_share",)


class Atlas:
    """A finished atlas, read-only. Safe to use from several threads and processes."""

    def __init__(self, folder: Path, manifest: dict[str, Any], store: TokenStore, database: Any) -> None:
        self.folder, self.manifest, self.store, self._database = folder, manifest, store, database

    @classmethod
    def open(cls, folder: Path) -> "Atlas":
        """Open the atlas of a folder and check it.

        Raises
            ArtifactNotFound  there is none.
            Damaged           a file is missing, altered or of an unknown version.
        """
        folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            raise ArtifactNotFound(f"There is no atlas in {folder}; run monoscope atlas first.")
        manifest = read_json(folder / MANIFEST)
        if manifest.get("version") != VERSION:
            raise Damaged(f"{folder} is of format version {manifest.get('version')}; this monoscope reads {VERSION}.")
        missing = [key for key in _KEYS if key not in manifest]
        if missing:
            raise Damaged(f"{folder / MANIFEST} lacks {', '.join(missing)}; run monoscope atlas with --replace.")
        path = folder / DATABASE
        if not path.is_file() or digest_file(path) != manifest["digests"].get(DATABASE):
            raise Damaged(f"{path} is missing or altered; run monoscope atlas with --replace.")
        try:
            # Attached to a database of its own: a connection by path would share the instance of an older file there.
            database = duckdb.connect()
            quoted = str(path).replace("'", "''")
            database.execute(f"ATTACH '{quoted}' AS atlas (READ_ONLY)")
            database.execute("CREATE VIEW features AS FROM atlas.features")
        except duckdb.Error as error:
            raise Damaged(f"{path} cannot be opened ({error}); run monoscope atlas with --replace.") from error
        return cls(folder, manifest, TokenStore.load(folder / TOKENS), database)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @property
    def n_features(self) -> int:
        """Features of the dictionary, dead ones counted."""
        return int(self.manifest["features"])

    @property
    def dictionary(self) -> str:
        """The name of the dictionary the atlas is of."""
        return str(self.manifest["dictionary"])

    @property
    def digest(self) -> str:
        """Changes when any feature row does."""
        return digest_of(self.manifest["digests"])

    def summary(self) -> dict[str, Any]:
        """What the atlas is of and how much it holds."""
        return {key: self.manifest[key] for key in _SUMMARY}

    @cached_property
    def desk(self) -> Desk:
        """Where labels, notes and doses are kept that came later."""
        return Desk(self.folder, str(self.manifest["dictionary_digest"]))

    @cached_property
    def map(self) -> FeatureMap | None:
        """The two-dimensional layout, where one was made."""
        return FeatureMap.open(self.folder, self.digest)

    @cached_property
    def dark(self) -> np.ndarray:
        """The share of each token's variance that the dictionary leaves unexplained, float16; NaN where unknown.

        Raises
            Damaged  the file is missing or altered.
        """
        path = self.folder / DARK
        if not path.is_file() or digest_file(path) != self.manifest["digests"].get(DARK):
            raise Damaged(f"{path} is missing or altered; run monoscope atlas with --replace.")
        return np.load(path, mmap_mode="r", allow_pickle=False)

    def blindest(self, count: int, *, fewest: int = 64) -> list[tuple[int, float]]:
        """The documents of which the dictionary explains least, and the mean unexplained share of their tokens.

        Edges  documents with fewer than `fewest` encoded tokens are left out.
        """
        share = np.asarray(self.dark, np.float64)
        known = np.isfinite(share)
        document = self.store.document_of(torch.from_numpy(np.flatnonzero(known))).numpy()
        tokens = np.bincount(document, minlength=self.store.n_documents)
        total = np.bincount(document, weights=share[known], minlength=self.store.n_documents)
        mean = np.where(tokens >= fewest, total / np.maximum(1, tokens), -1)
        best = np.argsort(-mean, kind="stable")[:count]
        return [(int(one), float(mean[one])) for one in best if mean[one] >= 0]

    def labels_of(self, features: Collection[int]) -> dict[int, str]:
        """The labels of some features as they are shown: the best-scoring one of each."""
        rows = self.rows("feature, label, label_score", features)
        better = self.desk.labels()
        return {row["feature"]: _best_label(row, better)[0] for row in rows}

    def feature(self, feature: int) -> FeatureRecord:
        """One feature.

        Raises
            FeatureNotFound  the dictionary has no such number.
        """
        return self.features([feature])[0]

    def features(self, features: Sequence[int]) -> list[FeatureRecord]:
        """Several features, in the order asked for; raises like `feature`."""
        for feature in features:
            self.check_feature(feature)
        rows = {row["feature"]: row for row in self.rows("*", features)}
        better = self.desk.labels()
        others = self.labels_of({other for row in rows.values() for other in (*row["neighbours"], *row["cofiring"])})
        return [self._record(rows[feature], better, others) for feature in features]

    def check_feature(self, feature: int) -> None:
        """Agree that the number is one of this atlas's.

        Raises
            FeatureNotFound  it is not.
        """
        if not 0 <= feature < self.n_features:
            last = self.n_features - 1
            raise FeatureNotFound(f"The atlas of {self.dictionary} has no feature {feature}; it has 0 to {last}.")

    def rows(self, columns: str, features: Collection[int] | None = None) -> list[dict[str, Any]]:
        """Some columns of some features, or of all, as plain dicts; for the rooms beside this one."""
        where = "" if features is None else "WHERE feature IN (SELECT unnest(?))"
        values = [] if features is None else [[int(feature) for feature in features]]
        try:
            found = self._database.cursor().execute(f"SELECT {columns} FROM features {where} ORDER BY feature", values)
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        except duckdb.Error as error:
            raise Damaged(f"{self.folder / DATABASE} cannot be read ({error}); build the atlas again.") from error

    @property
    def labels(self) -> list[str]:
        """The label of every feature as it is shown."""
        found, scores = self.column("label").tolist(), self.column("label_score")
        for feature, other in self.desk.labels().items():
            if other.score > scores[feature]:
                found[feature] = other.text
        return found

    def column(self, name: str) -> np.ndarray:
        """One value of each feature: density, max_activation, label, label_score or another plain column."""
        if name not in self._columns:
            query = f"SELECT {name} FROM features ORDER BY feature"
            self._columns[name] = self._database.cursor().execute(query).fetchnumpy()[name]
        return self._columns[name]

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        return {}

    @cached_property
    def concepts(self) -> np.ndarray:
        """How much each feature is a concept, 0 to 1: by its words, and by how near in meaning they are, if known."""
        spelled = self.column("concept")
        try:
            with np.load(self.folder / MEANING, allow_pickle=False) as found:
                if str(found["digest"]) == self.digest:
                    near = np.minimum(1.0, found["coherence"].astype(np.float32) / _COHERENT)
                    return spelled * np.maximum(near, _INCOHERENT)
        except (OSError, ValueError, KeyError):
            pass
        return spelled

    @property
    def densities(self) -> np.ndarray:
        """The share of tokens on which each feature fires."""
        return self.column("density")

    @property
    def maxima(self) -> np.ndarray:
        """The largest activation of each feature."""
        return self.column("max_activation")

    def rates(self, kind: str, name: str) -> np.ndarray:
        """Firings a token of every feature in one source or language; `kind` says which of the two.

        Raises
            BadRequest  the text has none of this name.
        """
        names = list(self.manifest[f"{kind}s"])
        if name not in names:
            raise BadRequest(f"The text has no {kind} {name!r}; it has: {', '.join(names)}.")
        key = f"{kind}_rates[{names.index(name) + 1}]"
        if key not in self._columns:
            query = f"SELECT {key} AS rate FROM features ORDER BY feature"
            self._columns[key] = self._database.cursor().execute(query).fetchnumpy()["rate"]
        return self._columns[key]

    def raising(self, tokens: Sequence[int]) -> list[tuple[int, int, float]]:
        """(feature, token, logit) for each feature that has one of some tokens among those it raises most."""
        query = (
            "SELECT feature, promoted[place] AS token, promoted_by[place] AS value FROM "
            "(SELECT feature, promoted, promoted_by, unnest(range(1, len(promoted) + 1)) AS place FROM features "
            "WHERE list_has_any(promoted, ?::INTEGER[])) WHERE list_contains(?::INTEGER[], promoted[place])"
        )
        wanted = [int(token) for token in tokens]
        return self._database.cursor().execute(query, [wanted, wanted]).fetchall()

    def trials(self, feature: int) -> list[Trial]:
        """The held-out windows on which labels of a feature are tried, those in which it fires first."""
        self.check_feature(feature)
        (row,) = self.rows("trial_starts, trial_firing, trial_activations", [feature])
        found = []
        for number, start in enumerate(row["trial_starts"]):
            fires = number < row["trial_firing"]
            values = row["trial_activations"][number * WINDOW : (number + 1) * WINDOW] if fires else [0.0] * WINDOW
            found.append(self._trial(start, values, fires=fires))
        return found

    def _trial(self, start: int, values: list[float], *, fires: bool) -> Trial:
        raw = [self.store.vocabulary[token] for token in self.store.ids[start : start + WINDOW].tolist()]
        peak = int(np.argmax(values)) if fires else -1
        return Trial(
            tokens=tuple(token_pieces(raw)),
            token_bytes=tuple(raw),
            activations=tuple(values),
            fires=fires,
            peak=peak,
            value=values[peak] if fires else 0.0,
            first_token=start,
            title=self.about(int(self.store.document_of(torch.tensor(start))))["title"],
        )

    def highlights(self, count: int = 12) -> list[FeatureRecord]:
        """Features worth a first look: concepts that are well labelled and rare; no two near each other."""
        return self.features(rank_highlights(self.rows(COLUMNS), self.concepts, self.store, count))

    def _record(self, row: dict[str, Any], better: dict[int, DeskLabel], others: dict[int, str]) -> FeatureRecord:
        label, score, kind = _best_label(row, better)
        place = self.map.of(row["feature"]) if self.map is not None else None
        return FeatureRecord(
            label=label,
            concept=float(self.concepts[row["feature"]]),
            label_score=score,
            label_kind=kind,
            histogram=Histogram(tuple(self.manifest["histogram_edges"]), tuple(row["histogram"])),
            contexts=self.contexts(row),
            silent=self._misses(row),
            promoted=self._tokens(row["promoted"], row["promoted_by"]),
            suppressed=self._tokens(row["suppressed"], row["suppressed_by"]),
            neighbours=tuple(
                Near(other, others[other], cosine, correlation)
                for other, cosine, correlation in zip(
                    row["neighbours"], row["cosines"], row["correlations"], strict=True
                )
            ),
            cofiring=tuple(
                Near(other, others[other], cosine, correlation, lift)
                for other, cosine, correlation, lift in zip(
                    *(row[f"cofiring{name}"] for name in ("", "_cosine", "_correlation", "_lift")), strict=True
                )
            ),
            typical_position=row["typical_position"] if math.isfinite(row["typical_position"]) else None,
            typical_token=self._word(row["typical_token"]) if row["typical_token"] >= 0 else "",
            sources=dict(zip(self.manifest["sources"], row["source_rates"], strict=True)),
            languages=dict(zip(self.manifest["languages"], row["language_rates"], strict=True)),
            duplicate_of=_or_none(row["duplicate_of"]),
            absorbed_into=_or_none(row["absorbed_into"]),
            map=place,
            **{name: row[name] for name in _PLAIN},
        )

    def _misses(self, row: dict[str, Any]) -> tuple[Context, ...]:
        columns = (row["misses"], row["miss_starts"], row["miss_stops"])
        return tuple(
            self._context(token, QUANTILES[SILENT], start, stop, [0.0] * (stop - start))
            for token, start, stop in zip(*columns, strict=True)
        )

    def contexts(self, row: dict[str, Any], most: int | None = None) -> tuple[Context, ...]:
        """The contexts of a row with the columns peaks, quantiles, starts, stops and activations."""
        found, at = [], 0
        columns = (row["peaks"], row["quantiles"], row["starts"], row["stops"])
        for peak, quantile, start, stop in zip(*(column[:most] for column in columns), strict=True):
            activations = row["activations"][at : at + stop - start]
            at += stop - start
            found.append(self._context(peak, QUANTILES[quantile], start, stop, activations))
        return tuple(found)

    def _context(self, peak: int, quantile: str, start: int, stop: int, activations: list[float]) -> Context:
        raw = [self.store.vocabulary[token] for token in self.store.ids[start:stop].tolist()]
        document = int(self.store.document_of(torch.tensor(peak)))
        return Context(
            tokens=tuple(token_pieces(raw)),
            token_bytes=tuple(raw),
            activations=tuple(activations),
            peak=peak - start,
            quantile=quantile,
            document=document,
            first_token=start,
            **{key: self._about[key][document] or "" for key in ("title", "source", "language")},
        )

    @cached_property
    def _about(self) -> dict[str, list[str]]:
        return {key: self.store.documents[key].to_pylist() for key in ("title", "source", "language", "topic")}

    def about(self, document: int) -> dict[str, str]:
        """Title, source, language and topic of a document."""
        return {key: column[document] or "" for key, column in self._about.items()}

    def _tokens(self, ids: list[int], values: list[float]) -> tuple[tuple[str, float], ...]:
        return tuple((self._word(token), value) for token, value in zip(ids, values, strict=True))

    def _word(self, token: int) -> str:
        return self.store.vocabulary[token].decode("utf-8", "replace")


def _best_label(row: dict[str, Any], better: dict[int, DeskLabel]) -> tuple[str, float, str]:
    """Text, score and kind of a feature's label: the desk's where it scores higher."""
    other = better.get(row["feature"])
    if other is not None and other.score > row["label_score"]:
        return other.text, other.score, other.method
    return row["label"], row["label_score"], row.get("label_kind", "")


def _or_none(feature: int) -> int | None:
    return feature if feature >= 0 else None
