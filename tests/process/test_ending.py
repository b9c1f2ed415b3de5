"""The end of a run: what the operator's code has left, and what it is told."""

import os
import signal
import sys
import time

import pytest
from programs import NUMBERS, eventually, needs_package

HEAD = NUMBERS.replace("count='1000'", "count='5'")


def sleepers(work):
    """The pids of what runs `sleep`."""
    found = []
    for pid in work.pids():
        try:
            with open(f'/proc/{pid}/comm') as file:
                if file.read() == 'sleep\n':
                    found.append(pid)
        except OSError:
            pass                # it has gone
    return found


# -- atexit, threads ------------------------------------------------------

def test_atexit_runs_after_a_drain_and_the_end_is_by_the_signal(work):
    work.write('migrate.py', NUMBERS + '''
import atexit, sys
name = 'slave' if 'slave' in sys.argv else 'run'

@atexit.register
def last():
    open(f'last-{name}', 'w').close()

def handle_job(job):
    if job == 5:
        block('here')
    record(job)
''')
    run = work.start('run', 'migrate', '1')
    eventually(lambda: work.has('here'), 'job 5')
    run.stop(signal.SIGTERM)
    work.touch('go')
    assert run.code() == -signal.SIGTERM
    assert work.has('last-run') and work.has('last-slave')


def test_what_has_never_been_flushed_is_at_a_drain(work):
    work.write('migrate.py', NUMBERS + '''
import logging, logging.handlers
file = logging.FileHandler('log')
logging.getLogger().addHandler(logging.handlers.MemoryHandler(1000, 60, file))
logging.getLogger().setLevel(logging.INFO)

def handle_job(job):
    if job == 5:
        block('here')
    logging.info('job %d', job)
''')
    master = work.start('master', 'migrate')
    slave = work.start('slave', 'migrate', master.host)
    eventually(lambda: work.has('here'), 'job 5')
    slave.stop(signal.SIGINT)
    work.touch('go')
    assert slave.code() == -signal.SIGINT
    assert 'job 5' in work.lines('log')


ENDLESS = '''
import atexit, threading, time
atexit.register(lambda: open('last', 'w').close())

def beat():
    while True:
        time.sleep(0.05)
'''
STARTERS = {
    'thread': "threading.Thread(target=beat, name='beat').start()",
    'executor': 'from concurrent.futures import ThreadPoolExecutor as Pool; '
                "Pool(1, 'beat').submit(beat)",
}


@pytest.mark.parametrize('starter', STARTERS)
def test_a_thread_of_a_handler_that_never_ends(work, starter):
    work.write('migrate.py', HEAD + ENDLESS + f'''
def handle_job(job):
    if job == 3:
        {STARTERS[starter]}
    record(job)
''')
    begin = time.monotonic()
    run = work.finish('run', 'migrate', '1')
    assert run.process.returncode == 0
    assert time.monotonic() - begin < 20
    assert 'warning: threads that the operator\'s code started have not ' in (
        run.err)
    assert 'beat' in run.err and 'setup' not in run.err
    assert work.has('last')
    work.check(range(1, 6))
    assert work.pids() == []


@pytest.mark.parametrize('name, code', [('master', 0), ('run', 0)])
def test_a_thread_of_the_module_that_never_ends(work, name, code):
    work.write('migrate.py', HEAD + ENDLESS + STARTERS['thread'] + '\n')
    if name == 'run':
        run = work.start('run', 'migrate', '1')
    else:
        run = work.start('master', 'migrate')
        slave = work.start('slave', 'migrate', run.host)
        assert slave.code() == 0
        assert 'beat' in slave.err
    assert run.code() == code
    assert 'beat' in run.err
    assert work.pids() == []


def test_a_signal_while_threads_are_waited_for(work):
    # One that get_jobs starts is a daemon, as the thread that calls it.
    work.write('migrate.py', HEAD + ENDLESS + '''
import sys
if 'slave' not in sys.argv:
    threading.Thread(target=beat, name='beat').start()
''')
    run = work.start('run', 'migrate', '1')
    run.says('^complete')

    def ended():
        run.send(signal.SIGINT)
        return run.process.poll() is not None
    eventually(ended)
    assert run.code() == -signal.SIGINT


def test_a_function_of_atexit_that_never_ends(work):
    """Bounded as threads are; this takes as long as it may."""
    work.write('migrate.py', HEAD + ENDLESS + '''
atexit.register(beat)
''')
    master = work.start('master', 'migrate')
    slave = work.start('slave', 'recorder:record', master.host)
    assert slave.code() == 0
    assert master.code() == 0
    assert 'registered with atexit' in master.err


# -- what handlers started ------------------------------------------------

GRANDCHILD = NUMBERS + '''
import os, subprocess
OPTIONS = {}

def handle_job(job):
    if job == 2:
        with subprocess.Popen(['sleep', '371'], **OPTIONS) as process:
            open('here', 'w').close()
    record(job)
'''


def test_a_job_that_takes_too_long_takes_what_it_started_with_it(work):
    work.write('migrate.py', GRANDCHILD)
    run = work.finish('run', 'migrate', '1', 'count=3', '--job-timeout=1')
    assert run.process.returncode == 1
    assert work.pids() == []
    work.check([1, 3])


@pytest.mark.parametrize('name', ['run', 'spawn'])
def test_a_second_signal_ends_what_handlers_started(work, name):
    work.write('migrate.py', GRANDCHILD)
    if name == 'run':
        program = work.start('run', 'migrate', '1')
    else:
        master = work.start('master', 'migrate')
        program = work.start('spawn', 'migrate', '1', master.host)
    eventually(lambda: work.has('here') and sleepers(work), 'job 2')
    program.stop(signal.SIGINT)
    program.send(signal.SIGINT)
    # The latter if its main thread has not heard of it in a second.
    assert program.code() in (-signal.SIGINT, 128 + signal.SIGINT)
    eventually(lambda: not sleepers(work), 'the end of the sleep')


