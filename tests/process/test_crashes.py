"""Slaves that die, jobs that kill, handlers that fail."""

import signal

import pytest
from programs import NUMBERS, eventually

ALL = range(1, 1001)

# The first slave that sees job 300 is gone, in the middle of a lease.
DEADLY_ONCE = NUMBERS + '''
import os
import signal


def handle_job(job):
    if job == 300 and first('killed'):
        os.kill(os.getpid(), signal.SIGKILL)
    record(job)
'''


@pytest.mark.smoke
def test_a_slave_of_a_run_is_killed(work):
    """Its successor tells the master: nothing waits for any time."""
    work.write('migrate.py', DEADLY_ONCE)
    run = work.finish('run', 'migrate', '2')
    assert run.code() == 0
    work.check(ALL, twice=range(1, 300))
    assert work.handled()['300'] == 1
    assert 'was ended by SIGKILL; starting another' in run.err
    assert 'lost slave ' in run.err
    killed = (work.path / 'killed').stat().st_mtime
    ended = (work.path / 'migrate.state').stat().st_mtime
    assert ended - killed < 4.5         # the grace is 5 s


@pytest.mark.smoke
def test_a_job_that_segfaults(work):
    """It alone is failed, after it has travelled alone three times."""
    work.write('migrate.py', NUMBERS + '''
import os
import signal


def handle_job(job):
    if job == 300:
        os.kill(os.getpid(), signal.SIGSEGV)
    record(job)
''')
    run = work.finish('run', 'migrate', '2')
    assert run.code() == 1
    failure, = work.failures()
    assert failure['key'] == '300'
    assert failure['attempts'] == 3
    assert failure['job'] == 300
    assert 'lost with its slave' in failure['error']
    assert work.handled().keys() == {str(job) for job in ALL if job != 300}
    assert work.state()['failed'] == 1
    assert work.state()['complete']


def test_a_handler_that_exits_is_no_success(work):
    """Of the whole process, past Python."""
    work.write('migrate.py', NUMBERS + '''
import os


def handle_job(job):
    if job == 3 and first('left'):
        os._exit(0)
    record(job)
''')
    run = work.finish('run', 'migrate', '1', 'count=10', '--state=x.state')
    assert run.code() == 0
    assert 'ended by exit code 0; starting another' in run.err
    work.check(range(1, 11), twice=(1, 2))  # these were not reported
    assert work.state('x')['complete']


@pytest.mark.smoke
def test_handlers_that_raise(work):
    work.write('migrate.py', NUMBERS + '''
import sys


class Unprintable(Exception):
    def __str__(self):
        raise ValueError


def handle_job(job):
    if job == 10:
        raise ValueError('ten is\\nbad')
    if job == 20:
        sys.exit(0)
    if job == 30:
        raise KeyboardInterrupt
    if job == 40:
        raise Unprintable
    record(job)
''')
    run = work.finish('run', 'migrate', '2')
    assert run.code() == 1
    assert '4 failed jobs are in' in run.err
    assert work.path.joinpath('migrate.failures').stat().st_mode & 0o77 == 0
    failures = {failure['key']: failure for failure in work.failures()}
    assert set(failures) == {'10', '20', '30', '40'}
    assert failures['10']['error'] == 'ValueError: ten is bad'
    assert failures['20']['error'] == 'SystemExit: 0'
    assert failures['30']['error'] == 'KeyboardInterrupt'
    assert failures['40']['error'] == 'Unprintable'
    for key, failure in failures.items():
        assert failure['number'] == int(key)
        assert failure['attempts'] == 1
        assert failure['job'] == int(key)
        assert ':' in failure['slave']
        assert f'{work.path}/migrate.py' in failure['traceback']
        assert '/taskmaster/' not in failure['traceback']
    assert work.handled().keys() == {
        str(job) for job in ALL if str(job) not in failures}
    assert work.state()['failed'] == 4
    # A slave, too, is content.
    master = work.start('master', 'migrate', '--reset')
    slave = work.finish('slave', 'migrate', master.host)
    assert (slave.code(), master.code()) == (0, 1)


