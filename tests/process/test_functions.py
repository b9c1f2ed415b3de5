"""Functions that fit the work: lists, coroutines, a set-up; and bounds."""

import json
import os
import re
import signal
import sys
from collections import Counter

import pytest
from faults import launch, quick
from programs import NUMBERS, eventually

ALL = range(1, 1001)


# -- lists ----------------------------------------------------------------

LISTS = NUMBERS + '''
def handle_jobs(jobs):
    assert isinstance(jobs, list)
    if {111, 500, 777}.intersection(jobs):
        raise ValueError('bad row')
    for job in jobs:
        record(job)
'''


@pytest.mark.smoke
@pytest.mark.parametrize('batch', [(), ('--batch=50',)], ids=['', 'batch'])
def test_of_a_list_only_the_jobs_at_fault_fail(work, batch):
    work.write('migrate.py', LISTS)
    run = work.finish('run', 'migrate', '2', *batch)
    assert run.code() == 1
    assert {failure['key'] for failure in work.failures()} == {
        '111', '500', '777'}        # in the order of the reports
    work.check(set(ALL) - {111, 500, 777})
    assert re.search('failed: 3 x ValueError at .*: bad row ', run.err)


def test_lists_are_as_long_as_is_asked_for(work):
    work.write('migrate.py', NUMBERS + '''
def handle_jobs(jobs):
    record(len(jobs))
''')
    run = work.finish('run', 'migrate', '1', '--batch=30')
    assert run.code() == 0
    lengths = [int(line) for line in work.lines('done')]
    assert sum(lengths) == 1000 and max(lengths) == 30
    assert lengths.count(30) >= 20      # others at the end, when it is shared


def test_a_slave_of_its_own_and_another_name(work):
    work.write('migrate.py', NUMBERS + '''
def repair(jobs):
    for job in jobs:
        record(job)
''')
    master = work.start('master', 'migrate')
    slave = work.finish('slave', 'migrate:repair', master.host, '--batch=7')
    assert (master.code(), slave.code()) == (0, 0)
    work.check(ALL)


def test_a_killed_slave_with_lists(work):
    """What was not finished runs again, and nothing else is lost."""
    work.write('migrate.py', NUMBERS + '''
import signal


def handle_jobs(jobs):
    if 300 in jobs and first('killed'):
        os.kill(os.getpid(), signal.SIGKILL)
    for job in jobs:
        record(job)


import os
''')
    run = work.finish('run', 'migrate', '2')
    assert run.code() == 0
    # The list before may not have been reported when the next one was begun.
    work.check(ALL, twice=range(1, 300))


def test_a_batch_for_handle_job_is_a_mistake(work):
    work.write('migrate.py', NUMBERS)
    for words in ('run', 'migrate', '1'), ('slave', 'migrate'):
        program = work.finish(*words, '--batch=5')
        assert program.code() == 2
        assert 'define handle_jobs(jobs)' in program.err.splitlines()[-1]


# -- coroutines -----------------------------------------------------------

@pytest.mark.smoke
def test_coroutines_in_one_event_loop(work):
    work.write('migrate.py', NUMBERS + '''
import asyncio

now = most = 0


async def handle_job(job):
    global now, most
    now += 1
    most = max(most, now)
    while most < 40:
        await asyncio.sleep(0.001)
    now -= 1
    if job == 500:
        raise ValueError('bad row')
    record(job)
    assert most == 40
''')
    run = work.finish('run', 'migrate', '1', '--threads=40')
    assert run.code() == 1
    assert [failure['key'] for failure in work.failures()] == ['500']
    assert 'await asyncio' not in work.failures()[0]['traceback']
    work.check(set(ALL) - {500})


def test_a_drain_with_coroutines(work):
    work.write('migrate.py', NUMBERS + '''
import asyncio


async def handle_job(job):
    if job == 300:
        block('here')
    await asyncio.sleep(0)
    record(job)
''')
    run = work.start('run', 'migrate', '2', '--threads=10')
    eventually(lambda: work.has('here'))
    run.stop()
    work.touch('go')
    assert run.code() == -signal.SIGINT
    assert work.state()['count'] == len(work.lines('done'))
    assert work.finish('run', 'migrate', '2', '--threads=10').code() == 0
    work.check(ALL)


# -- set-up ---------------------------------------------------------------

