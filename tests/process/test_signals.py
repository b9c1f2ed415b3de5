"""Signals drain, whoever else has a hand in them."""

import signal
import sys
from pathlib import Path

import pytest
from programs import NUMBERS, eventually, needs_package

# What takes the wake-up descriptor, or the signals, before job 5 is begun.
TAKERS = {
    'set_wakeup_fd': '''
import signal

def handle_job(job):
    signal.set_wakeup_fd(-1)
    work(job)
''',
    'asyncio.run': '''
import asyncio, signal

async def begin():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, print)

def handle_job(job):
    asyncio.run(begin())
    work(job)
''',
    'add_signal_handler': '''
import asyncio, os, signal

async def handle_job(job):
    loop = asyncio.get_running_loop()
    for number in signal.SIGINT, signal.SIGTERM:
        loop.add_signal_handler(number, print, 'theirs')
    if job == 5:
        open('here', 'w').close()
        while not os.path.exists('go'):
            await asyncio.sleep(0.01)
    work(job)
''',
    'uvloop': '''
import asyncio, os, signal, uvloop
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())

async def handle_job(job):
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, print)
    if job == 5:
        open('here', 'w').close()
        while not os.path.exists('go'):
            await asyncio.sleep(0.01)
    work(job)
''',
    'trio': '''
import os, trio

async def later(job):
    if job == 5:
        open('here', 'w').close()
        while not os.path.exists('go'):
            await trio.sleep(0.01)

def handle_job(job):
    trio.run(later, job)
    work(job)
''',
    'ignored at import': '''
import signal
for number in signal.SIGINT, signal.SIGTERM:
    signal.signal(number, signal.SIG_IGN)

def handle_job(job):
    work(job)
''',
    'handled at import': '''
import signal
for number in signal.SIGINT, signal.SIGTERM:
    signal.signal(number, lambda number, frame: print('theirs'))

def handle_job(job):
    work(job)
''',
    'blocked at import': '''
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])

def handle_job(job):
    work(job)
''',
    'ignored in setup': '''
import signal

def setup():
    for number in signal.SIGINT, signal.SIGTERM:
        signal.signal(number, signal.SIG_IGN)

def handle_job(job):
    work(job)
''',
}
WORK = '''
from recorder import block, record

def work(job):
    if job == 5:
        block('here')
    record(job)
'''


def ours(program, number):
    """Whether the program has a handler for a signal, by the system."""
    for line in Path(f'/proc/{program.pid}/status').read_text().split('\n'):
        if line.startswith('SigCgt'):
            return int(line.split()[1], 16) >> (number - 1) & 1


def started(work, taker, *words):
    """A master, and a slave at job 5."""
    if taker in ('uvloop', 'trio'):
        needs_package(taker)
    work.write('migrate.py', NUMBERS)
    work.write('taker.py', WORK + TAKERS[taker])
    master = work.start('master', 'migrate', 'count=20')
    return master, work.start('slave', 'taker:handle_job', master.host)


@pytest.mark.parametrize('taker', TAKERS)
def test_a_slave_drains(work, taker):
    master, slave = started(work, taker)
    eventually(lambda: work.has('here'), 'job 5')
    eventually(lambda: ours(slave, signal.SIGTERM), 'a handler')
    slave.stop(signal.SIGTERM)
    work.touch('go')
    assert slave.code() == -signal.SIGTERM
    assert 5 <= len(work.handled()) < 20
    assert work.finish('slave', 'migrate', master.host).process.returncode == 0
    assert master.code() == 0
    work.check(range(1, 21))


def test_a_slave_without_jobs_drains(work):
    """asyncio had the waits of the main thread go on after a signal."""
    work.write('migrate.py', '''
        import asyncio
        import signal
        from recorder import block, record

        def get_jobs(last=0):
            for n in range(last + 1, 21):
                if n == 10:
                    block('source')
                yield n

        async def work(job):
            asyncio.get_running_loop().add_signal_handler(
                signal.SIGTERM, print)

        def handle_job(job):
            asyncio.run(work(job))
            record(job)
    ''')
    master = work.start('master', 'migrate')
    slave = work.start('slave', 'migrate', master.host)
    eventually(lambda: len(work.handled()) == 9, 'the ninth job')
    slave.stop(signal.SIGTERM)
    assert slave.code() == -signal.SIGTERM
    work.touch('go')
    assert work.finish('slave', 'migrate', master.host).process.returncode == 0
    assert master.code() == 0
    work.check(range(1, 21))


