"""A mix of documents read and tokenised until each part has its share of a budget."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from monoscope.core.progress import Progress
from monoscope.model.chat import render_chat
from monoscope.model.transformer import LanguageModel
from monoscope.text.corpus import Document, Part, text_digest

_BATCH_DOCUMENTS = 256
_BATCH_CHARACTERS = 400_000


@dataclass(frozen=True)
class Tokenised:
    """A document and its tokens."""

    document: Document
    ids: np.ndarray
    template: np.ndarray


@dataclass
class Reading:
    """A part while it is read."""

    name: str
    weight: float
    stream: Iterator[Document]
    kept: list[Tokenised] = field(default_factory=list)
    count: int = 0
    dry: bool = False


class Filling:
    """Reads the parts until each has its share of the budget."""

    def __init__(self, model: LanguageModel, parts: Sequence[Part], tokens: int, progress: Progress) -> None:
        self.model, self.tokens, self.progress = model, tokens, progress
        self.sources = [Reading(part.source, part.weight, iter(part.documents)) for part in parts if part.weight > 0]
        self.seen: set[str] = set()
        self.dropped_empty = self.dropped_doubles = 0

    def run(self) -> None:
        """Read until the budget is full or every part is dry."""
        while True:
            targets = self._targets()
            open_ = [s for s, target in zip(self.sources, targets, strict=True) if not s.dry and s.count < target]
            if not open_:
                break
            for source in open_:
                self._read_some(source, targets[self.sources.index(source)] - source.count)
        for source, target in zip(self.sources, self._targets(), strict=True):
            _trim(source, target)

    @property
    def kept(self) -> list[Tokenised]:
        """The documents of all parts, part after part."""
        return [entry for source in self.sources for entry in source.kept]

    def _targets(self) -> list[int]:
        """Tokens that each part should give, when dry ones give what they have; they sum to the budget if they can."""
        wet = [source for source in self.sources if not source.dry]
        left = self.tokens - sum(min(s.count, self.tokens) for s in self.sources if s.dry)
        weight = sum(source.weight for source in wet) or 1.0
        bounds, passed = [0], 0.0
        for source in self.sources:
            passed += 0.0 if source.dry else source.weight
            bounds.append(max(0, round(left * passed / weight)))
        return [
            source.count if source.dry else last - first
            for source, first, last in zip(self.sources, bounds[:-1], bounds[1:], strict=True)
        ]

    def _read_some(self, source: Reading, wanted: int) -> None:
        batch = _batch(source.stream, wanted)
        if not batch:
            source.dry = True
            return
        fresh = [document for document in batch if self._is_new(document)]
        for entry in self._tokenise(fresh):
            if len(entry.ids):
                source.kept.append(entry)
                source.count += len(entry.ids)
                self.progress.advance(len(entry.ids))
            else:
                self.dropped_empty += 1

    def _is_new(self, document: Document) -> bool:
        parts = [text for message in document.messages for text in message] or [document.text.strip()]
        if not any(part.strip() for part in parts[1::2] or parts):
            self.dropped_empty += 1
            return False
        digest = text_digest(*parts)
        if digest in self.seen:
            self.dropped_doubles += 1
            return False
        self.seen.add(digest)
        return True

    def _tokenise(self, documents: Sequence[Document]) -> list[Tokenised]:
        plain_texts = [_clean(document.text) for document in documents if not document.chat]
        with _plain_text_stays_text(self.model.tokenizer) as backend:
            encoded = iter(backend.encode_batch(plain_texts, add_special_tokens=False))
        return [
            self._chat(document) if document.chat else _plain(document, next(encoded).ids) for document in documents
        ]

    def _chat(self, document: Document) -> Tokenised:
        messages = [{"role": role, "content": sound_text(content)} for role, content in document.messages]
        rendered = render_chat(self.model, messages, reply_follows=False)
        return Tokenised(document, np.array(rendered.ids, np.int32), np.array(rendered.template, bool))


def _plain(document: Document, ids: Sequence[int]) -> Tokenised:
    return Tokenised(document, np.array(ids, np.int32), np.zeros(len(ids), bool))


def _batch(stream: Iterator[Document], wanted: int) -> list[Document]:
    """Some documents, but hardly more than `wanted` tokens: a long stream is not read ahead."""
    most = min(_BATCH_CHARACTERS, 8 * wanted)
    batch, characters = [], 0
    for document in islice(stream, _BATCH_DOCUMENTS):
        batch.append(document)
        characters += len(document.text) + sum(len(content) for _, content in document.messages)
        if characters >= most:
            break
    return batch


def _trim(source: Reading, target: int) -> None:
    while source.count > target:
        last = source.kept.pop()
        source.count -= len(last.ids)
        if source.count < target:
            left = target - source.count
            source.kept.append(Tokenised(last.document, last.ids[:left], last.template[:left]))
            source.count = target


def _clean(text: str) -> str:
    """White space in front would carry the attention sink on to the first words."""
    return sound_text(text).lstrip("\ufeff").lstrip()


def sound_text(text: str) -> str:
    """Half a surrogate pair, as broken JSON may hold it, is no text."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


@contextmanager
def _plain_text_stays_text(tokenizer: Any) -> Iterator[Any]:
    """Documents that spell `<|endoftext|>` or the like get its letters, not the mark."""
    backend = tokenizer.backend_tokenizer
    before = backend.encode_special_tokens
    backend.encode_special_tokens = True
    try:
        yield backend
    finally:
        backend.encode_special_tokens = before