def test_setup_once_per_worker(work):
    work.write('migrate.py', NUMBERS + '''
import threading


def setup():
    record('begin')
    yield threading.current_thread().name
    record('end')


def handle_job(job, name):
    while not os.path.exists('all') and read().count('begin') < 4:
        time.sleep(0.01)
    open('all', 'w').close()
    assert name == threading.current_thread().name
    record(job)


def read():
    with open('done') as file:
        return file.read()


import os
import time
''')
    run = work.finish('run', 'migrate', '2', '--threads=2')
    assert run.code() == 0
    handled = work.handled()
    assert handled.pop('begin') == handled.pop('end') == 4
    assert handled == Counter(map(str, ALL))


def test_a_setup_that_fails(work):
    """It is tried again, with growing pauses; then the run is given up."""
    work.write('migrate.py', NUMBERS + '''
def setup():
    raise RuntimeError('no database')
''')
    master = work.start('master', 'migrate')
    slave = work.finish('slave', 'migrate', master.host)
    assert slave.code() == 70
    assert slave.err.splitlines()[-1] == (
        'tm-slave: setup raised RuntimeError: no database; correct it and '
        'start again')
    assert 'in setup' in slave.err
    assert not work.lines('done') and 'lost slave' not in master.err
    master.send(signal.SIGKILL)


def test_an_end_of_setup_that_fails(work):
    """All jobs are done, but something is not as it should be."""
    work.write('migrate.py', NUMBERS + '''
def setup():
    yield
    raise RuntimeError('not flushed')
''')
    run = work.finish('run', 'migrate', '2')
    assert run.code() == 70
    assert 'setup raised RuntimeError: not flushed' in run.err
    work.check(ALL)
    assert work.state()['complete']


def test_two_arguments_and_no_setup(work):
    work.write('migrate.py', NUMBERS + '''
def handle_job(job, connection):
    pass
''')
    run = work.finish('run', 'migrate', '2')
    assert run.code() == 78
    assert 'there is no setup()' in run.err
    assert not work.has('migrate.state')


# -- jobs that hang, slaves that leak -------------------------------------

HANGS = NUMBERS + '''
import time


def handle_job(job):
    if job == 300:
        {hang}
    record(job)
'''
SLEEPS = 'time.sleep(1000)'
HOLDS_THE_GIL = ("__import__('ctypes').PyDLL(None).sleep(1000)")


@pytest.mark.parametrize('hang', [SLEEPS, HOLDS_THE_GIL],
                         ids=['sleeps', 'holds the GIL'])
@pytest.mark.parametrize('threads', [1, 3])
def test_a_job_that_hangs_fails_alone(work, hang, threads):
    work.write('migrate.py', HANGS.format(hang=hang))
    run = work.finish('run', 'migrate', '2', '--job-timeout=0.5',
                      f'--threads={threads}')
    assert run.code() == 1
    failure, = work.failures()
    assert failure['key'] == '300'
    assert failure['error'] == 'took longer than --job-timeout'
    assert 'was ended by --job-timeout 0.5 s; starting another' in run.err
    handled = work.handled()
    assert handled.keys() == {str(job) for job in ALL if job != 300}


def test_a_job_that_hangs_and_a_supervisor_elsewhere(work):
    work.write('migrate.py', HANGS.format(hang=SLEEPS))
    master = work.start('master', 'migrate')
    spawn = work.finish('spawn', 'migrate', '2', '--job-timeout=0.5',
                        master.host)
    assert (master.code(), spawn.code()) == (1, 0)
    assert [failure['key'] for failure in work.failures()] == ['300']
    assert work.handled().keys() == {str(job) for job in ALL if job != 300}


def test_a_job_that_hangs_in_a_list(work):
    """It is found as it hangs alone."""
    work.write('migrate.py', NUMBERS + '''
import time


def handle_jobs(jobs):
    if 5 in jobs:
        time.sleep(1000)
    for job in jobs:
        record(job)
''')
    run = work.finish('run', 'migrate', '2', 'count=40', '--batch=20',
                      '--job-timeout=0.4', '--state=migrate.state')
    assert run.code() == 1
    assert [failure['key'] for failure in work.failures()] == ['5']
    work.check(set(range(1, 41)) - {5})


@pytest.mark.smoke
def test_a_coroutine_that_hangs(work):
    work.write('migrate.py', NUMBERS + '''
import asyncio


async def handle_job(job):
    if job == 300:
        await asyncio.sleep(1000)
    record(job)
''')
    run = work.finish('run', 'migrate', '2', '--job-timeout=0.5',
                      '--threads=5')
    assert run.code() == 1
    failure, = work.failures()
    assert failure['key'] == '300'
    assert 'longer than 0.5 s (--job-timeout)' in failure['error']
    assert 'was ended by' not in run.err
    work.check(set(ALL) - {300})


