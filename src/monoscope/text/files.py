"""Local files as documents: text, JSON lines, Parquet and CSV, also compressed."""

import codecs
import contextlib
import csv
import glob
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from monoscope.core.errors import BadSource, Damaged, EmptyText, SourceNotFound
from monoscope.text.corpus import Document, unit_hash
from monoscope.text.records import document_from

KINDS = (".txt", ".md", ".jsonl", ".parquet", ".csv")
_PACKED = (".gz", ".zst")
_PIECE = 12_000
_READ = 1 << 20


@dataclass(frozen=True)
class _File:
    path: Path
    name: str

    @property
    def packed(self) -> str:
        return self.path.suffix if self.path.suffix in _PACKED else ""

    @property
    def kind(self) -> str:
        return (self.path.with_suffix("") if self.packed else self.path).suffix.lower()


def file_documents(source: str, *, seed: int = 0) -> Iterator[Document]:
    """The documents of a file, a folder or a glob, file after file in an order that depends on `seed` alone.

    Edges   a text file longer than 12,000 characters is cut at empty lines into several documents of one group.
            A folder gives the files of known kinds in it and below; hidden ones are passed over.

    Raises
        SourceNotFound  no such file.
        EmptyText       a folder without a file of a known kind, or a table without a column to read.
        Damaged         a file is not what its name says; the sentence names the line where one is known.
    """
    files = sorted(_files(source), key=lambda file: (unit_hash(seed, file.name), file.name))
    return (document for file in files for document in _read(file))


def stdin_documents() -> Iterator[Document]:
    """Standard input as text, or as JSON lines when its first letter is a brace."""
    stream = io.BufferedReader(sys.stdin.buffer)  # type: ignore[arg-type]
    name = "standard input"
    if stream.peek(1)[:1] == b"{":
        return _json_lines(stream, name)
    return _texts(stream, name)


def looks_local(source: str) -> bool:
    """Does something in the file system answer to this string?"""
    with contextlib.suppress(OSError, ValueError):
        return Path(source).expanduser().exists() or _is_glob(source)
    return False


def local_files(source: str) -> list[tuple[Path, str]]:
    """The files that a path, folder or glob stands for, each with the name that documents show.

    Raises
        SourceNotFound  there is none.
        EmptyText       the folder has none of a known kind.
    """
    return [(file.path, file.name) for file in _files(source)]


def _is_glob(source: str) -> bool:
    return any(mark in source for mark in "*?[")


def _files(source: str) -> list[_File]:
    path = Path(source).expanduser()
    if path.is_dir():
        found = [p for p in sorted(path.rglob("*")) if p.is_file() and not _hidden(p.relative_to(path))]
        files = [_File(p, f"{path.resolve().name}/{p.relative_to(path).as_posix()}") for p in found]
        files = [file for file in files if file.kind in KINDS]
        if not files:
            raise EmptyText(f"The folder {source} has no file of the kinds {' '.join(KINDS)} (also with .gz or .zst).")
        return files
    if path.exists():
        return [_checked(_File(path, path.name))]
    if _is_glob(source):
        found = [Path(p) for p in sorted(glob.glob(str(path), recursive=True)) if Path(p).is_file()]
        if found:
            return [_checked(_File(p, "/".join(p.parts[-2:]) if len(p.parts) > 1 else p.name)) for p in found]
    raise SourceNotFound(f"There is no file or folder {source}.")


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _checked(file: _File) -> _File:
    if file.kind in (".json", ".pkl", ".pickle", ".pt", ".npy", ".npz", ".zip", ".tar", ".pdf", ".docx", ".html"):
        raise BadSource(
            f"{file.path} is of a kind that is not read; texts come as {' '.join(KINDS)}, also .gz or .zst."
        )
    return file


def _read(file: _File) -> Iterator[Document]:
    if file.kind == ".parquet":
        yield from _parquet(file)
        return
    try:
        with _opened(file) as stream:
            if file.kind == ".jsonl":
                yield from _json_lines(stream, file.name)
            elif file.kind == ".csv":
                yield from _csv_rows(stream, file.name)
            else:
                yield from _texts(stream, file.name)
    except (EOFError, zlib.error, gzip.BadGzipFile, OSError) as error:
        raise Damaged(f"{file.path} cannot be read to its end ({error}).") from error


