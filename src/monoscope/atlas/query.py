"""Questions to a finished atlas: plain records come back. Many may read at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import torch

from monoscope.atlas.contexts import QUANTILES
from monoscope.atlas.highlights import COLUMNS, rank_highlights
from monoscope.atlas.schema import DATABASE, MANIFEST, TOKENS, VERSION
from monoscope.core.artifact import digest_file, digest_of, read_json
from monoscope.core.errors import ArtifactNotFound, Damaged, FeatureNotFound
from monoscope.core.pieces import token_pieces
from monoscope.harvest.token_store import TokenStore

_KEYS = ("features", "alive", "tokens", "seconds", "bytes", "dictionary", "model", "site", "histogram_edges", "digests")
_FEWEST_FIRINGS, _RAREST, _DENSEST = 30, 1 / 5000, 0.01
_LEAST_SCORE, _DULL_KINDS = 0.8, ("kind", "language", "token", "after")


@dataclass(frozen=True)
class Histogram:
    """How often a feature had which activation. Bin i holds values from `edges[i]` to `edges[i + 1]`."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Context:
    """A piece of text with one feature's activation on each token.

    Joined, `tokens` are the text; bytes that complete a character stand at the token that completes it. `peak` is the
    place in `tokens` that the context was chosen for, `quantile` the part of the feature's range it stands for.
    """

    tokens: tuple[str, ...]
    token_bytes: tuple[bytes, ...]
    activations: tuple[float, ...]
    peak: int
    quantile: str
    document: int
    title: str
    source: str
    language: str
    first_token: int


@dataclass(frozen=True)
class FeatureRecord:
    """A feature with its evidence. A dead feature has no contexts; `map` is its place on the map, once there is one."""

    feature: int
    label: str
    label_score: float
    label_kind: str
    density: float
    firings: int
    mean: float
    max_activation: float
    histogram: Histogram
    contexts: tuple[Context, ...]
    promoted: tuple[tuple[str, float], ...]
    suppressed: tuple[tuple[str, float], ...]
    neighbours: tuple[tuple[int, float, str], ...]
    map: tuple[float, float] | None = None


@dataclass(frozen=True)
class Line:
    """A feature in one line of a list."""

    feature: int
    label: str
    label_score: float
    density: float
    max_activation: float


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
            database = duckdb.connect(str(path), read_only=True)
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
        return {key: self.manifest[key] for key in _KEYS if key not in ("histogram_edges", "digests")}

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
        return [self._record(rows[feature]) for feature in features]

    def check_feature(self, feature: int) -> None:
        """Agree that the number is one of this atlas's.

        Raises
            FeatureNotFound  it is not.
        """
        if not 0 <= feature < self.n_features:
            last = self.n_features - 1
            raise FeatureNotFound(f"The atlas of {self.dictionary} has no feature {feature}; it has 0 to {last}.")

    def rows(self, columns: str, features: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Some columns of some features, or of all, as plain dicts; for the rooms beside this one."""
        where = "" if features is None else "WHERE feature IN (SELECT unnest(?))"
        values = [] if features is None else [[int(feature) for feature in features]]
        try:
            found = self._database.cursor().execute(f"SELECT {columns} FROM features {where} ORDER BY feature", values)
            names = [column[0] for column in found.description]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        except duckdb.Error as error:
            raise Damaged(f"{self.folder / DATABASE} cannot be read ({error}); build the atlas again.") from error

    @cached_property
    def lines(self) -> list[Line]:
        """All features in one line each, by number."""
        rows = self.rows("feature, label, label_score, density, max_activation")
        return [Line(**row) for row in rows]

    @cached_property
    def densities(self) -> np.ndarray:
        """The share of tokens on which each feature fires."""
        return np.array([line.density for line in self.lines])

    @cached_property
    def maxima(self) -> np.ndarray:
        """The largest activation of each feature."""
        return np.array([line.max_activation for line in self.lines])

    def highlights(self, count: int = 12) -> list[FeatureRecord]:
        """Features worth a first look: well labelled, rare, and firing on varied words; no two near each other."""
        return self.features(rank_highlights(self.rows(COLUMNS), self.store, count))

    def _record(self, row: dict[str, Any]) -> FeatureRecord:
        others = {line["feature"]: line["label"] for line in self.rows("feature, label", row["neighbours"])}
        return FeatureRecord(
            feature=row["feature"],
            label=row["label"],
            label_score=row["label_score"],
            label_kind=row["label_kind"],
            density=row["density"],
            firings=row["firings"],
            mean=row["mean"],
            max_activation=row["max_activation"],
            histogram=Histogram(tuple(self.manifest["histogram_edges"]), tuple(row["histogram"])),
            contexts=self.contexts(row),
            promoted=self._tokens(row["promoted"], row["promoted_by"]),
            suppressed=self._tokens(row["suppressed"], row["suppressed_by"]),
            neighbours=tuple(
                (other, cosine, others[other]) for other, cosine in zip(row["neighbours"], row["cosines"], strict=True)
            ),
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
        words = [self.store.vocabulary[token].decode("utf-8", "replace") for token in ids]
        return tuple(zip(words, values, strict=True))
