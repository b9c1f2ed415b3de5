"""Who calls the handler: the main thread, threads, tasks."""

import asyncio
import itertools
import os
import signal
import threading
from collections import Counter

import pytest
from fakes import LONG, RUN, Background, add, until

from taskmaster.errors import Fault, OperatorError
from taskmaster.slave import watchdog
from taskmaster.slave.backlog import Backlog
from taskmaster.slave.watchdog import Watchdog
from taskmaster.slave.workers import Workers
from taskmaster.usercode.handler import Handler


class Team:
    """Workers of one hand; jobs are the numbers from 1 on."""

    def __init__(self, function, count=1, shared=None, **options):
        self.backlog = Backlog(count)
        self.ready = threading.Event()
        self.workers = Workers(self.backlog, Handler(function, **options),
                               shared)
        self.working = Background(self.workers.run, self.ready.set)

    def give(self, first, last):
        add(self.backlog, first, [*range(first, last + 1)])

    def finish(self):
        """Wait until all is done; gives what is reported."""
        until(lambda: self.backlog.appetite().empty)
        self.backlog.close()
        self.working.result()
        return self.backlog.report(RUN)


@pytest.mark.parametrize('count', [1, 4])
def test_threads(count):
    seen = []
    team = Team(seen.append, count)
    assert team.ready.wait(LONG)
    team.give(1, 50)
    team.give(51, 60)
    report = team.finish()
    assert Counter(seen) == Counter(range(1, 61))
    assert sum(b - a + 1 for a, b in report.done) == 60


class NoName(type):
    def __getattribute__(cls, name):
        raise RuntimeError(name)


class Nameless(Exception, metaclass=NoName):
    pass


class Liar(Exception):
    @property
    def __class__(self):
        raise RuntimeError


class Mute(Exception):
    def __getattribute__(self, name):
        raise RuntimeError(name)


@pytest.mark.parametrize('name, kind', [
    ('Nameless', Nameless), ('Liar', Liar), ('Mute', Mute)],
    ids=['Nameless', 'Liar', 'Mute'])
@pytest.mark.parametrize('how', ['jobs', 'retries', 'async'])
def test_an_error_that_cannot_be_asked_fails_that_job_alone(how, name, kind):
    """Neither what it is, nor what its class is called."""
    def handle(job):
        if job == 2:
            raise kind

    async def handle_async(job):
        handle(job)

    team = Team(handle_async if how == 'async' else handle,
                retries=how == 'retries')
    team.give(1, 3)
    report = team.finish()
    assert sum(b - a + 1 for a, b in report.done) == 2
    failed, = report.failed
    assert (failed.number, failed.attempts) == (2, 1 + (how == 'retries'))
    assert failed.error == name


@pytest.fixture
def late():
    """Alarms raise; returns how many have come."""
    came = []

    def raises(number, frame):
        came.append(number)
        raise TimeoutError('too late')

    before = signal.signal(signal.SIGALRM, raises)
    yield came
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize('workers', [1, 2])
def test_an_alarm_that_comes_while_no_job_is_there_blames_nobody(
        caplog, late, workers):
    """In the main thread, where the one worker is and signals are handled."""
    seen = []

    def others():
        try:
            for first in 1, 11:
                until(lambda: backlog.appetite().hungry)
                before = len(late)
                # One that comes just before the wait is not seen in it.
                until(lambda: len(late) > before or signal.pthread_kill(
                    threading.main_thread().ident, signal.SIGALRM))
                add(backlog, first, [*range(first, first + 10)])
                until(lambda: len(seen) == first + 9)
        finally:
            backlog.close()

    backlog = Backlog(workers)
    beside = Background(others)
    Workers(backlog, Handler(seen.append)).run(lambda: None)
    beside.result()
    assert sorted(seen) == [*range(1, 21)]
    assert backlog.report(RUN).failed == []
    assert caplog.text.count('too late while no job') == 1


