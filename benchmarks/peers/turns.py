"""A worker's side of taking turns: it answers orders that come on standard input, one JSON object a line."""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any


class Turns:
    """Counts steps; when those of a turn are done it reports their seconds and waits for the next order."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # what libraries print does not belong into the answers
        self._left: float = 0
        self._rows = 0
        self._began: float | None = None

    def say(self, **facts: Any) -> None:
        """Send one answer."""
        self._out.write(json.dumps(facts) + "\n")

    def before_step(self, rows: int) -> None:
        """Call before each step of so many rows. The first call waits for the first turn."""
        if self._left == 0:
            self.wait()
        self._left -= 1
        self._rows += rows

    def after_step(self, rows: int) -> None:
        """Call after each step, where the caller has called `wait` before the first."""
        self._left -= 1
        self._rows += rows
        if self._left == 0:
            self.wait()

    def wait(self) -> None:
        """Report the turn that ended, if any, and block until the next order."""
        if self._began is not None:
            seconds = time.perf_counter() - self._began
            self.say(seconds=seconds, rows=self._rows, rows_per_second=self._rows / seconds)
        line = sys.stdin.readline()
        if not line:
            raise SystemExit(0)
        self._left = json.loads(line).get("steps", float("inf"))
        self._rows = 0
        self._began = time.perf_counter()

    def close(self) -> None:
        """Training is over: report its last turn and wait until quality is asked for."""
        if self._left == 0:
            self.wait()


def peak_bytes() -> int:
    """The most memory this process had. On Linux `ru_maxrss` also remembers the parent's, so the kernel is asked."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
