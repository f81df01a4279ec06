"""The explorer as one application, and how it is given an address."""

import contextlib
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from monoscope.core.errors import BadRequest, Unavailable
from monoscope.core.run import Run
from monoscope.core.runtime import release_threads
from monoscope.safety.patrol import Patrol
from monoscope.serve.answers import Calm, answer_errors
from monoscope.serve.api import api_routes
from monoscope.serve.described import describe
from monoscope.serve.guard import Guard, is_loopback
from monoscope.serve.health import health_routes
from monoscope.serve.intake import Limits
from monoscope.serve.library import Library
from monoscope.serve.metrics import Measured, Metrics
from monoscope.serve.notes import note_routes
from monoscope.serve.origins import Origins
from monoscope.serve.pages import page_routes
from monoscope.serve.tokens import Keys, check_tokens
from monoscope.serve.traces import redact_loop
from monoscope.serve.v1_routes import v1_routes
from monoscope.serve.watched import watched_routes
from monoscope.serve.wire import end, server_of
from monoscope.serve.writes import Ledger

WANTED_PORT = 8421
_PORTS_TRIED = 50
_LEDGER = "desk_writes.jsonl"


@dataclass(frozen=True)
class Address:
    """A server at work in the background. `wait` keeps the caller until it is stopped."""

    host: str
    port: int
    _server: uvicorn.Server = field(repr=False)
    _thread: threading.Thread = field(repr=False)
    _after: Callable[[], None] = field(repr=False, default=lambda: None)

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://{_shown(self.host)}:{self.port}/"

    def wait(self, stop: threading.Event | None = None) -> None:
        """Stay until `stop` is set, or the server ends; then close it."""
        release_threads()  # the caller may have made the whole run before, and computes no more
        while self._thread.is_alive() and not (stop is not None and stop.is_set()):
            self._thread.join(0.3)
        self.close()

    def close(self) -> None:
        """Stop the server; streams are cut."""
        end(self._server)
        self._thread.join(5)
        self._after()


def create_app(  # noqa: PLR0913
    run: Path,
    *,
    name: str | None = None,
    token: str | None = None,
    admin_token: str | None = None,
    allow_hosts: Iterable[str] = (),
    allow_origins: Iterable[str] = (),
    port: int = WANTED_PORT,
    library: Library | None = None,
    limits: Limits | None = None,
) -> Any:
    """The whole application behind its guard, for a run folder that need not be finished.

    `token` lets visitors in; `admin_token`, where there is one, is needed to write to the desk; pages of
    `allow_origins` may ask with a token. `.app` is the FastAPI application inside, with all its routes.

    Raises
        BadRequest  an origin is none.
    """
    books, metrics = library or Library(run, name), Metrics()
    app = FastAPI(
        title="monoscope",
        summary="Features inside a language model: find them, read them, steer with them.",
        version="1",
        lifespan=_lifespan(books),
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        # Traces and logs of FastAPI's own would carry addresses and bodies to whatever the environment names.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.library = books
    app.include_router(health_routes(books, metrics))
    app.include_router(api_routes(books))
    app.include_router(note_routes(books))
    app.include_router(watched_routes(books))
    app.include_router(v1_routes(books))
    app.include_router(page_routes(books))
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    answer_errors(app, books)
    keys = Keys(token, admin_token, port=port)
    describe(app, locked=keys.any)
    guard = Guard(
        app, port=port, keys=keys, ledger=Ledger(books.run.path / _LEDGER), allow_hosts=allow_hosts,
        origins=Origins(allow_origins), limits=limits,
    )  # fmt: skip
    return _Guarded(app, Measured(Calm(guard), metrics))


class _Guarded:
    """The guard in front, with the application behind it in reach."""

    def __init__(self, app: FastAPI, front: Measured) -> None:
        self.app, self._front = app, front

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._front(scope, receive, send)


def _lifespan(books: Library) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        redact_loop()
        if books.ready:
            books.start_model()
        yield

    return lifespan


def free_port(host: str = "127.0.0.1", wanted: int = WANTED_PORT) -> int:
    """The wanted port, or the next one that is free.

    Raises
        Unavailable  none of the next fifty is.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(wanted, min(wanted + _PORTS_TRIED, 65_536)):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise Unavailable(f"No port from {wanted} to {wanted + _PORTS_TRIED - 1} is free on {host}; give another --port.")


def check_address(host: str, token: str | None, admin_token: str | None = None) -> None:
    """Refuse to listen beyond this machine without a token.

    Raises
        BadRequest  it would be open to everybody who can reach it, or a token is easily guessed.
    """
    check_tokens(token, admin_token)
    if not is_loopback(host) and token is None:
        raise BadRequest(f"Listening on {host} lets others in; give --token, or listen on 127.0.0.1.")


def serve(  # noqa: PLR0913
    run: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    admin_token: str | None = None,
    name: str | None = None,
    allow_hosts: Iterable[str] = (),
    allow_origins: Iterable[str] = (),
    patrol: Patrol | None = None,
) -> None:
    """Serve a run until interrupted, with monitors where there is a patrol; says where on stderr.

    Raises
        BadRequest   the address would be open to others and there is no token, or a token or origin is none.
        Unavailable  no port is free.
    """
    if name is not None or not Path(run).is_dir():
        Run(Path(run)).choose_atlas(name)
    address = start_in_background(
        run, host=host, port=port, token=token, admin_token=admin_token, name=name, allow_hosts=allow_hosts,
        allow_origins=allow_origins, patrol=patrol,
    )  # fmt: skip
    exposed = "" if is_loopback(host) else " (open to everybody who reaches this machine and knows the token)"
    sys.stderr.write(f"The explorer is at {address.url}{exposed}; Ctrl-C stops it.\n")
    address.wait()


def start_in_background(  # noqa: PLR0913
    run: Path,
    port: int | None = None,
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    admin_token: str | None = None,
    name: str | None = None,
    allow_hosts: Iterable[str] = (),
    allow_origins: Iterable[str] = (),
    library: Library | None = None,
    patrol: Patrol | None = None,
) -> Address:
    """Serve a run from a thread, also before it has an atlas: then the first page shows how far it is.

    Raises
        BadRequest   the address would be open to others and there is no token, or a token or origin is none.
        Unavailable  no port is free.
    """
    check_address(host, token, admin_token)
    port = free_port(host, WANTED_PORT if port is None else port)
    books = library or Library(run, name, patrol)
    app = create_app(
        run, token=token, admin_token=admin_token, allow_hosts=[*allow_hosts, *_own_names(host, port)],
        allow_origins=allow_origins, port=port, library=books,
    )  # fmt: skip
    server = server_of(app, host, port)
    thread = threading.Thread(target=server.run, name="explorer", daemon=True)
    thread.start()
    # A library that was given is its giver's to close.
    address = Address(host, port, server, thread, (lambda: None) if library is not None else books.close)
    for _ in range(200):
        if server.started:
            return address
        if not thread.is_alive():
            break
        time.sleep(0.05)
    address.close()
    raise Unavailable(f"The explorer did not start on {_shown(host)}:{port}; give another --port.")


def _own_names(host: str, port: int) -> list[str]:
    """The address that was asked for is a name of this server; a wildcard is none."""
    return [] if host in ("0.0.0.0", "::", "") else [f"{_shown(host)}:{port}"]  # noqa: S104


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
