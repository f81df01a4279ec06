"""A record of a table or a JSON line to a document."""

import json
from collections.abc import Mapping
from typing import Any

from monoscope.core.errors import Damaged, EmptyText
from monoscope.text.corpus import Document

_KNOWN = ("title", "language", "group", "topic", "id")


def document_from(record: Mapping[str, Any], *, source: str, where: str, number: int, column: str = "") -> Document:
    """The document that a record holds under `text`, `messages` or the named column.

    A record without an id is known by its source and number.

    Raises
        EmptyText  the record has none of these.
        Damaged    what stands there is no text and no list of messages.
    """
    known: dict[str, Any] = {"id": f"{source}:{number}"}
    known |= {name: str(record[name]) for name in _KNOWN if record.get(name) is not None}
    name = column or ("messages" if record.get("messages") is not None else "text")
    if name not in record:
        wanted = f"a column {column!r}" if column else "a column text or messages"
        raise EmptyText(f"{where} lacks {wanted}; it has {', '.join(map(str, record)) or 'nothing'}.")
    value = record[name]
    if name == "messages" or isinstance(value, list):
        return Document(messages=messages_from(value, where), source=source, **known)
    if value is not None and not isinstance(value, str):
        raise Damaged(f"{where}: {name} holds {_short(value)} and not a text.")
    return Document(value or "", source=source, **known)


def messages_from(value: Any, where: str) -> tuple[tuple[str, str], ...]:
    """Messages as (role, content) pairs; content given in parts is joined.

    Raises
        Damaged  it is not a list of objects with a role and a content.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise Damaged(f"{where}: messages is a text that is not JSON ({error}).") from error
    if not isinstance(value, list) or not value:
        raise Damaged(f"{where}: messages must be a list of at least one message, and is {_short(value)}.")
    return tuple(_message(message, where) for message in value)


def _message(message: Any, where: str) -> tuple[str, str]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise Damaged(f"{where}: a message must have a role and a content, and is {_short(message)}.")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text") or "" for part in content if isinstance(part, Mapping))
    if content is not None and not isinstance(content, str):
        raise Damaged(f"{where}: the content of a message must be a text, and is {_short(content)}.")
    return message["role"], content or ""


def _short(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= 60 else told[:57] + "..."
