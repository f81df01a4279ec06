"""Who may speak to the server, decided before any route: Host, origin, size, token; and the headers of each answer.

Pure ASGI, so that streams pass through untouched. Other web sites and other people on the same machine can reach a
port on localhost; each rule here answers one of the ways in. What holds each of them: docs/security.md.
"""

from collections.abc import Iterable

from monoscope.serve.health import HEALTH_PATH
from monoscope.serve.intake import Limits, check_announced, check_head, check_json, whole_body
from monoscope.serve.origins import Origins, is_preflight
from monoscope.serve.refusing import (
    LOGIN_PATH,
    POLICY,
    App,
    ClientLeft,
    Headers,
    Message,
    Receive,
    Refusal,
    Send,
    answer,
    headers_of,
    refuse,
)  # fmt: skip
from monoscope.serve.tokens import Keys, Rank
from monoscope.serve.writes import SAFE_METHODS, Ledger, Pace, is_desk_write

OPEN_PATHS = frozenset({HEALTH_PATH})
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
_JSON, _FORM = "application/json", "application/x-www-form-urlencoded"


def is_loopback(host: str) -> bool:
    """Whether a bind address is reached from this machine only."""
    return host in ("127.0.0.1", "localhost", "::1") or host.startswith("127.")


class Guard:
    """Wraps an app. Without tokens in `keys`, anybody who passes the Host rule may enter.

    `allow_hosts` are further values of Host, with or without a port; without one, any port is agreed to.
    """

    def __init__(  # noqa: PLR0913
        self,
        app: App,
        *,
        port: int,
        keys: Keys,
        ledger: Ledger,
        allow_hosts: Iterable[str] = (),
        origins: Origins | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._app, self._keys, self._ledger = app, keys, ledger
        self._origins, self._limits = origins or Origins(), limits or Limits()
        self._pace = Pace(self._limits.desk_writes_a_minute)
        self._hosts = {f"{name}:{port}" for name in LOOPBACK} | (set(LOOPBACK) if port == 80 else set())
        self._extra = {host.lower() for host in allow_hosts}
        self._inside = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            headers = headers_of(scope)
            send = _with_headers(send, self._origins.permission(headers))
            try:
                await self._answer(scope, receive, send, headers)
            except Refusal as refusal:
                await refuse(scope, send, refusal)
            except ClientLeft:
                return

    async def _answer(self, scope: Message, receive: Receive, send: Send, headers: Headers) -> None:
        method, path = scope["method"], scope["path"]
        self._check_host(headers)
        check_head(scope, self._limits)
        if is_preflight(method, headers):
            await answer(scope, send, 204, b"", self._origins.preflight(headers))
            return
        if method not in SAFE_METHODS:
            self._origins.check(headers)
            _check_content(path, headers)
        check_announced(headers, self._limits)
        if self._keys.any and path == LOGIN_PATH and method == "POST":
            await self._log_in(scope, receive, send)
            return
        writes = is_desk_write(method, path)
        if path not in OPEN_PATHS:
            self._check_rank(headers, Rank.KEEPER if writes else Rank.VISITOR)
        if writes:
            self._pace.take()
            send = _with_note(send, scope, self._ledger)
        await self._pass_on(scope, receive, send, headers)

    def _check_host(self, headers: Headers) -> None:
        given = headers.get("host", [])
        host = given[0].lower() if len(given) == 1 else ""
        if host not in self._hosts and host not in self._extra and _name_of(host) not in self._extra:
            raise Refusal(421, "This server does not answer to that host name; start it with --allow-host to add one.")

    def _check_rank(self, headers: Headers, needed: Rank) -> None:
        # A page of another site proves itself by a token it was given, never by a cookie the browser adds.
        rank = self._keys.rank(headers, cookies=self._origins.listed(headers) is None)
        if rank >= needed:
            return
        # Who has shown no token may have one; who has shown the smaller one needs another.
        if rank is Rank.VISITOR and not self._keys.open:
            raise Refusal(403, "Changing the desk needs the admin token of this server.", login=True)
        raise Refusal(401, "This server needs its token.", login=True)

    async def _log_in(self, scope: Message, receive: Receive, send: Send) -> None:
        form = await whole_body(receive, self._limits.login_bytes, self._limits.body_seconds)
        cookie = self._keys.log_in(form)
        if cookie is None:
            raise Refusal(401, "That is not the token of this server.", login=True)
        await answer(scope, send, 303, b"", [(b"location", b"/"), (b"set-cookie", cookie.encode())])

    async def _pass_on(self, scope: Message, receive: Receive, send: Send, headers: Headers) -> None:
        """Hand over to the application, with the whole body; so many requests at once and no more."""
        if scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        if self._inside >= self._limits.at_once:
            raise Refusal(503, "The server is answering very many requests; try again in a few seconds.")
        self._inside += 1
        try:
            body = b""
            if scope["method"] not in SAFE_METHODS:
                body = await whole_body(receive, self._limits.body_bytes, self._limits.body_seconds)
                if _kind_of(headers) == _JSON:
                    check_json(body, self._limits)
            await self._app(scope, _replaying(body, receive), send)
        finally:
            self._inside -= 1


def _name_of(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _kind_of(headers: Headers) -> str:
    return (headers.get("content-type") or [""])[0].partition(";")[0].strip().lower()


def _check_content(path: str, headers: Headers) -> None:
    """Interfaces take JSON; pages take what a plain form sends as well."""
    kind = _kind_of(headers)
    has_body = headers.get("content-length", ["0"])[0] != "0" or "transfer-encoding" in headers
    form = not path.startswith(("/api/", "/v1/"))
    if has_body and kind != _JSON and not (form and kind == _FORM):
        raise Refusal(415, "Send JSON, with content-type application/json.")


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


def _with_headers(send: Send, more: Iterable[tuple[bytes, bytes]]) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = [*message.get("headers", []), *more]
            names = {name.lower() for name, _ in given}
            given += [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in names]
            message = {**message, "headers": given}
        await send(message)

    return with_headers


def _with_note(send: Send, scope: Message, ledger: Ledger) -> Send:
    """A line in the ledger before the answer goes out: nobody hears of a change of which there is no line."""

    async def with_note(message: Message) -> None:
        if message["type"] == "http.response.start":
            ledger.note(scope, message["status"])
        await send(message)

    return with_note
