import threading
import time

import pytest

from monoscope.core.errors import Busy
from monoscope.serve.queue import Queue


def test_a_full_queue_refuses_and_a_place_comes_free():
    queue, served, leave = Queue(most_waiting=1), threading.Event(), threading.Event()

    def work():
        with queue.turn():
            served.set()
            leave.wait(5)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert served.wait(5)
    deadline = time.monotonic() + 5
    while queue._places._value and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(Busy, match="try again"), queue.turn():
        pass
    leave.set()
    for thread in threads:
        thread.join()
    with queue.turn():
        pass


def test_no_two_are_served_together():
    queue, inside, seen = Queue(most_waiting=7), [], []

    def work():
        with queue.turn():
            inside.append(1)
            seen.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 8


def test_a_failure_frees_the_place():
    queue = Queue(most_waiting=0)
    with pytest.raises(ValueError), queue.turn():
        raise ValueError
    with queue.turn():
        pass
