"""The running Python's own standard library as a corpus of code."""

import ast
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from monoscope.core.errors import SourceNotFound
from monoscope.text.corpus import Document, unit_hash

SOURCE = "python-stdlib"
_LEFT_OUT = {
    "test",
    "tests",
    "idle_test",
    "site-packages",
    "dist-packages",
    "lib2to3",
    "__pycache__",
    "ensurepip",
    "encodings",
}
_FEWEST, _MOST = 200, 800
_FIRST_PIECES = 3


def stdlib_documents(seed: int = 0) -> Iterator[Document]:
    """Pieces of 200 to 800 words, cut between top-level definitions; one file is one group.

    First come at most three pieces of every file, then the rest, so that a small share of the library is not a few of
    its largest files.

    Edges  a definition longer than 800 words is cut between lines. Tests and installed packages are left out.

    Raises
        SourceNotFound  this Python came without the source of its library.
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py") if _wanted(path.relative_to(root))}
    if not paths:
        raise SourceNotFound(f"The Python {sys.version.split()[0]} in use came without the source of its library.")
    rest: list[Document] = []
    for name in sorted(paths, key=lambda name: (unit_hash(seed, name), name)):
        pieces = sorted(_pieces(name, paths[name]), key=lambda piece: (unit_hash(seed, piece.id), piece.id))
        yield from pieces[:_FIRST_PIECES]
        rest += pieces[_FIRST_PIECES:]
    yield from rest


def _wanted(path: Path) -> bool:
    return not any(part in _LEFT_OUT or part.startswith("config-") for part in path.parts)


def _pieces(name: str, path: Path) -> Iterator[Document]:
    try:
        text = path.read_text("utf-8")
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError, RecursionError):
        return
    lines = text.splitlines(keepends=True)
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    number = 0
    for title, piece in _gathered(_blocks(tree, lines)):
        if not piece.strip():
            continue
        number += 1
        full = f"{module}.{title}" if title else module
        yield Document(
            piece,
            title=full,
            source=SOURCE,
            language="python",
            group=f"{SOURCE}:{name}",
            id=f"{SOURCE}:{name}:{number}",
        )


def _blocks(tree: ast.Module, lines: list[str]) -> Iterator[tuple[str, str]]:
    """Top-level definitions with their names, and what stands between them."""
    at = 0
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        first = min([node.lineno, *(mark.lineno for mark in node.decorator_list)]) - 1
        if first > at:
            yield from _split("", lines[at:first])
        last = node.end_lineno or node.lineno
        yield from _split(node.name, lines[max(at, first) : last])
        at = max(at, last)
    yield from _split("", lines[at:])


def _split(name: str, lines: list[str]) -> Iterator[tuple[str, str]]:
    piece: list[str] = []
    words = 0
    for line in lines:
        count = len(line.split())
        if piece and words + count > _MOST:
            yield name, "".join(piece)
            piece, words = [], 0
        piece.append(line)
        words += count
    if piece:
        yield name, "".join(piece)


def _gathered(blocks: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Neighbours put together until there are enough words; the first name is the title."""
    title, held, words = "", "", 0
    for name, text in blocks:
        count = len(text.split())
        if words and (words >= _FEWEST or words + count > _MOST):
            yield title, held
            title, held, words = "", "", 0
        title, held, words = title or name, held + text, words + count
    yield title, held
