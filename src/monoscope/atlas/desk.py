"""The desk beside an atlas: what people and judges add later, while the atlas itself never changes.

Labels with their scores, doses, notes, lists and the answers of a judge, in one SQLite file (write-ahead log). All of
it belongs to a dictionary, not to one build of its atlas: rows carry the dictionary's digest, and a new atlas of the
same dictionary finds them again. Each call opens the file for itself, so that any number of threads and processes may
write, and so that a writer always meets the folder that is in place.
"""

import fcntl
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monoscope.core.errors import BadRequest, Damaged

FILE = "desk.sqlite"
_VERSION = 1
_WAIT_SECONDS = 30.0
_LONGEST_LABEL, _LONGEST_NOTE = 200, 20_000
_TABLES = (
    "CREATE TABLE IF NOT EXISTS labels (dictionary TEXT, feature INTEGER, text TEXT, score REAL, method TEXT, "
    "details TEXT, written REAL, PRIMARY KEY (dictionary, feature, method))",
    "CREATE TABLE IF NOT EXISTS doses (dictionary TEXT, feature INTEGER, record TEXT, written REAL, "
    "PRIMARY KEY (dictionary, feature))",
    "CREATE TABLE IF NOT EXISTS notes (dictionary TEXT, feature INTEGER, text TEXT, written REAL)",
    "CREATE TABLE IF NOT EXISTS lists (dictionary TEXT, name TEXT, features TEXT, written REAL, "
    "PRIMARY KEY (dictionary, name))",
    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT)",
)


@dataclass(frozen=True)
class DeskLabel:
    """A label that somebody or a judge gave; `score` is held-out balanced accuracy, 0.5 where nobody measured it."""

    text: str
    score: float
    method: str
    details: dict[str, Any]