def _opened(file: _File) -> BinaryIO:
    if file.packed == ".gz":
        return gzip.open(file.path)  # type: ignore[return-value]
    if file.packed == ".zst":
        return io.BufferedReader(_Zstd(pa.input_stream(str(file.path), compression="zstd")))  # type: ignore[return-value]
    return file.path.open("rb")


class _Zstd(io.RawIOBase):
    """Arrow's decompressing stream as Python's buffers want one."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self.stream = stream

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from the stream."""
        piece = self.stream.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


def _texts(stream: BinaryIO, name: str) -> Iterator[Document]:
    """A text cut into pieces of at most about 12,000 characters, where possible behind an empty line."""
    number, held = 0, ""
    for text, last in _with_last(_decoded(stream, name)):
        held += text
        while len(held) > _PIECE or (last and held):
            cut = len(held) if len(held) <= _PIECE else _cut_at(held)
            piece, held = held[:cut], held[cut:]
            number += 1
            title = name if number == 1 else f"{name} ({number})"
            if piece.strip():
                yield Document(piece, title=title, source=name, group=name, id=f"{name}:{number}")


def _cut_at(text: str) -> int:
    for mark in ("\n\n", "\n", ". ", " "):
        place = text.rfind(mark, _PIECE // 4, _PIECE)
        if place >= 0:
            return place + len(mark)
    return _PIECE


def _with_last(items: Iterator[str]) -> Iterator[tuple[str, bool]]:
    before = next(items, None)
    if before is None:
        return
    for item in items:
        yield before, False
        before = item
    yield before, True


def _decoded(stream: BinaryIO, name: str) -> Iterator[str]:
    decoder, line = codecs.getincrementaldecoder("utf-8-sig")(), 1
    while True:
        data = stream.read(_READ)
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].count(b"\n")
            raise Damaged(_not_utf8(name, line, error)) from error
        yield text.replace("\r\n", "\n")
        if not data:
            return
        line += data.count(b"\n")


def _not_utf8(name: str, line: int, error: UnicodeDecodeError) -> str:
    return f"{name} line {line} is not UTF-8 (byte 0x{error.object[error.start]:02x}); convert the file to UTF-8."


def _json_lines(stream: BinaryIO, name: str) -> Iterator[Document]:
    for number, line in enumerate(stream, 1):
        where = f"{name} line {number}"
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            record = json.loads(text) if text else None
        except UnicodeDecodeError as error:
            raise Damaged(_not_utf8(name, number, error)) from error
        except (ValueError, RecursionError) as error:
            raise Damaged(f"{where} is not JSON ({error}).") from error
        if record is None and not text:
            continue
        if not isinstance(record, dict):
            raise Damaged(f"{where} holds no JSON object; each line must be one with text or messages.")
        yield document_from(record, source=name, where=where, number=number)


def _csv_rows(stream: BinaryIO, name: str) -> Iterator[Document]:
    csv.field_size_limit(1 << 30)
    lines = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    rows = csv.DictReader(lines, strict=True)
    try:
        for row in rows:
            where = f"{name} line {rows.line_num}"
            named = {key: value for key, value in row.items() if key is not None}
            yield document_from(named, source=name, where=where, number=rows.line_num)
    except csv.Error as error:
        raise Damaged(f"{name} line {rows.line_num} is not CSV ({error}).") from error
    except UnicodeDecodeError as error:
        raise Damaged(_not_utf8(name, rows.line_num + 1, error)) from error
    finally:
        lines.detach()


def _parquet(file: _File) -> Iterator[Document]:
    try:
        table = pq.ParquetFile(file.path)
        wanted = [name for name in table.schema_arrow.names if name in _COLUMNS]
        if not {"text", "messages"} & set(wanted):
            names = ", ".join(table.schema_arrow.names)
            raise EmptyText(f"{file.name} lacks a column text or messages; it has {names}.")
        number = 0
        for batch in table.iter_batches(batch_size=1024, columns=wanted):
            for record in batch.to_pylist():
                number += 1
                where = f"{file.name} row {number}"
                yield document_from(record, source=file.name, where=where, number=number)
    except (pa.ArrowException, OSError) as error:
        raise Damaged(f"{file.path} is not a whole Parquet file ({error}).") from error


_COLUMNS = {"text", "messages", "title", "language", "group", "topic", "id"}
