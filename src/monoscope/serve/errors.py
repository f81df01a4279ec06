"""Refusals as answers: one sentence and a status in the shape that clients expect, with nothing of the machine in it.

/v1/...       {"error": {"message", "type", "param", "code"}}, as clients of OpenAI's interface read it
all others    {"error": "one sentence"}
"""

from pathlib import Path
from typing import Any

from monoscope.core.errors import Ambiguous, BadRequest, Busy, MonoscopeError, NotFound, RequestDiffers, Unavailable
from monoscope.serve.traces import log_unexpected

UNEXPECTED = "Something went wrong here; the server's terminal says what."
_LONGEST = 500
RETRY_SECONDS = {429: "3", 503: "3"}
OPENAI_PATHS = "/v1/"
_CODES = {
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    409: "conflict",
    413: "request_too_large",
    414: "address_too_long",
    415: "unsupported_media_type",
    421: "misdirected_request",
    429: "rate_limit_exceeded",
    431: "headers_too_large",
    503: "unavailable",
}
_KINDS = {403: "permission_error", 429: "rate_limit_error"}


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
    log_unexpected(error)
    return UNEXPECTED


def error_body(
    path: str, status: int, sentence: str, *, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """The JSON of a refusal. `param` is the field that was wrong; `code` a word for programs, else the usual one."""
    # Half a surrogate pair, which a JSON text may name and nothing can encode, would make an error of the error.
    sentence = sentence.encode("utf-8", "replace").decode()
    if not path.startswith(OPENAI_PATHS):
        return {"error": sentence}
    kind = _KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    param = None if param is None else param.encode("utf-8", "replace").decode()
    return {"error": {"message": sentence, "type": kind, "param": param, "code": code or _CODES.get(status)}}


def retry_headers(status: int) -> dict[str, str]:
    """When to come again, for the statuses that are over soon."""
    return {"retry-after": RETRY_SECONDS[status]} if status in RETRY_SECONDS else {}
