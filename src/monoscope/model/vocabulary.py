"""The raw bytes of each token, whatever kind of tokenizer made it.

Three conventions are in use: byte-level (each byte shown as a printable letter), SentencePiece (a space shown as ▁, a
lone byte as <0x0A>), and words (WordPiece's ## for "no space before"). The tokenizer's own decoder says which.
"""

import functools
import json
import re
from typing import Any

from transformers import PreTrainedTokenizerBase

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@functools.cache
def byte_letters() -> dict[int, str]:
    """The printable letter that byte-level tokenizers show for each byte."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in set(shown)]
    return {**{byte: chr(byte) for byte in shown}, **{byte: chr(256 + i) for i, byte in enumerate(hidden)}}


@functools.cache
def _letter_bytes() -> dict[str, int]:
    return {letter: byte for byte, letter in byte_letters().items()}


def token_bytes(tokenizer: PreTrainedTokenizerBase, size: int) -> list[bytes]:
    """What each token id stands for, as bytes; joined and decoded they give the text back.

    Edges   Special tokens give their own text. Ids without a token, up to `size`, give no bytes. SentencePiece may drop
            the space at the very start of a text, which is kept here.
    """
    read = _reader(tokenizer)
    literal = {i: token.content for i, token in tokenizer.added_tokens_decoder.items()}
    pieces = [b""] * max(size, len(tokenizer))
    for token, i in tokenizer.get_vocab().items():
        pieces[i] = literal[i].encode() if i in literal else read(token)
    return pieces[:size]


def _reader(tokenizer: PreTrainedTokenizerBase):
    kinds = _decoder_kinds(tokenizer)
    if "ByteLevel" in kinds:
        return _from_letters
    if "WordPiece" in kinds:
        return _from_wordpiece
    if kinds & {"ByteFallback", "Metaspace", "Replace"} or any("▁" in token for token in tokenizer.get_vocab()):
        return _from_sentencepiece
    if "Ġthe" in tokenizer.get_vocab():
        return _from_letters
    return str.encode


def _decoder_kinds(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = json.loads(backend.to_str()).get("decoder") if backend is not None else None
    return _kinds(decoder) if decoder else set()


def _kinds(decoder: dict[str, Any]) -> set[str]:
    return {decoder["type"]}.union(*(_kinds(part) for part in decoder.get("decoders", [])))


def _from_letters(token: str) -> bytes:
    table = _letter_bytes()
    if all(letter in table for letter in token):
        return bytes(table[letter] for letter in token)
    return token.encode()


def _from_sentencepiece(token: str) -> bytes:
    match = _BYTE_PIECE.fullmatch(token)
    return bytes([int(match.group(1), 16)]) if match else token.replace("▁", " ").encode()


def _from_wordpiece(token: str) -> bytes:
    return token[2:].encode() if token.startswith("##") else f" {token}".encode()
