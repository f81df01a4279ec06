"""The command line: settings in, a stage called, told. Errors become one sentence and an exit status."""

import os
import sys
from typing import NoReturn

from cyclopts import CycloptsError

from monoscope.commands import (
    answering,
    chatting,
    effecting,
    explaining,
    exporting,
    guarding,
    making,
    planning,
    reading,
)
from monoscope.commands.terminal import app, stderr
from monoscope.core.errors import MonoscopeError
from monoscope.core.waiting import wait_briefly

INTERRUPTED = 130
# Importing a command registers it.
COMMANDS = (making, planning, explaining, reading, exporting, answering, effecting, guarding, chatting)


def main() -> NoReturn:
    """The entry point: errors become one sentence and an exit status."""
    wait_briefly()
    sys.exit(run_command(sys.argv[1:]))


def run_command(words: list[str]) -> int:
    """Run one command line; the exit status: 0 done, 1 refused, 2 wrong usage, 130 interrupted."""
    try:
        app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except MonoscopeError as error:
        return _refuse(str(error), error.exit_status)
    except CycloptsError as error:
        return _refuse(f"{error} (monoscope --help lists the commands)", 2)
    except (KeyboardInterrupt, InterruptedError):
        return _refuse("Stopped. What is finished is kept; the same command goes on from there.", INTERRUPTED)
    except BrokenPipeError:
        return 0
    except Exception as error:
        if os.environ.get("MONOSCOPE_TRACE"):
            raise
        where = f"{type(error).__name__}: {error}".splitlines()[0]
        return _refuse(f"Unexpected {where}. MONOSCOPE_TRACE=1 shows where; please report it.", 1)
    return 0


def _refuse(sentence: str, status: int) -> int:
    stderr.print(
        sentence, style="red" if status != INTERRUPTED else None, highlight=False, markup=False, soft_wrap=True
    )
    return status
