"""OpenAI's interface under /v1: models, chat completions and completions, with edits, presets and a report."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import APIRouter
from fastapi import Request as HttpRequest
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from monoscope.core.errors import MonoscopeError
from monoscope.serve.errors import OPENAI_PATHS, error_body, spoken, status_of
from monoscope.serve.library import Library
from monoscope.serve.v1_answers import Frame, check_generation, ending_values
from monoscope.serve.v1_asking import Asked, ask_chat, ask_completion, submit
from monoscope.serve.v1_bodies import ChatBody, CompletionBody
from monoscope.serve.v1_choices import writer_of
from monoscope.serve.v1_models import find_model, offered_models
from monoscope.serve.v1_redrafting import heard
from monoscope.serve.v1_schemas import CHAT_ANSWERS, COMPLETION_ANSWERS, LIST_ANSWERS, MODEL_ANSWERS
from monoscope.serve.v1_waiting import Waiting, generations_of, unless_gone
from monoscope.steer.request import Event, Generation

_CLIENT_GONE = 499


def v1_routes(books: Library) -> APIRouter:
    """The routes, answering from one library."""
    routes = APIRouter(prefix="/v1", tags=["openai"])

    @routes.get("/models", responses=LIST_ANSWERS)
    def models() -> JSONResponse:
        """The model, and each preset of edits on it as `MODEL:PRESET`."""
        return JSONResponse({"object": "list", "data": [model.values() for model in offered_models(books)]})

    @routes.get("/models/{model:path}", responses=MODEL_ANSWERS)
    def one_model(model: str) -> JSONResponse:
        """One of them."""
        return JSONResponse(find_model(books, model).values())

    @routes.post("/chat/completions", responses=CHAT_ANSWERS)
    async def chat(body: ChatBody, request: HttpRequest) -> Response:
        """Go on with a conversation. With `stream` the answer comes as server-sent events, and at last `[DONE]`."""
        return await _answer(books, request, lambda: ask_chat(books, body))

    @routes.post("/completions", responses=COMPLETION_ANSWERS)
    async def complete(body: CompletionBody, request: HttpRequest) -> Response:
        """Go on with a text, or with several. With `stream` the answer comes as server-sent events."""
        return await _answer(books, request, lambda: ask_completion(books, body))

    return routes


async def _answer(books: Library, request: HttpRequest, ask: Callable[[], Asked]) -> Response:
    asked, waiting = await _begun(books, ask)
    if asked.stream:
        return _EventStream(_events(books, asked, waiting), waiting)
    try:
        generations = await unless_gone(generations_of(heard(books, asked, waiting)), request.receive)
    finally:
        waiting.leave()
    if generations is None:
        return Response(status_code=_CLIENT_GONE)
    for done in generations:
        check_generation(done)
    return JSONResponse(Frame(asked).whole(generations))


async def _begun(books: Library, ask: Callable[[], Asked]) -> tuple[Asked, Waiting]:
    """Templates, tokenisers and dictionaries take their time, so a thread does it."""
    asked = await run_in_threadpool(ask)
    return asked, Waiting(await run_in_threadpool(submit, books, asked))


class _EventStream(StreamingResponse):
    """Server-sent events, whose places in the engine are given up however the stream ends."""

    def __init__(self, lines: AsyncIterator[str], waiting: Waiting) -> None:
        super().__init__(lines, media_type="text/event-stream")
        self._waiting = waiting

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until all is sent, or the client has left."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._waiting.leave()


async def _events(books: Library, asked: Asked, waiting: Waiting) -> AsyncIterator[str]:
    try:
        async for chunk in _chunks(asked, heard(books, asked, waiting)):
            yield _line(json.dumps(chunk))
    except Exception as error:
        # The status has been sent long ago; clients look for an error in the stream.
        yield _line(json.dumps(_error_values(books, error)))
    yield _line("[DONE]")


def _error_values(books: Library, error: Exception) -> dict[str, Any]:
    status = status_of(error) if isinstance(error, MonoscopeError) else 500
    param, code = getattr(error, "param", None), getattr(error, "code", None)
    return error_body(OPENAI_PATHS, status, spoken(error, books.run.path), param=param, code=code)


async def _chunks(asked: Asked, events: AsyncIterator[tuple[int, Event]]) -> AsyncIterator[dict[str, Any]]:
    """All parts of a streamed answer; `monoscope` rides in the last, whether that tells usage or why a reply ended."""
    frame = Frame(asked)
    writers = [writer_of(asked, number) for number in range(len(asked.requests))]
    done: dict[int, Generation] = {}
    for choice in [writer.opening() for writer in writers]:
        if choice is not None:
            yield frame.chunk([choice])
    async for number, event in events:
        piece = writers[number].piece(event)
        if piece is not None:
            yield frame.chunk([piece])
        if event.done is None:
            continue
        check_generation(event.done)
        done[number] = event.done
        last = len(done) == len(writers) and not asked.tell_usage
        more = {"monoscope": _endings(asked, done)["monoscope"]} if last else {}
        yield frame.chunk([writers[number].ending(event.done)], **more)
    if asked.tell_usage:
        yield frame.chunk([], **_endings(asked, done))


def _endings(asked: Asked, done: dict[int, Generation]) -> dict[str, Any]:
    return ending_values(asked, [done[number] for number in range(len(asked.requests))])


def _line(data: str) -> str:
    return f"data: {data}\n\n"
