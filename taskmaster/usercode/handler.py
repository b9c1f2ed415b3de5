"""Calling the operator's functions: for a job, for a list of jobs, `async`.

A handler works through a chunk of jobs until its end or an interrupt.
Whatever the function raises (SystemExit too) fails that job alone, after as
many further attempts as the operator allows; a list that fails is halved
until the jobs at fault are alone.
"""

import random
import types
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import (Any, AsyncIterator, Awaitable, Callable, Generator,
                    Iterator, List, NamedTuple, Optional, Protocol, Tuple,
                    Type)

from ..errors import ConfigError, OperatorError, UsageError
from ..text import summary, traceback_of
from . import signature, targets
from .signature import Function
from .targets import Target

BACKOFF = (0.1, 10.0)       # seconds, first and last, before a new attempt

# What a function gives that has not begun to do its work.
LATER = (types.CoroutineType, types.GeneratorType, types.AsyncGeneratorType)


Ending = Tuple[Type[BaseException], ...]


class Ways(NamedTuple):
    """How a handler speaks with its slave."""

    # What a job raised last, and in how many attempts; before the next job.
    fail: Callable[[BaseException, int], None]
    # Wait so many seconds before a new attempt, or less if in a hurry.
    pause: Callable[[float], Any]
    # Not empty: take no more jobs.
    interrupt: List[bool]
    # What is no failure of a job but the end, and is raised at once.
    ending: Ending = ()


class Jobs(Protocol):
    """What a handler works through (see `backlog.Chunk`)."""

    jobs: List[Any]
    iterator: Iterator[Any]     # over them; what it has given is begun
    done: Optional[int]         # of lists: how many jobs are finished


class Pause(NamedTuple):
    """Wait, instead of a call."""

    seconds: float


# What to do, step by step: it yields what to call the function with, or a
# Pause, and is sent what that raised, or None.
Plan = Generator[Any, Optional[BaseException], None]
END = object()


class Handler:
    """The operator's functions, and how they are to be called.

    ``function`` handles a job or, with ``lists``, a list of jobs (of
    ``batch`` at most; 0: of as many as come together).  Each worker calls
    ``setup`` before its first job: a function, or a generator that yields
    once.  What it gives is the second argument of a function that has two.
    Both may be `async`.

    Raises ConfigError where they do not fit together.
    """

    def __init__(self, function: Function, retries: int = 0,
                 setup: Optional[Function] = None, lists: bool = False,
                 batch: int = 0):
        self.lists = lists
        self.batch = batch
        self.is_async = signature.is_async(function)
        self.ending: Ending = ()
        self._function = function
        self._retries = retries
        self._setup = setup
        self._two = signature.required_positionals(function) > 1
        name = getattr(function, '__name__', 'the handler')
        if self._two and setup is None:
            raise ConfigError(f'{name} has two arguments, but there is no '
                              'setup() to give the second one')
        if signature.yields(function):
            raise ConfigError(f'{name} yields, so a call of it does nothing; '
                              'let it return when the job is done')
        if setup and signature.is_async(setup) and not self.is_async:
            raise ConfigError(f'setup is async and {name} is not; make both '
                              'async, or neither')

    def work(self, call: Function, chunk: Jobs, ways: Ways) -> None:
        """Work through a chunk; ``call`` is what `set_up` gave."""
        if self.lists:
            _follow(_by_lists(chunk, self.batch, self._retries, ways), call,
                    ways)
        else:
            run_each(call, self._retries, chunk.iterator, ways)

    async def work_async(self, call: Callable[[Any], Awaitable[Any]],
                         chunk: Jobs, ways: Ways) -> None:
        """The same for an `async` function: one call after another."""
        plan = (_by_lists(chunk, self.batch, self._retries, ways) if self.lists
                else _one_by_one(chunk, self._retries, ways))
        step = _next(plan)
        while step is not END:
            error = None
            try:
                if type(step) is Pause:
                    await ways.pause(step.seconds)
                else:
                    _check(await call(step))
            except BaseException as raised:
                if isinstance(raised, ways.ending):
                    raise
                error = raised
            step = _next(plan, error)

    # -- set-up -----------------------------------------------------------

    @contextmanager
    def set_up(self) -> Iterator[Function]:
        """Call `setup`, and in the end let it go on after its yield.

        Gives what to call with a job, or a list, alone.  Raises
        OperatorError when `setup` raises.
        """
        given = rest = None
        with _theirs(self.ending):
            if self._setup is not None:
                given = self._setup()
                if signature.yields(self._setup):
                    rest, given = given, next(given)
        yield self._bound(given)
        with _theirs(self.ending):
            for _ in rest or ():
                raise RuntimeError('it yields more than once')

    @asynccontextmanager
    async def set_up_async(self) -> AsyncIterator[Function]:
        """The same in an event loop, where `setup` may be `async`."""
        setup = self._setup
        if setup is None or not signature.is_async(setup):
            with self.set_up() as call:
                yield call
            return
        rest = None
        with _theirs(self.ending):
            given = setup()
            if signature.yields(setup):
                rest, given = given, given.__anext__()
            given = await given
        yield self._bound(given)
        if rest is not None:
            with _theirs(self.ending):
                async for _ in rest:
                    raise RuntimeError('it yields more than once')

    def _bound(self, given: Any) -> Function:
        function = self._function
        return (lambda job: function(job, given)) if self._two else function


