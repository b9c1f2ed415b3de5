"""What a slave and its supervisor share."""

import os

import pytest
from fakes import Clock

from taskmaster.slave import watchdog
from taskmaster.slave.watchdog import Watchdog


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sides(clock):
    """The slave's side of a watchdog of three slots, and the supervisor's."""
    fd = watchdog.make(3, 5.0)
    both = Watchdog(fd, clock), Watchdog(os.dup(fd), clock)
    os.close(fd)
    yield both
    for side in both:
        side.close()


def test_both_know_the_limit(sides):
    assert [side.limit for side in sides] == [5.0, 5.0]


def test_nothing_is_late_while_nothing_is_done(sides, clock):
    clock.forward(100)
    assert sides[1].late() is None


def test_a_job_that_takes_too_long(sides, clock):
    slave, supervisor = sides
    slave.begin(1, 17, 17)
    clock.forward(5)
    slave.begin(2, 20, 29)
    assert supervisor.late() is None
    clock.forward(0.1)
    assert supervisor.late() == [(17, 17)]
    clock.forward(5)
    assert supervisor.late() == [(17, 17), (20, 29)]
    slave.end(1)
    slave.end(2)
    assert supervisor.late() is None


def test_a_job_of_a_run_that_is_over_has_no_number(sides, clock):
    """Another job has it by now."""
    slave, supervisor = sides
    slave.begin(0, 17, 17)
    slave.disown()
    assert supervisor.late() is None
    clock.forward(6)
    assert supervisor.late() == []


def test_without_a_beat_one_of_several_holds_the_gil(sides, clock):
    slave, supervisor = sides
    slave.beat()
    slave.begin(0, 17, 17)
    clock.forward(3)
    slave.begin(1, 18, 18)
    clock.forward(3)
    assert supervisor.late() == []
    slave.beat()                # no: the others were not held up
    assert supervisor.late() == [(17, 17)]


def test_without_a_beat_a_job_that_is_alone_is_at_fault(sides, clock):
    slave, supervisor = sides
    slave.beat()
    slave.begin(0, 17, 17)
    clock.forward(6)
    assert supervisor.late() == [(17, 17)]
