"""The operator's generator, on its background thread.

The feeder iterates `get_jobs` into the queue and waits while that is full.
Only StopIteration is the end of the source; whatever else comes out of it
stops the run, after what is queued has finished.
"""

from __future__ import annotations

import pickle
import threading
import time
from itertools import compress, islice
from types import GeneratorType

from .. import forks, logs
from ..errors import Fault, OperatorError, TaskmasterError
from ..records import TYPE_CHECKING
from ..service import Service
from ..text import counted, summary
from ..usercode.source import (after_last, may_change, opened, raised,
                               same_again)
from ..wire.messages import PICKLE
from .jobqueue import JobQueue
from .lease_size import QUEUE_BYTES
from .ready import are_ints, repeated

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

    from ..usercode.source import Opener

log = logs.logger(__name__)

# What the source yields when it yields nothing.
_NONE = object()


# Of so many jobs one is weighed; and so many come at once, at most.
SAMPLE = 100
# Seconds that a piece of them may take, or the next one is smaller: then they
# come one by one, and who waits has each as soon as it is there.
QUICK = 0.001


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
        self._tickets = [True] * SAMPLE     # see _in_child

    def _run(self) -> None:
        source: Any = None
        try:
            jobs = source = opened(self._source)
            first = next(after_last(source, self._skip), _NONE)
            if self._limit is not None:
                jobs = islice(source, self._limit - 1)
            job, size = _copied(first)
            self._queue.weight.observe(1, size)
        except BaseException as error:
            if forks.is_child():
                forks.end_child(error)
            self.error = raised(error)
        else:
            if forks.is_child():
                forks.end_child()
            if first is not _NONE and self._queue.put(job):
                self._feed(jobs, first)
        log.debug('no more is asked of get_jobs, after %s of this start',
                  counted(self._queue.fed, 'job'))
        self._queue.end()
        _close(source)

    def _feed(self, jobs: Iterator[Any], previous: Any) -> None:
        """The hot path: once for some jobs, without a lock."""
        queue, weight, light = self._queue, self._queue.weight, self._light
        waiters = queue.waiters
        hungry = waiters.hungry
        piece = sample = left = 1   # jobs at once; until one is weighed
        while True:
            page, room = queue.page()
            began, fed = time.monotonic(), 0
            try:
                while fed < room and not queue.closed:
                    part = piece if piece < left else left
                    if part > room - fed:
                        part = room - fed
                    if part > 1 and fed and not (
                            hungry and not waiters.waking):
                        self._some(page, jobs, part)
                    else:
                        part = 1
                        self._one(page, jobs, previous)
                    fed += part
                    if len(page) < fed:
                        break           # the source has ended
                    now = time.monotonic()
                    if now - began > QUICK:
                        piece = piece // 2 or 1
                    elif piece < SAMPLE:
                        piece *= 2
                    began = now
                    previous = page[-1]
                    left -= part
                    if not left:
                        left = sample = min(2 * sample, SAMPLE)
                        # Of light ones nothing is to be learned.
                        if type(previous) is int and weight.each <= light:
                            if piece >= SAMPLE:
                                if self._ints(page, jobs, room):
                                    break
                                began, fed = time.monotonic(), len(page)
                                previous = page[-1]
                                piece //= 2     # it may be slow by now
                            if type(previous) is int:
                                continue
                        size = _size(previous)
                        if size > light or weight.each > light:
                            weight.observe(1, size)
                            if weight.held() < room:
                                room = fed      # heavier than they were
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

    def _one(self, page: list[Any], jobs: Iterator[Any],
             previous: Any) -> None:
        """Feed one job, if there is one, and wake who waits for it."""
        for job in jobs:
            if job is previous and may_change(job):
                raise same_again(job)
            page.append(job)
            waiters = self._queue.waiters
            if waiters.hungry and not waiters.waking:
                self._wake()
            return

    def _some(self, page: list[Any], jobs: Iterator[Any], count: int) -> None:
        """Feed so many, if there are as many, at the speed of C.

        Leases may take them at once, and whoever begins to wait meanwhile
        sees them when the lock is next let go of, at the latest after a
        `Timing.tick`: so this is for a source that is quick.
        """
        start = len(page)
        self._queue.ready.unsure = start
        try:
            page.extend(compress(islice(jobs, count), self._tickets))
        finally:        # also before the source has raised
            self._look(page, start)

    def _ints(self, page: list[Any], jobs: Iterator[Any], room: int) -> bool:
        """Feed some again and again, while they are ints, and quick.

        A source of ints yields as fast as we can be.  Return whether it has
        ended.
        """
        queue, hungry = self._queue, self._queue.waiters.hungry
        ready, extend, tickets = queue.ready, page.extend, self._tickets
        fed = upto = len(page)
        began = time.monotonic()
        try:
            while fed + SAMPLE <= room and not (hungry or queue.closed):
                ready.unsure = fed
                upto = fed + SAMPLE
                extend(compress(islice(jobs, SAMPLE), tickets))
                if not are_ints(page[fed:]):
                    break
                fed = len(page)
                now = time.monotonic()
                if fed < upto or now - began > QUICK:
                    break
                began = now
        finally:
            self._look(page, fed)
        return len(page) < upto

    def _look(self, page: list[Any], start: int) -> None:
        """Raise if one that may change came twice running, from there on."""
        again = repeated(page, start, len(page))
        if again is not None:
            job = page[again]
            del page[again:]            # nobody was given them
            raise same_again(job)
        self._queue.ready.unsure = None

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
        waiters.hungry[threading.Condition()] = None
        waiters.waking = False
        # Of a piece that is fetched in C nothing more is: `compress` ends
        # with its second argument, whatever the source has.
        self._tickets.clear()


def _size(job: Any) -> int:
    """Return how many bytes it is pickled; 1 if it will fail as a job."""
    try:
        return len(pickle.dumps(job, PICKLE))
    except BaseException:
        return 1


def _copied(job: Any) -> tuple[Any, int]:
    """Return the first job, safe from a source that changes it, and its size.

    A source that yields one object again and again is found out at its
    second job; the first, by then leased and perhaps saved as the watermark,
    must be what it was when it was yielded.
    """
    try:
        pickled = pickle.dumps(job, PICKLE)
    except BaseException:       # it will fail as a job, by its key
        return job, 1
    try:
        copy = pickle.loads(pickled) if may_change(job) else job
        # Of an object that leaves out some of itself there is no copy.
        whole = _names(copy) >= _names(job)
    except BaseException:
        whole = False
    return copy if whole else job, len(pickled)


def _close(source: Any) -> None:
    """End a generator that is not at its end: what follows its yield runs."""
    try:
        if isinstance(source, GeneratorType):
            source.close()
    except BaseException as error:
        if not forks.is_child():
            log.warning('get_jobs raised %s when it was closed before its '
                        'end', summary(error))
    if forks.is_child():
        forks.end_child()


def _names(job: Any) -> set[str]:
    return set(getattr(job, '__dict__', ()))
