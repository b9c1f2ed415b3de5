"""What the operator's code has left running at a good end of its process."""

import os
import signal
from pathlib import Path

import pytest
from faults import launch
from programs import NUMBERS, eventually

HEAD = NUMBERS.replace("count='1000'", "count='3'") + '''
import os, subprocess, sys
left = []

def leave(*words, **options):
    left.append(subprocess.Popen(words, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL, **options))
'''
# How long a child that is left over may take, and may keep its pipes.
SOON = 'TIMING = TIMING._replace(close=0.5, last_words=0.2)'


def living(work, name='sleep'):
    """The pids of what is called that, and is more than a zombie."""
    found = []
    for pid in work.pids():
        try:
            comm, _, rest = Path(f'/proc/{pid}/stat').read_text(
                ).partition('(')[2].rpartition(')')
        except OSError:
            continue            # it has gone
        if comm == name and rest.split()[0] != 'Z':
            found.append(pid)
    return found


@pytest.mark.parametrize('name', ['run', 'spawn'])
def test_of_handlers_it_is_named_and_ended_but_for_daemons(work, name):
    """One in the slave's group, one in another of its session, a daemon."""
    work.write('migrate.py', HEAD + '''
def handle_job(job):
    if job == 1:
        leave('sleep', '371')
        leave('sh', '-mc', 'exec sleep 372 & exec sleep 373')
        leave('sleep', '374', start_new_session=True)
    record(job)
''')
    words = ['1']
    if name == 'spawn':
        words.append(work.start('master', 'migrate').host)
    program = launch(work, SOON, name, 'migrate', *words)
    assert program.code() == 0
    said, = [line for line in program.err.splitlines()
             if 'has not ended in 0.5 s, and ends now: ' in line]
    assert said.count('sleep (pid ') == 3 and 'start_new_session' in said
    daemon, = eventually(lambda: (
        pids := living(work)) and len(pids) == 1 and pids)
    assert b'374' in Path(f'/proc/{daemon}/cmdline').read_bytes()


def test_of_handlers_it_may_end_by_itself(work):
    """Of a slave that has retired too, whose successor does not wait."""
    work.write('migrate.py', HEAD + '''
def handle_job(job):
    if job == 1:
        leave('sh', '-c', 'until test -e go; do sleep 0.01; done; echo >end')
    record(job)
''')
    run = launch(work, 'TIMING = TIMING._replace(last_words=0.1, close=600)',
                 'run', 'migrate', '1', '--max-jobs-per-slave=1')
    said = run.says('^waiting for what handlers left running: (.*)$')
    assert 'sh (pid ' in said[1]
    work.check([1, 2, 3])
    work.touch('go')
    assert run.code() == 0
    assert work.has('end') and 'ends now' not in run.err


def test_a_second_signal_does_not_wait_for_it(work):
    work.write('migrate.py', HEAD + '''
def handle_job(job):
    if job == 1:
        leave('sleep', '371')
    record(job)
''')
    run = launch(work, 'TIMING = TIMING._replace(last_words=0.1, close=600)',
                 'run', 'migrate', '1')
    run.says('^waiting for what handlers left running: ')
    run.send(signal.SIGINT)
    run.send(signal.SIGTERM)
    assert run.code() in (-signal.SIGINT, -signal.SIGTERM)
    eventually(lambda: not living(work), 'the end of the sleep')


@pytest.mark.parametrize('name', ['master', 'slave'])
def test_it_is_said_where_nobody_has_a_session_for_it(work, name):
    """Not of helpers that end with their process."""
    where = 'get_jobs' if name == 'master' else 'handle_job'
    work.write('migrate.py', HEAD + f'''
import multiprocessing.resource_tracker

def start():
    multiprocessing.resource_tracker.ensure_running()
    leave('sleep', '371')

def get_jobs(last=0):
    if {where!r} == 'get_jobs':
        start()
    return range(1, 4)

def handle_job(job):
    if {where!r} == 'handle_job' and job == 1:
        start()
    record(job)
''')
    master = work.start('master', 'migrate')
    slave = work.start('slave', 'migrate', master.host)
    assert (master.code(), slave.code()) == (0, 0)
    said, = [line for line in (master.err + slave.err).splitlines()
             if 'is left running: ' in line]
    pid, = living(work)
    assert said.endswith(f'left running: sleep (pid {pid})')
    os.kill(pid, signal.SIGKILL)
