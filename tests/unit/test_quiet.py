"""Lines that others cause: some of each kind, then a count."""

import pytest
from fakes import Clock

from taskmaster.wire.quiet import EVERY, Quiet


@pytest.fixture
def clock():
    return Clock()


def said(caplog):
    found = [record.message for record in caplog.records]
    caplog.clear()
    return found


def test_so_many_of_a_kind_then_how_many_more(clock, caplog):
    quiet = Quiet(2, clock)
    for number in range(5403):
        quiet.warn('lost slave %s', number)
    quiet.warn('something else')
    assert said(caplog) == ['lost slave 0', 'lost slave 1', 'something else']
    quiet.flush()
    clock.forward(EVERY - 0.1)
    quiet.flush()
    assert said(caplog) == []
    clock.forward(0.1)
    quiet.flush()
    assert said(caplog) == ['lost slave 5402 (and 5,400 more like it)']
    quiet.flush()
    assert said(caplog) == []


def test_the_next_of_a_kind_says_it_too(clock, caplog):
    quiet = Quiet(1, clock)
    quiet.warn('%s', 'one')
    quiet.warn('%s', 'two')
    clock.forward(EVERY)
    quiet.warn('%s', 'three')
    quiet.warn('%s', 'four')
    assert said(caplog) == ['one', 'two', 'three']


def test_kinds_are_forgotten(clock):
    quiet = Quiet(1, clock)
    quiet.warn('a kind')
    clock.forward(EVERY)
    quiet.flush()
    assert not quiet._kinds
