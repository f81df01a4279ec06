"""Two addresses for machines: whether the server can answer, and its figures. Neither waits for anybody."""

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from monoscope.serve.library import Library
from monoscope.serve.metrics import MEDIA_TYPE, Metrics

HEALTH_PATH = "/healthz"
METRICS_PATH = "/metrics"


def health_routes(books: Library, metrics: Metrics) -> APIRouter:
    """The routes."""
    routes = APIRouter(include_in_schema=False, default_response_class=PlainTextResponse)
    # Threads of its own: those of the other routes may all be waiting for the model.
    own = CapacityLimiter(2)

    @routes.api_route(HEALTH_PATH, methods=["GET", "HEAD"])
    async def health() -> PlainTextResponse:
        return PlainTextResponse("ok") if can_answer(books) else PlainTextResponse("the model has stopped", 503)

    @routes.get(METRICS_PATH)
    async def figures() -> PlainTextResponse:
        batcher = books.running_batcher
        counts = {} if batcher is None else await to_thread.run_sync(batcher.counts, limiter=own)
        patrol = books.patrol
        watched = await to_thread.run_sync(patrol.alerts_total, limiter=own) if patrol.stations else []
        waiting = {"undelivered": patrol.undelivered, "unwritten": patrol.unwritten} if patrol.stations else {}
        return PlainTextResponse(metrics.text(counts, watched, waiting), media_type=MEDIA_TYPE)

    return routes


def can_answer(books: Library) -> bool:
    """Whether what was started still runs. A model that is being loaded, or that nobody asked for, is no failure."""
    batcher = books.running_batcher
    return batcher is None or not batcher.failed
