"""What a text was read from, so that a changed file is not taken for the old one."""

import hashlib
import platform
from pathlib import Path

from monoscope.text.files import local_files, looks_local
from monoscope.text.sources import parse_mix
from monoscope.text.wheels_text import harmful_file, wiki_file

_ENDS = 1 << 20


def inputs_of(text: str) -> dict[str, str]:
    """Each source of a mix with a mark that changes when its contents do; sources that cannot tell have none.

    Local files are marked by name, size, and their first and last mebibyte: a change in the middle of a large file that
    keeps its length is not seen. Wheels are marked by their SHA-256, the standard library by Python's version.

    Raises
        BadSource       the mix is not understood.
        SourceNotFound  a local file is not there.
        EmptyText       a folder has no file of a known kind.
    """
    marks = {source: _mark(source) for source, _ in parse_mix(text)}
    return {source: mark for source, mark in marks.items() if mark}


def _mark(source: str) -> str:
    if source in ("wiki-en", "wiki-fr", "wiki-es", "wiki-chat"):
        return f"sha256:{wiki_file('en').sha256}"
    if source == "harmful-requests":
        return f"sha256:{harmful_file().sha256}"
    if source == "python-stdlib":
        return f"python {platform.python_version()}"
    if source == "toy" or source == "-" or source.startswith("hf:") or not looks_local(source):
        return ""
    state = hashlib.sha256()
    for path, name in local_files(source):
        state.update(f"{name}\0{path.stat().st_size}\0".encode("utf-8", "replace"))
        state.update(_ends(path))
    return f"sha256 of ends:{state.hexdigest()}"


def _ends(path: Path) -> bytes:
    with path.open("rb") as stream:
        head = stream.read(_ENDS)
        size = stream.seek(0, 2)
        stream.seek(max(len(head), size - _ENDS))
        return hashlib.sha256(head + stream.read()).digest()
