"""Strangers at the port: nobody is kept out, and nothing grows."""

import resource
import socket
from contextlib import ExitStack, closing, contextmanager

import pytest
from fakes import KEY, greet
from hostile import of, strangers, visit, watch
from programs import NUMBERS, eventually

from taskmaster.wire.client import connect

pytestmark = pytest.mark.hunt

KEPT = '--key=' + KEY.decode()


def limited(limit, most):
    return {'preexec_fn': lambda: resource.setrlimit(limit, (most, most))}


@contextmanager
def silent(port, count):
    """So many connections on which nothing is said."""
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(closing(
                socket.create_connection(('127.0.0.1', port), 30)))
        yield


def test_31_strangers_of_every_kind(work):
    """Ten of each kind and more, at a master with work to do."""
    work.write('migrate.py', NUMBERS)
    master = work.start('master', 'migrate', 'count=1000000000', KEPT)
    address = '127.0.0.1', master.port
    visit(address, KEY)                 # all its threads are there now
    eventually(lambda: master.err.count('Current Job'))
    memory, before = of(master.pid)
    visits, most, threads = watch(master.pid, address, KEY,
                                  strangers(address, 300, threads=5))
    assert len(visits) >= 1             # it would have raised else
    assert threads <= before + 64 + 2
    assert most < memory + 20           # MB
    eventually(lambda: of(master.pid)[1] <= before)
    said = [line for line in master.err.splitlines()
            if not line.startswith(('Current Job', 'state', 'Taskmaster'))]
    assert 1 <= len(said) <= 8, said        # one of a kind
    assert said[0].startswith('warning: 127.0.0.1:')


@pytest.mark.parametrize('limits', [
    limited(resource.RLIMIT_NOFILE, 256), limited(resource.RLIMIT_NOFILE, 40),
    # What a thread takes of the address space differs by Python.
    pytest.param(limited(resource.RLIMIT_AS, 600 << 20),
                 marks=pytest.mark.hunt),
], ids=['256 files', '40 files', 'threads'])
def test_31_at_the_limit_slaves_come_in(work, limits):
    """Of threads: so much memory is not there for the stacks of 64."""
    work.write('migrate.py', NUMBERS + '''
    if job == 1000:
        block('blocked')
''')
    master = work.start('master', 'migrate', KEPT, **limits)
    address = '127.0.0.1', master.port
    with closing(connect(address, KEY)) as member:
        greet(member, 'member')
        with silent(master.port, 300):
            slave = work.start('slave', 'migrate', KEPT, master.host)
            eventually(lambda: work.has('blocked'))
        greet(member, 'member')         # it was not cut off either
    with closing(connect(address, KEY)) as late:
        greet(late, 'late')             # and they have left no trace
    work.touch('go')
    assert slave.code() == master.code() == 0
    work.check(range(1, 1001))