def test_a_parent_that_is_killed_takes_what_handlers_started_with_it(work):
    """Also what has a process group of its own."""
    work.write('migrate.py', GRANDCHILD
               + "OPTIONS['preexec_fn'] = os.setpgrp\n")
    run = work.start('run', 'migrate', '1')
    eventually(lambda: work.has('here') and sleepers(work), 'job 2')
    run.send(signal.SIGKILL)
    run.code()
    eventually(lambda: not work.pids(), 'the end of all processes')


def test_a_slave_that_is_killed_takes_what_it_started_with_it(work):
    work.write('migrate.py', NUMBERS + '''
import os, subprocess
left = []

def handle_job(job):
    if job == 2:
        left.append(subprocess.Popen(['sleep', '371']))
    if job == 3 and first('seen'):
        os.kill(os.getpid(), 9)
    record(job)
''')
    run = work.start('run', 'migrate', '1', 'count=3')
    run.says('was ended by SIGKILL')
    eventually(lambda: not sleepers(work), 'the end of the first sleep')
    assert run.code() == 0


# -- descriptors, folders, encodings --------------------------------------

@pytest.mark.parametrize('closed', ['<&-', '>&-', '<&- >&-',
                                    '<&- >&- 2>&-'])
@pytest.mark.parametrize('name', ['run', 'spawn'])
def test_descriptors_that_are_closed_at_the_start(work, name, closed):
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    print('job', job)
    record(job)
''')
    words, port = ['--host=127.0.0.1:0'], None
    if name == 'spawn':
        port = work.start('master', 'migrate')
        words = [port.host]
    program = work.program(
        'sh', '-c', f'exec "$0" "$@" {closed}', sys.executable, '-m',
        'taskmaster', name, 'migrate', '2', *words)
    assert program.code() == 0
    work.check(range(1, 1001))


def test_a_module_that_changes_the_folder(work):
    (work.path / 'other').mkdir()
    work.write('migrate.py', HEAD + '''
import os
os.chdir('other')
''')
    run = work.finish('run', 'migrate', '2')
    assert run.process.returncode == 0
    work.check(range(1, 6))
    assert work.has('migrate.state') and not work.has('other/migrate.state')


def test_a_stdout_that_cannot_write_everything(work):
    work.write('migrate.py', HEAD + '''
def handle_job(job):
    print('\\u00e4', job)
    record(job)
''')
    run = work.finish('run', 'migrate', '1',
                      environ={'PYTHONIOENCODING': 'ascii'})
    assert run.process.returncode == 0
    assert run.out == ''.join(f'\\xe4 {job}\n' for job in range(1, 6))


# -- logging --------------------------------------------------------------

def test_info_of_a_handler_is_shown(work):
    work.write('migrate.py', HEAD + '''
import logging

def handle_job(job):
    logging.getLogger('theirs').info('at job %d', job)
    record(job)
''')
    run = work.finish('run', 'migrate', '1')
    assert run.process.returncode == 0
    assert 'at job 3\n' in run.err
    assert 'connected to' not in run.err    # ours of a slave stay away


@pytest.mark.parametrize('do', [
    "logging.config.dictConfig({'version': 1})", 'logging.disable(60)',
    "logging.basicConfig(filename='log', level=logging.DEBUG)",
    'logging.getLogger().setLevel(60)'])
def test_our_lines_come_whatever_is_done_to_logging(work, do):
    work.write('migrate.py', HEAD + f'''
import logging.config
{do}

def handle_job(job):
    logging.getLogger('theirs').error('at job %d', job)
    raise ValueError('each')
''')
    run = work.finish('run', 'migrate', '1', '--max-failures=3')
    assert run.process.returncode == 65
    assert 'Taskmaster server running' in run.err
    assert 'error: stopped by too many failed jobs' in run.err
    if 'filename' in do:
        assert 'ERROR:theirs:at job 1' in work.lines('log')
        assert not [line for line in work.lines('log')
                    if 'theirs' not in line]


# -- other defaults of the process ----------------------------------------

def test_a_default_timeout_of_sockets(work):
    work.write('migrate.py', NUMBERS + '''
import socket
socket.setdefaulttimeout(0.2)

def handle_job(job):
    if job == 5:
        block('here')
    record(job)
''')
    run = work.start('run', 'migrate', '1')
    eventually(lambda: work.has('here'), 'job 5')
    run.says('^Current Job', 3)         # longer than that timeout
    run.stop(signal.SIGINT)
    work.touch('go')
    assert run.code() == -signal.SIGINT
    assert 'Timeout' not in run.err
    assert work.finish('run', 'migrate', '1').process.returncode == 0
    work.check(range(1, 1001))


PATCHES = {'gevent': 'from gevent import monkey; monkey.patch_all()',
           'eventlet': 'import eventlet; eventlet.monkey_patch()'}


@pytest.mark.parametrize('name, package', [
    *((name, 'gevent') for name in ('run', 'master', 'slave', 'spawn')),
    ('master', 'eventlet')])        # which patches otherwise
def test_patches_that_come_too_late_are_refused(work, name, package):
    needs_package(package)
    work.write('migrate.py', f'{PATCHES[package]}\n' + NUMBERS)
    words = ['2'] if name in ('run', 'spawn') else []
    program = work.finish(name, 'migrate', *words,
                          environ={'PYTHONWARNINGS': 'ignore'})
    assert program.process.returncode == os.EX_CONFIG
    assert f'patches threads and sockets with {package}' in program.err
