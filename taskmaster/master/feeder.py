"""The operator's generator, on its background thread.

The feeder iterates `get_jobs` into the queue and waits while that is full.
Only StopIteration is the end of the source; whatever else comes out of it
stops the run, after what is queued has finished.
"""

import pickle
import threading
from itertools import chain, islice
from typing import Any, Callable, Iterator, Optional

from ..errors import OperatorError
from ..usercode.source import (MUTABLE, Opener, after_last, opened, raised,
                               same_again)
from ..wire.messages import PICKLE
from .jobqueue import JobQueue


class Feeder(threading.Thread):
    """Feeds ``queue`` from what ``source()`` yields.

    ``skip`` says of the first job whether an earlier run has finished it;
    ``limit`` is how many jobs to feed at most.

    After the thread has ended `error` is None, or why it ended early.
    """

    def __init__(self, queue: JobQueue, source: Opener,
                 skip: Callable[[Any], bool] = lambda job: False,
                 limit: Optional[int] = None):
        super().__init__(name='feeder', daemon=True)
        self.error: Optional[OperatorError] = None
        self._queue = queue
        self._source = source
        self._skip = skip
        self._limit = limit

    def run(self) -> None:
        try:
            jobs = after_last(opened(self._source), self._skip, self._limit)
            self._feed(self._guarded(jobs))
        except BaseException as error:
            self.error = raised(error)
        finally:
            self._queue.end()

    def _guarded(self, jobs: Iterator[Any]) -> Iterator[Any]:
        """The first job, safe from a source that changes it, and the rest.

        A source that yields one object again and again is found out at
        its second job; the first, by then leased and perhaps saved as the
        watermark, must be what it was when it was yielded.
        """
        for first in jobs:
            if not isinstance(first, MUTABLE):
                return chain((first,), jobs)
            try:
                copy = pickle.loads(pickle.dumps(first, PICKLE))
            except Exception:       # it will fail as a job, by its key
                copy = first
            self._queue.put(copy)
            for second in jobs:
                if second is first:
                    raise same_again(second)
                return chain((second,), jobs)
        return jobs

    def _feed(self, jobs: Iterator[Any]) -> None:
        """The hot path: once per job, without a lock."""
        queue = self._queue
        waiters = queue.waiters
        previous = None
        while True:
            page, room = queue.page()
            append = page.append
            for job in islice(jobs, room):
                if job is previous and isinstance(job, MUTABLE):
                    raise same_again(job)
                previous = job
                append(job)
                if waiters and not queue.waking:
                    queue.wake()
            if len(page) < room or not room:
                return