@pytest.mark.parametrize('lists', [False, True], ids=['jobs', 'lists'])
def test_alarms_at_any_moment_end_no_worker_and_lose_no_job(late, lists):
    """Set by each call, some microseconds ahead, and never switched off."""
    seen, failed = set(), set()
    ahead = itertools.cycle(range(5, 400, 7))

    def handle(job):
        signal.setitimer(signal.ITIMER_REAL, next(ahead) / 1e6)
        for done in job if lists else [job]:
            seen.add(done)

    def others():
        try:
            for first in range(1, 2000, 20):
                add(backlog, first, [*range(first, first + 20)])
                until(lambda: backlog.appetite().empty)
                report = backlog.report(RUN)
                failed.update(each.number for each in report.failed)
                backlog.reported(report)
        finally:
            backlog.close()

    backlog = Backlog(batch=10 if lists else 1)
    beside = Background(others)
    Workers(backlog, Handler(handle, lists=lists)).run(lambda: None)
    beside.result()
    assert seen | failed == {*range(1, 2001)}
    assert late


def test_a_wait_that_is_at_fault_itself_ends_the_worker():
    backlog = Backlog()
    backlog._work = threading.Condition()       # of another lock
    with pytest.raises(Fault):
        Workers(backlog, Handler(print)).run(lambda: None)


@pytest.mark.parametrize('count', [1, 3, 20])
def test_tasks(count):
    """So many at a time, whatever their number."""
    now, most, seen = 0, 0, []

    async def handle(job):
        nonlocal now, most
        now += 1
        most = max(most, now)
        while most < count:             # until all are at it at once
            await asyncio.sleep(0)
        now -= 1
        if job == 7:
            raise ValueError('seven')
        seen.append(job)

    team = Team(handle, count)
    assert team.ready.wait(LONG)
    team.give(1, 50)
    team.give(51, 60)
    report = team.finish()
    assert sorted(seen) == [n for n in range(1, 61) if n != 7]
    assert sum(b - a + 1 for a, b in report.done) == 59
    assert [f.number for f in report.failed] == [7]
    assert most == count


def test_tasks_wait_for_jobs_on_one_thread():
    async def handle(job):
        pass

    before = threading.active_count()
    team = Team(handle, 500)
    until(lambda: team.backlog._idle == 1)
    assert threading.active_count() <= before + 2
    team.give(1, 2000)
    assert sum(b - a + 1 for a, b in team.finish().done) == 2000


@pytest.mark.parametrize('count', [1, 3])
def test_each_thread_is_set_up_before_any_job(count):
    threads, jobs = [], []

    def setup():
        assert not team.ready.is_set()
        threads.append(threading.current_thread())
        yield threading.current_thread()
        threads.remove(threading.current_thread())

    def handle(job, thread):
        assert thread is threading.current_thread()
        jobs.append(job)

    release = threading.Event()

    def slow_setup():
        assert release.wait(LONG)
        yield from setup()

    team = Team(handle, count, setup=slow_setup)
    release.set()
    assert team.ready.wait(LONG)
    assert len(threads) == count
    team.give(1, 30)
    assert sum(b - a + 1 for a, b in team.finish().done) == 30
    assert sorted(jobs) == [*range(1, 31)] and threads == []


def test_tasks_share_one_setup():
    calls = []

    async def setup():
        calls.append('begin')
        yield 'tool'
        calls.append('end')

    async def handle(job, tool):
        calls.append(tool)

    team = Team(handle, 3, setup=setup)
    team.give(1, 2)
    team.finish()
    assert calls == ['begin', 'tool', 'tool', 'end']


@pytest.mark.parametrize('count', [1, 3])
def test_a_setup_that_fails_in_one_thread_ends_all(count):
    failed = []

    def setup():
        if not failed:
            failed.append(True)
            raise ValueError('no database')

    team = Team(lambda job: None, count, setup=setup)
    with pytest.raises(OperatorError, match='no database'):
        team.working.result()
    assert not team.ready.is_set()


def test_a_setup_that_fails_in_the_loop():
    async def setup():
        raise ValueError('no database')

    async def handle(job):
        pass

    team = Team(handle, setup=setup)
    with pytest.raises(OperatorError, match='no database'):
        team.working.result()
    assert not team.ready.is_set()


# -- the watchdog ------------------------------------------------------------