def test_an_event_loop_that_hangs(work):
    """Which job it is, is found by elimination."""
    work.write('migrate.py', NUMBERS + '''
import time


async def handle_job(job):
    if job == 3:
        time.sleep(1000)
    record(job)
''')
    run = work.finish('run', 'migrate', '1', 'count=4', '--job-timeout=0.4',
                      '--state=migrate.state')
    assert run.code() == 1
    failure, = work.failures()
    assert failure['key'] == '3' and failure['attempts'] == 3
    assert work.handled().keys() == {'1', '2', '4'}


def test_all_jobs_hang(work):
    """It does not go through the whole table like that."""
    work.write('migrate.py', NUMBERS + '''
import time


def handle_job(job):
    time.sleep(1000)
''')
    run = work.finish('run', 'migrate', '2', '--job-timeout=0.1',
                      '--max-failures=4')
    assert run.code() == 65
    assert 4 <= len(work.failures()) <= 5


def test_slaves_that_leak_are_replaced(work):
    work.write('migrate.py', NUMBERS + '''
leaked = []


def handle_job(job):
    leaked.append(job)
    record(job)


import atexit
atexit.register(lambda: leaked and record(f'leaked {len(leaked)}'))
''')
    run = work.finish('run', 'migrate', '2', '--max-jobs-per-slave=100')
    assert run.code() == 0
    leaks = [int(line.split()[1]) for line in work.lines('done')
             if line.startswith('leaked')]
    assert len(leaks) >= 10 and max(leaks) <= 100
    assert sum(leaks) == 1000
    assert 'warning' not in run.err
    assert {line for line in work.lines('done') if ' ' not in line} == {
        str(job) for job in ALL}


def test_the_last_job_kills_its_slave(work):
    """The successor is awaited, to hear that the run is over."""
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 20:
        os._exit(3)
    record(job)


import os
''')
    master = work.start('master', 'migrate', 'count=20')
    spawn = work.finish('spawn', 'migrate', '1', master.host, '--timeout=9')
    assert (master.code(), spawn.code()) == (1, 0), spawn.err


def test_an_end_of_setup_may_take_its_time(work):
    """It is waited for, and that is said; it is not killed."""
    work.write('migrate.py', NUMBERS + '''
def setup():
    yield
    block('at the end')
    record('end')
''')
    run = launch(work, 'TIMING = TIMING._replace(close=0.2)', 'run',
                 'migrate', '1')
    run.says('^waiting for slaves to end what follows the yield of setup$',
             times=3)
    work.touch('go')
    assert run.code() == 0
    assert work.lines('done')[-1] == 'end' and 'killed' not in run.err


def test_an_end_of_setup_that_fails_in_a_slave_that_is_replaced(work):
    work.write('migrate.py', NUMBERS + '''
def setup():
    yield
    if first('raised'):
        raise RuntimeError('not flushed')
''')
    run = work.finish('run', 'migrate', '1', '--max-jobs-per-slave=300')
    assert run.code() == 70
    assert 'setup raised RuntimeError: not flushed' in run.err
    work.check(ALL)


def test_failures_of_every_kind_count_for_max_failures(work):
    work.write('migrate.py', NUMBERS + '''
def get_jobs(last=0):
    for number in range(1, 1001):
        yield lambda: number


def get_key(job):
    return id(job)
''')
    run = work.finish('run', 'migrate', '1', '--max-failures=10')
    assert run.code() == 65
    assert len(work.failures()) < 1000


def test_a_slave_that_cannot_be_started_at_first(work):
    """As where there are no more files or processes for a moment."""
    work.write('migrate.py', NUMBERS)
    run = launch(work, '''
from taskmaster.supervisor import child

TIMING = TIMING._replace(restart=0.01)
start, failed = child.subprocess.Popen, []


def popen(*arguments, **options):
    if len(failed) < 2:
        failed.append(True)
        raise OSError(24, 'Too many open files')
    return start(*arguments, **options)