def test_jobs_that_cannot_travel(work):
    """One that cannot be pickled, and one that cannot be unpickled."""
    work.write('migrate.py', NUMBERS + '''
class Trap:
    def __init__(self, key):
        self.key = key

    def __reduce__(self):
        return int, ('no number',)


def get_jobs(last=0):
    for number in range(1, 1001):
        if number == 300:
            yield lambda: 300
        elif number == 600:
            yield Trap(number)
        else:
            yield number


def get_key(job):
    return job if isinstance(job, int) else getattr(job, 'key', 300)
''')
    run = work.finish('run', 'migrate', '2')
    assert run.code() == 1
    one, other = sorted(work.failures(), key=lambda failure: failure['key'])
    assert (one['key'], other['key']) == ('300', '600')
    assert 'cannot be pickled' in one['error']
    assert 'lambda' in one['job']['repr']
    assert 'cannot be unpickled' in other['error']
    assert work.handled().keys() == {
        str(job) for job in ALL if job not in (300, 600)}


def test_retries_and_max_failures(work):
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    record(job)
    if job > 500:
        raise ValueError(job)
''')
    run = work.finish('run', 'migrate', '1', '--max-failures=20')
    assert run.code() == 65
    assert '--max-failures' in run.err
    assert 20 <= len(work.failures()) <= 60
    assert not work.state()['complete']
    again = work.finish('run', 'migrate', '2', '--max-failures=1000')
    assert again.code() == 1
    assert {failure['key'] for failure in work.failures()} == {
        str(job) for job in range(501, 1001)}


def test_retry_failed(work):
    work.write('migrate.py', NUMBERS + '''
import os


def handle_job(job):
    if job % 100 == 0 and not os.path.exists('mended'):
        raise ValueError(job)
    record(job)
''')
    assert work.finish('run', 'migrate', '2').code() == 1
    assert len(work.failures()) == 10
    state = work.state()
    work.touch('mended')
    run = work.finish('run', 'migrate', '2', '--retry-failed')
    assert run.code() == 0
    work.check(ALL)
    assert not work.has('migrate.failures')
    assert work.state() == state


def test_a_slave_that_stops_for_a_while(work):
    """SIGSTOP, SIGCONT: it goes on where it was."""
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 300:
        block('here')
    record(job)
''')
    master = work.start('master', 'migrate')
    slave = work.start('slave', 'migrate', master.host)
    eventually(lambda: work.has('here'))
    slave.send(signal.SIGSTOP)
    work.touch('go')
    other = work.start('slave', 'migrate', master.host)
    eventually(lambda: len(work.lines('done')) > 350, 'the work of another')
    slave.send(signal.SIGCONT)
    assert (slave.code(), other.code(), master.code()) == (0, 0, 0)
    work.check(ALL)


def test_slaves_that_cannot_start(work):
    """`tm-run` gives up, and says so.  Only slaves die of it."""
    work.write('migrate.py', '''
import os
import signal
import sys

if 'slave' in sys.argv:
    os.kill(os.getpid(), signal.SIGSEGV)
''' + NUMBERS)
    run = work.finish('run', 'migrate', '2')
    assert run.code() == 70
    assert 'SIGSEGV' in run.err
    assert 'given up' in run.err
    assert 'no slave is left' in run.err


def test_a_lone_slave_is_killed(work):
    """Its jobs are leased again after a grace."""
    work.write('migrate.py', DEADLY_ONCE)
    master = work.start('master', 'migrate')
    slave = work.finish('slave', 'migrate', master.host)
    assert slave.code() == -signal.SIGKILL
    other = work.finish('slave', 'migrate', master.host)
    assert (other.code(), master.code()) == (0, 0)
    # Only what was done of the lease and not reported ran again.
    work.check(ALL, twice=range(1, 300))
    assert work.state()['complete']
