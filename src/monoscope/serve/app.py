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
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from monoscope.core.errors import BadRequest, MonoscopeError, Unavailable
from monoscope.core.run import Run
from monoscope.serve.api import api_routes
from monoscope.serve.drawing import error_page
from monoscope.serve.errors import RETRY_SECONDS, sentence_of, spoken, status_of
from monoscope.serve.guard import Guard, is_loopback
from monoscope.serve.library import Library
from monoscope.serve.notes import note_routes
from monoscope.serve.pages import page_routes

WANTED_PORT = 8421
_PORTS_TRIED = 50


@dataclass(frozen=True)
class Address:
    """A server at work in the background. `wait` keeps the caller until it is stopped."""

    host: str
    port: int
    _server: uvicorn.Server = field(repr=False)
    _thread: threading.Thread = field(repr=False)

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://{_shown(self.host)}:{self.port}/"

    def wait(self, stop: threading.Event | None = None) -> None:
        """Stay until `stop` is set, or the server ends; then close it."""
        while self._thread.is_alive() and not (stop is not None and stop.is_set()):
            self._thread.join(0.3)
        self.close()

    def close(self) -> None:
        """Stop the server; streams are cut."""
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(5)


def create_app(
    run: Path,
    *,
    name: str | None = None,
    token: str | None = None,
    allow_hosts: Iterable[str] = (),
    port: int = WANTED_PORT,
    library: Library | None = None,
) -> Any:
    """The whole application behind its guard, for a run folder that need not be finished.

    `.app` is the FastAPI application inside, with all its routes.
    """
    books = library or Library(run, name)
    app = FastAPI(
        title="monoscope",
        summary="Features inside a language model: find them, read them, steer with them.",
        version="1",
        lifespan=_lifespan(books),
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.library = books
    app.get("/healthz", include_in_schema=False)(lambda: PlainTextResponse("ok"))
    app.include_router(api_routes(books))
    app.include_router(note_routes(books))
    app.include_router(page_routes(books))
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    _answer_errors(app, books)
    return _Guarded(app, Guard(app, port=port, token=token, allow_hosts=allow_hosts))


class _Guarded:
    """The guard in front, with the application behind it in reach."""

    def __init__(self, app: FastAPI, guard: Guard) -> None:
        self.app, self._guard = app, guard

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._guard(scope, receive, send)


def _lifespan(books: Library) -> Callable[[FastAPI], contextlib.AbstractAsyncContextManager[None]]:
    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if books.ready:
            books.start_model()
        yield

    return lifespan


def _answer_errors(app: FastAPI, books: Library) -> None:
    def answer(request: Request, status: int, sentence: str) -> Response:
        headers = {"retry-after": RETRY_SECONDS[status]} if status in RETRY_SECONDS else {}
        if request.url.path.startswith(("/api/", "/v1/")):
            return JSONResponse({"error": sentence}, status, headers)
        return error_page(books, request, status, sentence, headers)

    @app.exception_handler(MonoscopeError)
    def refused(request: Request, error: MonoscopeError) -> Response:
        return answer(request, status_of(error), sentence_of(error, books.run.path))

    @app.exception_handler(RequestValidationError)
    def not_understood(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the body"
        return answer(request, 400, f"{where[:80]}: {first['msg'][:200]}.")

    @app.exception_handler(HTTPException)
    def by_status(request: Request, error: HTTPException) -> Response:
        sentences = {404: "There is no such page.", 405: "This address does not take that kind of request."}
        return answer(request, error.status_code, sentences.get(error.status_code, "That did not work."))

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> Response:
        return answer(request, 500, spoken(error, books.run.path))


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


def check_address(host: str, token: str | None) -> None:
    """Refuse to listen beyond this machine without a token.

    Raises
        BadRequest  it would be open to everybody who can reach it.
    """
    if token is not None and len(token) < 8:
        raise BadRequest("The token is shorter than 8 characters; use a longer one, such as 32 random letters.")
    if not is_loopback(host) and token is None:
        raise BadRequest(f"Listening on {host} lets others in; give --token, or listen on 127.0.0.1.")


def serve(
    run: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    token: str | None = None,
    name: str | None = None,
    allow_hosts: Iterable[str] = (),
) -> None:
    """Serve a run until interrupted; says where on stderr.

    Raises
        BadRequest   the address would be open to others and there is no token.
        Unavailable  no port is free.
    """
    if name is not None or not Path(run).is_dir():
        Run(Path(run)).choose_atlas(name)
    address = start_in_background(run, host=host, port=port, token=token, name=name, allow_hosts=allow_hosts)
    exposed = "" if is_loopback(host) else " (open to everybody who reaches this machine and knows the token)"
    sys.stderr.write(f"The explorer is at {address.url}{exposed}; Ctrl-C stops it.\n")
    address.wait()


def start_in_background(
    run: Path,
    port: int | None = None,
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    name: str | None = None,
    allow_hosts: Iterable[str] = (),
    library: Library | None = None,
) -> Address:
    """Serve a run from a thread, also before it has an atlas: then the first page shows how far it is.

    Raises
        BadRequest   the address would be open to others and there is no token.
        Unavailable  no port is free.
    """
    check_address(host, token)
    port = free_port(host, WANTED_PORT if port is None else port)
    app = create_app(
        run, name=name, token=token, allow_hosts=[*allow_hosts, *_own_names(host, port)], port=port, library=library
    )
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, ws="none", server_header=False,
        timeout_keep_alive=15, timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="explorer", daemon=True)
    thread.start()
    address = Address(host, port, server, thread)
    for _ in range(200):
        if server.started:
            return address
        if not thread.is_alive():
            break
        time.sleep(0.05)
    raise Unavailable(f"The explorer did not start on {_shown(host)}:{port}; give another --port.")


def _own_names(host: str, port: int) -> list[str]:
    """The address that was asked for is a name of this server; a wildcard is none."""
    return [] if host in ("0.0.0.0", "::", "") else [f"{_shown(host)}:{port}"]  # noqa: S104


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
