"""Calling the operator's functions: for a job, for lists, `async`."""

import asyncio
import collections
import concurrent.futures
import dataclasses
import io
import itertools
import multiprocessing.pool
import os
import sqlite3
import unittest.mock
from types import SimpleNamespace

import pytest
from fakes import chunk_of

from taskmaster.errors import ConfigError, OperatorError, UsageError
from taskmaster.timing import STANDARD
from taskmaster.usercode import handler as handlers
from taskmaster.usercode.handler import Handler
from taskmaster.usercode.loop import Loop


class Says:
    """What a slave offers a handler, written down."""

    def __init__(self):
        self.failed, self.causes, self.pauses = [], [], []
        self.interrupt = []

    def fail(self, error, attempts, cause):
        self.failed.append((str(error), attempts))
        self.causes.append(cause)

    def ways(self, chunk, **others):
        return SimpleNamespace(**{
            'fail': self.fail, 'pause': self.pauses.append, 'ending': (),
            'interrupt': self.interrupt, 'position': chunk.finished,
            'watch': lambda function: function, **others})


@pytest.fixture
def says():
    return Says()


def run(says, handle, jobs, ways={}, **options):
    """Handle these jobs; returns the chunk."""
    chunk = chunk_of(jobs)
    handler = Handler(handle, **options)
    with handler.set_up() as tools:
        handler.work(tools, chunk, says.ways(chunk, **ways))
    return chunk


def test_each_job_in_order(says):
    seen = []
    run(says, seen.append, [1, 2, 3])
    assert seen == [1, 2, 3] and says.failed == []


@pytest.mark.parametrize('error', [
    ValueError('bad'), SystemExit('bad'), KeyboardInterrupt('bad'),
    GeneratorExit('bad'), StopIteration('bad'), RecursionError('bad')],
    ids=lambda error: type(error).__name__)
def test_whatever_it_raises_fails_that_job_alone(says, error):
    seen = []

    def handle(job):
        if job == 2:
            raise error
        seen.append(job)

    run(says, handle, [1, 2, 3])
    assert seen == [1, 3] and says.failed == [('bad', 1)]


def test_it_is_told_before_the_next_job_is_begun(says):
    chunk = chunk_of([1, 2, 3])
    left = []

    def fail(error, attempts, cause):
        left.append(chunk.iterator.__length_hint__())

    handler = Handler(lambda job: 1 / 0)
    with handler.set_up() as tools:
        handler.work(tools, chunk, says.ways(chunk, fail=fail))
    assert left == [2, 1, 0]


def test_an_interrupt_ends_it_after_the_job(says):
    seen = []

    def handle(job):
        seen.append(job)
        if job == 2:
            says.interrupt.append(True)

    chunk = run(says, handle, [1, 2, 3])
    assert seen == [1, 2] and list(chunk.iterator) == [3]


def test_an_interrupt_counts_after_a_failure_too(says):
    def handle(job):
        says.interrupt.append(True)
        raise ValueError

    chunk = run(says, handle, [1, 2])
    assert list(chunk.iterator) == [2]


def test_further_attempts(says):
    tries = []

    def handle(job):
        tries.append(job)
        if len(tries) < 3:
            raise ValueError('not yet')

    run(says, handle, ['job'], retries=5)
    assert tries == ['job'] * 3 and says.failed == []
    assert len(says.pauses) == 2


def test_the_last_attempt_is_what_is_told_and_the_first_its_cause(says):
    tries = []

    def handle(job):
        tries.append(job)
        raise ValueError(f'attempt {len(tries)}')

    run(says, handle, ['job'], retries=2)
    assert says.failed == [('attempt 3', 3)]
    assert says.causes == ['ValueError: attempt 1']


def test_a_job_that_fails_in_one_way_needs_no_cause(says):
    run(says, lambda job: 1 / 0, [1], retries=2)
    assert says.causes == ['']