class Desk:
    """The desk of one dictionary. Safe for threads and processes; holds nothing open between calls."""

    def __init__(self, folder: Path, dictionary_digest: str) -> None:
        self.folder, self.dictionary_digest = Path(folder), dictionary_digest

    @property
    def path(self) -> Path:
        """The file; it exists once something was written."""
        return self.folder / FILE

    def label(
        self, feature: int, text: str, *, score: float, method: str, details: Mapping[str, Any] | None = None
    ) -> None:
        """Keep a label; one of the same feature and method is replaced.

        Raises
            BadRequest  the text is empty or too long, or the score is not between 0 and 1.
        """
        text = " ".join(text.split())
        if not text or len(text) > _LONGEST_LABEL:
            raise BadRequest(f"A label has 1 to {_LONGEST_LABEL} characters; this one has {len(text)}.")
        if not 0 <= score <= 1:
            raise BadRequest(f"A label's score lies between 0 and 1, not at {score}.")
        values = (self.dictionary_digest, feature, text, score, method, json.dumps(dict(details or {})), time.time())
        self._write("INSERT OR REPLACE INTO labels VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    def labels(self) -> dict[int, DeskLabel]:
        """The best-scoring label of each feature that has one; of equals the latest."""
        rows = self._read(
            "SELECT feature, text, score, method, details FROM labels WHERE dictionary = ? ORDER BY score, written",
            (self.dictionary_digest,),
        )
        return {row[0]: DeskLabel(row[1], row[2], row[3], json.loads(row[4])) for row in rows}

    def given(self, feature: int, method: str) -> DeskLabel | None:
        """The label of a feature by one method, whatever others score; None without one."""
        rows = self._read(
            "SELECT text, score, method, details FROM labels WHERE dictionary = ? AND feature = ? AND method = ?",
            (self.dictionary_digest, feature, method),
        )
        if not rows:
            return None
        text, score, known, details = rows[0]
        return DeskLabel(text, score, known, json.loads(details))

    def dose(self, feature: int, record: Mapping[str, Any]) -> None:
        """Keep what was measured of a feature's dose; an older record is replaced."""
        values = (self.dictionary_digest, feature, json.dumps(dict(record)), time.time())
        self._write("INSERT OR REPLACE INTO doses VALUES (?, ?, ?, ?)", values)

    def doses(self) -> dict[int, dict[str, Any]]:
        """The doses kept, by feature."""
        rows = self._read("SELECT feature, record FROM doses WHERE dictionary = ?", (self.dictionary_digest,))
        return {row[0]: json.loads(row[1]) for row in rows}

    def note(self, feature: int, text: str) -> None:
        """Add a note.

        Raises
            BadRequest  it is empty or too long.
        """
        if not text.strip() or len(text) > _LONGEST_NOTE:
            raise BadRequest(f"A note has 1 to {_LONGEST_NOTE:,} characters; this one has {len(text.strip()):,}.")
        self._write(
            "INSERT INTO notes VALUES (?, ?, ?, ?)", (self.dictionary_digest, feature, text.strip(), time.time())
        )

    def notes(self, feature: int) -> list[str]:
        """The notes on a feature, the oldest first."""
        rows = self._read(
            "SELECT text FROM notes WHERE dictionary = ? AND feature = ? ORDER BY written, rowid",
            (self.dictionary_digest, feature),
        )
        return [row[0] for row in rows]

    def put_list(self, name: str, features: Sequence[int]) -> None:
        """Keep a list of features under a name; an older one is replaced.

        Raises
            BadRequest  the name is empty or longer than 100 characters.
        """
        name = " ".join(name.split())
        if not name or len(name) > 100:
            raise BadRequest("A list's name has 1 to 100 characters.")
        listed = json.dumps(list(dict.fromkeys(int(feature) for feature in features)))
        values = (self.dictionary_digest, name, listed, time.time())
        self._write("INSERT OR REPLACE INTO lists VALUES (?, ?, ?, ?)", values)

    def lists(self) -> dict[str, list[int]]:
        """All lists, by name."""
        rows = self._read(
            "SELECT name, features FROM lists WHERE dictionary = ? ORDER BY name", (self.dictionary_digest,)
        )
        return {row[0]: json.loads(row[1]) for row in rows}

    def delete_list(self, name: str) -> None:
        """Remove a list; none of that name is no error."""
        self._write("DELETE FROM lists WHERE dictionary = ? AND name = ?", (self.dictionary_digest, name))

    def cached(self, key: str) -> str | None:
        """What a judge answered to this very question, or None."""
        rows = self._read("SELECT answer FROM answers WHERE key = ?", (key,))
        return rows[0][0] if rows else None

    def keep(self, key: str, answer: str) -> None:
        """Keep an answer of a judge."""
        self._write("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, answer))

    def _read(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        if not self.path.is_file():
            return []
        with _opened(self.path) as database:
            return database.execute(query, values).fetchall()

    def _write(self, statement: str, values: Sequence[Any]) -> None:
        with moving(self.folder, alone=False), _opened(self.path) as database:
            database.execute("PRAGMA journal_mode = WAL")
            for table in _TABLES:
                database.execute(table)
            database.execute(f"PRAGMA user_version = {_VERSION}")
            database.execute(statement, values)
            database.commit()


@contextmanager
def moving(folder: Path, *, alone: bool) -> Iterator[None]:
    """Keep the folder of an atlas in its place; `alone`, to put another there, waits until no desk is being written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.desk.lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def carry_desk(old: Path, new: Path) -> None:
    """Copy the desk of one folder into another, all that was committed; call it while `moving` alone."""
    if not (old / FILE).is_file():
        return
    with _opened(old / FILE) as source, closing(sqlite3.connect(new / FILE)) as target:
        source.backup(target)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(path, timeout=_WAIT_SECONDS)) as database:
            found = database.execute("PRAGMA user_version").fetchone()[0]
            if found > _VERSION:
                raise Damaged(f"{path} is of desk version {found}; this monoscope reads {_VERSION}; update it.")
            yield database
    except sqlite3.DatabaseError as error:
        raise Damaged(
            f"{path} cannot be read or written ({error}); move it away to start with an empty desk."
        ) from error
