"""Whose turn it is to read with the model: one visitor at a time, a few who wait, and a plain answer for the rest."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from monoscope.core.errors import Busy
from monoscope.core.runtime import passing_computation

MOST_WAITING = 8


class Queue:
    """A queue of bounded length. Mutable."""

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self._places = threading.BoundedSemaphore(most_waiting + 1)
        self._turn = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Queue up and be served.

        Raises
            Busy  all places are taken.
        """
        if not self._places.acquire(blocking=False):
            raise Busy("The model is answering others and the queue is full; try again in a few seconds.")
        try:
            with self._turn, passing_computation():
                yield
        finally:
            self._places.release()