def test_pauses_grow_and_are_bounded(says):
    run(says, lambda job: 1 / 0, ['job'], retries=40)
    first, last = STANDARD.first_retry, STANDARD.longest_retry
    assert len(says.pauses) == 40
    assert all(0 <= pause <= last for pause in says.pauses)
    assert says.pauses[0] <= first and max(says.pauses) > 10 * first


async def later(job):
    pass


def a_future(job):
    return concurrent.futures.Future()


def of_a_loop(job):
    loop = asyncio.new_event_loop()
    try:
        return loop.create_future()
    finally:
        loop.close()


class Query:
    """Lazy, as of an ORM: it is sent when it is awaited."""

    def __await__(self):
        yield


PROMISES = [
    lambda job: (n for n in ()), later, a_future, of_a_loop,
    lambda job: map(print, [job]), lambda job: filter(print, [job]),
    lambda job: itertools.starmap(print, [job]), lambda job: Query(),
    lambda job: multiprocessing.pool.AsyncResult(FAKE_POOL, None, None)]
IDS = ['generator', 'coroutine', 'future', "a loop's future", 'map', 'filter',
       'starmap', 'awaitable', 'result of a pool']


class FAKE_POOL:
    """What an AsyncResult looks for in its pool."""

    _cache = {}


@pytest.mark.parametrize('handle', PROMISES, ids=IDS)
def test_a_promise_is_no_success(says, handle):
    """What it gave has not begun to handle the job."""
    run(says, lambda job: handle(job), [1, 2])
    assert len(says.failed) == 2
    assert 'has done nothing yet' in says.failed[0][0]


DATABASE = sqlite3.connect(':memory:')


@pytest.mark.parametrize('given', [
    0, False, 'text', [1], {}, DATABASE.cursor(), print,
    unittest.mock.MagicMock(), iter([1]), range(3)],
    ids=lambda given: type(given).__name__)
def test_what_it_gives_otherwise_means_nothing(says, given):
    run(says, lambda job: given, [1, 2])
    assert says.failed == []


# -- lists ----------------------------------------------------------------

def by_lists(says, handle, jobs, batch=0, retries=0):
    """Run them; returns the chunk, and the numbers of jobs that failed."""
    chunk = chunk_of(jobs)
    failed = []

    def fail(error, attempts, cause):
        failed.append(chunk.current())
        says.fail(error, attempts, cause)

    handler = Handler(handle, retries, lists=True, batch=batch)
    with handler.set_up() as tools:
        handler.work(tools, chunk, says.ways(chunk, fail=fail))
    return chunk, failed


@pytest.mark.parametrize('batch, lists', [
    (0, [[1, 2, 3, 4, 5]]), (2, [[1, 2], [3, 4], [5]]),
    (9, [[1, 2, 3, 4, 5]])])
def test_jobs_come_in_lists(says, batch, lists):
    seen = []
    chunk, failed = by_lists(says, seen.append, [1, 2, 3, 4, 5], batch)
    assert seen == lists and failed == [] and chunk.done == 5


@pytest.mark.parametrize('batch', [0, 7])
@pytest.mark.parametrize('bad', [
    set(), {1}, {20}, {5, 6}, {1, 9, 20}, set(range(1, 21))],
    ids=lambda bad: f'{len(bad)} bad')
def test_a_list_that_fails_is_halved(says, batch, bad):
    """All others are handled, those at fault are alone at last."""
    handled, alone = [], []

    def handle(jobs):
        if bad.intersection(jobs):
            if len(jobs) == 1:
                alone.extend(jobs)
            raise ValueError('bad')
        handled.extend(jobs)

    chunk, failed = by_lists(says, handle, [*range(1, 21)], batch)
    assert handled == [n for n in range(1, 21) if n not in bad]
    assert failed == alone == sorted(bad)
    assert chunk.done == 20


