"""Programs that work in turns: one computes while the others wait on a pipe.

So tools from environments that do not agree are compared in one run, warm and interleaved.
"""

import json
import os
import select
import subprocess
import time
from pathlib import Path
from typing import Any

from common import HERE, bench_cache
from environments import last_line

# Threads of the last worker spin for a moment after their work; the next one starts when they sleep.
_PAUSE = 0.25
_LIMIT = 900.0


class WorkerLost(Exception):
    """A worker died or hung; the message is the reason."""


class Worker:
    """One program under `peers/`, started and waiting."""

    def __init__(self, name: str, python: Path | str, script: str, words: list[str], *, threads: int) -> None:
        self.name = name
        self._log = bench_cache() / "logs" / f"{name}.log"
        self._log.parent.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "HF_HUB_OFFLINE": "1",
            "WANDB_MODE": "disabled",
            "TOKENIZERS_PARALLELISM": "false",
        }
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [str(python), str(HERE / "peers" / script), *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            )
        self._rest = b""

    def hear(self) -> dict[str, Any]:
        """The next thing it says.

        Raises
            WorkerLost  it is gone, or silent for too long.
        """
        until = time.monotonic() + _LIMIT
        while True:
            line = self._line(until)
            if line.startswith(b"{"):  # anything else was printed by a library while it was imported
                return json.loads(line)

    def _line(self, until: float) -> bytes:
        while b"\n" not in self._rest:
            if not select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
                self.stop()
                raise WorkerLost(f"silent for {_LIMIT:.0f} seconds")
            found = os.read(self._process.stdout.fileno(), 1 << 16)
            if not found:
                raise WorkerLost(last_line(self._log.read_text(errors="replace")) or "it ended without a word")
            self._rest += found
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def ask(self, **order: Any) -> dict[str, Any]:
        """Give an order and wait for what comes of it."""
        time.sleep(_PAUSE)
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerLost(last_line(self._log.read_text(errors="replace")) or str(error)) from error
        return self.hear()

    def stop(self) -> None:
        """End it."""
        self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
