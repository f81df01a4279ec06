"""One string to a corpus."""

from collections.abc import Iterator
from pathlib import Path

from monoscope.core.errors import BadSource
from monoscope.text.corpus import Document
from monoscope.text.toy import toy_documents


def parse_mix(text: str) -> list[tuple[str, float]]:
    """Sources and their shares, which sum to 1: `wiki-en=0.6,python-stdlib=0.4`."""
    return [(text, 1.0)]


def open_documents(source: str, *, cache: Path | None = None, seed: int = 0) -> Iterator[Document]:
    """The documents of one source."""
    if source == "toy":
        return toy_documents(seed)
    raise BadSource(f"Text source {source!r} is not understood.")