child.subprocess.Popen = popen
''', 'run', 'migrate', '1', '--job-timeout=9')
    assert run.code() == 0
    assert run.err.count('slave 0 cannot be started: ') == 2
    work.check(ALL)


def test_a_slave_without_a_stderr(work):
    work.write('migrate.py', NUMBERS)
    master = work.start('master', 'migrate')
    slave = work.program(
        'sh', '-c', f'exec {sys.executable} -m taskmaster slave migrate '
        f'{master.host} 2>&-')
    assert (slave.code(), master.code()) == (0, 0)
    work.check(ALL)


def test_what_is_behind_a_job_that_hangs_goes_elsewhere(work):
    """It waits for nobody, once the other slave has nothing to do."""
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 990:
        block('here')
    record(job)
''')
    run = work.start('run', 'migrate', '2', '--size=20')
    eventually(lambda: work.has('here'))
    eventually(lambda: len(work.lines('done')) == 999, 'the others')
    work.touch('go')
    assert run.code() == 0
    work.check(ALL)


# -- without slaves -------------------------------------------------------

@pytest.mark.smoke
def test_inline(work):
    work.write('migrate.py', NUMBERS + '''
import threading


def handle_job(job):
    assert threading.active_count() == 1
    if job in (100, 200):
        raise ValueError('bad row')
    record(f'{os.getpid()} {job}')


import os
''')
    run = work.finish('run', 'migrate', '1', '--inline', '--limit=500',
                      host=None)
    assert run.code() == 1
    assert 'ended by --limit' in run.err and 'server' not in run.err
    assert work.state()['key'] == 500 and work.state()['failed'] == 2
    run = work.finish('run', 'migrate', '1', '--inline', '--max-runtime=0',
                      host=None)
    assert 'ended by --max-runtime' in run.err
    assert work.state()['key'] == 500 and not work.state()['complete']
    run = work.finish('run', 'migrate', '1', '--inline', host=None)
    assert run.code() == 1
    jobs = [line.split() for line in work.lines('done')]
    assert [int(job) for _, job in jobs] == [
        job for job in ALL if job not in (100, 200)]
    assert len({pid for pid, _ in jobs}) == 2
    assert [f['key'] for f in work.failures()] == ['100', '200']
    assert work.state()['complete'] and work.state()['count'] == 1000


INLINE = {
    'lists': LISTS,
    'coroutines': NUMBERS + '''
async def handle_job(job):
    if job in (111, 500, 777):
        raise ValueError('bad row')
    record(job)
'''}


@pytest.mark.parametrize('kind', INLINE)
def test_inline_of_other_kinds(work, kind):
    work.write('migrate.py', INLINE[kind])
    run = work.finish('run', 'migrate', '1', '--inline', host=None)
    assert run.code() == 1
    assert [f['key'] for f in work.failures()] == ['111', '500', '777']
    work.check(set(ALL) - {111, 500, 777})


CTRL_C = {
    'jobs': '''
def handle_job(job):
    if job == 300:
        block('here')
    record(job)
''',
    'lists': '''
def handle_jobs(jobs):
    if 300 in jobs:
        block('here')
    for job in jobs:
        record(job)
''',
    'coroutines': '''
import asyncio


async def handle_job(job):
    if job == 300:
        open('here', 'w').close()
        while not os.path.exists('go'):
            await asyncio.sleep(0.01)
    record(job)


import os
'''}


@pytest.mark.parametrize('kind', CTRL_C)
def test_ctrl_c_ends_an_inline_run_at_once(work, kind):
    work.write('migrate.py', NUMBERS + CTRL_C[kind])
    run = work.start('run', 'migrate', '1', '--inline', '--retries=3',
                     *(['--batch=13'] if kind == 'lists' else []), host=None)
    eventually(lambda: work.has('here'))
    run.send(signal.SIGINT)
    assert run.code() == -signal.SIGINT
    assert work.state()['key'] == 299
    assert not work.failures()
    work.touch('go')
    assert work.finish('run', 'migrate', '1', '--inline').code() == 0
    work.check(ALL)


@pytest.mark.parametrize('where', ['get_jobs', 'setup'])
def test_ctrl_c_elsewhere_in_an_inline_run(work, where):
    work.write('migrate.py', NUMBERS + f'''
def {where}():
    block('here')
''')
    run = work.start('run', 'migrate', '1', '--inline', host=None)
    eventually(lambda: work.has('here'))
    run.send(signal.SIGINT)
    assert run.code() == -signal.SIGINT


def test_inline_a_dict_that_is_yielded_again(work):
    work.write('migrate.py', NUMBERS + '''
def get_jobs(last=0):
    row = {}
    for row['id'] in range(1, 251):
        yield row


def get_key(row):
    return row['id']


def handle_jobs(rows):
    for row in rows:
        record(row['id'])
''')
    run = work.finish('run', 'migrate', '1', '--inline', host=None)
    assert run.code() == 70
    assert 'yielded the same dict twice' in run.err


