"""Tools: what `setup` made for a worker, a connection say, and the calls.

What it made may die: a database is restarted, or ends a connection that was
idle too long.  Nobody can see that from here, but jobs fail in a row then.
So it is made anew after three of them, and for a further attempt of a job;
but not more often than every few seconds, as most jobs fail on their own.
A `setup` that raises then has failed that attempt alone, and whatever comes
next waits until it is time to try again.
"""

from __future__ import annotations

import time
from contextlib import contextmanager

from .. import logs
from ..errors import OperatorError
from ..forks import end_child, is_child
from ..records import TYPE_CHECKING, NamedTuple
from ..text import summary, traceback_of
from ..timing import Timing
from . import signature
from .alarms import Alarms

if TYPE_CHECKING:
    import asyncio      # it is slow to import, and few handlers are `async`
    from typing import Any, Callable, Iterator

    from .signature import Function

log = logs.logger(__name__)

# So many failures in a row may be no fault of the jobs.
ROW = 3

TWICE = 'it yields more than once'

Ending = tuple[type[BaseException], ...]


class Recipe(NamedTuple):
    """How to make the tools of a worker."""

    function: Function      # the handler
    setup: Function | None
    takes_tool: bool        # whether the handler wants what setup makes
    timing: Timing
    ending: Ending          # errors that are nobody's failure


class _Kept:
    """What one worker, or one event loop, calls for a job or a list: ``call``.

    ``wanted`` says that `setup` is to be called again before the next
    attempt; ``row`` is how many calls have failed in a row.
    """

    def __init__(self, recipe: Recipe,
                 clock: Callable[[], float] = time.monotonic):
        self.call = recipe.function
        self.wanted = False
        self.row = 0
        self._recipe = recipe
        self._clock = clock
        self._rest: Any = None          # a setup that has yielded
        self._tried: float | None = None    # when it was last made anew
        self._broken = False            # that has failed

    def want(self) -> None:
        """Have the tools made anew before the next attempt."""
        self.wanted = self._recipe.setup is not None

    def note(self, error: BaseException | None) -> None:
        """Note what a call raised, or that it went well."""
        if error is None:
            self.row, self.wanted = 0, False
        elif self._recipe.setup is not None:
            self.row += 1
            if self.row >= ROW:
                self.want()

    def _due(self) -> float:
        """Return in how many seconds they may be made anew."""
        if self._tried is None:
            return 0.0
        return self._tried + self._recipe.timing.setup - self._clock()

    def _renewing(self) -> None:
        self._tried, self._broken = self._clock(), True

    def _renewed(self) -> None:
        self._broken = self.wanted = False
        self.row = 0
        log.info('setup was called again, as jobs failed')

    def _make(self) -> None:
        setup = self._recipe.setup
        if setup is not None:
            made = setup()
            if signature.yields(setup):
                self._rest, made = made, next(made)
            self._take(made)

    def _take(self, made: Any) -> None:
        """Have that as the tool from now on."""
        if is_child():
            end_child()
        function = self._recipe.function
        self.call = ((lambda job: function(job, made))
                     if self._recipe.takes_tool else function)

    def _end(self) -> None:
        rest, self._rest = self._rest, None
        for _ in rest or ():
            raise RuntimeError(TWICE)

    def _say_of_end(self, error: BaseException) -> None:
        if isinstance(error, self._recipe.ending):
            raise error
        log.info('setup raised %s after its yield; it is called again',
                 summary(error))


class Tools(_Kept):
    """Of a worker that is a thread; ``alarms`` is the context of a call."""

    def __init__(self, recipe: Recipe,
                 clock: Callable[[], float] = time.monotonic):
        super().__init__(recipe, clock)
        self.alarms = Alarms()

    def open(self) -> None:
        """Call `setup` first.  Raises OperatorError when that raises."""
        with _theirs(self._recipe.ending), self.alarms:
            self._make()

    def close(self) -> None:
        """Let `setup` go on after its yield; OperatorError if it raises."""
        with _theirs(self._recipe.ending), self.alarms:
            self._end()

    def renew(self, pause: Callable[[float], Any]) -> None:
        """Make the tools anew, if it is time to.

        Raises whatever `setup` raises.
        """
        due = self._due()
        if due > 0:
            if not self._broken:
                return          # most likely they are fine
            pause(due)
        self._renewing()
        try:
            self._end()
        except BaseException as error:
            self._say_of_end(error)
        self._make()
        self._renewed()


class AsyncTools(_Kept):
    """Of an event loop, whose tasks share them; `setup` may be `async`.

    They are made anew while no job is in flight.
    """

    def __init__(self, recipe: Recipe,
                 clock: Callable[[], float] = time.monotonic):
        super().__init__(recipe, clock)
        self._in_flight = 0
        self._idle: asyncio.Event | None = None     # somebody waits for that
        self._renewal: asyncio.Future[None] | None = None

    async def open(self) -> None:
        """Call `setup` first.  Raises OperatorError when that raises."""
        with _theirs(self._recipe.ending):
            await self._make_here()

    async def close(self) -> None:
        """Let `setup` go on after its yield; OperatorError if it raises."""
        with _theirs(self._recipe.ending):
            await self._end_here()

    async def renew(self, pause: Callable[[float], Any]) -> None:
        """Make the tools anew, if it is time to; once for all who ask.

        Raises whatever `setup` raises.
        """
        import asyncio
        if self._renewal is None:
            self._renewal = asyncio.ensure_future(self._renew(pause))
            self._renewal.add_done_callback(self._over)
        await asyncio.shield(self._renewal)

    def _over(self, renewal: asyncio.Future[None]) -> None:
        self._renewal = None

    async def _renew(self, pause: Callable[[float], Any]) -> None:
        due = self._due()
        if due > 0:
            if not self._broken:
                return
            await pause(due)
        if self._in_flight and not await self._are_idle():
            self._tried = self._clock()     # the next need not wait as well
            return
        self._renewing()
        try:
            await self._end_here()
        except BaseException as error:
            self._say_of_end(error)
        await self._make_here()
        self._renewed()

    def _take(self, made: Any) -> None:
        super()._take(made)
        function = self.call

        async def counted(job: Any) -> Any:
            self._in_flight += 1
            try:
                return await function(job)
            finally:
                self._in_flight -= 1
                if self._idle is not None and not self._in_flight:
                    self._idle.set()
        self.call = counted

    async def _are_idle(self) -> bool:
        """Wait until no job is in flight, or for too long."""
        import asyncio
        self._idle = asyncio.Event()
        try:
            await asyncio.wait_for(self._idle.wait(),
                                   self._recipe.timing.setup)
            return True
        except asyncio.TimeoutError:
            return False
        finally:
            self._idle = None

    async def _make_here(self) -> None:
        setup = self._recipe.setup
        if setup is None or not signature.is_async(setup):
            self._make()
            return
        made = setup()
        if signature.yields(setup):
            self._rest, made = made, made.__anext__()
        self._take(await made)

    async def _end_here(self) -> None:
        if not hasattr(self._rest, '__anext__'):
            self._end()
            return
        rest, self._rest = self._rest, None
        async for _ in rest:
            raise RuntimeError(TWICE)


@contextmanager
def _theirs(ending: Ending) -> Iterator[None]:
    """What `setup` raises in here is the operator's own error."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, ending):
            raise
        if is_child():
            end_child(error)
        raise OperatorError(
            f'setup raised {summary(error)}; correct it and start again',
            traceback_of(error)) from error