@pytest.fixture
def shared():
    """A watchdog on which a job may take 0.2 s."""
    fd = watchdog.make(21, 0.2)
    sides = Watchdog(fd), Watchdog(os.dup(fd))
    os.close(fd)
    yield sides
    for side in sides:
        side.close()


@pytest.mark.parametrize('lists, late', [(False, [(3, 3)]),
                                         (True, [(1, 5)])])
def test_the_job_that_hangs_is_on_the_board(shared, lists, late):
    leave = threading.Event()

    def handle(job):
        if job == 3 or lists and 3 in job:
            assert leave.wait(LONG)

    team = Team(handle, 1, shared[0], lists=lists)
    team.give(1, 5)
    assert until(shared[1].late) == late
    leave.set()
    team.finish()
    assert shared[1].late() is None


def test_a_coroutine_that_takes_too_long_fails_alone(shared):
    async def handle(job):
        if job == 2:
            await asyncio.sleep(LONG)
        if job == 3:
            raise asyncio.TimeoutError('its own')

    team = Team(handle, 2, shared[0])
    team.give(1, 4)
    report = team.finish()
    assert sorted((f.number, f.error) for f in report.failed) == [
        (2, 'TimeoutError: it took longer than 0.2 s (--job-timeout)'),
        (3, 'TimeoutError: its own')]


def test_a_coroutine_that_exits_fails_alone(shared):
    """Up to Python 3.11 `wait_for` would have the whole loop ended."""
    async def handle(job):
        await asyncio.sleep(0.01)
        if job == 5:
            raise SystemExit(0)

    team = Team(handle, 4, shared[0])
    team.give(1, 8)
    assert [f.number for f in team.finish().failed] == [5]


def test_a_coroutine_that_does_not_let_itself_be_cancelled(shared):
    """The supervisor is to see to it, and knows which it is."""
    go = threading.Event()

    async def handle(job):
        while job == 2 and not go.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                pass

    team = Team(handle, 2, shared[0])
    team.give(1, 4)
    assert until(shared[1].late) == [(2, 2)]
    go.set()
    team.finish()
    assert shared[1].late() is None


def test_the_end_of_setup_may_take_its_time(shared):
    ended = threading.Event()

    async def setup():
        yield
        assert await asyncio.get_running_loop().run_in_executor(
            None, ended.wait, LONG)

    async def handle(job):
        pass

    team = Team(handle, 2, shared[0], setup=setup)
    team.give(1, 4)
    until(lambda: team.backlog.appetite().empty)
    team.backlog.close()
    pause = threading.Event()
    pause.wait(0.5)                     # more than a job may take
    assert shared[1].late() is None
    ended.set()
    team.working.result()


@pytest.mark.parametrize('lists', [False, True])
def test_a_watchdog_at_fault_is_no_failure_of_a_job(shared, lists):
    team = Team(print, 1, shared[0], lists=lists)
    shared[0].begin = None
    team.give(1, 4)
    with pytest.raises(Fault, match='in the watchdog'):
        team.working.result()
    report = team.backlog.report(RUN)
    assert not report.failed and not report.done


def test_a_forgotten_job_is_not_on_the_board(shared):
    """Its number means another job by now."""
    begun = [threading.Event(), threading.Event()]
    go = [threading.Event(), threading.Event()]

    def handle(job):
        attempt = begun[0].is_set()
        begun[attempt].set()
        assert go[attempt].wait(LONG)
        if not attempt:
            raise OSError

    team = Team(handle, 1, shared[0], retries=1)
    team.give(1, 1)
    assert begun[0].wait(LONG)
    team.backlog.forget()
    shared[0].disown()
    go[0].set()
    assert begun[1].wait(LONG)
    assert until(lambda: shared[1].late() is not None)
    assert shared[1].late() == []
    go[1].set()
    team.finish()


def test_an_event_loop_that_hangs_is_on_the_board(shared):
    leave = threading.Event()

    async def handle(job):
        assert leave.wait(LONG)         # no await

    team = Team(handle, 2, shared[0])
    team.give(1, 4)
    assert until(lambda: shared[1].late() is not None)
    assert shared[1].late() == []       # which job it is, nobody knows
    leave.set()
    team.finish()