def test_inline_a_failures_file_that_cannot_be_written(work):
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    os.mkdir('migrate.failures')
    raise ValueError('bad row')


import os
''')
    run = work.finish('run', 'migrate', '1', '--inline', host=None)
    assert run.code() == 74
    assert 'cannot write the failures file' in run.err.splitlines()[-1]
    assert not work.has('migrate.state')


def test_an_inline_run_that_fails(work):
    work.write('migrate.py', NUMBERS + '''
def get_jobs(last=0):
    yield from range(last + 1, 51)
    raise RuntimeError('no table')


def handle_job(job):
    if job % 10 == 0:
        raise ValueError('bad row')
    record(job)
''')
    run = work.finish('run', 'migrate', '1', '--inline', host=None)
    assert run.code() == 70
    assert 'get_jobs raised RuntimeError: no table' in run.err
    assert work.state()['key'] == 50
    run = work.finish('run', 'migrate', '1', '--inline', '--reset',
                      '--max-failures=2', host=None)
    assert run.code() == 65
    assert work.state()['key'] == 19


def test_a_debugger_in_a_handler(work):
    """`breakpoint()`, on the terminal that the run was started from."""
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 3:
        breakpoint()
    record(job)
''')
    script = work.path / 'commands'
    script.write_text('p job * 1000\nq\n')
    with open(script) as commands:
        run = work.program(sys.executable, '-m', 'taskmaster', 'run',
                           'migrate', '1', '--inline', stdin=commands)
        run.code()
    assert '3000' in run.out
    assert work.state()['key'] == 2 and not work.failures()


# -- what a process is doing ----------------------------------------------

BLOCKED = NUMBERS + '''
def handle_job(job):
    if job == 300:
        block('here')
    record(job)
'''


def test_what_it_is_doing_on_sigusr1(work):
    work.write('migrate.py', BLOCKED)
    master = work.start('master', 'migrate')
    spawn = work.start('spawn', 'migrate', '1', master.host)
    eventually(lambda: work.has('here'))
    master.send(signal.SIGUSR1)
    master.says(r'^state: +running$')
    master.says(r'^oldest: +job \d+ \(key \d+\), with ')
    spawn.send(signal.SIGUSR1)
    pid = int(spawn.says(r'^slave 0: pid (\d+)$')[1])
    os.kill(pid, signal.SIGUSR1)
    spawn.stacks = True
    spawn.says(r'line \d+ in handle_job$')
    spawn.says(r'^\S+: in hand: job 300 of this start; ')
    work.touch('go')
    assert (master.code(), spawn.code()) == (0, 0)
    work.check(ALL)


def test_what_a_run_is_doing_on_sigusr1(work):
    work.write('migrate.py', BLOCKED)
    run = work.start('run', 'migrate', '2')
    eventually(lambda: work.has('here'))
    run.send(signal.SIGUSR1)
    run.says(r'^slaves: +[12]$')
    run.says(r'^slave [01]: pid \d+$')
    work.touch('go')
    assert run.code() == 0


def test_nothing_finishes_for_a_minute(work):
    work.write('migrate.py', BLOCKED)
    master = quick(work, 'master', 'migrate',
                   also='TIMING = TIMING._replace(still=0.3)\n')
    slave = quick(work, 'slave', 'migrate', master.host)
    master.says(r'^warning: nothing has finished for a minute: job 300 '
                r'\(key 300\) is with \S+:\d+ for \d+ s', times=2)
    status = work.finish('ctl', 'status', '--json', master.host)
    assert json.loads(status.out)['oldest']['key'] == '300'
    work.touch('go')
    assert (master.code(), slave.code()) == (0, 0)


# -- the end --------------------------------------------------------------

def test_a_summary(work):
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job % 100 == 0:
        raise KeyError('age')
    if job % 300 == 1:
        raise ValueError('no name')
    record(job)
''')
    run = work.finish('run', 'migrate', '2')
    assert run.code() == 1
    *_, total, first, second, where, why = run.err.splitlines()
    assert total.startswith('1000 jobs in 0:00:0')
    assert total[:-1].endswith(
        '986 done, 14 failed, 0 done twice; slaves: ')
    assert re.fullmatch(r"failed: 10 x KeyError at migrate.py:\d+: 'age' "
                        r'\(keys \d+ to \d+\)', first)
    assert re.match(r'failed: 4 x ValueError at migrate.py:\d+: no name ',
                    second)
    assert where.startswith('14 failed jobs are in /')
    assert why == 'complete, but for the failed jobs (exit code 1)'
