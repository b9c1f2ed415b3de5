"""What the operator's module may have: throttle, count_jobs."""

import json

import pytest
from programs import NUMBERS, eventually

pytestmark = pytest.mark.hunt

THROTTLED = NUMBERS + '''

def throttle():
    record('asked')
    if os.path.exists('lag'):
        with open('lag') as file:
            return eval(file.read())


import os
'''


@pytest.mark.parametrize('answer, state', [
    ("'replicas are 9 s behind'", 'throttled: replicas are 9 s behind'),
    ('True', 'throttled'), ('1 / 0', 'throttle raised ZeroDivisionError'),
    ("'two\\nlines'", 'throttled: two lines')])
def test_jobs_are_held_back_while_there_is_a_reason(work, answer, state):
    work.write('migrate.py', THROTTLED)
    work.write('lag', answer)
    run = work.start('run', 'migrate', '2')
    run.says(rf'Slaves: 2 .*\| {state}')
    assert set(work.lines('done')) == {'asked'}
    (work.path / 'lag').unlink()
    assert run.code() == 0
    handled = work.handled()
    del handled['asked']
    assert handled == {str(n): 1 for n in range(1, 1001)}


def test_it_is_asked_about_once_a_second_and_not_when_all_is_done(work):
    work.write('migrate.py', THROTTLED)
    run = work.finish('run', 'migrate', '1')
    assert run.code() == 0
    assert 1 <= work.handled()['asked'] <= 20


def status(work, master):
    program = work.finish('ctl', 'status', '--json', master.host)
    assert program.code() == 0, program.err
    return json.loads(program.out)


COUNTED = '''
def count_jobs(count):
    block('counting', 'counted')
    return count
'''


def test_the_total_is_shown_when_it_is_known(work):
    work.write('migrate.py', NUMBERS + COUNTED + '''

def handle_job(job):
    if job == 501:
        block('blocked')
    record(job)
''')
    run = work.start('run', 'migrate', '1', 'count=2000')
    eventually(lambda: work.has('blocked') and work.has('counting'))
    assert status(work, run)['total'] is None
    work.touch('counted')
    found = eventually(lambda: (now := status(work, run))['total'] and now)
    assert found['total'] == 2000
    run.says(r'Current Job: 500 .* \| 25% \| ETA: ')
    work.touch('go')
    assert run.code() == 0
    run.says(r'Current Job: 2000 .* \| 100% \| ETA: 0:00:00')


def test_a_total_that_is_too_small_is_no_error(work):
    work.write('migrate.py', NUMBERS)
    run = work.finish('run', 'migrate', '1', '--total=500')
    assert run.code() == 0
    run.says(r'Current Job: 1000 [^%]* \| Failed: 0$')     # nothing beyond


def test_a_count_that_fails_costs_the_eta_alone(work):
    work.write('migrate.py', NUMBERS + '''

def count_jobs():
    raise RuntimeError('no such table')
''')
    run = work.finish('run', 'migrate', '1')
    assert run.code() == 0
    assert ('warning: count_jobs raised RuntimeError: no such table; there '
            'will be no ETA') in run.err
    work.check(range(1, 1001))


def test_what_is_no_function(work):
    work.write('migrate.py', NUMBERS + '\nthrottle = 5\n')
    master = work.finish('master', 'migrate')
    assert master.code() == 78 and 'throttle' in master.err


# -- a part of the jobs ---------------------------------------------------

@pytest.mark.parametrize('job', ['number', '{"id": number}'],
                         ids=['number', 'dict'])
def test_a_limit_then_the_rest(work, job):
    work.write('migrate.py', f'''
        from recorder import record

        def get_jobs(last=0):
            for number in range(last, 21):      # from `last`, that is
                if number:
                    yield {job}

        def get_key(job):
            return job if isinstance(job, int) else job['id']

        def handle_job(job):
            record(get_key(job))
        ''')
    for first, last in (1, 1), (2, 8), (9, 15):
        run = work.finish('run', 'migrate', '2', f'--limit={last - first + 1}')
        assert run.code() == 0
        run.says(r'^ended by --limit; start again to go on \(exit code 0\)$')
        work.check(range(1, last + 1))
        assert work.state()['key'] == last and not work.state()['complete']
    run = work.finish('run', 'migrate', '2', '--limit=100')
    assert run.code() == 0 and '--limit' not in run.err
    assert work.state()['complete']
    work.check(range(1, 21))


