"""Each job two times in a row: what is not idempotent fails, and says so."""

import asyncio
import collections
import contextlib
import sqlite3
from types import SimpleNamespace

import pytest
from fakes import chunk_of

from taskmaster.text import summary, traceback_of
from taskmaster.timing import STANDARD
from taskmaster.usercode.handler import Handler
from taskmaster.usercode.loop import Loop


class Run:
    """What came of these jobs: ``failed`` has error and attempts by job."""

    def __init__(self, handle, jobs, interrupt=(), chunk=None, **options):
        self.failed, self.errors, self.causes, self.pauses = {}, [], {}, []
        self.chunk = chunk = chunk or chunk_of(jobs)

        def fail(error, attempts, cause):
            job = chunk.jobs[chunk.finished()]
            self.failed[job] = summary(error), attempts
            self.causes[job] = cause
            self.errors.append(error)

        async def nap(seconds):
            self.pauses.append(seconds)

        handler = Handler(handle, twice=True, **options)
        ways = SimpleNamespace(
            fail=fail, pause=nap if handler.is_async else self.pauses.append,
            ending=(), interrupt=[], position=chunk.finished,
            watch=lambda function: function)
        self.ways = ways
        if handler.is_async:
            Loop(()).run(self._work_async(handler, chunk, ways))
        else:
            with handler.set_up() as tools:
                handler.work(tools, chunk, ways)

    async def _work_async(self, handler, chunk, ways):
        async with handler.set_up_async() as tools:
            await handler.work_async(tools, chunk, ways)


@pytest.fixture
def insert():
    """``insert(conflict)`` gives a handler that inserts its jobs."""
    with contextlib.ExitStack() as stack:
        yield lambda conflict='': into(stack.enter_context(contextlib.closing(
            sqlite3.connect(':memory:', isolation_level=None))), conflict)


def into(db, conflict):
    db.execute('CREATE TABLE t (id INTEGER PRIMARY KEY)')

    def handle(jobs):
        jobs = jobs if isinstance(jobs, list) else [jobs]
        with db:
            db.execute('BEGIN')
            db.executemany(f'INSERT INTO t VALUES (?) {conflict}',
                           [(job,) for job in jobs])
    handle.count = lambda: db.execute('SELECT count(*) FROM t').fetchone()[0]
    return handle


NOT = ('not idempotent: IntegrityError: UNIQUE constraint failed: t.id', 1)


@pytest.mark.parametrize('options', [
    {}, {'lists': True}, {'lists': True, 'batch': 3},
    {'lists': True, 'batch': 1}], ids=str)
def test_an_insert_without_on_conflict(options, insert):
    handle = insert()
    run = Run(handle, range(1, 11), **options)
    assert run.failed == {job: NOT for job in range(1, 11)}
    assert handle.count() == 10
    handle = insert('ON CONFLICT DO NOTHING')
    assert Run(handle, range(1, 11), **options).failed == {}
    assert handle.count() == 10


def test_the_traceback_is_theirs(insert):
    run = Run(insert(), [1])
    text = traceback_of(run.errors[0])
    assert 'in handle' in text and 'sqlite3.IntegrityError: UNIQUE' in text
    assert text.splitlines()[-1] == NOT[0]
    assert 'attempts.py' not in text


def test_one_after_the_other():
    seen = []
    Run(seen.append, [1, 2, 3])
    assert seen == [1, 1, 2, 2, 3, 3]
    seen.clear()
    Run(seen.append, [1, 2, 3], lists=True, batch=2)
    assert seen == [[1, 2], [1, 2], [3], [3]]


def test_the_second_gets_the_job_as_it_was_yielded():
    seen = []

    def handle(job):
        seen.append(dict(job))
        job.clear()
    Run(handle, [{'id': 1}, {'id': 2}])
    assert seen == [{'id': 1}, {'id': 1}, {'id': 2}, {'id': 2}]
    seen.clear()

    def handle_jobs(jobs):
        seen.append([dict(job) for job in jobs])
        jobs.pop().clear()
    Run(handle_jobs, [{'id': 1}, {'id': 2}], lists=True)
    assert seen == [[{'id': 1}, {'id': 2}]] * 2


@pytest.mark.parametrize('lists', [False, True])
def test_a_first_time_that_fails_has_no_second(lists):
    seen = []

    def handle(job):
        seen.append(job)
        if job in (2, [2]) or lists and 2 in job:
            raise ValueError('bad')
    run = Run(handle, [1, 2, 3], lists=lists)
    assert run.failed == {2: ('ValueError: bad', 1)}
    assert seen.count([2] if lists else 2) == 1


def test_only_those_at_fault_remain_of_a_list():
    """The others of it are handled twice again, in halves."""
    seen = collections.Counter()

    def handle(jobs):
        seen.update(jobs)
        if any(seen[job] > 1 and job % 10 == 7 for job in jobs):
            raise ValueError('bad')
    run = Run(handle, range(20), lists=True)
    error = 'not idempotent: ValueError: bad', 1
    assert run.failed == {7: error, 17: error}
    assert all(times >= 2 for times in seen.values())


@pytest.mark.parametrize('lists', [False, True])
def test_retries_are_for_each_of_the_two(lists):
    calls = []

    def handle(job):
        calls.append(job)
        if len(calls) in (1, 2, 4, 5):
            raise ValueError('not yet')
    run = Run(handle, [1], retries=2, lists=lists)
    assert run.failed == {} and len(calls) == 6 and len(run.pauses) == 4
    calls.clear()
    run = Run(lambda job: calls.append(job) or len(calls) > 1 and 1 / 0,
              [1], retries=2, lists=lists)
    assert run.failed == {1: (
        'not idempotent: ZeroDivisionError: division by zero', 3)}
    assert len(calls) == 4


def test_the_cause_is_what_it_raised_first():
    errors = iter([None, ValueError('one'), KeyError('two')])

    def handle(job):
        error = next(errors)
        if error is not None:
            raise error
    run = Run(handle, [1], retries=1)
    assert run.failed == {1: ("not idempotent: KeyError: 'two'", 2)}
    assert run.causes == {1: 'ValueError: one'}


def test_what_is_left_of_a_list_knows_that_it_was_handled(insert):
    handle = insert()
    chunk = chunk_of(range(1, 9))
    run = None

    def interrupted(jobs):
        if len(jobs) == 4:
            chunk.interrupt.append(True)
        handle(jobs)
    chunk.interrupt = []
    handler = Handler(interrupted, lists=True, twice=True)
    ways = SimpleNamespace(
        fail=None, pause=None, ending=(), interrupt=chunk.interrupt,
        position=chunk.finished, watch=lambda function: function)
    with handler.set_up() as tools:
        handler.work(tools, chunk, ways)
    [rest] = chunk.rest(chunk.begun())
    run = Run(handle, None, chunk=rest, lists=True)
    assert run.failed == {job: NOT for job in range(1, 9)}


def test_coroutines():
    seen = []

    async def handle(job):
        await asyncio.sleep(0)
        seen.append(job)
        if seen.count(2) == 2:
            seen.remove(2)
            raise ValueError('bad')
    run = Run(handle, [1, 2, 3])
    assert run.failed == {2: ('not idempotent: ValueError: bad', 1)}
    assert seen == [1, 1, 2, 3, 3]


def test_no_more_than_that_where_it_is_not_wanted():
    seen = []
    handler = Handler(seen.append, timing=STANDARD)
    chunk = chunk_of([1, 2])
    with handler.set_up() as tools:
        handler.work(tools, chunk, SimpleNamespace(
            interrupt=[], ending=(), watch=lambda function: function))
    assert seen == [1, 2]
