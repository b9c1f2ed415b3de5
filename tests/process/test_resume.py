"""Stopped in any way and started again: nothing lost, seldom twice."""

import os
import signal
import sys

import pytest
from programs import NUMBERS, eventually, free_port

# Jobs are (number, round): which start of the master they come from is in
# the file 'round'.  Every 500th says where it is, and waits for 'go-ROUND'.
STOPS = '''
from recorder import block, record


def get_jobs(last=0):
    with open('round') as file:
        number = int(file.read())
    for job in range(last + 1, 15001):
        yield job, number


def get_key(job):
    return job[0]


def handle_job(job):
    number, start = job
    if number % 500 == 0:
        block(f'at-{start}', until=f'go-{start}')
    record(f'{number} {start}')
'''


def numbers(work):
    """The jobs handled in each start of the master."""
    found = {}
    for line in work.lines('done'):
        number, start = map(int, line.split())
        found.setdefault(start, []).append(number)
    return found


def start_round(work, number, host):
    work.write('round', str(number))
    master = work.start('master', 'migrate', '--size=300', host)
    eventually(lambda: work.has(f'at-{number}'), 'a job that waits')
    return master


def test_drains_repeat_nothing(work):
    """Five stops of the master, its slaves left running."""
    work.write('migrate.py', STOPS)
    host = f'--host=127.0.0.1:{free_port()}'
    spawn = work.start('spawn', 'migrate', '2', host)
    stops = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT,
             signal.SIGTERM]
    count = 0
    for number, stop in enumerate(stops, 1):
        master = start_round(work, number, host)
        assert f'{count} jobs' in master.err or not count
        master.stop(stop)
        work.touch(f'go-{number}')
        assert master.code() == -stop
        # What was in hand is finished, and there is no hole below it.
        count = sum(map(len, numbers(work).values()))
        state = work.state()
        assert (state['key'], state['count']) == (count, count)
        assert not state['complete']
    number += 1
    work.touch(f'go-{number}')
    master = start_round(work, number, host)
    assert (master.code(), spawn.code()) == (0, 0)
    handled = [job for jobs in numbers(work).values() for job in jobs]
    assert sorted(handled) == list(range(1, 15001))
    assert spawn.err.count('the master was stopped') >= len(stops)


@pytest.mark.smoke
def test_a_killed_master_loses_nothing(work):
    """Five times SIGKILL, its slaves left running."""
    work.write('migrate.py', STOPS)
    host = f'--host=127.0.0.1:{free_port()}'
    spawn = work.start('spawn', 'migrate', '2', host)
    saved = {}
    for number in range(1, 6):
        master = start_round(work, number, host)
        eventually(lambda: work.has('migrate.state')
                   and work.state()['key'], 'a save')
        master.send(signal.SIGKILL)
        assert master.code() == -signal.SIGKILL
        saved[number] = work.state()['key']
        done = {job for jobs in numbers(work).values() for job in jobs}
        assert done >= set(range(1, saved[number] + 1)), 'state is ahead'
        work.touch(f'go-{number}')
    work.touch('go-6')
    master = start_round(work, 6, host)
    assert (master.code(), spawn.code()) == (0, 0)
    handled = numbers(work)
    assert set().union(*handled.values()) == set(range(1, 15001)), 'lost'
    for number, jobs in handled.items():
        assert len(jobs) == len(set(jobs)), 'twice in one run'
        # Only what is above the saved watermark runs again.
        assert min(jobs) > saved.get(number - 1, 0)
    assert work.state()['count'] == 15000


def test_state_is_never_ahead_of_an_unfinished_job(work):
    """Thousands finish above one that is stuck; the watermark waits."""
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 300:
        block('stuck')
    record(job)
''')
    command = 'run', 'migrate', '2', 'count=20000', '--state=stuck.state'
    run = work.start(*command)
    eventually(lambda: len(work.lines('done')) > 5000, 'thousands of jobs')
    eventually(lambda: work.has('stuck'), 'the job that is stuck')
    eventually(lambda: work.has('stuck.state') and work.state('stuck')['key'],
               'a save')
    state = work.state('stuck')
    assert state['key'] == state['count'] <= 299
    run.send(signal.SIGKILL)
    run.code()
    eventually(lambda: not work.pids(), 'the end of the slaves')
    done = set(work.lines('done'))
    state = work.state('stuck')
    assert state['key'] <= 299
    assert {str(n) for n in range(1, state['key'] + 1)} <= done
    assert '300' not in done
    work.touch('go')
    assert work.finish(*command).code() == 0
    work.check(range(1, 20001), twice=range(state['key'] + 1, 20001))


@pytest.mark.parametrize('again', ['from', 'after'])
def test_last(work, again):
    """It is passed on resume alone; both ways to go on repeat nothing."""
    work.write('migrate.py', f'''
from recorder import block, record


