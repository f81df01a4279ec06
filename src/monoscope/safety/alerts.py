"""Where alerts go: to the log, and line by line into a file that a killed process leaves whole (`docs/monitors.md`).

The file is written from the model's thread, before what it tells of can leave: an alert that was acted upon is on the
disk. Nothing else is done there; a webhook reads the file behind it.
"""

import contextlib
import fcntl
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from monoscope.core.errors import Busy, Damaged
from monoscope.safety.alert import Alert

_log = logging.getLogger(__name__)


def log_alert(alert: Alert) -> None:
    """One line in the log, without a word of any text."""
    _log.warning(
        "monitor %s (%s) fired at token %d of the %s, draft %d of request %s",
        alert.monitor,
        alert.action,
        alert.token,
        alert.where,
        alert.draft,
        alert.request,
    )


class AlertFile:
    """A file with one line of JSON for each alert, for one process at a time. Mutable; for any thread.

    A line that was torn by a kill or a full disk is ended, so that the next one begins at a line of its own.

    Raises
        Busy     another process writes it.
        Damaged  it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self.unwritten = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise Damaged(f"{path} cannot be written ({error.strerror}); give another --alerts FILE.") from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._handle)
            raise Busy(f"{path} is being written by another server; give another --alerts FILE.") from error
        size = os.fstat(self._handle).st_size
        self._torn = size > 0 and os.pread(self._handle, 1, size - 1) != b"\n"

    def write(self, alert: Alert) -> bool:
        """Add a line; whether it is there now. A failure is told in the log, as the text must not wait for it."""
        line = json.dumps(alert.to_json(), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        with self._lock:
            if self._torn:
                line = b"\n" + line
            try:
                while line:
                    self._torn = True
                    line = line[os.write(self._handle, line) :]
                self._torn = False
            except OSError as error:
                self.unwritten += 1
                _log.error("alert %s could not be written: %s", alert.id, error.strerror)
                return False
        return True

    def close(self) -> None:
        """Let others write it."""
        with self._lock, contextlib.suppress(OSError):
            os.close(self._handle)
            self._handle = -1  # the number may soon be another file's


def whole_lines(path: Path, offset: int) -> Iterator[tuple[int, bytes]]:
    """The ended lines of a file from a place on, each with the place behind it."""
    with path.open("rb") as stream:
        stream.seek(offset)
        for line in stream:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            yield offset, line


def alert_id(line: bytes) -> str | None:
    """The id of the alert that a line holds; None for an empty or torn one."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    found = values.get("id") if isinstance(values, dict) else None
    return found if isinstance(found, str) and found.isalnum() else None
