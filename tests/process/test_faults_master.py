"""Masters that die at any step, full disks, sources that misbehave."""

import errno
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from faults import ALL, CRASHING, FORK, NUMBERS, launch, quick
from programs import eventually, free_port


def test_7_a_master_dies_at_each_step_of_a_save(work):
    """Of the state or the failures; what is on disk is always true."""
    work.write('migrate.py', '''
import itertools
import os
from recorder import record


def get_jobs(last=0):
    open('armed', 'w').close()
    for job in itertools.count(last + 1):
        if os.path.exists('enough'):
            return
        yield job


def handle_job(job):
    if job % 100 == 0:
        raise ValueError(job)
    record(job)
''')
    host = f'--host=127.0.0.1:{free_port()}'
    slaves = [quick(work, 'slave', 'migrate', host) for _ in range(2)]
    # Of the second save: write, fsync, replace, fsync of the folder; of the
    # first failures: write, fsync.  After one is before the next.
    steps = [('state', 4, 'before')]
    steps += [('state', number, 'after') for number in range(4, 8)]
    steps += [('failures', 1, 'before')]
    steps += [('failures', number, 'after') for number in (1, 2)]
    command = 'master', 'migrate', '--max-failures=1000000', host
    for step in steps:
        (work.path / 'armed').unlink(missing_ok=True)
        master = launch(work, CRASHING.format(step), *command)
        assert master.code() == -signal.SIGKILL
        if work.has('migrate.state'):
            key = work.state()['key']
            lost = set(range(1, key + 1)) - set(map(int, work.handled()))
            recorded = {record['number'] for record in work.failures()}
            assert lost <= recorded, step
            assert all(number % 100 == 0 for number in lost)
    assert key > 100
    met = [slave.err.count('connected to the run') for slave in slaves]
    master = launch(work, CRASHING.format(None), *command)
    for slave, times in zip(slaves, met):
        slave.says('connected to the run', times=times + 1)
    work.touch('enough')
    assert master.code() == 1
    assert [slave.code() for slave in slaves] == [0, 0]
    last = work.state()['key']
    assert (last, True) == (work.state()['count'], work.state()['complete'])
    done = set(map(int, work.handled()))
    assert done >= {job for job in range(1, last + 1) if job % 100}
    assert sorted(int(record['key']) for record in work.failures()) == [
        job for job in range(1, last + 1) if job % 100 == 0]


def test_8_masters_come_and_go(work):
    """Slaves find the next one; without one they give up in the end."""
    work.write('migrate.py', '''
import os
from recorder import block, record

known = set()


def get_jobs(last=0):
    with open('round') as file:
        round = file.read()
    # Each slave keeps one of the first four until all have one.
    for job in range(last + 1, 20_001):
        yield job, round


def get_key(job):
    return job[0]


def handle_job(job):
    number, round = job
    if round not in known:
        known.add(round)
        block(f'{os.getpid()}-{round}', until=f'go-{round}')
    record(number)
''')
    host = f'--host=127.0.0.1:{free_port()}'
    slaves = [work.start('slave', 'migrate', host) for _ in range(4)]
    hasty = None
    for round in range(1, 4):
        work.write('round', str(round))
        master = work.start('master', 'migrate', host)
        eventually(lambda: all(
            work.has(f'{slave.pid}-{round}') for slave in slaves), 'all four')
        if round < 3:
            if hasty is None:
                hasty = work.start('slave', 'migrate', host, '--timeout=0.3')
                hasty.says('connected to')
            master.send(signal.SIGKILL)
            master.code()
            work.touch(f'go-{round}')
            assert hasty.code() == 69
    work.touch('go-3')
    assert [p.code() for p in (*slaves, master)] == [0, 0, 0, 0, 0]
    assert 'no master for 0.3 s' in hasty.err
    assert work.handled().keys() == {str(job) for job in range(1, 20_001)}


@pytest.fixture
def disk(work):
    """A disk of 64 kB, full when asked to be."""
    disk = work.path / 'disk'
    disk.mkdir()
    mount = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs',
                            disk], capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f'cannot mount a tmpfs: {mount.stderr.strip()}')
    yield disk
    subprocess.run(['umount', '-l', disk], check=True)


