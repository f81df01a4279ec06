"""Documents, one after another, with what is known about them."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice


@dataclass(frozen=True)
class Document:
    """A text, or a talk of several messages.

    `messages` holds (role, content) pairs and is empty for plain text. Documents of one `group` stay on one side of the
    held-out split: translations of one article share it. Left empty, `group` and `id` are a digest of the words.
    """

    text: str = ""
    messages: tuple[tuple[str, str], ...] = ()
    title: str = ""
    source: str = ""
    language: str = ""
    group: str = ""
    topic: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        if not self.group or not self.id:
            words = text_digest(*(part for message in self.messages for part in message) if self.chat else (self.text,))
            object.__setattr__(self, "group", self.group or words)
            object.__setattr__(self, "id", self.id or words)

    @property
    def chat(self) -> bool:
        """Is it a talk that goes through a chat template?"""
        return bool(self.messages)


@dataclass(frozen=True)
class Part:
    """One source of a mix, and the share of the tokens that it should have; shares need not sum to 1."""

    source: str
    weight: float
    documents: Iterable[Document]


def text_digest(*parts: str) -> str:
    """Sixteen hexadecimal digits that depend on the texts alone."""
    state = hashlib.blake2b(digest_size=8)
    for part in parts:
        state.update(part.encode("utf-8", "replace") + b"\0")
    return state.hexdigest()


def unit_hash(*parts: str | int) -> float:
    """A number in [0, 1) that depends on the parts alone: the die of every shuffle and split."""
    return int(text_digest(*(str(part) for part in parts)), 16) / 2**64


def shuffled(documents: Iterable[Document], seed: int, *, buffer: int = 10_000) -> Iterator[Document]:
    """The documents in an order that depends on `seed` and on their ids, not on how they were stored.

    Edges  at most `buffer` documents are held at once; more come shuffled in runs of that many.
    """
    stream = iter(documents)
    while run := list(islice(stream, buffer)):
        yield from sorted(run, key=lambda document: (unit_hash(seed, document.id), document.id))