def test_only_what_is_finished_counts_while_a_list_is_halved(says):
    chunk = chunk_of([*range(1, 9)])
    sure = []

    def handle(jobs):
        sure.append((jobs[0], chunk.finished()))
        if 6 in jobs:
            raise ValueError

    handler = Handler(handle, lists=True)
    with handler.set_up() as tools:
        handler.work(tools, chunk, says.ways(chunk))
    assert [first - 1 for first, _ in sure] == [n for _, n in sure]
    assert chunk.finished() == 8


def test_an_interrupt_ends_it_between_two_lists(says):
    def handle(jobs):
        if 3 in jobs:
            says.interrupt.append(True)

    chunk, _ = by_lists(says, handle, [1, 2, 3, 4, 5, 6], batch=2)
    assert chunk.done == 4


def test_further_attempts_are_for_a_job_that_is_alone(says):
    tries = []

    def handle(jobs):
        tries.append(jobs)
        if 2 in jobs:
            raise ValueError(len(tries))

    by_lists(says, handle, [1, 2], retries=2)
    assert tries == [[1, 2], [1], [2], [2], [2]]
    assert says.failed == [('5', 3)] and len(says.pauses) == 2


@pytest.mark.parametrize('retries', [0, 1])
def test_a_handler_that_empties_its_list_loses_nothing(says, retries):
    """Each call gets a list of its own."""
    handled = []

    def handle(jobs):
        while jobs:
            job = jobs.pop(0)
            if job % 10 == 7:
                raise ValueError('bad')
            handled.append(job)

    chunk, failed = by_lists(says, handle, [*range(1, 41)], 10, retries)
    assert failed == [7, 17, 27, 37]
    assert set(handled) == set(range(1, 41)) - set(failed)


@pytest.mark.parametrize('lists', [False, True])
def test_what_ends_everything_is_no_failure(says, lists):
    """Not halved either, nor tried again."""
    calls = []

    def handle(job):
        calls.append(job)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(says, handle, [1, 2, 3], {'ending': (KeyboardInterrupt,)},
            retries=3, lists=lists)
    assert len(calls) == 1 and says.failed == []


# -- async ----------------------------------------------------------------

def test_a_coroutine_that_only_promises(says):
    async def handle(job):
        return later(job)

    run_async(says, handle, [1])
    assert 'has done nothing yet' in says.failed[0][0]


def run_async(says, handle, jobs, **options):
    chunk = chunk_of(jobs)
    handler = Handler(handle, **options)

    async def pause(seconds):
        says.pauses.append(seconds)

    async def work():
        async with handler.set_up_async() as tools:
            await handler.work_async(tools, chunk,
                                     says.ways(chunk, pause=pause))
    assert handler.is_async
    Loop().run(work())
    return chunk


@pytest.mark.parametrize('error', [
    ValueError('bad'), SystemExit('bad'), asyncio.CancelledError('bad')],
    ids=lambda error: type(error).__name__)
def test_a_coroutine_for_each_job(says, error):
    seen = []

    async def handle(job):
        await asyncio.sleep(0)
        if job == 2:
            raise error
        seen.append(job)

    run_async(says, handle, [1, 2, 3])
    assert seen == [1, 3] and says.failed == [('bad', 1)]


def test_further_attempts_of_a_coroutine(says):
    tries = []

    async def handle(job):
        tries.append(job)
        if len(tries) < 3:
            raise ValueError('not yet')

    run_async(says, handle, [None], retries=5)
    assert len(tries) == 3 and says.failed == [] and len(says.pauses) == 2


def test_a_coroutine_for_lists(says):
    seen = []

    async def handle(jobs):
        if 2 in jobs:
            raise ValueError('bad')
        seen.extend(jobs)

    chunk = run_async(says, handle, [1, 2, 3], lists=True)
    assert seen == [1, 3] and says.failed == [('bad', 1)] and chunk.done == 3


# -- jobs are values ------------------------------------------------------

