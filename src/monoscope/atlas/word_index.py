"""The word index of an atlas: an SQLite file beside it, made at the first search, whole or not at all.

For each stem it lists the features that it speaks for, those first for which it says most, and of common stems no more
than the first thousand: a search reads a few short lists however many features there are.
"""

import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from monoscope.atlas.evidence import Evidence, gather_evidence
from monoscope.atlas.matching import PREFIX, spoken_for
from monoscope.atlas.query import Atlas
from monoscope.atlas.schema import WORDS
from monoscope.atlas.words import Words
from monoscope.core.artifact import replacing

_VERSION = "3"
_CANDIDATES = 400
# Features listed for a stem; and how many of them are read for a word, for its kin, and for what begins like it.
_LISTED, _OF_KIN = 1000, 200
_FAMILY, _FAMILY_WEIGHT = 12, 0.5
# Lists are cut whenever twice as many entries are held as were kept, or these many: memory is bounded by what is kept.
_HELD, _PACKED = 8_000_000, 1 << 19


def candidates(index: sqlite3.Connection, kin: Mapping[str, Mapping[str, float]]) -> list[Evidence]:
    """Features that know any of the words or their kin, or words that begin like them; the likeliest few hundred."""
    score: dict[int, float] = defaultdict(float)
    for term, others in kin.items():
        rarity, best = term_rarity(index, term), {}
        wanted = {**dict.fromkeys(_family(index, term), _FAMILY_WEIGHT), **others, term: 1.0}
        for word, weight in wanted.items():
            for feature, value in _listed(index, word, _LISTED if word == term else _OF_KIN):
                best[feature] = max(best.get(feature, 0.0), weight * value)
        for feature, value in best.items():
            score[feature] += rarity * value
    chosen = sorted(score, key=lambda feature: (-score[feature], feature))[:_CANDIDATES]
    marks = ", ".join("?" * len(chosen))
    rows = index.execute(f"SELECT found FROM evidence WHERE feature IN ({marks}) ORDER BY feature", chosen)  # noqa: S608
    return [Evidence(**json.loads(row[0])) for row in rows]


def _listed(index: sqlite3.Connection, word: str, most: int) -> list[tuple[int, float]]:
    return index.execute(
        "SELECT feature, -less FROM listed WHERE stem = (SELECT number FROM stems WHERE stem = ?) "
        "ORDER BY less, feature LIMIT ?",
        (word, most),
    ).fetchall()


def _family(index: sqlite3.Connection, term: str) -> list[str]:
    """The commonest stems that begin like a word."""
    if len(term) <= PREFIX:
        return []
    begins = term[:PREFIX]
    rows = index.execute(
        "SELECT stem FROM stems WHERE stem >= ? AND stem < ? ORDER BY features DESC, stem LIMIT ?",
        (begins, begins + "\U0010ffff", _FAMILY),
    )
    return [row[0] for row in rows]


def all_evidence(atlas: Atlas) -> list[Evidence]:
    """The evidence of every feature that fires, as the index has it."""
    index = open_index(atlas)
    try:
        return [Evidence(**json.loads(row[0])) for row in index.execute("SELECT found FROM evidence")]
    finally:
        index.close()


def term_rarity(index: sqlite3.Connection, term: str) -> float:
    """How much a word of the query says: the fewer features know it, the more."""
    features = index.execute("SELECT features FROM origin").fetchone()[0]
    known = index.execute("SELECT features FROM stems WHERE stem = ?", (term,)).fetchone()
    return math.log(1 + features / (1 + (known[0] if known else 0)))


def open_index(atlas: Atlas) -> sqlite3.Connection:
    """The word index, made whole where there is none of this very atlas; in memory where the folder is read-only."""
    path = atlas.folder / WORDS
    found = _opened(path, atlas.digest)
    if found is not None:
        return found
    try:
        with replacing(path) as aside:
            made = sqlite3.connect(aside)
            _fill(made, atlas)
            made.close()
    except OSError:
        made = sqlite3.connect(":memory:", check_same_thread=False)
        _fill(made, atlas)
        return made
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def _opened(path: Path, digest: str) -> sqlite3.Connection | None:
    if not path.is_file():
        return None
    index = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        if index.execute("SELECT digest, version FROM origin").fetchone() == (digest, _VERSION):
            return index
    except sqlite3.Error:
        pass
    index.close()
    return None


def _fill(index: sqlite3.Connection, atlas: Atlas) -> None:
    index.execute("PRAGMA journal_mode = OFF")
    index.execute("CREATE TABLE evidence (feature INTEGER PRIMARY KEY, found TEXT)")
    index.execute("CREATE TABLE stems (stem TEXT PRIMARY KEY, number INTEGER, features INTEGER) WITHOUT ROWID")
    columns = "stem INTEGER, less REAL, feature INTEGER"
    index.execute(f"CREATE TABLE listed ({columns}, PRIMARY KEY (stem, less, feature)) WITHOUT ROWID")
    index.execute("CREATE TABLE origin (digest TEXT, version TEXT, features INTEGER)")
    lists, features = _Lists(), 0
    for one in gather_evidence(atlas, Words.of_store(atlas.store)):
        index.execute("INSERT INTO evidence VALUES (?, ?)", (one.feature, json.dumps(vars(one), ensure_ascii=False)))
        lists.add(one)
        features += 1
    index.executemany("INSERT INTO stems VALUES (?, ?, ?)", lists.stems())
    index.executemany("INSERT INTO listed VALUES (?, ?, ?)", lists.entries())
    index.execute("INSERT INTO origin VALUES (?, ?, ?)", (atlas.digest, _VERSION, features))
    index.commit()


class _Lists:
    """For each stem the features that it speaks for most. Mutable."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._new: list[tuple[int, float, int]] = []
        self._packed: list[np.ndarray] = []
        self._kept = np.zeros((0, 3))
        self._known = np.zeros(0, np.int64)

    def add(self, one: Evidence) -> None:
        """Note the stems of a feature."""
        for stem, value in spoken_for(one).items():
            self._new.append((self._numbers.setdefault(stem, len(self._numbers)), -value, one.feature))
        if len(self._new) >= _PACKED:
            self._packed.append(np.array(self._new))
            self._new = []
            if sum(map(len, self._packed)) >= max(_HELD, len(self._kept)):
                self._cut()

    def stems(self) -> Iterator[tuple[str, int, int]]:
        """Each stem with its number and how many features know it."""
        self._cut()
        return zip(self._numbers, range(len(self._numbers)), self._known.tolist(), strict=True)

    def entries(self) -> Iterator[tuple[int, float, int]]:
        """Stem, how little it says (the negative of how much), and feature, in order."""
        self._cut()
        for first in range(0, len(self._kept), 1 << 16):
            for stem, less, feature in self._kept[first : first + (1 << 16)].tolist():
                yield int(stem), less, int(feature)

    def _cut(self) -> None:
        rows = np.concatenate([*self._packed, np.array(self._new).reshape(-1, 3)])
        self._new, self._packed = [], []
        known = np.bincount(rows[:, 0].astype(np.int64), minlength=len(self._numbers))
        known[: len(self._known)] += self._known
        self._known = known
        rows = np.concatenate([self._kept, rows])
        rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
        rank = np.arange(len(rows)) - np.searchsorted(rows[:, 0], rows[:, 0])
        self._kept = rows[rank < _LISTED]
