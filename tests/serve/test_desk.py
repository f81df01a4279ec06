import threading

import pytest

from monoscope.core.errors import Busy
from monoscope.serve.desk import Desk


def test_one_at_a_time_and_a_bounded_queue():
    desk = Desk(most_waiting=1)
    first, second = desk.sit(), desk.sit()
    assert first.try_turn(0) and not second.try_turn(0)
    with pytest.raises(Busy, match="try again"):
        desk.sit()
    first.leave()
    first.leave()
    assert second.try_turn(0)
    second.leave()
    assert desk.inside == 0
    with desk.turn():
        assert desk.inside == 1
    assert desk.inside == 0


def test_no_two_are_served_together():
    desk, inside, seen = Desk(most_waiting=7), [], []

    def work():
        with desk.turn():
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
    desk = Desk(most_waiting=0)
    with pytest.raises(ValueError), desk.turn():
        raise ValueError
    with desk.turn():
        pass
