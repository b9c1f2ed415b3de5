"""The workers of a slave: they take chunks of jobs and call the handler.

One worker is the main thread, so that `signal`, `sqlite3` and debuggers
behave; more of them are threads; for an `async` handler they are tasks of
one event loop, on the main thread (see `tasks`).
"""

from __future__ import annotations

import threading
from functools import partial

from ..errors import Fault, TaskmasterError
from ..records import TYPE_CHECKING
from ..service import Service
from ..timing import STANDARD, Timing
from ..usercode.alarms import Alarms
from ..usercode.handler import Handler
from .backlog import Backlog
from .chunk import Chunk
from .ways import ChunkWays

if TYPE_CHECKING:
    from typing import Callable

    from .watchdog import Watchdog


class Workers:
    """``backlog.workers`` of them, which call ``handler``.

    ``watchdog`` is where to write who is at which job, for a supervisor to
    see, if it wants to; ``failed`` is called at once with what has failed
    a worker, which `run` raises when all of them have ended.
    """

    def __init__(self, backlog: Backlog, handler: Handler,
                 watchdog: Watchdog | None = None,
                 timing: Timing = STANDARD,
                 failed: Callable[[TaskmasterError], None] = lambda e: None):
        self._backlog = backlog
        self._handler = handler
        self._tell_failed = failed
        self._watchdog = watchdog
        self._timing = timing
        self._errors: list[TaskmasterError] = []

    def run(self, ready: Callable[[], None]) -> None:
        """Work until there are no more jobs.

        Calls ``ready`` when all workers are set up.  Raises OperatorError
        when `setup` raises; before that, then no job was taken.  A Fault
        ends all workers.
        """
        if self._handler.is_async:
            from .tasks import Tasks
            Tasks(self._backlog, self._handler, self._watchdog,
                  self._timing).run(ready)
        else:
            self._run_threads(ready)

    def _run_threads(self, ready: Callable[[], None]) -> None:
        count = self._backlog.workers
        ended = threading.Event()
        if self._watchdog is not None:
            self._watchdog.beat()          # before any job can hold the GIL
            Service('beat', partial(self._beat, self._watchdog, ended),
                    self._failed).start()
        barrier = threading.Barrier(count, ready)
        if count == 1:
            self._work(barrier, 0)
        else:
            threads = [threading.Thread(target=self._work, args=(barrier, n),
                                        name=f'worker-{n + 1}')
                       for n in range(count)]
            Alarms().hold()     # they would raise in the wait for threads
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        ended.set()
        for error in self._errors:
            raise error

    def _work(self, barrier: threading.Barrier, slot: int) -> None:
        """The loop of one worker."""
        backlog = self._backlog
        chunk = None
        try:
            with self._handler.set_up() as tools:
                barrier.wait()
                while True:
                    chunk = backlog.take()
                    if chunk is None:
                        break
                    self._handler.work(tools, chunk, ChunkWays(
                        backlog, chunk, self._watchdog, slot))
                    backlog.bring(chunk)
        except threading.BrokenBarrierError:
            pass                # another worker could not be set up
        except BaseException as error:
            barrier.abort()
            self._failed(error if isinstance(error, TaskmasterError)
                         else Fault.of(error, 'a worker'), chunk)

    def _failed(self, error: TaskmasterError,
                chunk: Chunk | None = None) -> None:
        self._errors.append(error)
        self._backlog.abandon(chunk)
        self._tell_failed(error)

    def _beat(self, watchdog: Watchdog, ended: threading.Event) -> None:
        """Tell the supervisor that no job holds the GIL."""
        while not ended.wait(watchdog.every):
            watchdog.beat()
