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
    """`--limit` in jobs, `--max-runtime` in seconds from the first look.

    And `--max-failures`, which the ledger counts.
    """

    def __init__(self, queue: JobQueue, settings: Settings,
                 clock: Callable[[], float] = time.monotonic):
        self._queue = queue
        self._jobs = settings.limit
        self._seconds = settings.max_runtime
        self._clock = clock
        self._until: float | None = None
        self._out_of_time = False
        self._too_many = False      # jobs have failed, which is not said yet

    @property
    def option(self) -> str:
        """The option that ends the run, beyond which may be jobs; or ''."""
        if not self._queue.complete:
            return '--max-runtime' if self._out_of_time else ''
        return ('--limit' if self._jobs is not None
                and self._queue.fed >= self._jobs else '')

    def too_many(self, over: bool) -> bool:
        """Whether to say now, once, that `--max-failures` is reached.

        The queue is drained at once; it is said when those that have failed
        have been, or the run is ``over``.
        """
        queue = self._queue
        if queue.too_many and not queue.draining:
            queue.drain('draining', give_back=True)
            self._too_many = True
        now = self._too_many and (over or not queue.unrecorded())
        self._too_many = self._too_many and not now
        return now

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
