"""The word index of an atlas: an SQLite file beside it, made at the first search, whole or not at all."""

import json
import math
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from monoscope.atlas.evidence import Evidence, gather_evidence, spread_words
from monoscope.atlas.matching import PREFIX, label_stems
from monoscope.atlas.query import Atlas
from monoscope.atlas.schema import WORDS
from monoscope.atlas.words import Words
from monoscope.core.artifact import replacing
from monoscope.core.errors import Unavailable

_VERSION = "2"
_CANDIDATES = 400


def candidates(index: sqlite3.Connection, kin: Mapping[str, Mapping[str, float]]) -> list[Evidence]:
    """Features that know any of the words or their kin, or words that begin like them; the likeliest few hundred."""
    wanted = dict.fromkeys([*kin, *(other for others in kin.values() for other in others)])
    asked = [f'"{word}"' for word in wanted]
    asked += [f'"{term[:PREFIX]}"*' for term in kin if len(term) > PREFIX]
    rows = index.execute(
        "SELECT evidence.found FROM words JOIN evidence ON evidence.feature = words.rowid "
        "WHERE words MATCH ? ORDER BY bm25(words, 6, 8, 3, 2) LIMIT ?",
        (" OR ".join(asked), _CANDIDATES),
    ).fetchall()
    return [Evidence(**json.loads(row[0])) for row in rows]


def all_evidence(atlas: Atlas) -> list[Evidence]:
    """The evidence of every feature that fires, as the index has it."""
    index = open_index(atlas)
    try:
        return [Evidence(**json.loads(row[0])) for row in index.execute("SELECT found FROM evidence")]
    finally:
        index.close()


def term_rarity(index: sqlite3.Connection, term: str) -> float:
    """How much a word of the query says: the fewer features know it, the more."""
    features = index.execute("SELECT count(*) FROM evidence").fetchone()[0]
    known = index.execute("SELECT count(*) FROM words WHERE words MATCH ?", (f'"{term}"',)).fetchone()[0]
    return math.log(1 + features / (1 + known))


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
    try:
        index.execute("CREATE VIRTUAL TABLE words USING fts5(label, peak, about, near, tokenize = 'porter')")
    except sqlite3.OperationalError as error:
        raise Unavailable(f"This Python's SQLite has no full-text search ({error}); use another Python.") from error
    index.execute("CREATE TABLE evidence (feature INTEGER PRIMARY KEY, found TEXT)")
    index.execute("CREATE TABLE origin (digest TEXT, version TEXT)")
    for one in gather_evidence(atlas, Words.of_store(atlas.store)):
        index.execute("INSERT INTO evidence VALUES (?, ?)", (one.feature, json.dumps(vars(one), ensure_ascii=False)))
        label = " ".join(sorted(label_stems(one.label)))
        columns = (one.feature, label, spread_words(one.peak), spread_words(one.about), spread_words(one.near))
        index.execute("INSERT INTO words (rowid, label, peak, about, near) VALUES (?, ?, ?, ?, ?)", columns)
    index.execute("INSERT INTO origin VALUES (?, ?)", (atlas.digest, _VERSION))
    index.commit()
