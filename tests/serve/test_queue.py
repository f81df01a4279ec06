import threading

import pytest

from monoscope.core.errors import Busy
from monoscope.serve.queue import Queue


def test_one_at_a_time_and_a_bounded_queue():
    queue = Queue(most_waiting=1)
    first, second = queue.sit(), queue.sit()
    assert first.try_turn(0) and not second.try_turn(0)
    with pytest.raises(Busy, match="try again"):
        queue.sit()
    first.leave()
    first.leave()
    assert second.try_turn(0)
    second.leave()
    assert queue.inside == 0
    with queue.turn():
        assert queue.inside == 1
    assert queue.inside == 0


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
