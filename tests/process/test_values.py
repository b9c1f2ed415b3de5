"""A job is what was yielded, and a key what was saved of it."""

import pytest
from programs import NUMBERS

pytestmark = pytest.mark.hunt

JOBS = range(1, 46)

# Jobs of eight kinds.  Every fifth fails once, and job 9 until it is mended;
# each call changes its jobs first, and looks whether an earlier one has.
CHANGING = '''
import dataclasses
import os
from recorder import first, record


@dataclasses.dataclass
class Row:
    id: int
    amount: int = 1


class Slots:
    __slots__ = 'id', 'amount'

    def __init__(self, id, amount=1):
        self.id, self.amount = id, amount

    def __reduce__(self):
        return Slots, (self.id, self.amount)


def removed(row):
    del row.amount


KINDS = [
    (lambda n: {'id': n, 'amount': 1}, lambda job: job.update(amount=100)),
    (lambda n: [n], lambda job: job.append('more')),
    (Row, lambda job: setattr(job, 'amount', 100)),
    (lambda n: [n, 1, 2], lambda job: job.pop()),
    (lambda n: {'id': n, 'only': True}, dict.clear),
    (Row, removed),
    (lambda n: {'id': n, 'deep': [{'amount': 1}]},
     lambda job: job['deep'][0].update(amount=100)),
    (Slots, lambda job: setattr(job, 'amount', 100))]
if os.path.exists('shop'):
    import shop_settings
    from shop.models import Post
    KINDS[0] = (lambda n: Post(pk=n, amount=1), Post.delete)


def kind(n):
    return KINDS[n % len(KINDS)]


def get_jobs(last=0):
    for n in range(last + 1, 46):
        yield kind(n)[0](n)


def get_key(job):
    return (job['id'] if isinstance(job, dict) else
            job[0] if isinstance(job, list) else job.id)


def seen(job):
    """All of it, or AttributeError or KeyError for what is gone."""
    return (repr(job) if isinstance(job, (dict, list)) else
            (job.id, job.amount))


def attempt(jobs):
    numbers = [get_key(job) for job in jobs]
    for n, job in zip(numbers, jobs):
        assert seen(job) == seen(kind(n)[0](n)), f'{n} is changed'
        kind(n)[1](job)
    for n in numbers:
        if n % 5 == 0 and first(f'try {n}'):
            raise ValueError('once')
        if n == 9 and not os.path.exists('mended'):
            raise ValueError('not mended')
    for n in numbers:
        record(n)
'''

HANDLERS = {
    'jobs': 'def handle_job(job):\n    attempt([job])\n',
    'lists': 'def handle_jobs(jobs):\n    attempt(jobs)\n',
    'async': 'async def handle_job(job):\n    attempt([job])\n',
    'async lists': 'async def handle_jobs(jobs):\n    attempt(jobs)\n'}


WAYS = [(how, ()) for how in HANDLERS] + [
    (how, ('--inline',)) for how in ('jobs', 'async lists')]


def started_stopped_retried(work, how, inline):
    """A run in two parts, and its one failed job once more."""
    work.environ['PYTHONWARNINGS'] = 'error,ignore::ResourceWarning'
    work.write('migrate.py', CHANGING + HANDLERS[how])
    host = None if inline else '127.0.0.1:0'
    run = work.finish('run', 'migrate', '1', '--retries=2', '--limit=20',
                      *inline, host=host)
    assert run.code() == 1
    assert work.state()['key'] == 20
    run = work.finish('run', 'migrate', '1', '--retries=2', *inline,
                      host=host)
    assert run.code() == 1
    work.check(set(JOBS) - {9})
    failure, = work.failures()
    assert (failure['number'], failure['key']) == (9, '9')
    assert failure['error'] == 'ValueError: not mended'
    work.touch('mended')
    again = work.finish('run', 'migrate', '1', '--retry-failed', *inline,
                        host=host)
    assert again.code() == 0
    work.check(JOBS)


@pytest.mark.parametrize('how, inline', WAYS)
def test_43_each_attempt_gets_the_job_as_it_was_yielded(work, how, inline):
    """Of eight kinds; the key, the state and the failures file too."""
    started_stopped_retried(work, how, inline)


@pytest.mark.parametrize('how, inline', [
    ('lists', ()), ('jobs', ('--inline',))])
