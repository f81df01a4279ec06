"""Conversations as the model's own template writes them, and which of the tokens the template put there."""

import bisect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from monoscope.core.errors import BadRequest
from monoscope.model.transformer import LanguageModel

_MARK = "\ue000{}\ue001"


@dataclass(frozen=True)
class Rendered:
    """Token ids, and for each whether it belongs to the template and not to what somebody said."""

    ids: tuple[int, ...]
    template: tuple[bool, ...]


def render_plain(model: LanguageModel, text: str) -> Rendered:
    """A text with the prefix that carries the attention sink in front."""
    ids = model.encode_text(text)
    return Rendered((model.prefix_id, *ids), (True, *(False for _ in ids)))


def render_chat(model: LanguageModel, messages: Sequence[Mapping[str, str]], *, reply_follows: bool) -> Rendered:
    """A conversation in the model's chat template; with `reply_follows` it ends where the model is to speak.

    Template are: a system message that the template brings by itself, role names, turn marks and the line breaks after
    them. What messages say is not, nor is a system message that was given.

    Raises
        BadRequest  the model has no chat template, a message has no role and text, or the template refuses the order.
    """
    said = [_checked(message) for message in messages]
    if not said:
        raise BadRequest("A conversation needs at least one message.")
    text = _written(model, said, reply_follows)
    spans = _spans(model, said, reply_follows, text)
    ids = model.encode_text(text)
    return Rendered(tuple(ids), _outside(spans, _token_spans(model, text, ids)))


def _checked(message: Mapping[str, str]) -> dict[str, str]:
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not isinstance(content, str):
        raise BadRequest(f"A message needs `role` and `content`, both texts; this one has {sorted(message)}.")
    return {"role": role, "content": content}


def _written(model: LanguageModel, messages: list[dict[str, str]], reply_follows: bool) -> str:
    if not model.tokenizer.chat_template:
        raise BadRequest(f"{model.source} has no chat template; give it plain text, or use a model made for chat.")
    try:
        tokenizer: Any = model.tokenizer
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=reply_follows)
    except (TemplateError, TypeError, ValueError) as error:
        raise BadRequest(f"The chat template of {model.source} refuses these messages: {error}") from error


def _spans(
    model: LanguageModel, messages: list[dict[str, str]], reply_follows: bool, text: str
) -> list[tuple[int, int]]:
    """Where in the rendered text each message stands.

    The same conversation is rendered with a mark in each message's place. What stands around the marks is the template;
    where template and messages (as they are, or stripped) add up to the text, the spans are exact. A template that
    rewrites messages is searched in order instead.
    """
    marked = [{**message, "content": _MARK.format(i)} for i, message in enumerate(messages)]
    try:
        pieces = _split(_written(model, marked, reply_follows), len(messages))
    except BadRequest:
        pieces = []
    for change in (str, str.strip) if pieces else ():
        contents = [change(message["content"]) for message in messages]
        if "".join(itertools.chain(*zip(pieces, [*contents, ""], strict=True))) == text:
            return _added_up(pieces, contents)
    return _searched(messages, text)


def _split(skeleton: str, count: int) -> list[str]:
    pieces, rest = [], skeleton
    for i in range(count):
        before, mark, rest = rest.partition(_MARK.format(i))
        if not mark:
            return []
        pieces.append(before)
    return [*pieces, rest]


def _added_up(pieces: list[str], contents: list[str]) -> list[tuple[int, int]]:
    spans, at = [], 0
    for before, content in zip(pieces, contents, strict=False):
        start = at + len(before)
        at = start + len(content)
        spans.append((start, at))
    return spans


def _searched(messages: list[dict[str, str]], text: str) -> list[tuple[int, int]]:
    spans, at = [], 0
    for message in messages:
        content = message["content"].strip()
        start = text.find(content, at)
        if content and start >= 0:
            at = start + len(content)
            spans.append((start, at))
    return spans


def _token_spans(model: LanguageModel, text: str, ids: list[int]) -> list[tuple[int, int]]:
    """The characters of each token, from its bytes where those add up to the text, else as the tokenizer says."""
    pieces = [model.vocabulary[i] for i in ids]
    if b"".join(pieces) == text.encode():
        ends = list(itertools.accumulate(len(piece) for piece in pieces))
        starts_of_letters = [0, *itertools.accumulate(len(letter.encode()) for letter in text)]

        def letter(byte: int) -> int:
            return bisect.bisect_right(starts_of_letters, byte) - 1

        return [(letter(start), letter(end - 1) + 1) for start, end in zip([0, *ends], ends, strict=False)]
    encoded = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [(start, max(end, start + 1)) for start, end in encoded["offset_mapping"]]


def _outside(spans: list[tuple[int, int]], tokens: list[tuple[int, int]]) -> tuple[bool, ...]:
    """Which tokens touch none of the spans; both lists are in order."""
    said = iter(spans)
    span = next(said, None)
    outside = []
    for start, end in tokens:
        while span is not None and span[1] <= start:
            span = next(said, None)
        outside.append(span is None or span[0] >= end)
    return tuple(outside)
