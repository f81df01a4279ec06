"""Who may speak to the server, decided before any route: Host, origin, size, token; and the headers of each answer.

Pure ASGI, so that streams pass through untouched. Other web sites and other people on the same machine can reach a
port on localhost; each rule here answers one of the ways in.
"""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = dict[str, list[str]]

COOKIE = "monoscope"
MOST_BODY = 1_000_000
BODY_SECONDS = 30.0
OPEN_PATHS = frozenset({"/healthz"})
LOGIN_PATH = "/login"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src {style}; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
POLICY = _POLICY.format(style="'self'")
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
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


def is_loopback(host: str) -> bool:
    """Whether a bind address is reached from this machine only."""
    return host in ("127.0.0.1", "localhost", "::1") or host.startswith("127.")


class Refusal(Exception):
    """An answer given instead of the route's."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Guard:
    """Wraps an app. `token` None means that anybody who passes the Host rule may enter.

    `allow_hosts` are further values of Host, with or without a port; without one, any port is agreed to.
    """

    def __init__(self, app: App, *, port: int, token: str | None = None, allow_hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._hosts = {f"{name}:{port}" for name in LOOPBACK} | (set(LOOPBACK) if port == 80 else set())
        self._extra = {host.lower() for host in allow_hosts}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            send = _with_headers(send)
            try:
                await self._answer(scope, receive, send, _headers_of(scope))
            except Refusal as refusal:
                await _refuse(scope, send, refusal)

    async def _answer(self, scope: Message, receive: Receive, send: Send, headers: Headers) -> None:
        self._check_host(headers)
        if scope["method"] not in SAFE_METHODS:
            _check_origin(headers)
            _check_content(scope["path"], headers)
        _check_announced(headers)
        if self._token is not None and scope["path"] not in OPEN_PATHS:
            if scope["path"] == LOGIN_PATH and scope["method"] == "POST":
                await self._log_in(receive, send)
                return
            if not any(self._is_token(candidate) for candidate in _tokens_of(headers)):
                raise Refusal(401, "This server needs its token.")
        body = await _body(receive) if scope["method"] not in SAFE_METHODS else b""
        await self._app(scope, _replaying(body, receive), send)

    def _check_host(self, headers: Headers) -> None:
        given = headers.get("host", [])
        host = given[0].lower() if len(given) == 1 else ""
        if host not in self._hosts and host not in self._extra and _name_of(host) not in self._extra:
            raise Refusal(421, "This server does not answer to that host name; start it with --allow-host to add one.")

    async def _log_in(self, receive: Receive, send: Send) -> None:
        form = parse_qs((await _body(receive)).decode("utf-8", "replace"), max_num_fields=4)
        candidate = (form.get("token") or [""])[0].encode()
        if not self._is_token(candidate):
            raise Refusal(401, "That is not the token of this server.")
        cookie = f"{COOKIE}={base64.urlsafe_b64encode(candidate).decode()}; HttpOnly; SameSite=Strict; Path=/"
        await _send(send, 303, b"", [(b"location", b"/"), (b"set-cookie", cookie.encode())])

    def _is_token(self, candidate: bytes) -> bool:
        return self._token is not None and hmac.compare_digest(candidate, self._token)


def _headers_of(scope: Message) -> Headers:
    found: Headers = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _name_of(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _check_origin(headers: Headers) -> None:
    """Refuse writes that another site sent. A client that is no browser sends neither header, and may write."""
    sites = headers.get("sec-fetch-site", [])
    if sites:
        foreign = any(site not in ("same-origin", "none") for site in sites)
    else:
        here = headers["host"][0].lower()
        foreign = any(origin.partition("://")[2].lower() != here for origin in headers.get("origin", []))
    if foreign:
        raise Refusal(403, "Requests that change something must come from this server's own pages.")


def _check_content(path: str, headers: Headers) -> None:
    """Interfaces take JSON; pages take what a plain form sends as well."""
    kind = (headers.get("content-type") or [""])[0].partition(";")[0].strip().lower()
    has_body = headers.get("content-length", ["0"])[0] != "0" or "transfer-encoding" in headers
    form = not path.startswith(("/api/", "/v1/"))
    if has_body and kind != "application/json" and not (form and kind == "application/x-www-form-urlencoded"):
        raise Refusal(415, "Send JSON, with content-type application/json.")


def _check_announced(headers: Headers) -> None:
    announced = headers.get("content-length", ["0"])[0]
    if not announced.isascii() or not announced.isdigit() or len(announced) > 12 or int(announced) > MOST_BODY:
        raise Refusal(413, f"A request may have {MOST_BODY:,} bytes at most.")


def _tokens_of(headers: Headers) -> list[bytes]:
    found = []
    for value in headers.get("authorization", []):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer":
            found.append(token.strip().encode("latin-1"))
    for value in headers.get("cookie", []):
        try:
            morsel = SimpleCookie(value).get(COOKIE)
            if morsel is not None:
                found.append(base64.urlsafe_b64decode(morsel.value))
        except (CookieError, ValueError):
            continue
    return found


async def _body(receive: Receive) -> bytes:
    """The whole body, refused once it is larger than allowed, whatever it said of itself."""
    parts, size = [], 0
    while True:
        try:
            message = await asyncio.wait_for(receive(), BODY_SECONDS)
        except TimeoutError as error:
            raise Refusal(408, "The request took too long to arrive.") from error
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BODY:
            raise Refusal(413, f"A request may have {MOST_BODY:,} bytes at most.")
        if not message.get("more_body"):
            return b"".join(parts)


def _replaying(body: bytes, receive: Receive) -> Receive:
    """The body again, and after it what really comes: the news that the client has left."""
    told = False

    async def replaying() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replaying


def _with_headers(send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = list(message.get("headers", []))
            names = {name.lower() for name, _ in given}
            given += [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in names]
            message = {**message, "headers": given}
        await send(message)

    return with_headers


async def _refuse(scope: Message, send: Send, refusal: Refusal) -> None:
    wants_page = any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])
    extra = [(b"www-authenticate", b"Bearer")] if refusal.status == 401 else []
    if refusal.status == 401 and wants_page:
        page = _LOGIN_PAGE.format(style=_LOGIN_STYLE, sentence=refusal.sentence, path=LOGIN_PATH)
        policy = _POLICY.format(style=f"'sha256-{_STYLE_HASH}'")
        extra += [(b"content-type", b"text/html; charset=utf-8"), (b"content-security-policy", policy.encode())]
        await _send(send, 401, page.encode(), extra)
        return
    body = json.dumps({"error": refusal.sentence}).encode()
    await _send(
        send,
        refusal.status,
        b"" if scope["method"] == "HEAD" else body,
        [*extra, (b"content-type", b"application/json")],
    )


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