def test_43_objects_of_django_are_values_too(work, how, inline):
    pytest.importorskip('django')
    work.write('shop_settings.py', '''
import django
from django.conf import settings

settings.configure(INSTALLED_APPS=['shop'], DATABASES={'default': {
    'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'shop.db'}},
    DEFAULT_AUTO_FIELD='django.db.models.AutoField')
django.setup()
from django.db import connection
with connection.cursor() as cursor:
    cursor.execute('CREATE TABLE IF NOT EXISTS shop_post'
                   ' (id integer primary key, amount integer)')
connection.close()
''')
    work.write('shop/__init__.py', '')
    work.write('shop/models.py', '''
from django.db import models


class Post(models.Model):
    amount = models.IntegerField()
''')
    # Django refuses its database to a coroutine; here it is of no harm.
    work.environ['DJANGO_ALLOW_ASYNC_UNSAFE'] = 'yes'
    started_stopped_retried(work, how, inline)


def test_43_a_key_is_asked_for_before_the_handler_is_called(work):
    """Inline, where a handler could change what keys are made of."""
    work.write('migrate.py', NUMBERS + '''
KEYS = {}


def get_key(job):
    return KEYS.get(job, job)


def handle_job(job):
    record(job)
    KEYS[job] = 'another'
''')
    for _ in range(2):
        run = work.finish('run', 'migrate', '1', '--inline', '--limit=300',
                          host=None)
        assert run.code() == 0
    assert work.state()['key'] == 600
    work.check(range(1, 601))


@pytest.mark.parametrize('inline', [(), ('--inline',)],
                         ids=['slave', 'inline'])
def test_15_a_job_that_cannot_be_pickled_fails_alone(work, inline):
    """One of each list, whatever its pickle raises."""
    work.write('migrate.py', '''
import asyncio
from recorder import record


class Job:
    def __init__(self, n):
        self.n = n

    def __reduce__(self):
        if self.n == 50:
            raise asyncio.CancelledError('no')
        return Job, (self.n,)


def get_jobs(last=0):
    return map(Job, range(last + 1, 201))


def get_key(job):
    return job.n


def handle_jobs(jobs):
    for job in jobs:
        record(job.n)
''')
    run = work.finish('run', 'migrate', '1', *inline,
                      host=None if inline else '127.0.0.1:0')
    assert run.code() == 1
    work.check(set(range(1, 201)) - {50})
    failure, = work.failures()
    assert failure['key'] == '50'
    assert failure['error'].startswith('cannot be pickled: CancelledError: no')


def test_45_hours_over_the_end_of_summer_time(work):
    """The second of two that have one name is no repetition of the first."""
    work.write('migrate.py', '''
from datetime import datetime, timedelta, timezone, tzinfo
from recorder import record

START = datetime(2024, 10, 26, 20, tzinfo=timezone.utc)
END = datetime(2024, 10, 27, 1, tzinfo=timezone.utc)


class Berlin(tzinfo):
    """Of that day."""

    def utcoffset(self, at):
        local = at.replace(tzinfo=timezone.utc)
        summer = local < END + timedelta(hours=2 - at.fold)
        return timedelta(hours=1 + summer)

    def dst(self, at):
        return self.utcoffset(at) - timedelta(hours=1)

    def fromutc(self, at):
        utc = at.replace(tzinfo=timezone.utc)
        local = at + timedelta(hours=1 + (utc < END))
        return local.replace(fold=END <= utc < END + timedelta(hours=1))

    def __reduce__(self):
        return Berlin, ()


def get_jobs(last=None):
    for hour in range(10):
        at = START + timedelta(hours=hour)
        if last is None or at > last.astimezone(timezone.utc):
            yield at.astimezone(Berlin())


def handle_job(at):
    record(at.isoformat())
''')
    for _ in range(2):
        assert work.finish('run', 'migrate', '1', '--limit=5').code() == 0
    assert len(work.handled()) == len(work.lines('done')) == 10


