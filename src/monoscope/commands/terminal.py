"""What every command shares: the application, its common flags, telling results and progress, and being stopped.

Results go to stdout (one JSON object with `--json`), everything else to stderr. Torch is imported inside the commands,
so that `--help` answers at once.
"""

import json
import signal
import sys
import threading
from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console

from monoscope.console import Board
from monoscope.core.run import Run

app = App(
    name="monoscope", help="Find the features inside a language model, and use them.", version_flags=["--version"]
)
stderr = Console(stderr=True)
stop = threading.Event()

AsJson = Annotated[bool, Parameter(name="--json", negative="", help="Print exactly one JSON object on stdout.")]
Name = Annotated[
    str | None, Parameter(name="--name", help="Which one, where the run holds several; or what to call it.")
]
Replace = Annotated[bool, Parameter(name="--replace", negative="", help="Make it again, even with other settings.")]
Seed = Annotated[int, Parameter(name="--seed", help="Everything that chance decides follows from this number.")]


def tell(result: dict[str, Any], as_json: bool, show: Callable[[dict[str, Any]], str]) -> None:
    """Print a result, as JSON or as `show` puts it."""
    sys.stdout.write((json.dumps(result, ensure_ascii=False) if as_json else show(result)) + "\n")
    sys.stdout.flush()


def stoppable() -> Callable[[], bool]:
    """From here on Ctrl-C and SIGTERM ask for a stop at the next sound place; a second Ctrl-C stops at once."""

    def ask(_number: int, _frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        stderr.print("Stopping at the next sound place …")

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, ask)
        signal.signal(signal.SIGTERM, ask)
    return stop.is_set


def board(run: Run) -> Board:
    """Progress on stderr and in the run folder."""
    return Board(stderr, run.path / "progress.json")
