"""The backlog, all that a slave has in hand: leases, jobs, reports to make.

Workers take chunks of jobs from it and bring them back; the link adds leases
and takes reports.  One lock round it; nothing under it takes long.  A job is
in hand from its lease until the master has its report.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from .. import forks
from ..records import TYPE_CHECKING, NamedTuple
from ..text import summary, traceback_of
from ..wire.fields import RANGES, TEXT, TRACEBACK, Range, merged
from ..wire.messages import FailureReport, Refusal, Report
from .chunk import Chunk, Lease
from .pace import Pace

if TYPE_CHECKING:
    from typing import Any, Callable, Sequence

# Unreported failures, after which a slave reports before it does more.
URGENT = 10


class Appetite(NamedTuple):
    """What the link should see to."""

    want: int           # jobs to ask for: 0 while the next lease is there
    hungry: bool        # a worker waits for jobs
    empty: bool         # there is nothing to do nor being done
    urgent: bool        # there is something that the master must know
    unreported: bool    # something is finished that it does not know


class Backlog:
    """All that one slave has in hand.

    ``workers`` take chunks, of lists of ``batch`` jobs where that is more
    than one; ``quota`` is how many jobs to take from the master in all.
    """

    def __init__(self, workers: int = 1, batch: int = 1,
                 quota: int | None = None,
                 clock: Callable[[], float] = time.monotonic):
        self.workers = workers
        self.batch = batch
        self.span = 0.1                 # seconds; the master's wish
        self.leaving = threading.Event()    # no more jobs are begun, for good
        self._quota = quota             # what is left of it
        self._pace = Pace(workers, batch)
        self._clock = clock
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)    # for the workers
        self._news = threading.Condition(self._lock)    # for the link
        self._leases: deque[Chunk] = deque()            # not begun
        self._chunks: list[Chunk] = []                  # in workers' hands
        self._done: list[Range] = []                    # to be reported
        self._failed: list[FailureReport] = []
        self._refused: list[Refusal] = []
        self._recalled = False          # until the chunks are brought back
        self._closed = False
        self._idle = 0                  # workers that wait
        self._changes = 0               # counts what the link may act on
        self._seen = 0
        self._known: Any = None         # what it knows (see `_state`)
        forks.call_in_child(self._in_child)

    # -- the workers' side ------------------------------------------------

    def take(self, wait: bool = True) -> Chunk | None:
        """Wait for jobs; return None when there will be no more.

        Without ``wait`` None may also mean that there are none now.
        """
        with self._lock:
            if wait and not self._offers():
                self._idle += 1
                self._tell()
                while not (self._offers() or self._closed):
                    self._work.wait()
                self._idle -= 1
            if self._closed or not self._offers():
                return None
            self._chunks.append(chunk := self._slice())
            chunk.started = self._clock()
            self._tell_of_change()
            return chunk

    def bring(self, chunk: Chunk) -> None:
        """A worker brings a chunk back: finished, or as far as it came."""
        with self._lock:
            if chunk not in self._chunks:       # forgotten
                self._tell()
                return
            begun = chunk.begun()
            self._pace.observe(begun, self._clock() - chunk.started,
                               self.span, chunk.first)
            self._done += chunk.take_done(begun)
            self._chunks.remove(chunk)
            if begun < len(chunk.jobs):
                self._leases.extendleft(reversed(chunk.rest(begun)))
                self._work.notify_all()
            self._tell_of_change()

    def abandon(self, chunk: Chunk | None) -> None:
        """A worker has failed, maybe with a chunk: how far it came is unknown.

        So nobody says so, and when this slave has left, which it is to do,
        the master gives the chunk to others.
        """
        with self._lock:
            if chunk in self._chunks:
                self._chunks.remove(chunk)
        self.drain()

    def fail(self, chunk: Chunk, error: BaseException, attempts: int = 1,
             cause: str = '') -> None:
        """The job that this chunk has begun last has failed.

        ``cause`` is what its first attempt raised, if that was another error.
        """
        with self._lock:
            if chunk not in self._chunks:
                return
            number = chunk.current()
            chunk.failed.append(number)
            self._failed.append(FailureReport(
                number, summary(error, TEXT),
                traceback_of(error)[-TRACEBACK:], attempts, cause))
            if len(self._failed) >= URGENT:
                self._interrupt()

    def position(self, chunk: Chunk) -> int:
        """Return which of the chunk's jobs its worker is at, from 0 on."""
        with self._lock:        # it may be cut short meanwhile
            return chunk.finished()

    # -- the link's side --------------------------------------------------

    def add(self, first: int, jobs: list[Any], pickled: Any) -> None:
        """Take in a lease, of jobs numbered from ``first`` on.

        ``pickled`` is a pickle of all of them, in bytes.
        """
        with self._lock:
            if self._quota is not None:
                self._quota -= len(jobs)
            self._leases.append(Chunk(first, jobs, Lease(first, pickled)))
            self._work.notify(self.workers)

    def refuse(self, first: int, last: int, error: str) -> None:
        """These jobs cannot be unpickled here."""
        with self._lock:
            self._refused.append(Refusal(first, last, error))

    def wait(self, seconds: float) -> bool:
        """Wait until something has changed (True), or time is up (False)."""
        with self._lock:
            if self._changes == self._seen:
                self._news.wait(seconds)
            changed = self._changes != self._seen
            self._seen = self._changes
            return changed

    def appetite(self) -> Appetite:
        """Return what the link should see to now."""
        with self._lock:
            none = (bool(self._leases) or self._stopped or self._closed)
            self._known = self._state()
            want = self._pace.want()
            if self._quota is not None:
                want = min(want, max(self._quota, 0))
            return Appetite(
                want=0 if none else want,
                hungry=self._idle > 0 and not none,
                empty=self._empty,
                urgent=(len(self._failed) >= URGENT or bool(self._refused)),
                unreported=bool(self._done or self._failed or self._refused))

    @property
    def spent(self) -> bool:
        """Whether the quota is used up, and all of it is finished."""
        with self._lock:
            return self._quota is not None and self._quota <= 0 and self._empty

    def report(self, start_id: str) -> Report:
        """Return what is finished and not reported, of running chunks too.

        Not more at once than a message may hold.
        """
        with self._lock:
            for chunk in self._chunks:
                self._done += chunk.take_done(chunk.finished())
            return Report(start_id, self._done[:RANGES], self._failed[
                :2 * URGENT], list(self._refused), self._pace.times())

    def reported(self, report: Report) -> None:
        """The master has this report."""
        with self._lock:
            del self._done[:len(report.done)]
            del self._failed[:len(report.failed)]
            del self._refused[:len(report.refused)]
            self._work.notify_all()     # it may have waited for this

    def holds(self) -> list[Range]:
        """Return all that is in hand, the unreported too.

        Not more ranges than a message may hold: what is left out the master
        gives to others, and a late report of it is taken all the same.
        """
        with self._lock:
            return merged(
                self._done
                + [(failed.number, failed.number) for failed in self._failed]
                + [(refused.first, refused.last) for refused in self._refused]
                + [(chunk.first, chunk.last) for chunk in self._leases]
                + [jobs for chunk in self._chunks
                   for jobs in chunk.unreported()])[:RANGES]

    def doing(self) -> list[str]:
        """Return which jobs are being done and since when, a line each."""
        with self._lock:
            return [f'in hand: job {chunk.current()} of this start; '
                    f'{chunk.finished()} of {len(chunk.jobs)} done in '
                    f'{self._clock() - chunk.started:.1f} s'
                    for chunk in self._chunks]

    def keep(self, ranges: Sequence[Range]) -> None:
        """Forget what has not been begun but for these ranges."""
        with self._lock:
            self._leases = deque(part for chunk in self._leases
                                 for part in chunk.within(ranges))
            for chunk in self._chunks:
                chunk.keep = ranges
            self._interrupt()

    def forget(self) -> None:
        """It is another start now: what was in hand means nothing to it."""
        with self._lock:
            self._interrupt()
            self._recalled = False
            for chunk in self._chunks:
                chunk.forgotten = True
            self._chunks.clear()
            self._leases.clear()
            self._done.clear()
            self._failed.clear()
            self._refused.clear()

    def drain(self) -> None:
        """Begin no more jobs."""
        with self._lock:
            self.leaving.set()
            self._interrupt()

    def recall(self) -> None:
        """Begin nothing of what is in hand now: it is to be given back."""
        with self._lock:
            self._recalled = True
            self._interrupt()

    def give_back(self) -> list[Range]:
        """Let go of what is to be given back and is not begun; return it."""
        with self._lock:
            if not self._stopped:
                return []
            ranges = [(chunk.first, chunk.last) for chunk in self._leases]
            self._leases.clear()
            for chunk in self._chunks:
                ranges += chunk.cut_short()
            if not self._chunks:
                self._recalled = False
            return ranges

    def close(self) -> None:
        """No more jobs will come: the workers end."""
        with self._lock:
            self._closed = True
            self._interrupt()
            self._work.notify_all()

    def _in_child(self) -> None:
        """A forked child leaves with the job that it is in."""
        for chunk in self._chunks:      # no lock: it is as the parent left it
            chunk.interrupt.append(True)

    # -- under the lock ---------------------------------------------------

    @property
    def _empty(self) -> bool:
        return not self._chunks and not self._leases

    @property
    def _stopped(self) -> bool:
        """Whether none of what is in hand is to be begun."""
        return self._recalled or self.leaving.is_set()

    def _offers(self) -> bool:
        """Whether there is something for a worker to take."""
        return bool(self._leases) and not (
            self._stopped or len(self._failed) >= URGENT)

    def _tell(self) -> None:
        self._changes += 1
        self._news.notify()

    def _tell_of_change(self) -> None:
        """Not each time: ten thousand chunks a second may come and go."""
        if self._state() != self._known:
            self._tell()

    def _state(self) -> tuple[bool, bool, bool]:
        """Return what the link acts on, of what changes with each chunk."""
        return bool(self._leases), self._empty, self._idle > 0

    def _interrupt(self) -> None:
        for chunk in self._chunks:
            chunk.interrupt.append(True)
        self._tell()

    def _slice(self) -> Chunk:
        """Return the next chunk: a lease, or a share of it for one of many.

        A share is of whole lists.
        """
        chunk = self._leases.popleft()
        share = -(-len(chunk.jobs) // (2 * self.workers))
        share = -(-share // self.batch) * self.batch
        if self.workers > 1 and share < len(chunk.jobs):
            chunk, rest = chunk.split(share)
            self._leases.appendleft(rest)
        return chunk
