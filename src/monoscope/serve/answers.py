"""How the application answers when a route cannot: every error a sentence, as JSON or as a page."""

import json
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Match

from monoscope.core.errors import MonoscopeError
from monoscope.serve.drawing import error_page
from monoscope.serve.errors import OPENAI_PATHS, UNEXPECTED, error_body, retry_headers, sentence_of, status_of
from monoscope.serve.library import Library
from monoscope.serve.refusing import App, Message, Receive, Send, answer
from monoscope.serve.traces import log_unexpected

_SENTENCES = {
    400: "The body cannot be read.",
    404: "There is no such page.",
    405: "This address does not take that kind of request.",
}
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE")
# Kinds of pydantic's errors, as OpenAI's interface calls them.
_CODES = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}


def answer_errors(app: FastAPI, books: Library) -> None:
    """Set the answers to what the routes of an application raise."""

    async def told(request: Request, status: int, sentence: str, **more: Any) -> Response:
        headers = {**retry_headers(status), **more.pop("headers", {})}
        path = request.url.path
        if path.startswith(("/api/", OPENAI_PATHS)):
            return JSONResponse(error_body(path, status, sentence, **more), status, headers)
        sentence = sentence.encode("utf-8", "replace").decode()
        return await run_in_threadpool(error_page, books, request, status, sentence, headers)

    @app.exception_handler(MonoscopeError)
    async def refused(request: Request, error: MonoscopeError) -> Response:
        sentence = sentence_of(error, books.run.path)
        return await told(request, status_of(error), sentence, param=_word(error, "param"), code=_word(error, "code"))

    @app.exception_handler(RequestValidationError)
    async def not_understood(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return await told(request, 400, "The body is not JSON.")
        where = ".".join(str(part) for part in first["loc"][1:])[:80]
        # Our own checks raise whole sentences, before which pydantic puts its word.
        what = first["msg"].removeprefix("Value error, ").rstrip(".")[:300]
        sentence = f"{where or 'the body'}: {what}."
        return await told(request, 400, sentence, param=where or None, code=_CODES.get(first["type"]))

    @app.exception_handler(HTTPException)
    async def by_status(request: Request, error: HTTPException) -> Response:
        sentence = _SENTENCES.get(error.status_code, "That did not work.")
        headers = {"allow": ", ".join(_methods(app, request))} if error.status_code == 405 else {}
        return await told(request, error.status_code, sentence, headers=headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, _error: Exception) -> Response:
        return await told(request, 500, UNEXPECTED)


def _methods(app: FastAPI, request: Request) -> list[str]:
    """What may be asked of an address; a route alone knows its own methods only."""
    found = []
    for method in _METHODS:
        scope = {**request.scope, "method": method, "fastapi": {}}
        if any(route.matches(scope)[0] is Match.FULL for route in app.router.routes):
            found.append(method)
    return found


def _word(error: MonoscopeError, name: str) -> str | None:
    """What an error says of itself for programs, where it does."""
    found = getattr(error, name, None)
    return found if isinstance(found, str) else None


class Calm:
    """The last to meet an error: writes down its kind and place, and lets it go no further.

    Beyond it stands the server, which would write the whole error to its log. An answer that has begun is cut off.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def seen(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, seen)
        except Exception as error:
            log_unexpected(error)
            if not begun:
                body = json.dumps(error_body(scope["path"], 500, UNEXPECTED)).encode()
                await answer(scope, send, 500, body, [(b"content-type", b"application/json")])
