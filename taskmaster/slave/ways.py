"""How a handler speaks with its slave: what has failed, when to hurry."""

from __future__ import annotations

from ..errors import Fault
from ..forks import is_child
from ..records import TYPE_CHECKING
from ..usercode.tools import Ending
from .backlog import Backlog
from .chunk import Chunk

if TYPE_CHECKING:
    from typing import Any

    from ..usercode.signature import Function
    from .watchdog import Watchdog


class ChunkWays:
    """While it works on a chunk, for a worker that is a thread."""

    __slots__ = 'interrupt', '_backlog', '_chunk', '_watchdog', '_slot'

    ending: Ending = (Fault,)

    def __init__(self, backlog: Backlog, chunk: Chunk,
                 watchdog: Watchdog | None, slot: int):
        self.interrupt = chunk.interrupt
        self._backlog = backlog
        self._chunk = chunk
        self._watchdog = watchdog
        self._slot = slot

    def fail(self, error: BaseException, attempts: int, cause: str) -> None:
        self._backlog.fail(self._chunk, error, attempts, cause)

    def position(self) -> int:
        return self._backlog.position(self._chunk)

    def pause(self, seconds: float) -> Any:
        return self._backlog.leaving.wait(seconds)

    def watch(self, function: Function) -> Function:
        """Return ``function``, with each call shown to the watchdog."""
        watchdog, chunk, slot = self._watchdog, self._chunk, self._slot
        if watchdog is None:
            return function

        def watched(job: Any) -> Any:
            try:
                watchdog.begin(slot, *chunk.at(job))
                if chunk.forgotten:     # another job has its number by now
                    watchdog.begin(slot, 0, 0)
            except BaseException as error:      # no failure of the job
                raise Fault.of(error, 'the watchdog') from error
            try:
                return function(job)
            finally:
                if not is_child():      # it is the parent's watchdog
                    watchdog.end(slot)
        return watched