# -- a rehearsal ----------------------------------------------------------

def rehearsed(work, *words):
    """What it prints; it leaves nothing behind."""
    before = set(work.path.iterdir())
    run = work.finish(*words, '--dry-run', host=None)
    assert run.code() == 0, run.err
    assert run.err == '' and not work.lines('done')
    left = {path.name for path in set(work.path.iterdir()) - before}
    assert left <= {run._err.name, run._out.name, 'done', '__pycache__'}
    return run.out.splitlines()


def test_a_dry_run_says_what_would_be_done(work):
    work.write('migrate.py', NUMBERS)
    run, source, state, *jobs = rehearsed(work, 'run', 'migrate', '2')
    jobs, said = jobs[:10], jobs[10:]
    assert run == 'run:    migrate' and source.endswith('/migrate.py')
    assert state.endswith('migrate.state; would start at the beginning')
    assert jobs == [f'job:    key {n}, 5 bytes, {n}' for n in range(1, 11)]
    assert [line for line in said if not line.startswith('speed')] == [
        'keys:   ok, the first 1000 are unique and come back as they are '
        'saved, in 4 bytes at most',
        'jobs:   ok, the first 1000 come back from a pickle as they are, of '
        '12 bytes in the mean and 15 at most',
        'memory: a full queue would be 10000 jobs, about 0.1 MB of them '
        'pickled',
        'last:   ok, get_jobs(last=5) begins with 6',
        'handler: ok, handle_job takes 1 argument',
        'setup:  none', 'throttle: none',
        'time:   get_jobs alone would take 0:00:00 for 1000 jobs']
    assert said[-2].startswith('speed:  1000 jobs from get_jobs in ')


def test_a_dry_run_of_a_run_that_would_go_on(work):
    work.write('migrate.py', NUMBERS)
    assert work.finish('run', 'migrate', '2', '--limit=500').code() == 0
    kept = (work.path / 'migrate.state').read_bytes()
    (work.path / 'done').unlink()
    _, _, state, job, *_ = rehearsed(work, 'master', 'migrate')
    assert state.endswith('would go on after key 500')
    assert job == 'job:    key 1, 5 bytes, 1'
    _, _, state, *_ = rehearsed(work, 'master', 'migrate', '--reset')
    assert state.endswith('would start at the beginning')
    assert (work.path / 'migrate.state').read_bytes() == kept


def test_a_dry_run_shows_what_cannot_be_pickled(work):
    work.write('migrate.py', '''
        def get_jobs():
            yield 1
            yield lambda: None

        def get_key(job):
            return str(job)[:5]
        ''')
    run = work.finish('master', 'migrate', '--dry-run', host=None)
    assert run.code() == 70
    assert "job:    key '1', 5 bytes, 1\n" in run.out
    assert "key '<func', CANNOT BE PICKLED (" in run.out
    assert 'jobs:   1 of the first 2 would fail: one CANNOT BE' in run.out
    assert 'speed:  2 jobs' in run.out


@pytest.mark.parametrize('text, code, says', [
    ('def get_jobs():\n    yield 1\n    raise ValueError("no table")\n', 70,
     'get_jobs raised ValueError: no table'),
    ('def get_jobs():\n    yield 1\n\ndef get_key(job):\n    return job.id\n',
     70, 'get_key raised AttributeError')])
def test_a_dry_run_finds_mistakes(work, text, code, says):
    work.write('migrate.py', text)
    run = work.finish('master', 'migrate', '--dry-run')
    assert run.code() == code
    assert says in run.err.splitlines()[-1]
    assert 'migrate.py' in run.err          # their traceback
