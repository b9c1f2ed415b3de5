"""Limits of one start, by which it ends before its source does: resumably."""

from __future__ import annotations

import time

from .. import logs
from ..records import TYPE_CHECKING
from ..settings import Settings
from .jobqueue import JobQueue

if TYPE_CHECKING:
    from typing import Callable

log = logs.logger(__name__)


class Limits:
    """`--limit` in jobs, `--max-runtime` in seconds from the first look."""

    def __init__(self, queue: JobQueue, settings: Settings,
                 clock: Callable[[], float] = time.monotonic):
        self._queue = queue
        self._jobs = settings.limit
        self._seconds = settings.max_runtime
        self._clock = clock
        self._until: float | None = None
        self._out_of_time = False

    @property
    def option(self) -> str:
        """The option that ends the run, beyond which may be jobs; or ''."""
        if not self._queue.complete:
            return '--max-runtime' if self._out_of_time else ''
        return ('--limit' if self._jobs is not None
                and self._queue.fed >= self._jobs else '')

    def look(self) -> None:
        """Drain the queue, if the time is over."""
        if self._seconds is None or self._queue.draining:
            return
        now = self._clock()
        if self._until is None:
            self._until = now + self._seconds
        if now >= self._until:
            self._out_of_time = True
            log.info('--max-runtime: jobs in hand are finished and saved')
            self._queue.drain('draining')
