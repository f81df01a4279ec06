"""Answers that the guard gives in place of the application."""

import base64
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from monoscope.serve.errors import error_body, retry_headers

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = dict[str, list[str]]

LOGIN_PATH = "/login"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src {style}; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
POLICY = _POLICY.format(style="'self'")
_LOGIN_STYLE = (
    ":root{color-scheme:light dark}body{font:16px system-ui,sans-serif;max-width:26rem;margin:18vh auto;padding:0 1rem}"
    "input,button{font:inherit;padding:.5rem;width:100%;box-sizing:border-box;margin-top:.5rem}"
)
_LOGIN_PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>monoscope</title>'
    '<meta name="viewport" content="width=device-width"><style>{style}</style></head><body><main><h1>monoscope</h1>'
    '<p>{sentence}</p><form method="post" action="{path}"><label for="token">Token</label>'
    '<input id="token" name="token" type="password" autocomplete="current-password" autofocus required>'
    "<button>Enter</button></form></main></body></html>"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_LOGIN_STYLE.encode()).digest()).decode()


class Refusal(Exception):
    """An answer given instead of the route's. With `login`, a browser gets the form for a token."""

    def __init__(self, status: int, sentence: str, *, login: bool = False) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.login = status, sentence, login


class ClientLeft(Exception):
    """The client went before its request was whole; nobody is there to be answered."""


async def refuse(scope: Message, send: Send, refusal: Refusal) -> None:
    """Answer with a refusal: a form for the token where a person looks for a page, else JSON."""
    extra = [(name.encode(), value.encode()) for name, value in retry_headers(refusal.status).items()]
    if refusal.status == 401:
        extra.append((b"www-authenticate", b"Bearer"))
    if refusal.login and any(name == b"accept" and b"text/html" in value for name, value in scope["headers"]):
        page = _LOGIN_PAGE.format(style=_LOGIN_STYLE, sentence=refusal.sentence, path=LOGIN_PATH)
        policy = _POLICY.format(style=f"'sha256-{_STYLE_HASH}'")
        extra += [(b"content-type", b"text/html; charset=utf-8"), (b"content-security-policy", policy.encode())]
        await answer(scope, send, refusal.status, page.encode(), extra)
        return
    body = json.dumps(error_body(scope["path"], refusal.status, refusal.sentence)).encode()
    await answer(scope, send, refusal.status, body, [*extra, (b"content-type", b"application/json")])


async def answer(
    scope: Message, send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    """Send a whole answer; to HEAD only its head."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def headers_of(scope: Message) -> Headers:
    """Header values by lower-case name, byte for character."""
    found: Headers = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found