def fill(disk):
    fd = os.open(disk / 'filler', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with pytest.raises(OSError) as info:
        while True:
            os.write(fd, bytes(4096))
    os.close(fd)
    assert info.value.errno == errno.ENOSPC


# Stops at 300, once there is something saved, and at 600.
TWO_STOPS = NUMBERS + '''
def handle_job(job):
    if job in (300, 600):
        block(f'at-{job}', until=f'go-{job}')
    record(job)
'''


@pytest.fixture
def full(work, disk):
    """A run whose disk is full, and what was saved on it before."""
    work.write('migrate.py', TWO_STOPS)
    run = quick(work, 'master', 'migrate', '--state=disk/migrate.state')
    quick(work, 'slave', 'migrate', run.host)
    eventually(lambda: work.has('at-300'))
    eventually(lambda: (disk / 'migrate.state').exists()
               and work.state('disk/migrate')['key'], 'a save')
    fill(disk)
    before = work.state('disk/migrate')
    work.touch('go-300')
    eventually(lambda: work.has('at-600'))
    run.says('^warning: cannot save')
    assert 1 <= work.state('disk/migrate')['key'] <= 300
    return run, before


@pytest.mark.hunt
def test_10_a_disk_is_full_for_a_while(work, disk, full):
    """It goes on serving, says so once, and saves again."""
    run, before = full
    (disk / 'filler').unlink()
    run.says('^saving works again')
    eventually(lambda: work.state('disk/migrate')['key'] >= 300, 'a save')
    work.touch('go-600')
    assert run.code() == 0
    work.check(ALL)
    assert run.err.count('cannot save') == 1
    assert work.state('disk/migrate')['complete']


@pytest.mark.hunt
@pytest.mark.parametrize('stopped', [False, True])
def test_10_a_disk_is_full_at_the_end(work, disk, full, stopped):
    """What is on it is older, and true: the rest runs again."""
    run, before = full
    if stopped:
        run.stop()
    work.touch('go-600')
    assert run.code() == 74             # graver than the signal
    assert 'the last save did not succeed' in run.err
    assert run.err.count('cannot save') == 1
    state = work.state('disk/migrate')
    assert not state['complete'] and state['key'] <= 300
    (disk / 'filler').unlink()
    for name in 'at-300', 'at-600':
        (work.path / name).unlink()
    again = work.finish('run', 'migrate', '1', '--state=disk/migrate.state')
    assert again.code() == 0
    work.check(ALL, twice=range(state['key'] + 1, 1001))


@pytest.mark.hunt
@pytest.mark.parametrize('why', ['read-only', 'full'])
def test_10_a_state_that_cannot_be_written_at_the_start(work, disk, why):
    work.write('migrate.py', NUMBERS)
    if why == 'full':
        fill(disk)
    else:
        subprocess.run(['mount', '-o', 'remount,ro', disk], check=True)
    for command in ('run', 'migrate', '1'), ('master', 'migrate'):
        run = work.finish(*command, '--state=disk/migrate.state')
        assert run.code() == 74
        line, = run.err.splitlines()
        assert 'disk/migrate.state' in line and '--state' in line
    assert not work.handled()


@pytest.mark.hunt
def test_11_the_failures_file_cannot_be_written(work):
    """The watermark stays, then leases stop; it goes on with the file."""
    work.write('migrate.py', '''
import itertools
import os
import time
from recorder import record


def get_jobs(last=0):
    os.mkdir('migrate.failures')
    for job in itertools.count(last + 1):
        if os.path.exists('enough'):
            return
        yield job


def handle_job(job):
    record(job)
    time.sleep(0.0001)
    assert job != 50
''')
    run = launch(work, 'TIMING = TIMING._replace(save=0.1, patience=0.3)',
                 'run', 'migrate', '2')
    run.says('^warning: cannot save .*it is a directory')
    # Nothing is leased any more: two lines with one number.
    stays = run.says(r'^Current Job: (\d+) .*jobs cannot be recorded\n'
                     r'Current Job: \1 .*jobs cannot be recorded$')
    assert int(stays[1]) > 50
    assert work.state()['key'] == 49
    (work.path / 'migrate.failures').rmdir()
    run.says('^saving works again')
    more = int(stays[1]) + 1000
    eventually(lambda: len(work.lines('done')) > more, 'more work')
    work.touch('enough')
    assert run.code() == 1
    failure, = work.failures()
    assert failure['number'] == 50
    work.check(range(1, work.state()['key'] + 1))
    assert run.err.count('cannot save') == 1


@pytest.mark.hunt
def test_11_it_still_cannot_at_the_end(work):
    """74, and the failed job runs again."""
    work.write('migrate.py', NUMBERS + '''
import os


def get_jobs(last=0):
    if first('made'):
        os.mkdir('migrate.failures')
    return range(last + 1, 101)


def handle_job(job):
    record(job)
    assert job != 50
''')
    run = launch(work, 'TIMING = TIMING._replace(save=0.1, patience=0.5)',
                 'run', 'migrate', '1')
    assert run.code() == 74
    assert 'it is a directory' in run.err
    assert work.state()['key'] == 49
    (work.path / 'migrate.failures').rmdir()
    assert work.finish('run', 'migrate', '1').code() == 1
    work.check(range(1, 101), twice=range(50, 101))
    failure, = work.failures()
    assert failure['number'] == 50


def test_12_and_13_the_other_order(work):
    """First `tm-master` on the state, `tm-run` on the port."""
    work.write('migrate.py', NUMBERS + '''
def get_jobs(last=0):
    block('here')
    return range(last + 1, 11)
''')
    master = work.start('master', 'migrate')
    eventually(lambda: work.has('here'))
    run = work.finish('run', 'migrate', '1')
    assert run.code() == 75
    assert f'pid {master.pid} on ' in run.err
    assert 'server running' not in run.err
    (work.path / 'here').unlink()
    run = work.start('run', 'migrate', '1', '--state=x.state',
                     f'--host=127.0.0.1:{free_port()}')
    eventually(lambda: work.has('here'))
    other = work.finish('master', 'migrate', run.host, '--state=y.state')
    assert other.code() == 69
    assert f'127.0.0.1:{run.port}' in other.err
    work.touch('go')
    assert run.code() == 0


def test_13_a_child_of_a_dead_master(work):
    """It lives on, and yet nobody has the lock."""
    work.write('migrate.py', NUMBERS + FORK + '''
def get_jobs(last=0):
    if first('forked') and not fork():
        block('orphan', until='never')
    while not os.path.exists('orphan'):
        pass
    yield from range(last + 1, 1001)


def handle_job(job):
    if job == 300:
        block('here')
    record(job)
''')
    run = work.start('master', 'migrate')
    slave = work.start('slave', 'migrate', run.host)
    eventually(lambda: work.has('here'))
    second = work.finish('master', 'migrate')
    assert second.code() == 75
    run.send(signal.SIGKILL)
    run.code()
    slave.send(signal.SIGKILL)
    slave.code()
    pid, = work.pids()
    held = {os.path.realpath(fd) for fd in Path(f'/proc/{pid}/fd').iterdir()}
    assert str((work.path / 'migrate.state.lock').resolve()) not in held
    work.touch('go')
    assert work.finish('run', 'migrate', '1').code() == 0
    work.check(ALL, twice=range(1, 300))


def test_16_get_jobs_blocks(work):
    """It is said what is waited for, and a stop does not wait for it."""
    work.write('migrate.py', NUMBERS + '''
def get_jobs(last=0):
    yield from range(last + 1, 11)
    block('here', until='never')
    yield 0
''')
    run = launch(work, 'TIMING = TIMING._replace(quiet=0.5)',
                 'run', 'migrate', '1')
    run.says(r'waiting for get_jobs, \d+ s$')
    run.stop(signal.SIGTERM)
    assert run.code() == -signal.SIGTERM
    state = work.state()
    assert (state['count'], state['complete']) == (10, False)
    work.check(range(1, 11))


def peak(pid):
    """The most memory that a process has had, in MB."""
    status = Path(f'/proc/{pid}/status').read_text()
    return int(re.search(r'VmHWM:\s+(\d+) kB', status)[1]) / 1000


def test_28_a_job_of_100_megabytes(work):
    """It works, and what the master needs for it is bounded."""
    work.write('migrate.py', NUMBERS + '''
def get_jobs():
    for number in range(1, 101):
        yield number, bytes((100 << 20) * (number == 50))


def get_key(job):
    return job[0]


def handle_job(job):
    assert len(job[1]) == (100 << 20) * (job[0] == 50)
    if job[0] == 100:
        block('here')
    record(job[0])
''')
    master = work.start('master', 'migrate')
    slave = work.start('slave', 'migrate', master.host)
    eventually(lambda: work.has('here'))
    assert peak(master.pid) < 400
    work.touch('go')
    assert (slave.code(), master.code()) == (0, 0)
    work.check(range(1, 101))


def test_28_a_queue_of_large_jobs(work):
    """No more of them than the queue and the leases hold."""
    work.write('migrate.py', NUMBERS + '''
def get_jobs():
    for number in range(1, 151):
        yield number, bytes(2 << 20)


def get_key(job):
    return job[0]


def handle_job(job):
    if job[0] == 150:
        block('here')
    record(job[0])
''')
    master = work.start('master', 'migrate', '--size=10')
    slave = work.start('slave', 'migrate', master.host)
    eventually(lambda: work.has('here'))
    assert peak(master.pid) < 150       # of 300 MB that went through it
    work.touch('go')
    assert (slave.code(), master.code()) == (0, 0)
    work.check(range(1, 151))


def test_30_nobody_reads_stderr(work):
    """A pipe without a reader; the run goes on in silence."""
    work.write('migrate.py', NUMBERS + '''
import sys


def handle_job(job):
    print(job, file=sys.stderr, flush=True)
    record(job)
    assert job != 300
''')
    mine, theirs = os.pipe()
    os.close(mine)
    run = work.start('run', 'migrate', '2', stderr=theirs)
    os.close(theirs)
    assert run.code() == 1
    work.check(ALL)
    assert work.state()['complete']


@pytest.mark.parametrize('command', ['master', 'slave'])
def test_30_nohup_is_respected(work, command):
    """A SIGHUP that was ignored at the start does nothing."""
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 300:
        block('here')
    record(job)
''')
    ignored = {command: {'preexec_fn': ignore}}
    master = work.start('master', 'migrate', **ignored.get('master', {}))
    slave = work.start('slave', 'migrate', master.host,
                       **ignored.get('slave', {}))
    eventually(lambda: work.has('here'))
    program = master if command == 'master' else slave
    program.send(signal.SIGHUP)
    work.touch('go')
    assert (slave.code(), master.code()) == (0, 0)
    work.check(ALL)
    assert 'stopping' not in program.err


def ignore():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.mark.hunt
@pytest.mark.parametrize('kind', ['[]', 'bytearray()'])
def test_36_one_object_again_and_again(work, kind):
    """Refused at the second one."""
    work.write('migrate.py', NUMBERS + f'''
def get_jobs(last=None):
    row = {kind}
    while True:
        yield row


def get_key(job):
    return 1
''')
    run = work.finish('run', 'migrate', '1')
    assert run.code() == 70
    assert 'so make a new one for each' in run.err.splitlines()[-1]
    assert not work.has('migrate.state') or not work.state()['complete']
    assert len(work.lines('done')) <= 1


@pytest.mark.hunt
@pytest.mark.parametrize('key, said', [
    ('None', 'the key of a job is None'), ('17', 'two jobs have the key 17'),
    ('print', 'cannot be saved'), ('1 / 0', 'ZeroDivisionError')])
def test_40_keys_that_go_bad_later(work, key, said):
    """Drained; what was saved before is gone on with once it is mended."""
    if key == 'print':
        key = 'lambda: job'
    work.write('migrate.py', NUMBERS + f'''
import os


def get_key(job):
    if job < 300 or os.path.exists('mended'):
        return job
    return {key}


def handle_job(job):
    if job in (300, 600):
        block(f'at-{{job}}', until=f'go-{{job}}')
    record(job)
''')
    run = launch(work, 'TIMING = TIMING._replace(save=0.1)',
                 'run', 'migrate', '1')
    eventually(lambda: work.has('at-300'))
    eventually(lambda: work.has('migrate.state'), 'a save')
    work.touch('go-300')
    if '17' in key:         # the first of two is fine
        eventually(lambda: work.state()['key'] == 17, 'the first of them')
    else:
        run.says('^error: ')
    work.touch('go-600')
    assert run.code() == 70
    error, = (line for line in run.err.splitlines()
              if line.startswith('error: '))
    assert said in error
    assert 'get_key' in error or 'unique' in error
    state = work.state()
    assert not state['complete']
    if '17' not in key:
        assert state['key'] == state['count'] < 300
        work.touch('mended')
        assert work.finish('run', 'migrate', '1').code() == 0
        work.check(ALL, twice=range(state['key'] + 1, 1001))