@dataclasses.dataclass
class Row:
    id: int
    amount: int = 1


class Slots:
    __slots__ = 'id', 'amount'

    def __init__(self, id, amount=1):
        self.id, self.amount = id, amount

    def __eq__(self, other):
        return (self.id, self.amount) == (other.id, other.amount)

    def __reduce__(self):
        return Slots, (self.id, self.amount)


def removed(row):
    del row.amount


# What is yielded under a number, and what a handler does to it.
CHANGES = {
    'dict': (lambda n: {'id': n, 'amount': 1},
             lambda job: job.update(amount=100)),
    'list': (lambda n: [n], lambda job: job.append('more')),
    'dataclass': (Row, lambda job: setattr(job, 'amount', 100)),
    'popped': (lambda n: [n, 1, 2], lambda job: job.pop()),
    'deleted': (lambda n: {'id': n}, dict.clear),
    'attribute deleted': (Row, removed),
    'nested': (lambda n: {'a': [{'id': n}]},
               lambda job: job['a'][0].update(id=0)),
    'slots': (Slots, lambda job: setattr(job, 'amount', 100)),
    'bytearray': (lambda n: bytearray([n]), bytearray.clear)}


@pytest.mark.parametrize('kind', CHANGES)
@pytest.mark.parametrize('how', ['jobs', 'lists', 'async', 'async lists'])
def test_each_attempt_gets_the_job_as_it_was_yielded(says, kind, how):
    make, change = CHANGES[kind]
    jobs = [make(number) for number in range(1, 8)]
    seen, good = [], []

    def attempt(some):
        """The third job fails twice; whatever comes with it fails too."""
        for job in some:
            assert job in jobs, 'changed by an earlier attempt'
            seen.append(jobs.index(job))
        for job in some:
            change(job)
        if 2 in seen[-len(some):] and seen.count(2) < 6:
            raise ValueError
        good.extend(seen[-len(some):])

    lists = 'lists' in how

    def handle(job):
        attempt(job if lists else [job])

    async def handle_async(job):
        handle(job)

    if 'async' in how:
        run_async(says, handle_async, jobs, retries=9, lists=lists)
    else:
        run(says, handle, jobs, retries=9, lists=lists)
    assert says.failed == [] and sorted(good) == [*range(7)]


def test_a_list_that_is_interrupted_while_it_is_halved_stays_as_it_was(says):
    """What is brought back is taken again, with its jobs as they were."""
    jobs = [[n] for n in range(8)]

    def handle(some):
        assert all(job in jobs for job in some), 'changed'
        first = some[0][0]
        for job in some:
            job.clear()
        if len(some) > 2:
            raise ValueError('too many')
        if first == 2:
            says.interrupt.append(True)

    chunk = run(says, handle, jobs, lists=True)
    assert chunk.done == 4
    rest, = chunk.rest(chunk.done)
    says.interrupt.clear()
    handler = Handler(handle, lists=True)
    with handler.set_up() as tools:
        handler.work(tools, rest, says.ways(rest))
    assert rest.done == 4 and says.failed == []


def test_a_job_that_cannot_be_pickled_here_is_had_again_all_the_same(says):
    """What unpickles to it can be: it is in the lease."""
    seen = []

    def handle(job):
        seen.append(job.read())
        if len(seen) < 3:
            raise ValueError

    run(says, handle, [Opened('a text')], retries=5)
    assert seen == ['a text'] * 3


class Opened:
    """Unpickles as a file, which cannot be pickled."""

    def __init__(self, text):
        self.text = text

    def __reduce__(self):
        return opened, (self.text,)


class Unpicklable(io.StringIO):
    def __reduce_ex__(self, protocol):
        raise TypeError('a file cannot be pickled')


def opened(text):
    return Unpicklable(text)


class Once:
    """Unpickles once."""

    left = 0

    def __reduce__(self):
        return once, ()


