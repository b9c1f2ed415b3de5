"""What get_jobs may do to a run."""

import pytest
from programs import NUMBERS, eventually

pytestmark = pytest.mark.hunt


@pytest.mark.smoke
def test_get_jobs_raises_in_the_middle(work):
    """Queued jobs finish, the state is saved, and it can be resumed."""
    work.write('migrate.py', '''
import os
from recorder import record


def get_jobs(last=0):
    for job in range(last + 1, 201):
        if job == 101 and not os.path.exists('mended'):
            find(job)
        yield job


def find(job):
    raise LookupError(f'no row {job}')


def handle_job(job):
    record(job)
''')
    run = work.finish('run', 'migrate', '2')
    assert run.code() == 70
    assert 'migrate.py", line 9, in get_jobs' in run.err
    assert 'LookupError: no row 101' in run.err
    assert 'get_jobs raised LookupError' in run.err.splitlines()[-1]
    work.check(range(1, 101))
    state = work.state()
    assert (state['key'], state['count'], state['complete']) == (
        100, 100, False)
    work.touch('mended')
    run = work.finish('run', 'migrate', '2')
    assert run.code() == 0
    assert 'resuming after key 100' in run.err
    work.check(range(1, 201))


SOURCES = {
    'get_jobs raised SystemExit: 0': '''
    yield 1
    raise SystemExit(0)
''',
    'get_jobs raised KeyboardInterrupt': '''
    yield 1
    raise KeyboardInterrupt
''',
    'get_jobs returned NoneType': '''
    return None
''',
    'get_jobs returned int': '''
    return 7
''',
    'the same dict twice': '''
    row = {}
    for number in range(10):
        row['number'] = number
        yield row
'''}


def test_sources_that_are_none(work):
    runs = []
    for number, (said, source) in enumerate(SOURCES.items()):
        work.write(f'source{number}.py', NUMBERS + f'''
def get_jobs(last=None):{source}
''')
        runs.append((f'source{number}', said,
                     work.start('run', f'source{number}', '1')))
    for name, said, run in runs:
        assert run.code() == 70
        assert said in run.err
        assert 'no jobs' not in run.err
        assert not (work.has(f'{name}.state')
                    and work.state(name)['complete'])
    assert work.handled().keys() <= {'1', "{'number': 0}"}


def test_no_jobs(work):
    work.write('migrate.py', NUMBERS)
    for _ in range(2):
        run = work.finish('run', 'migrate', '1', 'count=0')
        assert run.code() == 0
        assert run.err.splitlines()[-2:] == [
            'no jobs', 'complete (exit code 0)']


KEYS = {
    'None': 'the key of a job is None',
    '1 / 0': 'get_key raised ZeroDivisionError',
    'lambda: 1': 'cannot be saved',
    '"x" * 100_000': 'more than 64 kB'}


def test_keys_that_cannot_be_saved(work):
    runs = []
    for number, (key, said) in enumerate(KEYS.items()):
        work.write(f'keys{number}.py', NUMBERS + f'''
def get_key(job):
    return {key}
''')
        runs.append((said, work.start('run', f'keys{number}', '1')))
    for said, run in runs:
        assert run.code() == 70
        error, = (line for line in run.err.splitlines()
                  if line.startswith('error: '))
        assert said in error
    assert not list(work.path.glob('*.state'))


def test_keys_that_repeat(work):
    work.write('migrate.py', NUMBERS + '''
import os


def get_jobs(last=0):
    yield 'one'
    while not os.path.exists('migrate.state'):
        pass
    yield 'two'


def get_key(job):
    return 17
''')
    run = work.finish('run', 'migrate', '1')
    assert run.code() == 70
    assert 'the key 17' in run.err
    assert 'unique' in run.err
    assert not work.state()['complete']


def test_an_endless_source_and_a_small_queue(work):
    """get_jobs is never more than the queue and the leases ahead."""
    work.write('migrate.py', '''
import itertools
import os
from recorder import block, record

fd = os.open('yielded', os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def get_jobs(last=0):
    for job in itertools.count(last + 1):
        os.write(fd, b'.')
        yield job


def handle_job(job):
    if job == 100:
        block('here')
    record(job)
''')
    run = work.start('run', 'migrate', '1', '--size=50')
    eventually(lambda: work.has('here'))
    yielded = (work.path / 'yielded').stat().st_size
    assert 100 <= yielded <= 100 + 50 + 51 * 50
    run.stop()
    work.touch('go')
    assert run.code() < 0
    state = work.state()
    work.check(range(1, state['key'] + 1))


def test_their_traceback_through_an_iterator_of_ours(work):
    """Without our frames, which are between theirs and their driver's."""
    work.write('migrate.py', NUMBERS + '''
import sqlite3
from contextlib import closing

from taskmaster.iterators import keyset


def get_jobs(last=0):
    with closing(sqlite3.connect('app.db')) as db:
        yield from keyset(db, 'SELECT id FROM nowhere', key='id', last=last)
''')
    run = work.finish('run', 'migrate', '1')
    assert run.code() == 70
    assert 'in get_jobs' in run.err
    assert 'sqlite3.OperationalError: no such table: nowhere' in run.err
