"""The workers of a slave whose handler is `async`: tasks of one event loop.

A task of ours runs the operator's code, and so may be cancelled by whoever
got hold of it there, now or when that job is over.  A cancel ends the job
that is being done at most; where no job is, it is ignored.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

from ..errors import Fault, TaskmasterError
from ..records import TYPE_CHECKING
from ..timing import Timing
from ..usercode.handler import Handler
from ..usercode.loop import Guarded, Loop
from ..usercode.tools import AsyncTools
from .backlog import Backlog
from .chunk import Chunk
from .ways import ChunkWays

if TYPE_CHECKING:
    from typing import Any, Callable, Collection

    from ..usercode.signature import Function
    from .watchdog import Watchdog


class Tasks:
    """``backlog.workers`` of them, as of `Workers`."""

    def __init__(self, backlog: Backlog, handler: Handler,
                 watchdog: Watchdog | None, timing: Timing):
        self._backlog = backlog
        self._handler = handler
        self._watchdog = watchdog
        self._timing = timing

    def run(self, ready: Callable[[], None]) -> None:
        """Work until there are no more jobs; see `Workers.run`."""
        try:
            Loop().run(self._work(ready))
        except TaskmasterError:
            raise
        except BaseException as error:
            raise Fault.of(error, 'the event loop') from error
        finally:
            self._backlog.drain()       # nobody would work for it

    async def _work(self, ready: Callable[[], None]) -> None:
        async with self._handler.set_up_async() as tools:
            ready()
            beat = asyncio.ensure_future(self._beat())
            # Not the loop's own executor, which their jobs may use up.
            with ThreadPoolExecutor(1, 'backlog') as executor:
                waiting = _Waiting(self._backlog, executor)
                tasks = [
                    asyncio.ensure_future(Guarded(self._task(tools, waiting)))
                    for _ in range(self._backlog.workers)]
                await _all_of(tasks)
            beat.cancel()
            await asyncio.wait([beat])
        for task in tasks:
            task.result()

    async def _task(self, tools: AsyncTools, waiting: _Waiting) -> None:
        """The loop of one worker."""
        backlog = self._backlog
        chunk = None
        try:
            while True:
                chunk = backlog.take(wait=False) or await waiting.take()
                if chunk is None:
                    return
                await self._handler.work_async(tools, chunk, _TaskWays(
                    backlog, chunk, self._watchdog, self._timing.nap))
                backlog.bring(chunk)
        except BaseException:
            backlog.abandon(chunk)
            raise

    async def _beat(self) -> None:
        """Tell the supervisor that the event loop goes on.

        When it does not, nobody knows which of its jobs is at fault.
        """
        watchdog = self._watchdog
        if watchdog is None:
            return
        try:
            while True:
                watchdog.begin(0, 0, 0)
                await asyncio.sleep(watchdog.every)
        finally:
            watchdog.end(0)


class _TaskWays(ChunkWays):
    """The same for a task."""

    __slots__ = '_nap',

    def __init__(self, backlog: Backlog, chunk: Chunk,
                 watchdog: Watchdog | None, nap: float):
        super().__init__(backlog, chunk, watchdog, 1)
        self._nap = nap

    async def pause(self, seconds: float) -> None:
        while seconds > 0 and not self._backlog.leaving.is_set():
            await asyncio.sleep(min(seconds, self._nap))
            seconds -= self._nap

    def watch(self, function: Function) -> Function:
        """Return ``function``, with no more time than the watchdog allows."""
        if self._watchdog is None:
            return function
        return partial(self._in_time, self._watchdog, function)

    async def _in_time(self, watchdog: Watchdog, function: Function,
                       job: Any) -> Any:
        """Await a call, but no longer than the watchdog allows.

        Then it is cancelled; as long again, and it is on the watchdog, as one
        that does not let itself be cancelled.
        """
        task: Any = asyncio.current_task()
        jobs = self._chunk.at(job)
        late = False

        def cancel() -> None:
            nonlocal late
            late = True
            if not self._chunk.forgotten:
                watchdog.begin(self._slot, *jobs)
            task.cancel()
        timer = asyncio.get_running_loop().call_later(watchdog.limit, cancel)
        try:
            return await function(job)
        except asyncio.CancelledError:
            if not late:
                raise
            raise asyncio.TimeoutError(
                f'it took longer than {watchdog.limit:g} s '
                '(--job-timeout)') from None
        finally:
            timer.cancel()
            if late:
                watchdog.end(self._slot)


class _Waiting:
    """One waits for jobs on a thread, for all tasks: there may be thousands.

    No wait here ends before its time, or jobs would be lost.
    """

    def __init__(self, backlog: Backlog, executor: Executor):
        self._backlog = backlog
        self._executor = executor
        self._turn = asyncio.Lock()

    async def take(self) -> Chunk | None:
        """Return the next chunk, or None when there will be no more."""
        while True:
            try:
                async with self._turn:
                    return (self._backlog.take(wait=False)
                            or await self._take())
            except asyncio.CancelledError:
                pass

    async def _take(self) -> Chunk | None:
        taking = asyncio.get_running_loop().run_in_executor(
            self._executor, self._backlog.take)
        await _all_of([taking])
        return taking.result()


async def _all_of(futures: Collection[asyncio.Future[Any]]) -> None:
    """Wait until all are done, whoever cancels the task that waits."""
    while not all(future.done() for future in futures):
        try:
            await asyncio.wait(futures)
        except asyncio.CancelledError:
            pass
