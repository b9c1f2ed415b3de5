"""Who waits for jobs, and who of them is woken."""

import threading

import pytest

from taskmaster.master.waiters import Waiters


class Turn(threading.Condition):
    """Counts the looks at those that wait."""

    looks = 0
    __hash__ = object.__hash__

    def __eq__(self, other):
        Turn.looks += 1
        return self is other


@pytest.mark.parametrize('hungry', [True, False])
def test_who_goes_is_not_searched_for_among_a_thousand(hungry):
    waiters = Waiters(lambda: 0, lambda: False)
    waiters.lock.condition = lambda: Turn(waiters.lock)
    with waiters.lock:
        line = waiters.hungry if hungry else waiters._others
        for _ in range(1000):
            line[Turn(waiters.lock)] = None
        looks = Turn.looks
        waiters.wait(0.001, hungry, 0)
        assert len(line) == 1000
        waiters.wake_one()
        waiters.wake_all()
    assert not line
    assert Turn.looks - looks < 10
