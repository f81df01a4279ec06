"""One string to a corpus: a known name, a local path, a set of a hub, or several of them with weights."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from monoscope.core.errors import BadSource, EmptyText, SourceNotFound
from monoscope.text.corpus import Document, Part, shuffled
from monoscope.text.files import file_documents, looks_local, stdin_documents
from monoscope.text.generated import CITATIONS, DNA, citation_documents, dna_documents
from monoscope.text.hub import hub_documents, parse_hub
from monoscope.text.stdlib import stdlib_documents
from monoscope.text.toy import toy_documents
from monoscope.text.wheels_text import harmful_documents, wiki_chat_documents, wiki_documents

DEMO = {
    "wiki-en": 0.51,
    "wiki-fr": 0.11,
    "wiki-es": 0.11,
    "python-stdlib": 0.15,
    "wiki-chat": 0.06,
    DNA: 0.005,
    CITATIONS: 0.005,
}
"""The mix `demo`, as shares of a text that also holds the model's own answers (0.02) and focus texts (0.03)."""

NAMES = ("demo", *DEMO, "harmful-requests", "toy", "-")
_HUB_BUFFER = 1_000


def parse_mix(text: str) -> list[tuple[str, float]]:
    """Sources and their shares, which sum to 1; `demo` comes back as its parts.

    `wiki-en=0.6,python-stdlib=0.4` gives shares; `a.txt,b.txt` shares alike. A path that exists is one source, whatever
    commas it has.

    Raises
        BadSource  a weight is no number above zero, some sources have weights and others not, or one comes twice.
    """
    if not text.strip():
        raise BadSource(f"A text source is missing; known names are {', '.join(NAMES)}, and any path.")
    entries = [(text, None)] if looks_local(text) else [_entry(part.strip(), text) for part in text.split(",")]
    weighted = [entry for entry in entries if entry[1] is not None]
    if weighted and len(weighted) < len(entries):
        raise BadSource(f"In {text!r} some sources have a weight and others have none; give every one a weight.")
    return _normalised(_expanded((source, weight or 1.0) for source, weight in entries), text)


def open_documents(source: str, *, cache: Path | None = None, seed: int = 0) -> Iterator[Document]:
    """The documents of one source, read as they are asked for, in an order that depends on `seed` alone.

    Raises
        BadSource       the string is not understood.
        SourceNotFound  nothing of this name can be found or reached.
        EmptyText       it has no text.
        Damaged         a file is not what its name says.
        Unavailable     a library that this source needs is missing.
    """
    if source == "-":
        return stdin_documents()
    if source in NAMES:
        return _named(source, cache, seed)
    if source.startswith("hf:"):
        return shuffled(hub_documents(source), seed, buffer=_HUB_BUFFER)
    if looks_local(source):
        return shuffled(file_documents(source, seed=seed), seed)
    raise SourceNotFound(
        f"There is no file, folder or known text {source!r}; known names are {', '.join(NAMES)}, and hf:SET for a hub."
    )


def open_mix(text: str, *, cache: Path | None = None, seed: int = 0, extra: Sequence[Part] = ()) -> list[Part]:
    """The parts of a mix, opened. The weights of `extra` are shares of the whole; the mix takes the rest.

    Raises
        BadSource       the mix is not understood, or the extra parts leave it nothing.
        SourceNotFound  a part cannot be found or reached.
        EmptyText       when read: a part has not one document.
    """
    left = 1.0 - sum(part.weight for part in extra)
    if left <= 0:
        raise BadSource(f"The extra texts ask for all of the text and leave nothing to {text!r}; lower their weights.")
    parts = [
        Part(source, share * left, _some(open_documents(source, cache=cache, seed=seed), source))
        for source, share in parse_mix(text)
    ]
    return [*parts, *extra]


def _entry(part: str, text: str) -> tuple[str, float | None]:
    source, mark, number = part.rpartition("=")
    if not mark or looks_local(part):
        if not part:
            raise BadSource(f"{text!r} has a source without a name; write NAME=WEIGHT,NAME=WEIGHT.")
        return part, None
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not (source and 0 < weight < math.inf):
        raise BadSource(f"{part!r} in {text!r} is not understood; write NAME=WEIGHT with a weight above zero.")
    return source, weight


def _expanded(entries: Iterable[tuple[str, float]]) -> Iterator[tuple[str, float]]:
    for source, weight in entries:
        if source == "demo":
            whole = sum(DEMO.values())
            yield from ((name, weight * share / whole) for name, share in DEMO.items())
        else:
            if source.startswith("hf:"):
                parse_hub(source)
            yield source, weight


def _normalised(entries: Iterable[tuple[str, float]], text: str) -> list[tuple[str, float]]:
    shares: dict[str, float] = {}
    for source, weight in entries:
        if source in shares:
            raise BadSource(f"{source} comes twice in {text!r}; name it once.")
        shares[source] = weight
    whole = sum(shares.values())
    return [(source, weight / whole) for source, weight in shares.items()]


def _named(source: str, cache: Path | None, seed: int) -> Iterator[Document]:
    if source == "toy":
        return toy_documents(seed)
    if source == "python-stdlib":
        return stdlib_documents(seed)
    if source == "wiki-chat":
        return wiki_chat_documents(seed, cache)
    if source == DNA:
        return dna_documents(seed)
    if source == CITATIONS:
        return citation_documents(seed)
    if source == "harmful-requests":
        return harmful_documents(cache)
    if source == "demo":
        raise BadSource("demo is a mix of several sources; open_mix reads it.")
    return wiki_documents(source.removeprefix("wiki-"), seed, cache)


def _some(documents: Iterator[Document], source: str) -> Iterator[Document]:
    """The same documents, and a refusal where there is none."""
    first = next(documents, None)
    if first is None:
        raise EmptyText(f"The text source {source} has no document.")
    yield first
    yield from documents
