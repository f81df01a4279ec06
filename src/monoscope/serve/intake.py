"""How much a request may bring, decided before anything is made of it: address, headers, body, nesting."""

import asyncio
import re
from dataclasses import dataclass

from monoscope.serve.refusing import ClientLeft, Headers, Message, Receive, Refusal

_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")


@dataclass(frozen=True)
class Limits:
    """What one request may be, and how many there may be at once."""

    body_bytes: int = 1_000_000
    body_seconds: float = 30.0
    login_bytes: int = 4_000
    address_bytes: int = 32_000
    header_bytes: int = 32_000
    headers: int = 100
    json_depth: int = 64
    at_once: int = 400
    desk_writes_a_minute: int = 120


def check_head(scope: Message, limits: Limits) -> None:
    """Refuse an address or headers that are too large.

    Raises
        Refusal  414 or 431.
    """
    if len(scope.get("raw_path") or b"") + len(scope.get("query_string", b"")) > limits.address_bytes:
        raise Refusal(414, f"An address may have {limits.address_bytes:,} bytes at most; send a longer text in a body.")
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if len(scope["headers"]) > limits.headers or size > limits.header_bytes:
        raise Refusal(431, f"A request may have {limits.headers} headers and {limits.header_bytes:,} bytes of them.")


def check_announced(headers: Headers, limits: Limits) -> None:
    """Refuse a body by what is said of it, before any of it is read.

    Raises
        Refusal  413.
    """
    announced = headers.get("content-length", ["0"])[0]
    sound = announced.isascii() and announced.isdigit() and len(announced) <= 12
    if not sound or int(announced) > limits.body_bytes:
        raise _too_large(limits.body_bytes)


async def whole_body(receive: Receive, most_bytes: int, seconds: float) -> bytes:
    """The body, refused once it is larger than allowed, whatever it said of itself, or takes longer in all.

    Raises
        Refusal     408 or 413.
        ClientLeft  the client went before it was whole.
    """
    parts: list[bytes] = []
    left = most_bytes
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                parts.append(message.get("body", b""))
                left -= len(parts[-1])
                if left < 0:
                    raise _too_large(most_bytes)
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError as error:
        raise Refusal(408, "The request took too long to arrive.") from error


def check_json(body: bytes, limits: Limits) -> None:
    """Refuse JSON that no parser should meet: very deep, or in another encoding than UTF-8, in which it has no zeros.

    Raises
        Refusal  400.
    """
    if b"\0" in body:
        raise Refusal(400, "The body is not JSON in UTF-8.")
    if depth_beyond(body, limits.json_depth):
        raise Refusal(400, f"The body is not JSON, or nested more than {limits.json_depth} deep.")


def depth_beyond(body: bytes, most: int) -> bool:
    """Whether JSON is nested deeper than `most`, or is none because a bracket does not close.

    Cost  linear in the body for each level: strings are taken out, then the innermost pairs, level by level. Many
          brackets that open one after another, as whoever means harm would write them, end it at once.
    """
    if body.count(b"[") + body.count(b"{") <= most:
        return False
    # Which kind of bracket closes which is for the parser to say.
    brackets = _STRINGS.sub(b"", body).translate(_ONE_KIND, _NO_BRACKETS)
    straight_down = b"[" * (most + 1)
    for _ in range(most):
        inner = brackets.replace(b"[]", b"")
        if len(inner) == len(brackets) or straight_down in inner:
            break
        brackets = inner
    return bool(brackets)


def _too_large(most_bytes: int) -> Refusal:
    return Refusal(413, f"A request may have {most_bytes:,} bytes at most.")
