"""What a child does until it is killed."""

import os
import random
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from monoscope.safety.alert import Alert, Share
from monoscope.safety.alerts import AlertFile
from monoscope.safety.webhook import Webhook


def alert(number: int) -> Alert:
    share = Share(7, 0.5, "ein Fühler, 犬")
    return Alert(
        f"a{number}", "2026-01-01T00:00:00Z", "r", 0, "m", "flag", 2.0, 1.0, 9, "reply", 3, False, (share,), "\ud800 x"
    )


def raise_alerts(path: Path, url: str, first: int, kill: int, told: Connection) -> None:
    """Raise alerts one after another, and die at the `kill`th write or rename, maybe in the middle of a line."""
    left, whole_write = kill, os.write

    def dying(function):
        def called(*args, **kwargs):
            nonlocal left
            left -= 1
            if left == 0:
                if function is whole_write and random.Random(kill).random() < 0.5:
                    whole_write(args[0], args[1][: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return called

    file = AlertFile(path)
    webhook = Webhook(path, url, timeout=2.0, first_pause=0.01)
    os.write, os.replace = dying(os.write), dying(os.replace)
    Path.replace = dying(Path.replace)
    for number in range(first, first + 30):
        if file.write(alert(number)):
            webhook.wake()
            told.send(number)
    os.kill(os.getpid(), signal.SIGKILL)
