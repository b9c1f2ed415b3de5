"""The workers of a slave: they take chunks of jobs and call the handler.

One worker is the main thread, so that `signal`, `sqlite3` and debuggers
behave; more of them are threads; for an `async` handler they are tasks of
one event loop, on the main thread.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Callable

from ..errors import OperatorError
from ..timing import STANDARD, Timing
from ..usercode.handler import Handler, Ways
from ..usercode.signature import Function
from .backlog import Backlog
from .chunk import Chunk
from .watchdog import Watchdog

if TYPE_CHECKING:       # most slaves do without
    import asyncio

# So many signs of life a slave gives in the time that a job may take.
BEATS = 8


class Workers:
    """``backlog.workers`` of them, which call ``handler``.

    ``watchdog`` is where to write who is at which job, for a supervisor to
    see, if it wants to.
    """

    def __init__(self, backlog: Backlog, handler: Handler,
                 watchdog: Watchdog | None = None,
                 timing: Timing = STANDARD):
        self._backlog = backlog
        self._handler = handler
        self._watchdog = watchdog
        self._timing = timing
        self._errors: list[OperatorError] = []

    def run(self, ready: Callable[[], None]) -> None:
        """Work until there are no more jobs.

        Calls ``ready`` when all workers are set up.  Raises OperatorError
        when `setup` raises; before that, then no job was taken.
        """
        count = self._backlog.workers
        if self._handler.is_async:
            import asyncio
            asyncio.run(self._work_async(ready))
            return
        ended = threading.Event()
        if self._watchdog is not None:
            self._watchdog.beat()          # before any job can hold the GIL
            threading.Thread(target=self._beat, args=(self._watchdog, ended),
                             name='beat', daemon=True).start()
        barrier = threading.Barrier(count, ready)
        if count == 1:
            self._work(barrier, 0)
        else:
            threads = [threading.Thread(target=self._work, args=(barrier, n),
                                        name=f'worker-{n + 1}')
                       for n in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        ended.set()
        for error in self._errors:
            raise error

    # -- a thread ---------------------------------------------------------

    def _work(self, barrier: threading.Barrier, slot: int) -> None:
        backlog = self._backlog
        try:
            with self._handler.set_up() as call:
                barrier.wait()
                while True:
                    chunk = backlog.take()
                    if chunk is None:
                        break
                    self._handler.work(
                        self._watched(call, chunk, slot), chunk,
                        Ways(partial(backlog.fail, chunk),
                             backlog.leaving.wait, chunk.interrupt))
                    backlog.bring(chunk)
        except OperatorError as error:
            self._errors.append(error)
            barrier.abort()
        except threading.BrokenBarrierError:
            pass                # another worker could not be set up

    def _beat(self, watchdog: Watchdog, ended: threading.Event) -> None:
        """Tell the supervisor that no job holds the GIL."""
        while not ended.wait(watchdog.limit / BEATS):
            watchdog.beat()

    def _watched(self, call: Function, chunk: Chunk, slot: int) -> Function:
        """``call``, with each call of it shown to the watchdog."""
        watchdog = self._watchdog
        if watchdog is None:
            return call

        def watched(job: Any) -> Any:
            first = chunk.current()
            count = len(job) if self._handler.lists else 1
            watchdog.begin(slot, first, first + count - 1)
            if chunk.forgotten:       # another job has its number by now
                watchdog.begin(slot, 0, 0)
            try:
                return call(job)
            finally:
                watchdog.end(slot)
        return watched

    # -- an event loop ----------------------------------------------------

    async def _work_async(self, ready: Callable[[], None]) -> None:
        import asyncio
        waiting = asyncio.Lock()
        async with self._handler.set_up_async() as call:
            ready()
            beat = asyncio.ensure_future(self._beat_async())
            await asyncio.gather(*(self._task(call, waiting)
                                   for _ in range(self._backlog.workers)))
            beat.cancel()
            await asyncio.wait([beat])

    async def _task(self, call: Function, waiting: asyncio.Lock) -> None:
        backlog = self._backlog
        while True:
            # One waits for all, on a thread, as there may be thousands.
            chunk = backlog.take(wait=False)
            if chunk is None:
                async with waiting:
                    chunk = (backlog.take(wait=False)
                             or await _on_thread(backlog.take))
            if chunk is None:
                return
            await self._handler.work_async(
                call if self._watchdog is None else
                partial(self._in_time, self._watchdog, call, chunk), chunk,
                Ways(partial(backlog.fail, chunk), self._pause,
                     chunk.interrupt))
            backlog.bring(chunk)

    async def _pause(self, seconds: float) -> None:
        import asyncio
        nap = self._timing.nap
        while seconds > 0 and not self._backlog.leaving.is_set():
            await asyncio.sleep(min(seconds, nap))
            seconds -= nap

    async def _beat_async(self) -> None:
        """Tell the supervisor that the event loop goes on.

        When it does not, nobody knows which of its jobs is at fault.
        """
        import asyncio
        watchdog = self._watchdog
        if watchdog is None:
            return
        try:
            while True:
                watchdog.begin(0, 0, 0)
                await asyncio.sleep(watchdog.limit / BEATS)
        finally:
            watchdog.end(0)

    async def _in_time(self, watchdog: Watchdog, call: Function, chunk: Chunk,
                       job: Any) -> Any:
        """``await call(job)``, but no longer than the watchdog allows.

        Then it is cancelled; as long again, and it is on the watchdog, as one
        that does not let itself be cancelled.
        """
        import asyncio
        task: Any = asyncio.current_task()
        first = chunk.current()
        count = len(job) if self._handler.lists else 1
        late = False

        def cancel() -> None:
            nonlocal late
            late = True
            if not chunk.forgotten:
                watchdog.begin(1, first, first + count - 1)
            task.cancel()
        timer = asyncio.get_running_loop().call_later(watchdog.limit, cancel)
        try:
            return await call(job)
        except asyncio.CancelledError:
            if not late:
                raise
            if hasattr(task, 'uncancel'):       # from 3.11 on
                task.uncancel()
            raise asyncio.TimeoutError(
                f'it took longer than {watchdog.limit:g} s '
                '(--job-timeout)') from None
        finally:
            timer.cancel()
            if late:
                watchdog.end(1)


async def _on_thread(function: Callable[[], Any]) -> Any:
    import asyncio
    return await asyncio.get_running_loop().run_in_executor(None, function)
