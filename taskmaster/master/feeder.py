"""The operator's generator, on its background thread.

The feeder iterates `get_jobs` into the queue and waits while that is full.
Only StopIteration is the end of the source; whatever else comes out of it
stops the run, after what is queued has finished.
"""

from __future__ import annotations

import pickle
import threading
from itertools import islice
from typing import Any, Callable, Iterator

from .. import forks, logs
from ..errors import Fault, OperatorError, TaskmasterError
from ..service import Service
from ..usercode.source import (MUTABLE, Opener, after_last, opened, raised,
                               same_again)
from ..wire.messages import PICKLE
from .jobqueue import JobQueue
from .lease_size import QUEUE_BYTES

log = logs.logger(__name__)

# What the source yields when it yields nothing.
_NONE = object()


# Of so many jobs one is weighed.
SAMPLE = 100


class Feeder(Service):
    """Feeds ``queue`` from what ``source()`` yields, on this thread.

    ``skip`` says of the first job whether an earlier run has finished it;
    ``limit`` is how many jobs to feed at most; ``failed`` as of a Service.

    After the thread has ended `error` is None, or why the source ended
    early.
    """

    def __init__(self, queue: JobQueue, source: Opener,
                 skip: Callable[[Any], bool] = lambda job: False,
                 limit: int | None = None,
                 failed: Callable[[TaskmasterError], None] = lambda e: None):
        super().__init__('feeder', self._run, failed)
        forks.call_in_child(self._in_child)
        self.error: OperatorError | None = None
        self._queue = queue
        # Bytes of a job, of which a full queue weighs little.
        self._light = QUEUE_BYTES / queue.maxsize / 8
        self._source = source
        self._skip = skip
        self._limit = limit

    def _run(self) -> None:
        try:
            jobs = after_last(opened(self._source), self._skip, self._limit)
            first = next(jobs, _NONE)
            job = _copied(first)
            self._queue.weight.observe(1, _size(job))
        except BaseException as error:
            if forks.is_child():
                forks.end_child(error)
            self.error = raised(error)
        else:
            if forks.is_child():
                forks.end_child()
            if first is not _NONE and self._queue.put(job):
                self._feed(jobs, first)
        log.debug('no more is asked of get_jobs, after %d jobs of this '
                  'start', self._queue.fed)
        self._queue.end()

    def _feed(self, jobs: Iterator[Any], previous: Any) -> None:
        """The hot path: once per job, without a lock."""
        queue, weight, light = self._queue, self._queue.weight, self._light
        waiters = queue.waiters
        hungry = waiters.hungry
        sample = 1                  # jobs until one is weighed
        while True:
            page, left = queue.page()
            append = page.append
            room = left
            try:
                while left > 0:
                    part = sample if sample < left else left
                    left -= part
                    for job in islice(jobs, part):
                        if job is previous and isinstance(job, MUTABLE):
                            raise same_again(job)
                        previous = job
                        append(job)
                        if hungry and not waiters.waking:
                            self._wake()
                    if len(page) + left < room:
                        break           # the source has ended
                    size = _size(previous)
                    # Of light ones nothing is to be learned.
                    if size > light or weight.each > light:
                        weight.observe(1, size)
                        if weight.held() < room:
                            room -= left
                            break       # they are heavier than they were
                    if sample < SAMPLE:
                        sample = min(2 * sample, SAMPLE)
            except Fault:
                raise
            except BaseException as error:
                if forks.is_child():
                    forks.end_child(error)
                self.error = raised(error)
                return
            if forks.is_child():
                forks.end_child()
            if len(page) < room or not room:
                return

    def _wake(self) -> None:
        if forks.is_child():
            forks.end_child()
        try:
            self._queue.waiters.feed_one()
        except BaseException as error:      # no fault of the source
            raise Fault.of(error, 'the feeder thread') from error

    def _in_child(self) -> None:
        """A child that leaves get_jobs has nothing to do here.

        It has forked in there, and yields; so `_wake` is called at once.
        """
        waiters = self._queue.waiters
        waiters.hungry.append(threading.Condition())
        waiters.waking = False


def _size(job: Any) -> int:
    """Return how many bytes it is pickled; 1 if it will fail as a job."""
    try:
        return len(pickle.dumps(job, PICKLE))
    except BaseException:
        return 1


def _copied(job: Any) -> Any:
    """Return the first job, safe from a source that changes it.

    A source that yields one object again and again is found out at its
    second job; the first, by then leased and perhaps saved as the watermark,
    must be what it was when it was yielded.
    """
    if not isinstance(job, MUTABLE):
        return job
    try:
        return pickle.loads(pickle.dumps(job, PICKLE))
    except BaseException:       # it will fail as a job, by its key
        return job
