"""Writes to the desk, labels, notes, lists and presets: which requests they are, how many a minute, a line for each.

Whatever is not known to read only counts as a write: a new route is under the stricter rules until it is listed.
"""

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monoscope.serve.refusing import LOGIN_PATH, Message, Refusal
from monoscope.serve.traces import log_unexpected

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# They take a body because texts are long; nothing is kept of it.
ASKING = frozenset({
    LOGIN_PATH, "/prompt", "/contrast", "/api/v1/encode", "/api/v1/contrast", "/api/v1/steer",
    "/v1/chat/completions", "/v1/completions",
})  # fmt: skip
_MOST_BYTES = 5_000_000


def is_desk_write(method: str, path: str) -> bool:
    """Whether a request may change what lies on the desk or among the presets."""
    return method not in SAFE_METHODS and path not in ASKING


class Pace:
    """So many a minute, in one burst or spread out. Mutable; safe to use from several threads."""

    def __init__(self, a_minute: int) -> None:
        self._most, self._left, self._since = a_minute, float(a_minute), time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> None:
        """Take one.

        Raises
            Refusal  429, none is left for now.
        """
        with self._lock:
            now = time.monotonic()
            self._left = min(self._most, self._left + (now - self._since) * self._most / 60)
            self._since = now
            if self._left < 1:
                raise Refusal(
                    429, f"More than {self._most} changes a minute are not taken; try again in a few seconds."
                )
            self._left -= 1


class Ledger:
    """A file with a line of JSON for each write: when, which route, which feature, and how it ended; never a text.

    One that has grown large is kept once more under another name. Safe to use from several threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def note(self, scope: Message, status: int) -> None:
        """Write the line for a request that a route has answered; others changed nothing."""
        route = getattr(scope.get("route"), "path", None)
        if route is None or "endpoint" not in scope:
            return
        line = {
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "method": scope["method"],
            "route": route,
            **_feature_of(scope.get("path_params", {})),
            "status": status,
        }
        try:
            self._append(json.dumps(line) + "\n")
        except OSError as error:
            log_unexpected(error)

    def _append(self, line: str) -> None:
        with self._lock:
            if self.path.is_file() and self.path.stat().st_size > _MOST_BYTES:
                self.path.replace(self.path.with_suffix(".old.jsonl"))
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(line)


def _feature_of(parameters: Mapping[str, Any]) -> dict[str, int]:
    """The number of the feature that an address names. Names of lists, presets and dictionaries are visitors' words."""
    given = str(parameters.get("feature", ""))
    return {"feature": int(given)} if given.isascii() and given.isdigit() and len(given) < 20 else {}