def once():
    Once.left -= 1
    if Once.left < 0:
        raise LookupError('only once')
    return Once()


def test_a_job_that_does_not_unpickle_again_has_failed_with_that(says):
    Once.left = 1
    run(says, lambda job: 1 / 0, [Once()], retries=1)
    assert says.failed == [('only once', 2)]
    assert says.causes == ['ZeroDivisionError: division by zero']


def test_nothing_is_unpickled_again_where_nothing_fails(says):
    Once.left = 1
    run(says, lambda job: None, [Once()], retries=1)
    assert says.failed == []


class Counted:
    """Counts what is done to all of its kind."""

    counts = collections.Counter()

    def __init__(self, number):
        self.number = number

    def __reduce__(self):
        self.counts['pickled'] += 1
        return counted, (self.number,)


def counted(number):
    Counted.counts['unpickled'] += 1
    return Counted(number)


def test_a_lease_is_pickled_once_however_many_fail(says):
    """So the cost of failures is linear in its length."""
    tries = collections.Counter()

    def handle(job):
        tries[job.number] += 1
        if job.number % 10 == 0 and tries[job.number] == 1:
            raise ValueError

    chunk = chunk_of([Counted(n) for n in range(1000)])
    Counted.counts.clear()
    handler = Handler(handle, retries=1)
    with handler.set_up() as tools:
        handler.work(tools, chunk, says.ways(chunk))
    # Once more as a whole, then one by one; and each that failed.
    assert Counted.counts == {'pickled': 1000, 'unpickled': 1100}
    assert says.failed == []


# -- the cause ------------------------------------------------------------

def test_the_error_of_a_list_is_kept_where_its_jobs_fail_otherwise(says):
    """As in a transaction that is aborted: the first error says why."""
    broken = []

    def handle(jobs):
        if broken:
            raise RuntimeError('the transaction is aborted')
        if 3 in jobs:
            broken.append(True)
            raise ValueError('no such column')

    chunk, failed = by_lists(says, handle, [1, 2, 3, 4], batch=2)
    assert failed == [3, 4]
    assert says.causes == ['ValueError: no such column'] * 2


def test_the_cause_is_of_the_list_that_the_job_was_in(says):
    def handle(jobs):
        if len(jobs) > 1:
            raise ValueError(f'list of {jobs[0]}')
        if jobs[0] in (2, 4):
            raise RuntimeError(jobs[0])

    by_lists(says, handle, [1, 2, 3, 4], batch=2)
    assert says.causes == ['ValueError: list of 1', 'ValueError: list of 3']


# -- set-up ---------------------------------------------------------------

def worked(handler, jobs=(1, 2)):
    with handler.set_up() as tools:
        for job in jobs:
            tools.call(job)


def test_what_setup_gives_is_the_second_argument():
    seen = []

    def handle(job, tool):
        seen.append((job, tool))

    worked(Handler(handle, setup=lambda: 'tool'))
    assert seen == [(1, 'tool'), (2, 'tool')]


def test_a_setup_that_yields_goes_on_at_the_end():
    seen = []

    def setup():
        seen.append('begin')
        yield 'tool'
        seen.append('end')

    worked(Handler(lambda job, tool: seen.append(tool), setup=setup))
    assert seen == ['begin', 'tool', 'tool', 'end']


def test_a_handler_of_one_argument_is_set_up_too():
    seen = []
    worked(Handler(seen.append, setup=lambda: seen.append('setup')))
    assert seen == ['setup', 1, 2]


def test_a_second_argument_with_a_default_is_left_alone():
    seen = []

    def handle(job, tool='default'):
        seen.append(tool)

    worked(Handler(handle, setup=lambda: 'tool'))
    assert seen == ['default'] * 2


def no_yield():
    if False:
        yield


def two_yields():
    yield 1
    yield 2


def bad():
    raise ValueError('no database')