@pytest.mark.parametrize('taker', TAKERS)
def test_a_second_signal_ends_a_slave_at_once(work, taker):
    _, slave = started(work, taker)
    eventually(lambda: work.has('here'), 'job 5')
    eventually(lambda: ours(slave, signal.SIGINT), 'a handler')
    slave.stop(signal.SIGINT)
    slave.send(signal.SIGINT)
    assert slave.code() in (-signal.SIGINT, 128 + signal.SIGINT)
    assert '5' not in work.handled()


def test_a_second_signal_while_the_main_thread_is_in_c(work):
    work.write('migrate.py', NUMBERS)
    work.write('taker.py', '''
        import hashlib

        def handle_job(job):
            open('here', 'w').close()
            hashlib.pbkdf2_hmac('sha256', b'', b'', 10 ** 9)
    ''')
    master = work.start('master', 'migrate')
    slave = work.start('slave', 'taker:handle_job', master.host)
    eventually(lambda: work.has('here'), 'the call')
    slave.stop(signal.SIGTERM)
    slave.send(signal.SIGTERM)
    assert slave.code() == 128 + signal.SIGTERM


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('taker', [
    'blocked at import', 'ignored at import', 'handled at import'])
@pytest.mark.parametrize('name, words', [('run', ['1']), ('master', [])])
def test_a_master_drains(work, name, words, taker, number):
    work.write('migrate.py', NUMBERS + WORK + TAKERS[taker])
    run = work.start(name, 'migrate', *words)
    if name == 'master':
        run.says('server running')
    else:
        eventually(lambda: work.has('here'), 'job 5')
    run.stop(number)
    work.touch('go')
    assert run.code() == -number
    assert work.pids() == []


def test_spawned_slaves_drain(work):
    work.write('migrate.py', NUMBERS + WORK + TAKERS['ignored at import'] + '''
def get_jobs(last=0):
    yield from range(last + 1, 501)
    block('source', until='more')       # or the run could end before
    yield from range(501, 1001)
''')
    master = work.start('master', 'migrate')
    spawn = work.start('spawn', 'migrate', '2', master.host)
    eventually(lambda: work.has('here'), 'job 5')
    spawn.stop(signal.SIGINT)
    work.touch('go')
    assert spawn.code() == -signal.SIGINT
    assert 5 <= len(work.handled()) <= 500
    work.touch('more')
    assert work.finish('spawn', 'migrate', '2',
                       master.host).process.returncode == 0
    assert master.code() == 0
    work.check(range(1, 1001))


def test_what_was_ignored_at_the_start_stays_ignored(work):
    """Though the module asks for it: as `nohup` has it."""
    work.write('migrate.py', NUMBERS + WORK + TAKERS['handled at import'])
    run = work.program('sh', '-c', 'trap "" HUP; exec "$0" "$@"',
                       sys.executable, '-m', 'taskmaster', 'run', 'migrate',
                       '1', '--host=127.0.0.1:0')
    eventually(lambda: work.has('here'), 'job 5')
    run.send(signal.SIGHUP)
    work.touch('go')
    assert run.code() == 0
    work.check(range(1, 1001))


def test_an_end_at_once_that_takes_a_while_is_by_the_signal(work):
    """To end many slaves takes longer than a main thread in C is given."""
    work.write('program.py', '''
        import os, signal, threading
        from taskmaster.console.signals import AT_ONCE, Signals

        def slow():
            threading.Event().wait(1.5 * AT_ONCE)

        Signals(lambda number: None, last=slow).install()
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(60)
    ''')
    program = work.program(sys.executable, 'program.py')
    assert program.code() == -signal.SIGINT
    assert program.err.count('stopped by SIGINT') == 1
