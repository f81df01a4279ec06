"""Who computes beside the model keeps no helper threads."""

import threading
import time

import pytest

from monoscope.core import runtime
from monoscope.serve.queue import Queue
from monoscope.steer.batcher import Batcher


@pytest.fixture
def let_go(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of this test's threads that let their helpers go; batchers of other tests may still be about."""
    found: list[str] = []
    others = set(threading.enumerate()) - {threading.current_thread()}

    def pause(_: int) -> None:
        if threading.current_thread() not in others:
            found.append(threading.current_thread().name)

    monkeypatch.setattr(runtime, "_pause", lambda: pause)
    return found


def test_a_turn_lets_them_go_however_it_ends(let_go: list[str]) -> None:
    queue = Queue(most_waiting=0)
    with queue.turn():
        assert not let_go
    with pytest.raises(ZeroDivisionError), queue.turn():
        raise ZeroDivisionError
    assert let_go == ["MainThread"] * 2
    with queue.turn():
        pass


def test_a_batcher_lets_its_makers_go_and_its_own_while_it_waits(let_go: list[str], toy) -> None:
    batcher = Batcher(toy)
    assert let_go[0] == "MainThread"
    deadline = time.monotonic() + 5
    while "batcher" not in let_go and time.monotonic() < deadline:
        time.sleep(0.01)
    batcher.close()
    assert let_go == ["MainThread", "batcher"]