def get_jobs(last='not given'):
    with open('last', 'a') as file:
        file.write(f'{{last}}\\n')
    start = 1 if last == 'not given' else last + {int(again == 'after')}
    with open('rows') as file:
        return range(start, int(file.read()) + 1)


def handle_job(job):
    if job == 50:
        block('here')
    record(job)
''')
    work.write('rows', '100')
    run = work.start('run', 'migrate', '1')
    eventually(lambda: work.has('here'))
    run.stop()
    work.touch('go')
    assert run.code() == -signal.SIGINT
    stopped = work.state()['key']
    assert stopped >= 50
    assert stopped < 100 or not work.state()['complete']
    run = work.finish('run', 'migrate', '1')
    assert run.code() == 0
    assert f'resuming after key {stopped} ({stopped} jobs' in run.err
    work.check(range(1, 101))
    # Complete, and started again: with its last key, for what is new.
    work.write('rows', '150')
    run = work.finish('run', 'migrate', '1')
    assert run.code() == 0
    assert 'complete; looking for new jobs after key 100' in run.err
    work.check(range(1, 151))
    assert work.lines('last') == ['not given', str(stopped), '100']
    assert work.state()['count'] == 150
    assert work.state()['complete']
    if again == 'from':         # the last one again is no job
        run = work.finish('run', 'migrate', '1')
        assert run.code() == 0
        assert run.err.rstrip().endswith(
            'no jobs\ncomplete (exit code 0)')
        work.check(range(1, 151))
        assert work.state()['count'] == 150


def test_reset(work):
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    record(job)
    assert job != 7, 'seven'
''')
    assert work.finish('run', 'migrate', '1').code() == 1
    assert len(work.failures()) == 1
    before = (work.path / 'migrate.state').read_text()
    run = work.finish('run', 'migrate', '1', '--reset')
    assert run.code() == 1
    assert '--reset: 1000 finished jobs forgotten' in run.err
    assert (work.path / 'migrate.state.old').read_text() == before
    assert len(work.lines('migrate.failures.old')) == 1
    assert len(work.failures()) == 1
    assert set(work.handled().values()) == {2}


@pytest.mark.smoke
@pytest.mark.parametrize('command', ['run', 'master'])
def test_the_second_signal_ends_it_at_once(work, command):
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 300:
        block('here')
    record(job)
''')
    if command == 'run':
        run = work.start('run', 'migrate', '2')
    else:
        run = work.start('master', 'migrate')
        work.start('spawn', 'migrate', '2', run.host)
    eventually(lambda: work.has('here'))
    run.stop(signal.SIGTERM)
    assert run.process.poll() is None
    run.send(signal.SIGINT)
    # By one of the two: Python may hear of both at once, in any order.
    assert run.code() in (-signal.SIGINT, -signal.SIGTERM)
    if command == 'master':
        work.programs[-1].send(signal.SIGKILL)
    eventually(lambda: not work.pids(), 'the end of the slaves')
    saved = work.state()['key'] or 0 if work.has('migrate.state') else 0
    assert saved < 300
    work.touch('go')
    assert work.finish('run', 'migrate', '2').code() == 0
    work.check(range(1, 1001), twice=range(saved + 1, 1001))


@pytest.mark.smoke
def test_slaves_are_stopped(work):
    """Each finishes its job, gives the others back, and dies of it."""
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job in (100, 300, 500):
        block(f'at-{job}', until=f'go-{job}')
    record(job)
''')
    master = work.start('master', 'migrate')
    for job, stop in [(100, signal.SIGINT), (300, signal.SIGTERM),
                      (500, signal.SIGHUP)]:
        slave = work.start('slave', 'migrate', master.host)
        eventually(lambda: work.has(f'at-{job}'))
        slave.stop(stop)
        work.touch(f'go-{job}')
        assert slave.code() == -stop
        assert work.handled()[str(job)] == 1
    assert len(work.handled()) < 1000
    other = work.start('spawn', 'migrate', '1', master.host)
    assert (other.code(), master.code()) == (0, 0)
    work.check(range(1, 1001))
    assert 'lost slave' not in master.err


def test_an_idle_slave_is_stopped(work):
    """At once; and no job goes to where it was."""
    work.write('migrate.py', NUMBERS + '''
def get_jobs(last=0):
    block('here')
    return range(last + 1, 101)
''')
    master = work.start('master', 'migrate')
    eventually(lambda: work.has('here'))
    slave = work.start('slave', 'migrate', master.host)
    slave.says('^connected to the run')
    slave.send(signal.SIGINT)
    assert slave.code() == -signal.SIGINT
    slave = work.start('slave', 'migrate', master.host)
    slave.says('^connected to the run')
    work.touch('go')
    assert (slave.code(), master.code()) == (0, 0)
    work.check(range(1, 101))
    took = [(work.path / name).stat().st_mtime
            for name in ('go', 'migrate.state')]
    assert took[1] - took[0] < 4.5      # the grace is 5 s