@contextmanager
def _theirs(ending: Ending) -> Iterator[None]:
    """What `setup` raises in here is the operator's own error."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, ending):
            raise
        raise OperatorError(
            f'setup raised {summary(error)}; correct it and start again',
            traceback_of(error)) from error


# -- one at a time --------------------------------------------------------

def run_each(call: Function, retries: int, jobs: Iterator[Any],
             ways: Ways) -> None:
    """Call for each job, until the end or an interrupt.

    Nothing more happens once per job: this loop is the hot path.
    """
    interrupt = ways.interrupt
    for job in jobs:
        try:
            given = call(job)
            if given is not None:
                _check(given)
        except BaseException as error:
            if isinstance(error, ways.ending):
                raise
            _follow(_further(partial(_same, job), error, retries, ways), call,
                    ways)
        if interrupt:
            break


def _check(given: Any) -> None:
    """Raise TypeError if the function has only promised to do its work."""
    if isinstance(given, LATER):
        if isinstance(given, types.CoroutineType):
            given.close()       # or Python warns that nobody awaits it
        raise TypeError(f'the handler gave a {type(given).__name__}, and has '
                        'done nothing yet; it must return when the job is '
                        'done, or be an `async def` itself')


def _follow(plan: Plan, call: Function, ways: Ways) -> None:
    step = _next(plan)
    while step is not END:
        error = None
        try:
            if type(step) is Pause:
                ways.pause(step.seconds)
            else:
                _check(call(step))
        except BaseException as raised:
            if isinstance(raised, ways.ending):
                raise
            error = raised
        step = _next(plan, error)


def _next(plan: Plan, error: Optional[BaseException] = None) -> Any:
    try:
        return plan.send(error)
    except StopIteration:
        return END


# -- what to call, and what to do when that raises ------------------------

def _one_by_one(chunk: Jobs, retries: int, ways: Ways) -> Plan:
    for job in chunk.iterator:
        error = yield job
        if error is not None:
            yield from _further(partial(_same, job), error, retries, ways)
        if ways.interrupt:
            break


def _by_lists(chunk: Jobs, batch: int, retries: int, ways: Ways) -> Plan:
    """Lists of the jobs; one that fails is halved, until it is one job.

    That keeps the order, so that all before ``chunk.done`` is finished.  Each
    call gets a list of its own, as a handler may empty it.
    """
    jobs = chunk.jobs
    chunk.done = 0
    ends: List[int] = []        # of the list to do next, last; of all halved
    while chunk.done < len(jobs) and not ways.interrupt:
        if not ends:
            ends.append(min(chunk.done + (batch or len(jobs)), len(jobs)))
        count = ends[-1] - chunk.done
        error = yield jobs[chunk.done:ends[-1]]
        if error is not None and count > 1:
            ends.append(chunk.done + count // 2)
            continue
        if error is not None:
            yield from _further(partial(_alone, jobs, chunk.done), error,
                                retries, ways)
        chunk.done = ends.pop()


def _same(job: Any) -> Any:
    return job


def _alone(jobs: List[Any], position: int) -> List[Any]:
    return jobs[position:position + 1]


def _further(what: Callable[[], Any], error: BaseException, retries: int,
             ways: Ways) -> Plan:
    """Attempts after the first; ``what()`` is what to call with."""
    first, last = BACKOFF
    for attempt in range(retries):
        yield Pause(random.uniform(0, min(last, first * 2 ** attempt)))
        again = yield what()
        if again is None:
            return
        error = again
    ways.fail(error, 1 + retries)


# -- from the command line ------------------------------------------------

def from_target(text: str, retries: int = 0, batch: Optional[int] = None,
                folder: Optional[str] = None) -> Tuple[Target, Handler]:
    """The module that a TARGET names, as `targets.load`, and its handler.

    `handle_jobs` is preferred to `handle_job`; another function takes lists
    if ``batch`` is given.  Raises ConfigError or UsageError.
    """
    target = targets.load(text, 'handle_jobs', folder)
    named = ':' in text
    if not named and target.find('handle_jobs') is None:
        target = target._replace(function='handle_job')
    return target, of_target(target, named, retries, batch)


def of_target(target: Target, named: bool, retries: int = 0,
              batch: Optional[int] = None) -> Handler:
    """The handler of a loaded module; ``named`` if its function was given."""
    lists = (target.function == 'handle_jobs' or named and batch is not None
             and target.function != 'handle_job')
    function = target.callable()
    if batch is not None and not lists:
        raise UsageError('--batch is for lists of jobs, and handle_job takes '
                         'one; define handle_jobs(jobs)')
    setup = target.find('setup')
    if setup is not None and not callable(setup):
        raise ConfigError(f'setup in {target.name} is no function')
    return Handler(function, retries, setup, lists, batch or 0)
