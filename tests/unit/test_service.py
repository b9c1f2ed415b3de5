"""Threads of ours: what comes out of one is never lost."""

import asyncio

import pytest
from fakes import LONG

from taskmaster.errors import Fault, OperatorError
from taskmaster.service import Service


def failure_of(loop):
    """What was said of the error that ``loop`` raises."""
    failures = []
    service = Service('saver', loop, failures.append)
    service.start()
    service.join(LONG)
    assert not service.is_alive()
    return failures


@pytest.mark.parametrize('error', [
    KeyError('planted'), SystemExit(0), KeyboardInterrupt(), GeneratorExit(),
    asyncio.CancelledError(), MemoryError()],
    ids=lambda error: type(error).__name__)
def test_whatever_is_unforeseen_is_a_fault_of_ours(error):
    def loop():
        raise error
    fault, = failure_of(loop)
    assert type(fault) is Fault and fault.exit_code == 70
    assert 'the saver thread' in str(fault)
    assert type(error).__name__ in str(fault)
    assert 'test_service.py' in fault.traceback     # where, in full
    assert 'service.py' in fault.traceback


def test_what_was_foreseen_is_said_as_it_is():
    error = OperatorError('get_key raised')

    def loop():
        raise error
    assert failure_of(loop) == [error]


def test_an_error_that_cannot_be_shown():
    class Odd(Exception):
        def __str__(self):
            raise ValueError('no text')

    def loop():
        raise Odd
    fault, = failure_of(loop)
    assert 'Odd' in str(fault)
    assert 'test_service.py' in fault.traceback


def test_a_loop_that_ends():
    assert failure_of(lambda: None) == []