def test_spawn_is_stopped(work):
    work.write('migrate.py', NUMBERS + '''
def get_jobs(last=0):
    yield from range(last + 1, 501)
    block('source', until='more')       # or the run could end before
    yield from range(501, 1001)


def handle_job(job):
    if job == 300:
        block('here')
    record(job)
''')
    master = work.start('master', 'migrate')
    spawn = work.start('spawn', 'migrate', '1', master.host)
    eventually(lambda: work.has('here'))
    spawn.stop(signal.SIGINT)
    work.touch('go')
    assert spawn.code() == -signal.SIGINT
    assert work.handled()['300'] == 1
    work.touch('more')
    other = work.start('spawn', 'migrate', '1', master.host)
    assert (other.code(), master.code()) == (0, 0)
    work.check(range(1, 1001))
    assert 'lost slave' not in master.err


@pytest.mark.parametrize('command', ['run', 'spawn'])
def test_the_first_process_of_a_container_is_stopped(work, command):
    """The kernel keeps it from dying by a signal; 0 would mean complete."""
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 300:
        block('here')
    record(job)
''')
    unshare = ['unshare', '--user', '--map-root-user', '--pid', '--fork',
               '--kill-child']
    if work.program(*unshare, 'true').code():
        pytest.skip('no PID namespaces here')
    master = f'--host=127.0.0.1:{free_port()}'
    if command == 'spawn':
        work.start('master', 'migrate', master)
    container = work.program(*unshare, sys.executable, '-m', 'taskmaster',
                             command, 'migrate', '1', master)
    eventually(lambda: work.has('here'))
    children = f'/proc/{container.pid}/task/{container.pid}/children'
    with open(children) as file:
        first, = map(int, file.read().split())
    os.kill(first, signal.SIGTERM)
    container.says('^stopping:')
    work.touch('go')
    assert container.code() == 128 + signal.SIGTERM
    assert work.handled()['300'] == 1


def test_nohup_is_respected(work):
    """A SIGHUP that was ignored stays so, in the slaves too."""
    work.write('migrate.py', NUMBERS + '''
import os
import signal


def handle_job(job):
    if job == 300:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getppid(), signal.SIGHUP)
    record(job)
''')
    run = work.program(
        'sh', '-c', 'trap "" HUP; exec "$0" "$@"', sys.executable, '-m',
        'taskmaster', 'run', 'migrate', '1', '--host=127.0.0.1:0')
    assert run.code() == 0
    work.check(range(1, 1001))
    assert 'stopping' not in run.err


def test_stopped_before_the_first_job(work):
    """The watermark that was loaded stays."""
    work.write('migrate.py', NUMBERS + '''
def get_jobs(last=0):
    if last:
        block('here', until='never')
    return range(last + 1, 101)
''')
    assert work.finish('run', 'migrate', '1').code() == 0
    before = work.state()
    run = work.start('run', 'migrate', '1')
    eventually(lambda: work.has('here'))
    run.stop()
    assert run.code() == -signal.SIGINT
    after = work.state()
    assert (after['key'], after['count']) == (before['key'], before['count'])


def test_state_without_a_last(work):
    """Never a silent start from zero."""
    work.write('migrate.py', NUMBERS)
    assert work.finish('run', 'migrate', '1').code() == 0
    work.write('migrate.py', NUMBERS.replace(
        "last=0, count='1000'", '').replace('last', '0')
        .replace('int(count)', '7'))
    run = work.finish('run', 'migrate', '1')
    assert run.code() == 78
    assert '--reset' in run.err
    work.check(range(1, 1001))


DEAF = '''
from recorder import record


def get_jobs(last=0):
    yield from range(1, 1001)


def handle_job(job):
    record(job)
'''


def test_a_source_that_ignores_last_is_refused(work):
    """The first job of the run again: 70, and none is handled twice."""
    work.write('migrate.py', DEAF)
    assert work.finish('run', 'migrate', '1', '--limit=500').code() == 0
    for _ in range(2):
        run = work.finish('run', 'migrate', '1')
        assert run.code() == 70
        assert 'get_jobs began with 1 again' in run.err
        assert 'yield only what comes after `last`' in run.err
    assert 'began with 1 again' in work.finish(
        'run', 'migrate', '1', '--inline').err
    work.check(range(1, 501))
    assert work.finish('run', 'migrate', '1', '--reset').code() == 0


def test_a_dry_run_finds_a_source_that_ignores_last(work):
    work.write('migrate.py', DEAF)
    run = work.finish('run', 'migrate', '1', '--dry-run')
    assert run.code() == 70
    assert 'get_jobs began with 1 again' in run.err.splitlines()[-1]
    work.write('migrate.py', DEAF.replace('range(1,', 'range(last + 1,'))
    run = work.finish('run', 'migrate', '1', '--dry-run')
    assert run.code() == 0
    assert 'last:   ok, get_jobs(last=5) begins with 6\n' in run.out
