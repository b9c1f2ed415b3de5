"""Attempts: what to call the handler with, and what to do when that raises.

A *plan* goes through a chunk of jobs without calling anything: it yields
what to do next and is sent what came of that.  So one plan serves functions,
`async` ones and tests.  What follows a plan makes the calls.

A job is a value: it is handed out once as it came, and each further attempt
(`Again`) gets one of its own, as it was yielded, whatever an earlier call
has done to it.
"""

from __future__ import annotations

import functools
import itertools
import types

from .. import logs
from ..forks import end_child, is_child
from ..records import TYPE_CHECKING, NamedTuple, Protocol
from ..text import counted, summary
from ..timing import Timing, jitter
from .tools import AsyncTools, Ending, Tools

log = logs.logger(__name__)

# What a function may give that has not begun to do its work: of these types,
# of a few modules, and whatever is to be awaited or called back.
LATER = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType,
         map, filter, itertools.starmap, itertools.filterfalse,
         itertools.takewhile, itertools.dropwhile)
LATER_MODULES = {'multiprocessing.pool'}
LATER_METHODS = '__await__', 'add_done_callback'

# What is said of the error of a job: one line.
CAUSE = 1000


class Jobs(Protocol):
    """A chunk of jobs, for a handler to work through (see `slave.chunk`)."""

    jobs: list[Any]
    iterator: Iterator[Any]     # over them; what it has given is begun
    done: int | None            # of lists: how many jobs are finished
    changed: int                # so many were in a call of a list that failed
    cause: str                  # what that call raised, or ''
    handled: int                # so many were in one that had gone well

    def again(self, start: int, stop: int) -> list[Any]:
        """Return new ones of these jobs, as they were yielded.

        Raises whatever unpickling them raises.
        """


class Ways(Protocol):
    """How a handler speaks with its slave while it works on a chunk."""

    @property
    def interrupt(self) -> list[bool]:
        """Not empty: take no more jobs."""

    @property
    def ending(self) -> Ending:
        """What is no failure of a job but the end, and is raised at once."""

    def fail(self, error: BaseException, attempts: int, cause: str) -> None:
        """Say what a job raised last, in how many attempts, before the next.

        ``cause`` is what the first of them raised, or ''.
        """

    def pause(self, seconds: float) -> Any:
        """Wait so long before a new attempt, or less if in a hurry."""

    def position(self) -> int:
        """Return which of the chunk's jobs the handler is at, from 0 on."""

    def watch(self, function: Function) -> Function:
        """Return the function as it is to be called: watched, perhaps."""


class Pause(NamedTuple):
    """Wait, instead of a call."""

    seconds: float


class Again(NamedTuple):
    """Call with new ones of these jobs, or with the one, alone."""

    chunk: Jobs
    start: int
    stop: int
    alone: bool = False

    def load(self) -> Any:
        jobs = self.chunk.again(self.start, self.stop)
        return jobs[0] if self.alone else jobs


# It yields what to call the function with, Again or a Pause, and is sent
# what that raised, or None.
if TYPE_CHECKING:
    from typing import Any, Callable, Generator, Iterator
    Plan = Generator[Any, 'BaseException | None', Any]

    from .signature import Function
END = object()


class NotIdempotent(Exception):
    """A job that went well has raised when it was handled once more."""


# As it is to be read, before what it raised.
NotIdempotent.__name__ = NotIdempotent.__qualname__ = 'not idempotent'
NotIdempotent.__module__ = 'builtins'


