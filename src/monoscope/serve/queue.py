"""Whose turn it is: one visitor's work on the model at a time, a few who wait, and a plain answer for the rest."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from monoscope.core.errors import Busy

MOST_WAITING = 8
_LOOK_SECONDS = 0.2


class Queue:
    """A queue of bounded length. Mutable."""

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self._seats = threading.BoundedSemaphore(most_waiting + 1)
        self._turn = threading.Lock()
        self._count_guard = threading.Lock()
        self._inside = 0

    @property
    def inside(self) -> int:
        """How many are at work or waiting."""
        return self._inside

    def sit(self) -> "Seat":
        """Take a place in the queue.

        Raises
            Busy  all places are taken.
        """
        if not self._seats.acquire(blocking=False):
            raise Busy("The model is answering others and the queue is full; try again in a few seconds.")
        self._count(1)
        return Seat(self)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Queue up and be served; raises like `sit`."""
        seat = self.sit()
        try:
            while not seat.try_turn():
                continue
            yield
        finally:
            seat.leave()

    def _count(self, change: int) -> None:
        with self._count_guard:
            self._inside += change


class Seat:
    """One place in the queue. Whoever holds it must `leave`, also when the turn never came. Mutable."""

    def __init__(self, queue: Queue) -> None:
        self._queue, self._serving, self._left = queue, False, False
        self.since = time.monotonic()

    def try_turn(self, seconds: float = _LOOK_SECONDS) -> bool:
        """Wait a moment for the turn; true once it has come."""
        if not self._serving:
            self._serving = self._queue._turn.acquire(timeout=seconds)
        return self._serving

    @property
    def ahead(self) -> int:
        """About how many stand before this one."""
        return max(0, self._queue.inside - 1)

    def leave(self) -> None:
        """Go; a second time does nothing."""
        if self._left:
            return
        self._left = True
        if self._serving:
            self._queue._turn.release()
        self._queue._count(-1)
        self._queue._seats.release()
