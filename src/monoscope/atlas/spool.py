"""The codes of a text on disk while an atlas is being built: encoded once, read as often as needed, resumed after a
kill.

Flat files grow together; `lengths.json` says how far they are whole. A builder that was killed finds the rows that were
committed, cuts off the rest and goes on with the next piece. Rows stand in the order in which they were encoded: whole
windows, each contiguous and in reading order.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monoscope.core.artifact import digest_of, read_json, saying_disk_full, write_json
from monoscope.core.sparse import SparseCode

_LENGTHS = "lengths.json"
_BY_ROW = {"token": np.int64, "counts": np.int32, "dark": np.float16}
_BY_ENTRY = {"indices": np.int32, "values": np.float32}
_BY_PIECE = {"ends": np.int64}
_FILES = {**_BY_ROW, **_BY_ENTRY, **_BY_PIECE}
_COMMIT_ROWS = 1 << 17


@dataclass(frozen=True)
class Piece:
    """Some rows of the spool. `dark` is the share of each row's variance that its code leaves unexplained."""

    first: int
    token: np.ndarray
    counts: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    dark: np.ndarray

    def code(self, n_latents: int) -> SparseCode:
        """The rows as a code."""
        starts = torch.zeros(len(self.counts) + 1, dtype=torch.long)
        starts[1:] = torch.from_numpy(self.counts.astype(np.int64)).cumsum(0)
        return SparseCode(torch.from_numpy(self.indices), torch.from_numpy(self.values), starts, n_latents)


class Spool:
    """A folder of codes that grows. Mutable; one writer."""

    def __init__(self, folder: Path, request: Mapping[str, Any]) -> None:
        self.folder, self._key = Path(folder), digest_of(request)
        self._waiting = 0
        self.rows, self.entries, self.pieces = self._committed()
        self._streams: dict[str, Any] = {}
        with saying_disk_full(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, dtype in _FILES.items():
                stream = (self.folder / name).open("ab")
                stream.truncate(self._length(name) * np.dtype(dtype).itemsize)
                self._streams[name] = stream

    def _committed(self) -> tuple[int, int, int]:
        path = self.folder / _LENGTHS
        found = read_json(path) if path.is_file() else {}
        if found.get("key") != self._key:
            shutil.rmtree(self.folder, ignore_errors=True)
            return 0, 0, 0
        return int(found["rows"]), int(found["entries"]), int(found["pieces"])

    def append(self, token: np.ndarray, code: SparseCode, dark: np.ndarray) -> None:
        """Add the rows of one piece of the text; committed after every hundred thousand rows or so.

        Raises
            DiskFull  there is no room; what was committed stays.
        """
        columns = {
            "token": token,
            "counts": code.counts.numpy(),
            "dark": dark,
            "indices": code.indices.numpy(),
            "values": code.values.float().numpy(),
            "ends": np.array([self.rows + len(token)]),
        }
        with saying_disk_full(self.folder):
            for name, values in columns.items():
                self._streams[name].write(np.ascontiguousarray(values, _FILES[name]).data)
        self.rows, self.entries, self.pieces = self.rows + len(token), self.entries + len(code.values), self.pieces + 1
        self._waiting += len(token)
        if self._waiting >= _COMMIT_ROWS:
            self.commit()

    def commit(self) -> None:
        """What was appended is kept from here on."""
        with saying_disk_full(self.folder):
            for stream in self._streams.values():
                stream.flush()
                os.fsync(stream.fileno())
            lengths = {"key": self._key, "rows": self.rows, "entries": self.entries, "pieces": self.pieces}
            write_json(self.folder / _LENGTHS, lengths)
        self._waiting = 0

    def _length(self, name: str) -> int:
        return self.rows if name in _BY_ROW else self.entries if name in _BY_ENTRY else self.pieces

    def read(self) -> Iterator[Piece]:
        """All rows, in the pieces in which they were appended; commit first."""
        columns, first, low = self.columns(), 0, 0
        for last in columns["ends"].tolist():
            rows = {name: np.array(columns[name][first:last]) for name in _BY_ROW}
            high = low + int(rows["counts"].sum(dtype=np.int64))
            yield Piece(first=first, **rows, **{name: np.array(columns[name][low:high]) for name in _BY_ENTRY})
            first, low = last, high

    def starts(self) -> np.ndarray:
        """Where each row's entries begin, one more than there are rows. Memory: 8 bytes a row."""
        starts = np.zeros(self.rows + 1, np.int64)
        np.cumsum(self.columns()["counts"], out=starts[1:])
        return starts

    def columns(self) -> dict[str, np.ndarray]:
        """All files, memory-mapped; commit first."""
        return {
            name: np.memmap(self.folder / name, dtype, "r", shape=(self._length(name),))
            if self._length(name)
            else np.zeros(0, dtype)
            for name, dtype in _FILES.items()
        }

    def scratch(self, name: str, count: int) -> np.ndarray:
        """Room for `count` float32 beside the codes, zero, on disk and not in memory; gone with the spool."""
        if not count:
            return np.zeros(0, np.float32)
        return np.memmap(self.folder / f"{name}.scratch", np.float32, "w+", shape=(count,))

    def remove(self) -> None:
        """Close and delete it."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Close the files; what was not committed is cut off by the next builder. Without a commit nothing stays."""
        for stream in self._streams.values():
            stream.close()
        if not (self.folder / _LENGTHS).is_file():
            shutil.rmtree(self.folder, ignore_errors=True)
