"""What is written down of an error that nobody expected: its kind and its place, never its text.

The text of an exception may hold what a visitor sent: a prompt, a name, a token. MONOSCOPE_TRACE=1 shows all of it.
"""

import asyncio
import logging
import os
import traceback
from pathlib import Path
from typing import Any

_log = logging.getLogger("monoscope.serve")
_MOST_FRAMES, _MOST_CAUSES = 8, 3


def told(error: BaseException) -> str:
    """The kinds of an error and of its causes, each with its way through the code, the innermost place first."""
    found: list[str] = []
    at: BaseException | None = error
    while at is not None and len(found) < _MOST_CAUSES:
        found.append(f"{type(at).__name__} at {_way(at)}")
        at = at.exceptions[0] if isinstance(at, BaseExceptionGroup) else at.__cause__ or at.__context__
    return "; from ".join(found)


def _way(error: BaseException) -> str:
    frames = [(Path(frame.f_code.co_filename), line, frame.f_code.co_name) for frame, line in _frames(error)]
    places = [f"{path.parent.name}/{path.name}:{line} {name}" for path, line, name in reversed(frames)]
    return " < ".join(places[:_MOST_FRAMES]) or "an unknown place"


def _frames(error: BaseException) -> list[tuple[Any, int]]:
    return list(traceback.walk_tb(error.__traceback__))


def log_unexpected(error: BaseException) -> None:
    """Write an unexpected error to the log, without its text."""
    shown = error if os.environ.get("MONOSCOPE_TRACE") else None
    _log.error("unexpected %s", told(error), exc_info=shown)


class Redacting(logging.Filter):
    """Replaces the traceback of another library's log line, which ends with the error's text, by `told`."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always lets the line through."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if error is not None and not os.environ.get("MONOSCOPE_TRACE"):
            record.msg, record.args = f"{str(record.msg).strip()}: {told(error)}", None
            record.exc_info = record.exc_text = None
        return True


_REDACTING = Redacting()


def redact(*loggers: str) -> None:
    """Let no traceback of these loggers through; a second time changes nothing."""
    for name in loggers:
        logging.getLogger(name).addFilter(_REDACTING)


def redact_loop() -> None:
    """The same for what the running event loop says of tasks that failed: it would show them with their errors."""
    asyncio.get_running_loop().set_exception_handler(_of_loop)


def _of_loop(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, BaseException):
        log_unexpected(error)
    else:
        _log.error("the event loop reports: %s", context.get("message", "nothing"))