def test_the_cause_is_in_the_failures_file_and_in_the_log(work):
    """Of a list whose jobs then fail otherwise, as in a broken transaction."""
    work.write('migrate.py', '''
broken = []


def get_jobs(last=0):
    return iter(range(last + 1, 51))


def handle_jobs(jobs):
    if broken:
        raise RuntimeError('the transaction is aborted')
    if len(jobs) > 1:
        broken.append(True)
        raise ValueError('no such column')
''')
    run = work.finish('run', 'migrate', '1', '--batch=10')
    assert run.code() == 1
    causes = [failure['cause'] for failure in work.failures()]
    assert causes.count('ValueError: no such column') >= 2
    assert set(causes) <= {'', 'ValueError: no such column'}
    assert 'aborted (at first ValueError: no such column)' in run.err


@pytest.mark.parametrize('job, said', [
    ('(n, "a")', 'a whole tuple'), ('{"id": n}', 'a whole dict'),
    ('types.SimpleNamespace(id=n)', 'a whole SimpleNamespace'),
    ('n', None), ('str(n)', None), ('datetime.date(2024, 1, n)', None)])
def test_a_get_key_that_is_missing_is_noticed(work, job, said):
    work.write('migrate.py', f'''
import datetime
import types


def get_jobs(last=None):
    for n in range(1, 4):
        yield {job}


def handle_job(job):
    pass
''')
    run = work.finish('run', 'migrate', '1')
    assert run.code() == 0
    assert run.err.count('there is no get_key') == bool(said)
    assert said is None or said in run.err


# -- what a handler may do to its slave -----------------------------------

def test_50_what_a_task_raises_fails_that_job_alone(work):
    work.write('migrate.py', '''
import asyncio
import sys
from recorder import record

ERRORS = {7: KeyboardInterrupt, 27: asyncio.CancelledError,
          47: GeneratorExit}


def get_jobs(last=0):
    return iter(range(last + 1, 101))


async def part(job):
    await asyncio.sleep(0.01)
    if job in ERRORS:
        raise ERRORS[job]
    if job == 67:
        sys.exit(3)
    if job == 87:
        asyncio.current_task().cancel()
    await asyncio.sleep(0)


async def handle_job(job):
    await asyncio.create_task(part(job))
    record(job)
''')
    run = work.finish('run', 'migrate', '1', '--threads=8')
    assert run.code() == 1
    bad = {7, 27, 47, 67, 87}
    assert {int(failure['key']) for failure in work.failures()} == bad
    work.check(set(range(1, 101)) - bad)


@pytest.mark.parametrize('late', [False, True])
def test_50_a_job_that_cancels_its_task_takes_no_other_with_it(work, late):
    """Nor what the task waits for when no job is there."""
    work.write('migrate.py', f'''
import asyncio
from recorder import record


def get_jobs(last=0):
    return iter(range(last + 1, 101))


async def handle_job(job):
    if job % 10 == 7:
        task = asyncio.current_task()
        if {late}:
            asyncio.get_running_loop().call_later(0.001, task.cancel)
        else:
            task.cancel()
    record(job)
''')
    run = work.finish('run', 'migrate', '1')
    assert run.code() == 0
    work.check(range(1, 101))


@pytest.mark.parametrize('inline', [(), ('--inline',)],
                         ids=['slave', 'inline'])
@pytest.mark.parametrize('how', ['jobs', 'lists', 'async'])
def test_41_a_forked_child_that_leaves_its_handler_ends_there(
        work, how, inline):
    handler = {
        'jobs': 'def handle_job(job):\n    handle(job)\n',
        'lists': 'def handle_jobs(jobs):\n'
                 '    any(handle(job) for job in jobs)\n',
        'async': 'async def handle_job(job):\n    handle(job)\n'}[how]
    work.environ['PYTHONWARNINGS'] = 'ignore'
    work.write('migrate.py', '''
import os
import sys
from recorder import record


def get_jobs(last=0):
    return iter(range(last + 1, 301))


def leave(job):
    if job == 101:
        sys.exit(5)
    if job == 201:
        raise OSError
    return True


def handle(job):
    if job % 100 == 1:
        child = os.fork()
        if child == 0:
            return leave(job)
        _, status = os.waitpid(child, 0)
        with open('codes', 'a') as file:
            print(job, os.WEXITSTATUS(status), file=file)
    record(job)


''' + handler)
    run = work.finish('run', 'migrate', '1', *inline,
                      host=None if inline else '127.0.0.1:0')
    assert run.code() == 0
    work.check(range(1, 301))
    assert work.lines('codes') == ['1 0', '101 5', '201 1']