def bad_end():
    yield
    raise ValueError('no database')


@pytest.mark.parametrize('setup, says', [
    (bad, 'setup raised ValueError: no database'),
    (bad_end, 'setup raised ValueError: no database'),
    (no_yield, 'StopIteration'),
    (two_yields, 'it yields more than once')])
def test_a_setup_that_fails(setup, says):
    with pytest.raises(OperatorError, match=says) as caught:
        worked(Handler(print, setup=setup), ())
    assert 'handlers.py' not in caught.value.traceback.replace(
        'test_handlers.py', '')


def test_a_setup_in_an_event_loop(says):
    seen = []

    async def function():
        return 'awaited'

    async def generator():
        loop = asyncio.get_running_loop()
        yield loop
        seen.append(asyncio.get_running_loop() is loop)

    async def handle(job, tool):
        seen.append(tool)

    run_async(says, handle, [1], setup=function)
    run_async(says, handle, [1], setup=lambda: 'plain')
    assert seen == ['awaited', 'plain']
    seen.clear()
    run_async(says, handle, [1], setup=generator)
    assert seen[1:] == [True] and isinstance(seen[0],
                                             asyncio.AbstractEventLoop)


def handle_two(job, tool):
    pass


def yields(job):
    yield


async def async_setup():
    pass


@pytest.mark.parametrize('handle, setup, says', [
    (handle_two, None, 'handle_two has two arguments'),
    (yields, None, 'yields yields'),
    (print, async_setup, 'setup is async and print is not')])
def test_what_does_not_fit_together(handle, setup, says):
    with pytest.raises(ConfigError, match=says):
        Handler(handle, setup=setup)


# -- targets --------------------------------------------------------------

BOTH = '''
def handle_job(job):
    pass

def handle_jobs(jobs):
    pass

def other(jobs):
    pass
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """``module(text)`` writes a module; gives its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text):
        name = f'handlers_mod_{os.urandom(4).hex()}'
        (tmp_path / f'{name}.py').write_text(text)
        return name
    return write


@pytest.mark.parametrize('function, batch, lists', [
    ('', None, True), ('', 5, True), (':handle_job', None, False),
    (':handle_jobs', None, True), (':other', None, False),
    (':other', 5, True)])
def test_which_function_takes_lists(module, function, batch, lists):
    name = module(BOTH)
    target, handler = handlers.from_target(name + function, 0, batch)
    assert target.name == name
    assert handler.lists == lists and handler.batch == (batch or 0)


def test_one_job_at_a_time_without_handle_jobs(module):
    target, handler = handlers.from_target(
        module('def handle_job(job):\n    pass\n'))
    assert target.function == 'handle_job' and not handler.lists


def test_a_batch_for_a_function_of_one_job(module):
    name = module('def handle_job(job):\n    pass\n')
    for text in name, f'{name}:handle_job':
        with pytest.raises(UsageError, match='--batch is for lists'):
            handlers.from_target(text, 0, 5)


@pytest.mark.parametrize('text, says', [
    ('', 'no function handle_job'), ('handle_jobs = 5', 'handle_jobs'),
    ('setup = 5\ndef handle_job(job): pass', 'setup in .* no function')])
def test_what_is_no_function(module, text, says):
    with pytest.raises(ConfigError, match=says):
        handlers.from_target(module(text))


@pytest.mark.parametrize('function, setup, said', [
    (lambda: None, None, 'cannot be called with 1 argument,'),
    (lambda a, b, c: None, None, 'cannot be called with 2 arguments,'),
    (lambda a, b, c: None, lambda: 1, 'cannot be called with 2 arguments,'),
    (lambda job, *, db: None, None, 'cannot be called with 1 argument,')])
def test_what_cannot_be_called_is_refused_before_a_job(function, setup, said):
    with pytest.raises(ConfigError) as caught:
        Handler(function, setup=setup)
    assert said in str(caught.value)
