"""The operator's functions: the handler and its `setup`, and how they go.

A handler works through a chunk of jobs until its end or an interrupt.
Whatever the function raises (SystemExit too) fails that job alone, after as
many further attempts as the operator allows; a list that fails is halved
until the jobs at fault are alone (see `attempts`).
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager

from ..errors import ConfigError, NoFunction, UsageError
from ..records import TYPE_CHECKING
from ..timing import STANDARD, Timing
from . import signature, targets
from .attempts import Attempts, Jobs, Ways, follow, follow_async, run_each
from .targets import Target
from .tools import AsyncTools, Ending, Recipe, Tools

if TYPE_CHECKING:
    from typing import Any, AsyncIterator, Iterator

    from .signature import Function


class Handler:
    """The operator's functions, and how they are to be called.

    ``function`` handles a job or, with ``lists``, a list of jobs (of
    ``batch`` at most; 0: of as many as come together).  Each worker calls
    ``setup`` before its first job: a function, or a generator that yields
    once.  What it makes is the second argument of a function that has two.
    Both may be `async`.  With ``twice`` each job is handled once more, right
    after it went well.  With ``checks`` it is a function of `--verify`: what
    it gives False for is not right, and fails.

    Raises ConfigError where they do not fit together.
    """

    def __init__(self, function: Function, retries: int = 0,
                 setup: Function | None = None, lists: bool = False,
                 batch: int = 0, timing: Timing = STANDARD,
                 twice: bool = False, checks: bool = False):
        self.lists = lists
        self.checks = checks
        self.batch = batch
        self.is_async = signature.is_async(function)
        self.ending: Ending = ()
        self.function = function
        self._attempts = Attempts(retries, timing, twice)
        self.setup = setup
        self.takes_tool = signature.required_positionals(function) > 1
        name = getattr(function, '__name__', 'the handler')
        if not signature.fits(function, 1 + self.takes_tool):
            raise signature.misfit(name, 1 + self.takes_tool)
        if self.takes_tool and setup is None:
            raise ConfigError(f'{name} has two arguments, but there is no '
                              'setup() to give the second one')
        if signature.yields(function):
            raise ConfigError(f'{name} yields, so a call of it does nothing; '
                              'let it return when the job is done')
        if setup and signature.is_async(setup) and not self.is_async:
            raise ConfigError(f'setup is async and {name} is not; make both '
                              'async, or neither')

    @contextmanager
    def set_up(self) -> Iterator[Tools]:
        """Call `setup`, and in the end let it go on after its yield.

        Raises OperatorError when `setup` raises.
        """
        tools = Tools(self._recipe())
        tools.open()
        yield tools
        tools.close()

    @asynccontextmanager
    async def set_up_async(self) -> AsyncIterator[AsyncTools]:
        """The same in an event loop, where `setup` may be `async`."""
        tools = AsyncTools(self._recipe())
        await tools.open()
        yield tools
        await tools.close()

    def work(self, tools: Tools, chunk: Jobs, ways: Ways) -> None:
        """Work through a chunk, with what `set_up` gave."""
        if self.lists:
            follow(self._attempts.by_lists(chunk, self.batch, ways), tools,
                   ways)
        elif self._attempts.twice:
            follow(self._attempts.one_by_one(chunk, ways), tools, ways)
        else:
            run_each(tools, chunk, self._attempts, ways)

    async def work_async(self, tools: AsyncTools, chunk: Jobs,
                         ways: Ways) -> None:
        """The same for an `async` function: one call after another."""
        plan = (self._attempts.by_lists(chunk, self.batch, ways)
                if self.lists else self._attempts.one_by_one(chunk, ways))
        await follow_async(plan, tools, ways)

    def _recipe(self) -> Recipe:
        function = (judged(self.function, self.is_async) if self.checks
                    else self.function)
        return Recipe(function, self.setup, self.takes_tool,
                      self._attempts.timing, self.ending)


# -- from the command line ------------------------------------------------

def from_target(text: str, retries: int = 0, batch: int | None = None,
                folder: str | None = None, timing: Timing = STANDARD,
                twice: bool = False, check: bool = False
                ) -> tuple[Target, Handler]:
    """Load the module that a TARGET names, and return its handler with it.

    `handle_jobs` is preferred to `handle_job`; another function takes lists
    if ``batch`` is given.  With ``check`` it is `check_jobs` or `check_job`,
    whatever is named.  Raises ConfigError or UsageError.
    """
    target = targets.load(text, 'handle_jobs', folder)
    named = ':' in text
    if check:
        target = checking(target)
    elif not named and target.find('handle_jobs') is None:
        target = target._replace(function='handle_job')
    return target, of_target(target, named, retries, batch, timing, twice,
                             check)


def of_target(target: Target, named: bool, retries: int = 0,
              batch: int | None = None, timing: Timing = STANDARD,
              twice: bool = False, check: bool = False) -> Handler:
    """Return the handler of a module; ``named`` if its function was given.

    With ``check`` the target is that of `checking`.
    """
    if check and twice:
        raise UsageError('--twice handles jobs and --verify checks them; '
                         'give one of them')
    if check and target.function == 'check_job':
        batch = None                    # which was for the handler
    lists = target.function == 'check_jobs' if check else (
        target.function == 'handle_jobs' or named and batch is not None
        and target.function != 'handle_job')
    function = target.callable()
    if batch is not None and not lists:
        raise UsageError('--batch is for lists of jobs, and handle_job takes '
                         'one; define handle_jobs(jobs)')
    setup = target.find('setup')
    if setup is not None and not callable(setup):
        raise ConfigError(f'setup in {target.name} is no function')
    return Handler(function, retries, setup, lists, batch or 0, timing, twice,
                   check)


# -- of --verify ----------------------------------------------------------

class NotRight(Exception):
    """A check says that a job, or one of a list, is not right."""


def checking(target: Target) -> Target:
    """Return the check of a target's module; raises ConfigError."""
    for name in 'check_jobs', 'check_job':
        if target.find(name) is not None:
            return target._replace(function=name)
    raise NoFunction(
        f'no function check_job in {target.name} ({target.source}), which '
        '--verify calls; define check_job(job), to give False for one that '
        'is not right')


def judged(function: Function, is_async: bool) -> Function:
    """Return a check that raises NotRight where ``function`` gives False.

    Whatever else it gives is right, and what it has only promised is an
    error as ever.
    """
    name = getattr(function, '__name__', 'the check')

    def judge(*arguments: Any) -> Any:
        return _judged(function(*arguments), name)

    async def judge_async(*arguments: Any) -> Any:
        return _judged(await function(*arguments), name)
    return judge_async if is_async else judge


def _judged(given: Any, name: str) -> Any:
    # Of numpy and the like too, whose False is another one.
    if given is False or (type(given).__name__ in ('bool', 'bool_')
                          and not given):
        raise NotRight(f'{name} gave False')
    return given
