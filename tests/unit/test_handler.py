"""Calling the operator's functions: for a job, for lists, `async`."""

import asyncio
import os

import pytest

from taskmaster.errors import ConfigError, OperatorError, UsageError
from taskmaster.slave.chunk import Chunk
from taskmaster.usercode import handler as handlers
from taskmaster.usercode.handler import Handler, Ways, run_each


class Says:
    """What a slave offers a handler, written down."""

    def __init__(self):
        self.failed, self.pauses = [], []
        self.ways = Ways(self._fail, self.pauses.append, [])

    def _fail(self, error, attempts):
        self.failed.append((str(error), attempts))


@pytest.fixture
def says():
    return Says()


def test_each_job_in_order(says):
    seen = []
    run_each(seen.append, 0, iter([1, 2, 3]), says.ways)
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

    run_each(handle, 0, iter([1, 2, 3]), says.ways)
    assert seen == [1, 3] and says.failed == [('bad', 1)]


def test_it_is_told_before_the_next_job_is_begun(says):
    jobs = iter([1, 2, 3])
    left = []

    def fail(error, attempts):
        left.append(jobs.__length_hint__())

    run_each(lambda job: 1 / 0, 0, jobs, says.ways._replace(fail=fail))
    assert left == [2, 1, 0]


def test_an_interrupt_ends_it_after_the_job(says):
    seen = []

    def handle(job):
        seen.append(job)
        if job == 2:
            says.ways.interrupt.append(True)

    jobs = iter([1, 2, 3])
    run_each(handle, 0, jobs, says.ways)
    assert seen == [1, 2] and list(jobs) == [3]


def test_an_interrupt_counts_after_a_failure_too(says):
    def handle(job):
        says.ways.interrupt.append(True)
        raise ValueError

    jobs = iter([1, 2])
    run_each(handle, 0, jobs, says.ways)
    assert list(jobs) == [2]


def test_further_attempts(says):
    tries = []

    def handle(job):
        tries.append(job)
        if len(tries) < 3:
            raise ValueError('not yet')

    run_each(handle, 5, iter(['job']), says.ways)
    assert tries == ['job'] * 3 and says.failed == []
    assert len(says.pauses) == 2


def test_the_last_attempt_is_what_is_told(says):
    tries = []

    def handle(job):
        tries.append(job)
        raise ValueError(f'attempt {len(tries)}')

    run_each(handle, 2, iter(['job']), says.ways)
    assert says.failed == [('attempt 3', 3)]


def test_pauses_grow_and_are_bounded(says):
    run_each(lambda job: 1 / 0, 40, iter(['job']), says.ways)
    first, last = handlers.BACKOFF
    assert len(says.pauses) == 40
    assert all(0 <= pause <= last for pause in says.pauses)
    assert says.pauses[0] <= first and max(says.pauses) > 10 * first


@pytest.mark.parametrize('handle', [
    lambda job: (n for n in ()), lambda job: later(job)],
    ids=['generator', 'coroutine'])
def test_a_promise_is_no_success(says, handle):
    """What it gave has not begun to handle the job."""
    run_each(handle, 0, iter([1, 2]), says.ways)
    assert len(says.failed) == 2
    assert 'has done nothing yet' in says.failed[0][0]


async def later(job):
    pass


# -- lists ----------------------------------------------------------------

def by_lists(says, handle, jobs, batch=0, retries=0):
    """Run them; gives the run, and the numbers of the jobs that failed."""
    run = Chunk(1, jobs)
    failed = []

    def fail(error, attempts):
        failed.append(run.current())
        says.ways.fail(error, attempts)

    handler = Handler(handle, retries, lists=True, batch=batch)
    with handler.set_up() as call:
        handler.work(call, run, says.ways._replace(fail=fail))
    return run, failed


@pytest.mark.parametrize('batch, lists', [
    (0, [[1, 2, 3, 4, 5]]), (2, [[1, 2], [3, 4], [5]]),
    (9, [[1, 2, 3, 4, 5]])])
def test_jobs_come_in_lists(says, batch, lists):
    seen = []
    run, failed = by_lists(says, seen.append, [1, 2, 3, 4, 5], batch)
    assert seen == lists and failed == [] and run.done == 5


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

    run, failed = by_lists(says, handle, [*range(1, 21)], batch)
    assert handled == [n for n in range(1, 21) if n not in bad]
    assert failed == alone == sorted(bad)
    assert run.done == 20


def test_only_what_is_finished_counts_while_a_list_is_halved(says):
    run = Chunk(1, [*range(1, 9)])
    sure = []

    def handle(jobs):
        sure.append((jobs[0], run.finished()))
        if 6 in jobs:
            raise ValueError

    handler = Handler(handle, lists=True)
    handler.work(handle, run, says.ways)
    assert [first - 1 for first, _ in sure] == [n for _, n in sure]
    assert run.finished() == 8


def test_an_interrupt_ends_it_between_two_lists(says):
    def handle(jobs):
        if 3 in jobs:
            says.ways.interrupt.append(True)

    run, _ = by_lists(says, handle, [1, 2, 3, 4, 5, 6], batch=2)
    assert run.done == 4


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

    run, failed = by_lists(says, handle, [*range(1, 41)], 10, retries)
    assert failed == [7, 17, 27, 37]
    assert set(handled) == set(range(1, 41)) - set(failed)


@pytest.mark.parametrize('lists', [False, True])
def test_what_ends_everything_is_no_failure(says, lists):
    """Not halved either, nor tried again."""
    calls = []

    def handle(job):
        calls.append(job)
        raise KeyboardInterrupt

    run = Chunk(1, [1, 2, 3])
    handler = Handler(handle, 3, lists=lists)
    with pytest.raises(KeyboardInterrupt):
        handler.work(handle, run, says.ways._replace(
            ending=(KeyboardInterrupt,)))
    assert len(calls) == 1 and says.failed == []


# -- async ----------------------------------------------------------------

def test_a_coroutine_that_only_promises(says):
    async def handle(job):
        return later(job)

    run_async(says, handle, [1])
    assert 'has done nothing yet' in says.failed[0][0]


def run_async(says, handle, jobs, **options):
    run = Chunk(1, jobs)
    handler = Handler(handle, **options)

    async def pause(seconds):
        says.pauses.append(seconds)

    async def work():
        async with handler.set_up_async() as call:
            await handler.work_async(call, run,
                                     says.ways._replace(pause=pause))
    assert handler.is_async
    asyncio.run(work())
    return run


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

    run = run_async(says, handle, [1, 2, 3], lists=True)
    assert seen == [1, 3] and says.failed == [('bad', 1)] and run.done == 3


# -- set-up ---------------------------------------------------------------

def worked(handler, jobs=(1, 2)):
    with handler.set_up() as call:
        for job in jobs:
            call(job)


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
