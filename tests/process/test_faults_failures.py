"""Jobs that fail: retried, counted, stopped at, and run again."""

import signal

import pytest
from faults import ALL, CRASHING, NUMBERS, launch
from programs import eventually

pytestmark = pytest.mark.hunt

FAILING = [str(job) for job in range(100, 1001, 100)]

# Every 100th job fails until it is mended; 200 fails in another way then.
FAILS = NUMBERS + '''
import os


def handle_job(job):
    if job % 100 == 0 and not os.path.exists('mended'):
        raise ValueError(f'bad {job}')
    if job == 200 and not os.path.exists('mended-at-last'):
        raise LookupError('still bad')
    if job == 600:
        block('here')
    record(job)
'''


def test_retries(work):
    """Further attempts on the same slave, and how many there were."""
    work.write('migrate.py', NUMBERS.replace('1000', '100') + '''
tries = {}


def handle_job(job):
    tries[job] = tries.get(job, 0) + 1
    with open('tries', 'a') as file:
        file.write(f'{job}\\n')
    if job == 30:
        raise ValueError(f'try {tries[job]}')
    if job == 60 and tries[job] < 3:
        raise SystemExit
    record(job)
''')
    master = work.start('master', 'migrate')
    slave = work.start('slave', 'migrate', master.host, '--retries=2')
    assert (slave.code(), master.code()) == (0, 1)
    failure, = work.failures()
    assert (failure['key'], failure['attempts']) == ('30', 3)
    assert failure['error'] == 'ValueError: try 3'
    work.check(job for job in range(1, 101) if job != 30)
    tries = work.lines('tries')
    assert tries.count('30') == tries.count('60') == 3
    assert len(tries) == 98 + 3 + 3


def test_a_stop_does_not_wait_for_retries(work):
    """The waiting between two attempts is cut short, no attempt is."""
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 30:
        with open('tries', 'a') as file:
            file.write('try\\n')
        raise ValueError
    record(job)
''')
    slow = 'TIMING = TIMING._replace(first_retry=1e6, longest_retry=1e9)'
    master = work.start('master', 'migrate')
    slave = launch(work, slow, 'slave', 'migrate', master.host,
                   '--retries=3')
    eventually(lambda: work.lines('tries'))
    slave.send(signal.SIGTERM)
    assert slave.code() == -signal.SIGTERM
    assert len(work.lines('tries')) == 4
    other = work.finish('slave', 'migrate', master.host)
    assert (other.code(), master.code()) == (0, 1)
    failure, = work.failures()
    assert failure['attempts'] == 4


@pytest.mark.parametrize('most, code', [('5%', 65), ('15%', 1)])
def test_max_failures(work, most, code):
    """A per cent, after the first 100 jobs."""
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    assert job % 10
    record(job)
''')
    command = 'run', 'migrate', '2', f'--max-failures={most}'
    run = work.finish(*command)
    assert run.code() == code
    failed = [record['number'] for record in work.failures()]
    assert all(number % 10 == 0 for number in failed)
    state = work.state()
    assert state['complete'] == (code == 1)
    if code == 1:
        assert len(failed) == 100
        work.check(job for job in ALL if job % 10)
        return
    assert '--max-failures' in run.err
    assert len(failed) >= 6
    # It is counted anew at each start, and it goes on.
    again = work.finish('run', 'migrate', '2', '--max-failures=1000')
    assert again.code() == 1
    assert f'resuming after key {state["key"]} ' in again.err
    work.check((job for job in ALL if job % 10), twice=ALL)
    assert len({record['number'] for record in work.failures()}) == 100


@pytest.fixture
def failed(work):
    """A complete run of which ten jobs have failed."""
    work.write('migrate.py', FAILS)
    run = work.start('run', 'migrate', '2')
    assert run.code() == 1
    assert sorted(int(one['key']) for one in work.failures()) == [
        int(key) for key in FAILING]
    work.touch('mended')
    return (work.path / 'migrate.state').read_bytes()


def outstanding(work):
    """The failed jobs that have not been resolved since: key to record."""
    last = {}
    for record in work.failures():
        last[record['number']] = record
    return {str(number): record for number, record in last.items()
            if 'resolved' not in record}


