"""Where names stand in a text: the tokens that spell them, whatever document they are in."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from monoscope.harvest.token_store import TokenStore

_WORD = re.compile(r"\w+")
_SHORTEST = 3


@dataclass(frozen=True)
class Mentions:
    """Mention `m` is of `names[name[m]]` and stands on the tokens `first[m]` to `last[m]`, half-open."""

    names: tuple[str, ...]
    name: Int[Tensor, "mentions"]
    first: Int[Tensor, "mentions"]
    last: Int[Tensor, "mentions"]

    def __len__(self) -> int:
        return len(self.name)


def titles(store: TokenStore) -> tuple[str, ...]:
    """The document titles that can be looked for as words: those in the language that most documents have.

    Left out: titles with a bracketed remark (no text spells them so), and those of fewer than three letters.
    """
    languages = [language or "" for language in store.documents["language"].to_pylist()]
    most = Counter(languages).most_common(1)[0][0] if languages else ""
    found = [
        title
        for title, language in zip(store.documents["title"].to_pylist(), languages, strict=True)
        if language == most and title and "(" not in title and len(title) >= _SHORTEST and _WORD.search(title)
    ]
    return tuple(dict.fromkeys(found))


def find_mentions(store: TokenStore, names: Sequence[str]) -> Mentions:
    """Every place where one of the names stands as whole words; case does not count.

    Of names that overlap the longest of those that begin first counts, so "South Korea" is no mention of Korea. A token
    belongs to a mention when it spells a part of it.
    """
    names = tuple(dict.fromkeys(names))
    by_word: dict[str, list[tuple[str, int]]] = {}
    for number, name in enumerate(names):
        if first := _WORD.search(name.casefold()):
            by_word.setdefault(first.group(), []).append((name.casefold(), number))
    for known in by_word.values():
        known.sort(key=lambda pair: -len(pair[0]))
    found: list[tuple[int, int, int]] = []
    lengths = np.array([len(word) for word in store.vocabulary])
    for begin, end in zip(store.offsets[:-1].tolist(), store.offsets[1:].tolist(), strict=True):
        raw = b"".join(store.vocabulary[token] for token in store.ids[begin:end].tolist())
        text = raw.decode("utf-8", "surrogateescape")
        spans = _in_text(text, by_word)
        if spans:
            found += _tokens_of(spans, text, lengths[store.ids[begin:end].numpy()], begin)
    name, first, last = torch.tensor(found, dtype=torch.long).reshape(-1, 3).T.contiguous()
    return Mentions(names, name, first, last)


def _in_text(text: str, by_word: dict[str, list[tuple[str, int]]]) -> list[tuple[int, int, int]]:
    """Names with the characters on which they stand, without overlaps."""
    found, free = [], 0
    for word in _WORD.finditer(text):
        if word.start() < free:
            continue
        for name, number in by_word.get(word.group().casefold(), ()):
            start = word.start() - _lead(name)
            stop = start + len(name)
            # A letter may have another length in another case; such a name is then not found, which is no harm.
            if start >= free and text[start:stop].casefold() == name and not _goes_on(text, stop):
                found.append((number, start, stop))
                free = stop
                break
    return found


def _lead(name: str) -> int:
    """Characters of a name in front of its first word, such as an opening quotation mark."""
    first = _WORD.search(name)
    return first.start() if first else 0


def _goes_on(text: str, stop: int) -> bool:
    return bool(_WORD.fullmatch(text[stop - 1 : stop]) and _WORD.match(text, stop))


def _tokens_of(
    spans: list[tuple[int, int, int]], text: str, lengths: np.ndarray, begin: int
) -> list[tuple[int, int, int]]:
    ends = np.cumsum(lengths)
    at = _bytes_before(text)
    starts, stops = at[[start for _, start, _ in spans]], at[[stop for _, _, stop in spans]]
    first = np.searchsorted(ends, starts, side="right") + begin
    last = np.searchsorted(ends, stops, side="left") + 1 + begin
    return [(number, int(one), int(other)) for (number, _, _), one, other in zip(spans, first, last, strict=True)]


def _bytes_before(text: str) -> np.ndarray:
    """For each character, and for the end, the bytes of the text in front of it."""
    letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    size = 1 + (letters >= 0x80).astype(np.int64) + (letters >= 0x800) + (letters >= 0x10000)
    size[(letters >= 0xDC80) & (letters <= 0xDCFF)] = 1  # a byte that is no character
    return np.concatenate([[0], np.cumsum(size)])
