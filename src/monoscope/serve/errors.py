"""Refusals as answers: one sentence and a status, as JSON or as a page, with nothing of the machine in it."""

import logging
from pathlib import Path

from monoscope.core.errors import Ambiguous, BadRequest, Busy, MonoscopeError, NotFound, RequestDiffers, Unavailable

_log = logging.getLogger(__name__)
UNEXPECTED = "Something went wrong here; the server's terminal says what."
_LONGEST = 500
RETRY_SECONDS = {429: "3", 503: "3"}


def status_of(error: MonoscopeError) -> int:
    """The HTTP status of a refusal."""
    table: tuple[tuple[type[MonoscopeError], int], ...] = (
        (BadRequest, 400),
        (NotFound, 404),
        (Ambiguous, 409),
        (RequestDiffers, 409),
        (Busy, 429),
        (Unavailable, 503),
    )
    return next((status for kind, status in table if isinstance(error, kind)), 500)


def sentence_of(error: Exception, run: Path) -> str:
    """What a visitor may read of a refusal: its sentence without folders of this machine."""
    text = str(error)
    for folder in {str(run.resolve()), str(run.absolute()), str(run)} - {"."}:
        text = text.replace(folder, run.name or "the run")
    return text[:_LONGEST]


def spoken(error: Exception, run: Path) -> str:
    """Any error as a sentence: a refusal's own, or one that tells nothing of what failed."""
    if isinstance(error, MonoscopeError):
        return sentence_of(error, run)
    _log.error("unexpected %s", type(error).__name__, exc_info=error)
    return UNEXPECTED