def test_retry_failed(work, failed):
    """Some are resolved, one fails again; the file has its new error."""
    work.touch('go')
    run = work.finish('run', 'migrate', '2', '--retry-failed')
    assert run.code() == 1
    assert 'retrying 10 failed jobs' in run.err
    record, = work.failures()           # compacted
    assert (record['key'], record['error']) == ('200',
                                                'LookupError: still bad')
    work.check(job for job in ALL if job != 200)
    assert (work.path / 'migrate.state').read_bytes() == failed
    work.touch('mended-at-last')
    run = work.finish('run', 'migrate', '2', '--retry-failed')
    assert run.code() == 0
    work.check(ALL)
    assert not work.has('migrate.failures')
    assert (work.path / 'migrate.state').read_bytes() == failed
    run = work.finish('run', 'migrate', '2', '--retry-failed')
    assert run.code() == 0
    assert (work.path / 'migrate.state').read_bytes() == failed


@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGINT])
def test_retry_failed_ends_in_the_middle(work, failed, how):
    """What was resolved is, and the others are still there."""
    work.touch('mended-at-last')
    run = launch(work, 'TIMING = TIMING._replace(save=0.1)',
                 'run', 'migrate', '1', '--retry-failed')
    eventually(lambda: work.has('here'))
    assert work.finish('master', 'migrate').code() == 75
    eventually(lambda: len(outstanding(work)) == 5)
    run.send(how)
    if how == signal.SIGINT:
        run.says('^stopping:')
        work.touch('go')
    assert run.code() == -how
    eventually(lambda: not work.pids(), 'the end of the slave')
    left, handled = outstanding(work), work.handled()
    if how == signal.SIGKILL:
        assert left.keys() == set(FAILING[5:])
    else:
        assert left.keys() == {key for key in FAILING if not handled[key]}
        assert len(work.failures()) == len(left)    # compacted
    work.touch('go')
    run = work.finish('run', 'migrate', '2', '--retry-failed')
    assert run.code() == 0
    assert f'retrying {len(left)} failed job' in run.err
    work.check(ALL)
    assert (work.path / 'migrate.state').read_bytes() == failed


def test_retry_failed_dies_at_each_step(work, failed):
    """Of a record, and of compacting: nothing is lost."""
    work.touch('go')
    first = (work.path / 'migrate.failures').read_bytes()
    armed = CRASHING.replace('0.05', '60.0') + "open('armed', 'w').close()\n"
    # That job 200 has failed again: folder 0, write 1, fsync 2; that the
    # others are resolved: 3, 4; compacted: write 5, fsync 6, replace 7.
    for number, when in [(2, 'before'), (4, 'after'), (7, 'before'),
                         (7, 'after')]:
        (work.path / 'migrate.failures').write_bytes(first)
        (work.path / 'done').unlink()
        run = launch(work, armed.format(('failures', number, when)),
                     'run', 'migrate', '1', '--retry-failed')
        assert run.code() == -signal.SIGKILL
        eventually(lambda: not work.pids(), 'the end of the slave')
        left = outstanding(work)
        assert left.keys() == set(FAILING if number < 3 else ['200'])
        assert set(FAILING) - set(left) <= set(work.handled())
        again = work.finish('run', 'migrate', '1', '--retry-failed')
        assert again.code() == 1
        record, = work.failures()
        assert record['error'] == 'LookupError: still bad'
        assert set(FAILING) - {'200'} == set(work.handled())
    assert (work.path / 'migrate.state').read_bytes() == failed


def test_what_could_not_be_pickled_needs_the_source(work):
    work.write('migrate.py', NUMBERS + '''
import os


def get_jobs(last=0):
    for job in range(last + 1, 11):
        yield job if job != 5 else lambda: 5


def get_key(job):
    return job if isinstance(job, int) else 5


def handle_job(job):
    assert job != 7 or os.path.exists('mended')
    record(job)
''')
    assert work.finish('run', 'migrate', '1').code() == 1
    assert len(work.failures()) == 2
    work.touch('mended')
    run = work.finish('run', 'migrate', '1', '--retry-failed')
    assert run.code() == 1
    line, = (line for line in run.err.splitlines() if 'job 5 ' in line)
    assert 'could not be pickled' in line and 'get_jobs' in line
    record, = work.failures()
    assert record['key'] == '5' and 'lambda' in record['job']['repr']
    work.check(job for job in range(1, 11) if job != 5)