class Attempts(NamedTuple):
    """How often to try: so many times after the first.

    With ``twice`` each job, or list, that went well is handled once more,
    as after a crash: tried as often, and what then fails is not idempotent.
    """

    retries: int
    timing: Timing
    twice: bool = False

    def alone(self, step: Any, what: Callable[[], Again], ways: Ways,
              cause: str = '', again: bool = False) -> Plan:
        """All attempts of one job, the first by ``step``."""
        error = yield step
        if error is not None:
            error = yield from self.further(what, error, ways, cause, again)
        if error is None and self.twice:
            error = yield what()
            if error is not None:
                yield from self.further(what, error, ways, again=True)

    def further(self, what: Callable[[], Again], error: BaseException,
                ways: Ways, cause: str = '', again: bool = False) -> Plan:
        """Attempts after the first; ``what()`` is what to call with.

        Return what the last one raised, or None.  ``again`` says that the
        job has been handled before, and went well.
        """
        if self.retries:
            job, cause = what(), cause or summary(error, CAUSE)
        for attempt in range(self.retries):
            pause = jitter(min(self.timing.longest_retry,
                               self.timing.first_retry * 2 ** attempt))
            log.debug('attempt %d of %d in %.1f s: %s', attempt + 2,
                      self.retries + 1, pause, summary(error))
            yield Pause(pause)
            raised = yield job
            if raised is None:
                return None
            error = raised
        cause = '' if cause == summary(error, CAUSE) else cause
        if again:
            error = _not_idempotent(error)
        ways.fail(error, 1 + self.retries, cause)
        return error

    def one_by_one(self, chunk: Jobs, ways: Ways,
                   enough: Callable[[], bool] = lambda: False) -> Plan:
        """Each job, until an interrupt or until it is ``enough``."""
        for job in chunk.iterator:
            yield from self.alone(
                job, functools.partial(_present, chunk, ways), ways)
            if ways.interrupt or enough():
                break

    def by_lists(self, chunk: Jobs, batch: int, ways: Ways) -> Plan:
        """Lists of the jobs; one that fails is halved, until it is one job.

        That keeps the order, so that all before ``chunk.done`` is finished.
        Each call gets a list of its own, as a handler may empty it.
        """
        jobs = chunk.jobs
        chunk.done = 0
        # Of the list to do next last, before it those of all halved ones.
        ends: list[int] = []
        while chunk.done < len(jobs) and not ways.interrupt:
            if not ends:
                ends.append(min(chunk.done + (batch or len(jobs)), len(jobs)))
            start, stop = chunk.done, ends[-1]
            again = Again(chunk, start, stop)
            if start >= chunk.changed:
                chunk.cause = ''
                step: Any = jobs[start:stop]
            else:
                step = again
            if stop - start == 1:
                yield from self.alone(step, functools.partial(_same, again),
                                      ways, chunk.cause,
                                      start < chunk.handled)
                chunk.done = ends.pop()
                continue
            error = yield step
            if error is None and self.twice:
                error = yield again
                if error is not None:
                    chunk.handled = max(chunk.handled, stop)
            if error is not None:
                log.debug('a list of %s is halved: %s',
                          counted(stop - start, 'job'), summary(error))
                chunk.cause = chunk.cause or summary(error, CAUSE)
                chunk.changed = max(chunk.changed, stop)
                ends.append(start + (stop - start) // 2)
            else:
                chunk.done = ends.pop()


def _same(again: Again) -> Again:
    return again


def _not_idempotent(error: BaseException) -> BaseException:
    found = NotIdempotent(summary(error, CAUSE))
    found.__cause__ = error         # whose traceback is to be shown
    return found


def _present(chunk: Jobs, ways: Ways) -> Again:
    at = ways.position()
    return Again(chunk, at, at + 1, alone=True)


# -- making the calls -----------------------------------------------------

def run_each(tools: Tools, chunk: Jobs, attempts: Attempts,
             ways: Ways) -> None:
    """Call for each job, until the end or an interrupt."""
    jobs: Any = chunk.iterator
    interrupt = ways.interrupt
    left = -1           # how many were left when a job failed last
    if tools.row:
        left = jobs.__length_hint__()
        _carefully(tools, chunk, attempts, ways)
    call = ways.watch(tools.call)
    while not interrupt:
        try:
            with tools.alarms:
                _call_each(call, jobs, interrupt)
            break
        except BaseException as error:
            _is_failure(error, ways)
            if ways.position() < 0:     # an alarm, before the first of them
                continue
            if jobs.__length_hint__() != left - 1:
                tools.row = 0       # others went well in between
            tools.note(error)
            follow(attempts.further(functools.partial(_present, chunk, ways),
                                    error, ways), tools, ways)
            _carefully(tools, chunk, attempts, ways)
            left = jobs.__length_hint__()
            call = ways.watch(tools.call)
    if interrupt and is_child():
        end_child()
    if tools.row and jobs.__length_hint__() != left:
        tools.row = 0


def _call_each(call: Function, jobs: Iterator[Any],
               interrupt: list[bool]) -> None:
    """The hot path: nothing more happens once per job.

    A function of its own, as alarms raise at the jump back too, which
    CPython 3.12 and later may leave out of a `try` around it.
    """
    for job in jobs:
        given = call(job)
        if given is not None:
            check(given)
        if interrupt:
            break


def _carefully(tools: Tools, chunk: Jobs, attempts: Attempts,
               ways: Ways) -> None:
    """Go on job by job, until the tools work again."""
    if tools.wanted and not ways.interrupt:
        follow(attempts.one_by_one(chunk, ways, lambda: not tools.wanted),
               tools, ways)


def follow(plan: Plan, tools: Tools, ways: Ways) -> None:
    """Do what a plan wants, with a function."""
    call = ways.watch(tools.call)
    step = _next(plan)
    while step is not END:
        error = None
        try:
            with tools.alarms:
                if type(step) is Pause:
                    tools.want()            # for a further attempt
                    ways.pause(step.seconds)
                else:
                    if tools.wanted:
                        tools.renew(ways.pause)
                        call = ways.watch(tools.call)
                    _call(call, step)
        except BaseException as raised:
            _is_failure(raised, ways)
            error = raised
        if ways.interrupt and is_child():
            end_child()
        if error is not None or tools.row and type(step) is not Pause:
            tools.note(error)
        step = _next(plan, error)


def _call(call: Function, step: Any) -> None:
    given = call(step.load() if type(step) is Again else step)
    if given is not None:
        check(given)


async def follow_async(plan: Plan, tools: AsyncTools, ways: Ways) -> None:
    """Do what a plan wants, with an `async` function, in one task."""
    import asyncio
    task: Any = asyncio.current_task()
    cancelled = getattr(task, 'cancelling', lambda: task._must_cancel)
    call = ways.watch(tools.call)
    step = _next(plan)
    while step is not END:
        error = None
        try:
            if type(step) is Pause:
                tools.want()
                await ways.pause(step.seconds)
            else:
                if tools.wanted:
                    await tools.renew(ways.pause)
                    call = ways.watch(tools.call)
                given = await call(
                    step.load() if type(step) is Again else step)
                if given is not None:
                    check(given)
        except BaseException as raised:
            _is_failure(raised, ways)
            error = raised
        if ways.interrupt and is_child():
            end_child()
        if cancelled():
            await _calm(task)
        if error is not None or tools.row and type(step) is not Pause:
            tools.note(error)
        step = _next(plan, error)


async def _calm(task: Any) -> None:
    """A job has had its task cancelled, which is no concern of the next."""
    import asyncio
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        pass
    while hasattr(task, 'uncancel') and task.uncancel():   # from 3.11 on
        pass


def _is_failure(error: BaseException, ways: Ways) -> None:
    """Of a job, that is.  What is not is raised, or ends a forked child."""
    if issubclass(type(error), ways.ending):    # not what it says it is
        raise error
    if is_child():
        end_child(error)


def _next(plan: Plan, error: BaseException | None = None) -> Any:
    try:
        return plan.send(error)
    except StopIteration:
        return END


def check(given: Any) -> None:
    """Raise TypeError if the function has only promised to do its work."""
    kind: type = type(given)
    try:
        promised = _is_promise(kind)
    except BaseException:       # its class is the operator's too
        return
    if promised:
        if isinstance(given, types.CoroutineType):
            given.close()       # or Python warns that nobody awaits it
        raise TypeError(f'the handler gave a {kind.__name__}, and has '
                        'done nothing yet; it must return when the job is '
                        'done, or be an `async def` itself')


@functools.lru_cache(maxsize=256)
def _is_promise(kind: type) -> bool:
    return (issubclass(kind, LATER) or kind.__module__ in LATER_MODULES
            or any(hasattr(kind, name) for name in LATER_METHODS))
