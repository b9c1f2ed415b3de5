"""What the ledger knows of a slave."""

import pytest

from taskmaster.master.slaves import WINDOW, Slave


def test_the_rate_is_of_the_last_seconds():
    slave = Slave('s', 'host:1', 1, 100.0)
    assert slave.rate(100.0) == 0
    for second in range(1, 60):             # a hundred a second
        slave.done += 100
        slave.hear(100.0 + second)
        assert slave.rate(100.0 + second) == pytest.approx(100)
    for second in range(60, 70):            # and then none
        slave.hear(100.0 + second)
    assert slave.rate(170.0) == 0
    slave.done += 5
    slave.hear(171.0)
    assert 0 < slave.rate(171.0) <= 5


def test_the_rate_of_one_that_is_silent_falls():
    slave = Slave('s', 'host:1', 1, 100.0)
    slave.done = 1000
    slave.hear(100.0 + WINDOW)
    assert slave.rate(100.0 + WINDOW) == pytest.approx(1000 / WINDOW)
    assert slave.rate(200.0) == pytest.approx(10)
