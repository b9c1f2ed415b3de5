"""The capped queue of jobs: one lock round one ledger.

The feeder puts jobs in, slaves lease them through their sessions, the
master asks for the watermark and for what is to be recorded.  Whatever is
slow (pickling, files, logging, the operator's code) happens outside the lock.

The feeder does not take the lock for each job: it appends to a *page*, the
newest list of the ready jobs, from which leases are sliced under the lock.
Who waits, and is woken, is in `waiters`; what slaves do in `dispatcher`.
"""

from __future__ import annotations

import time

from ..records import TYPE_CHECKING
from ..timing import STANDARD, Timing
from ..wire.fields import Range
from ..wire.quiet import Quiet
from . import overview
from .dispatcher import Dispatcher
from .gate import Gate
from .lease_size import Weight
from .ledger import Ledger
from .overview import Counts, Oldest, SlaveReport
from .packing import Packer
from .pieces import FailedJob
from .times import JobTimes
from .waiters import Waiters

if TYPE_CHECKING:
    from typing import Any, Callable, Sequence

# Of so many pages a queue consists when it is full.
PAGES = 4
# Jobs that may be ready for workers that have none, however heavy they are.
FEW = 16
# Lines of one kind about slaves, in ten seconds.
LINES = 50


class JobQueue:
    """A queue by name and by nature, whose `get` is a lease.

    ``start_id`` is the random id of this start of the master.  ``too_many``
    says of the numbers of jobs failed and finished whether the run is to
    stop.  ``changed`` is called when there may be something for the master
    to do: a failed job to record, or the end; both under the lock.
    """

    def __init__(self, maxsize: int, start_id: str, name: str = '',
                 too_many: Callable[[int, int], bool] = lambda f, n: False,
                 clock: Callable[[], float] = time.monotonic,
                 changed: Callable[[], None] = lambda: None,
                 timing: Timing = STANDARD):
        self.maxsize = maxsize
        self.start_id = start_id
        self.name = name
        self._ledger = Ledger(maxsize, timing, too_many)
        self.ready = self._ledger.ready
        self._gate = Gate(clock)
        self.waiters = Waiters(self.qsize, self._in_vain)
        self._lock = self.waiters.lock
        self._room = self._lock.condition()     # there is room ...
        self._wanted = False                    # which the feeder waits for
        self.weight = Weight()
        self._clock = clock
        self._changed = changed
        self.closed = False         # to the feeder, which asks for no more
        self.quiet = Quiet(LINES)   # for what slaves have us say
        self.dispatcher = Dispatcher(self._ledger, self._gate, self.waiters,
                                     Packer(self.weight), start_id, clock,
                                     changed, self._took, timing, self.quiet)

    # -- the feeder's side ------------------------------------------------

    def qsize(self) -> int:
        return len(self._ledger.ready)

    def page(self) -> tuple[list[Any], int]:
        """Wait for room; return a list, and how many jobs may go into it.

        That is 0 when the queue is closed.  Once full, it waits until half
        the queue is taken, so that feeder and slaves do not hand the
        processor to and fro for each job.
        """
        page: list[Any] = []
        with self._lock:
            self._ledger.ready.close()
            if self.qsize() >= self._most():
                self._wanted = True
                while not self.closed and not self._has_room():
                    self._room.wait()
                self._wanted = False
            if self.closed:
                return page, 0
            self._ledger.ready.extend(page)
            # A page lives as long as the last job of it, so not too many,
            # unless they go out in one lease.  But one, though jobs may
            # weigh more than a moment ago: 0 would be taken for the end.
            most = self._most()
            lease = self.weight.most() if self.weight.each else 0
            return page, max(1, min(most - self.qsize(),
                                    max(-(-most // PAGES), lease)))

    def put(self, job: Any) -> bool:
        """Wait for room and add a job; False when the queue is closed."""
        page, room = self.page()
        if not room:
            return False
        page.append(job)
        if self.waiters.hungry and not self.waiters.waking:
            self.waiters.feed_one()
        return True

    def end(self) -> None:
        """The source has no more jobs, unless it was us who stopped it."""
        with self._lock:
            if self.closed:
                return
            self._ledger.ended = True
            self.waiters.wake_all()
            self._changed()

    # -- the master's side ------------------------------------------------

    def hold(self, who: str, reason: str) -> None:
        """Lease nothing while anybody has a reason; '' takes it back."""
        with self._lock:
            if self._gate.hold(who, reason):
                self.waiters.wake_all()

    def set_rate(self, rate: float | None) -> None:
        """Lease so many jobs a second, or None: as many as can be."""
        with self._lock:
            self._gate.set_rate(rate)
            self.waiters.wake_all()

    def pace(self) -> float | None:
        """Wake who may go on; in how many seconds to ask again, if ever."""
        with self._lock:
            self.waiters.wake_one()
            return self._gate.pace()

    def drain(self, reason: str, give_back: bool = False) -> None:
        """Lease no new jobs; what slaves have in hand they finish.

        Or, for ``give_back``, they give back what they have not begun.
        """
        with self._lock:
            self._gate.hold('drain', reason)
            self._gate.draining = self.closed = True
            self._gate.recalling = give_back
            self.waiters.wake_all()
            self._room.notify_all()
            self._changed()

    def finish(self, how: str) -> None:
        """Tell every slave that asks that the run is over."""
        with self._lock:
            self._gate.over = how
            self.closed = True
            self.waiters.wake_all()
            self._room.notify_all()

    @property
    def held(self) -> str:
        """Why nothing is leased now, or ''."""
        return self._gate.held

    @property
    def draining(self) -> bool:
        return self._gate.draining

    @property
    def behind(self) -> bool:
        """Whether nothing is leased until failed jobs are recorded."""
        return self._ledger.leasing.behind

    @property
    def full(self) -> bool:
        """Whether so many jobs are out of the queue that no more may be."""
        return self._ledger.leasing.full

    @property
    def too_many(self) -> bool:
        """Whether so many jobs have failed that the run is to stop."""
        return self._ledger.too_many

    @property
    def ended(self) -> bool:
        """Whether the source has no more jobs."""
        return self._ledger.ended

    @property
    def exhausted(self) -> bool:
        """Whether there are no more jobs to lease for the first time."""
        return self._ledger.ended and not self.qsize()

    @property
    def fed(self) -> int:
        """How many jobs have come from the source."""
        return self._ledger.ready.leased + self.qsize()

    def watermark(self) -> tuple[int, Any]:
        """Return number (0 at first) and job of the watermark."""
        with self._lock:
            return self._ledger.watermark()

    def unrecorded(self) -> list[FailedJob]:
        """Return failed jobs to be recorded; not all at once of very many."""
        with self._lock:
            failed = self._ledger.unrecorded()
        return sorted(failed, key=lambda job: job.number)

    def recorded(self, numbers: Sequence[int]) -> None:
        with self._lock:
            behind = self.behind
            self._ledger.recorded(numbers)
            if behind and not self.behind:
                self.waiters.wake_all()
            self._took()
            self._changed()

    @property
    def complete(self) -> bool:
        with self._lock:
            return self._ledger.complete

    def at_rest(self, but_unrecorded: bool = False) -> bool:
        """Whether nothing is in hand or will be, and nothing unrecorded."""
        with self._lock:
            ledger = self._ledger
            return ledger.idle and (
                but_unrecorded or not ledger.pieces.failed) and (
                self.too_many or self._gate.recalling
                or not ledger.leasing.resumable)

    def expire(self) -> None:
        """Let time pass: give up slaves that are silent."""
        self.dispatcher.expire()

    def lost(self, slave: str, late: Sequence[Range],
             awaited: bool = True) -> None:
        """As `Dispatcher.lost`, of a supervisor in this process."""
        self.dispatcher.lost(slave, late, awaited)

    def counts(self) -> Counts:
        with self._lock:
            return overview.counts(self._ledger,
                                   self.dispatcher.connected)

    def slaves(self, most: int | None = None) -> list[SlaveReport]:
        """Return a report of each slave, the oldest lease first."""
        with self._lock:
            return overview.slaves(self._ledger, self._clock(), most)

    def times(self) -> JobTimes | None:
        """Return how long jobs take, or None while nobody knows."""
        with self._lock:
            return self.dispatcher.times.report()

    @property
    def in_hand(self) -> int:
        """How many jobs are leased and not finished."""
        return self._ledger.pieces.jobs

    def oldest(self) -> Oldest | None:
        """Return what holds the watermark back, if anything does."""
        with self._lock:
            return overview.lowest(self._ledger, self._clock())

    def holders(self) -> list[Oldest]:
        """Return what each slave has had longest, the oldest first."""
        with self._lock:
            return overview.holders(self._ledger, self._clock())

    @property
    def sessions(self) -> int:
        """How many slaves are connected, or about to be as successors."""
        return self.dispatcher.sessions

    def _most(self) -> int:
        """How many jobs may be ready now.

        As many as the queue holds; or fewer, as all jobs in memory together
        are not to weigh too much.  But each worker may have one, however
        heavy it is, or one that is stuck would stall the others.
        """
        in_hand, held = self._ledger.pieces.jobs, self.weight.held()
        most = held - in_hand
        if most < self.maxsize:
            most = max(most, min(self._ledger.slaves.workers + 1 - in_hand,
                                 max(held, FEW)))   # they say how many
        return min(self.maxsize, most)

    def _has_room(self) -> bool:
        """Whether the feeder may go on, having filled the queue."""
        most, size = self._most(), self.qsize()
        return size < most and size <= most // 2

    def _took(self) -> None:
        """Fewer jobs than before: there may be room for the feeder's."""
        if self._wanted and self._has_room():
            self._room.notify()

    def _in_vain(self) -> bool:
        """Whether whoever is woken now would get no job."""
        return bool(self.held or self._ledger.leasing.full
                    or self._gate.waiting)
