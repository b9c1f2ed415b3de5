"""What the operator's module does to the library that all of us use."""

import os

import pytest
from programs import NUMBERS

HABITS = {
    # All of them one after another: none is to be noticed.
    'library': '''
import builtins, contextvars, decimal, functools, json, logging, os, random
import socket, sys, time

class Proxy(socket.socket):
    """As PySocks has it."""

    def connect(self, *address):
        raise ConnectionRefusedError('no proxy')

    bind = connect

def refuse(*args, **options):
    raise OSError('not from here')

socket.socket = Proxy
socket.create_connection = socket.create_server = refuse
socket.getaddrinfo = refuse
json.loads = functools.partial(json.loads, parse_int=decimal.Decimal)
json.dumps = lambda value: b'as orjson has it'
user = contextvars.ContextVar('user')
made = logging.getLogRecordFactory()

def factory(*args, **options):
    record = made(*args, **options)
    record.user = user.get()        # LookupError in any other thread
    return record

logging.setLogRecordFactory(factory)
builtins.print = refuse
os.umask(0o777)
random.seed(1)
time.time = time.monotonic = lambda: 1000.0
''',
    'streams': '''
import sys

class Tee:
    def write(self, text):
        pass

sys.stdout = sys.stderr = Tee()
''',
    'detached': '''
import sys
sys.stdout.detach()
sys.stderr.detach()
'''}


@pytest.mark.parametrize('habit', HABITS)
def test_a_module_that_changes_the_library(work, habit):
    """It is stopped in the middle and goes on, with slaves and a state."""
    work.write('migrate.py', NUMBERS.replace('1000', '40') + HABITS[habit])
    for _ in range(2):
        run = work.finish('run', 'migrate', '2', '--limit=20')
        assert run.code() == 0
    work.check(range(1, 41))
    assert (work.path / 'migrate.state').stat().st_mode & 0o777 == 0o600


def test_a_class_that_cannot_be_asked_is_no_promise(work):
    """Its jobs are done, so they have not failed."""
    work.write('migrate.py', NUMBERS.replace('1000', '20') + '''
class Meta(type):
    __hash__ = None

    def __eq__(self, other):
        return True


class Result(metaclass=Meta):
    pass


def handle_job(job):
    record(job)
    return Result()
''')
    assert work.finish('run', 'migrate', '1').code() == 0
    work.check(range(1, 21))


def test_a_module_whose_getattr_raises_is_refused(work):
    work.write('migrate.py', NUMBERS + '''
def __getattr__(name):
    return {}[name]
''')
    run = work.finish('run', 'migrate', '1')
    assert run.code() == os.EX_CONFIG
    assert "let it raise AttributeError" in run.err


def test_a_handler_that_closes_what_is_ours(work):
    """As daemons do.  Its slave has a successor; nobody else is to blame."""
    work.write('migrate.py', NUMBERS + '''
import os

def handle_job(job):
    if job == 20 and first('seen'):
        os.closerange(3, 256)
    with open('done', 'a') as file:
        print(job, file=file)
''')
    run = work.finish('run', 'migrate', '1', environ={
        'PYTHONWARNINGS': 'ignore'})
    assert run.code() == 0
    assert set(work.handled()) == {str(n) for n in range(1, 1001)}
    assert 'a fault of taskmaster' not in run.err
