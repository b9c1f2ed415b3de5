"""The capped queue of jobs: one lock round one ledger.

The feeder puts jobs in, slaves lease them through their sessions, the
master asks for the watermark and for what is to be recorded.  Whatever is
slow (pickling, files, the operator's code) happens outside the lock.

The feeder does not take the lock for each job: it appends to a *page*, the
newest list of the ready jobs, from which leases are sliced under the lock.
Nor does it wait for the lock when a call waits for a job: whoever has the
lock looks, after letting go of it, whether there is somebody to wake.
"""

import pickle
import threading
import time
from collections import deque
from typing import (Any, Callable, Deque, Dict, List, NamedTuple, Optional,
                    Sequence, Set, Tuple, Union)

from .. import logs
from ..text import summary
from ..wire.fields import Range
from ..wire.messages import (PICKLE, Introduction, Jobs, Over, Payload, Recall,
                             Reply, Report, Stranger, Wait, Welcome)
from . import lease_size
from .ledger import FailedJob, Lease, Ledger, Piece
from .rate_limit import BATCH, Bucket

log = logs.logger(__name__)
PACE = 60.0         # seconds at most until the rate is looked at again
PAGES = 4           # of which a queue consists when it is full


class Oldest(NamedTuple):
    """An unfinished job, such as the one that holds the watermark back."""

    number: int
    job: Any
    slave: str          # host:pid, or '' when nobody has it
    age: float          # seconds


class SlaveReport(NamedTuple):
    """What `tm-ctl status` tells of a slave."""

    name: str
    workers: int
    connected: bool
    done: int
    failed: int
    rate: float         # jobs a second since its hello
    in_hand: int
    oldest: Optional[float]     # seconds that it has had a lease, at most


class Counts(NamedTuple):
    """What the status line needs, taken at one moment."""

    finished: int
    queued: int
    slaves: int         # connected
    failed: int         # and recorded
    unrecorded: int     # failed, and about to be recorded
    twice: int          # reported done once more
    seen: int           # slaves that have come


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
                 changed: Callable[[], None] = lambda: None):
        self.maxsize = maxsize
        self.too_many = False       # failed jobs; all leases are called back
        self.start_id = start_id
        self.name = name
        self.waiters: Deque[threading.Condition] = deque()  # for a job
        self._ledger = Ledger(maxsize)
        self._clock = clock
        self._changed = changed
        self._lock = _Lock(self._see_to_waiters)
        self.waking = False         # one of them, which has not run yet
        self._others: Deque[threading.Condition] = deque()  # for the end
        self._room = self._lock.condition()     # there is room
        self._weight = lease_size.Weight()
        self._bucket: Optional[Bucket] = None       # a limit of the rate
        self._sessions: Dict[str, object] = {}      # the newest of a slave
        self._awaited: Set[str] = set()     # lost ones, to have a successor
        self._too_many = too_many
        self._reasons: Dict[str, str] = {}  # why nothing is leased now
        self._draining = False
        self._give_back = False     # what is not begun, when draining
        self._over: Optional[str] = None
        self._closed = False        # to the feeder

    # -- the feeder's side ------------------------------------------------

    def qsize(self) -> int:
        return len(self._ledger.ready)

    def page(self) -> Tuple[List[Any], int]:
        """Wait for room; give a list, and how many jobs may go into it.

        That is 0 when the queue is closed.  Once full, it waits until half
        the queue is taken, so that feeder and slaves do not hand the
        processor to and fro for each job.
        """
        page: List[Any] = []
        with self._lock:
            if self.qsize() >= self.maxsize:
                while (self.qsize() > self.maxsize // 2
                       and not self._closed):
                    self._room.wait()
            if self._closed:
                return page, 0
            self._ledger.feed(page)
            # A page lives as long as the last job of it, so not too many.
            return page, min(self.maxsize - self.qsize(),
                             -(-self.maxsize // PAGES))

    def put(self, job: Any) -> bool:
        """Wait for room and add a job; False when the queue is closed."""
        page, room = self.page()
        if not room:
            return False
        page.append(job)
        if self.waiters and not self.waking:
            self.wake()
        return True

    def wake(self) -> None:
        """There is a job for one of the calls that wait.

        Only one is woken at a time; when it has taken its lease the next
        is, if there is something left.  A thousand that wait would
        otherwise get one job each, from a feeder that does nothing else.
        """
        self._lock.unless_taken(self._wake_one)

    def end(self) -> None:
        """The source has no more jobs, unless it was us who stopped it."""
        with self._lock:
            if self._closed:
                return
            self._ledger.ended = True
            self._wake_all()
            self._changed()

    # -- the slaves' side -------------------------------------------------

    def hello(self, who: Introduction, session: object) -> Reply:
        """A slave of this run introduces itself on a new connection."""
        lost = ''
        with self._lock:
            now = self._clock()
            ledger = self._ledger
            waiting = ledger.waiting
            if who.after:
                lost = self._lose(who.after)
                self._awaited.discard(who.after)
            if who.slave in self._sessions:
                self._wake_all()        # its older session, if that waits
            self._sessions[who.slave] = session
            holds = who.holds if who.start == self.start_id else []
            kept = ledger.hello(who.slave, who.name, who.workers, now, holds)
            if ledger.waiting > waiting:
                self._wake_all()
            reply = Welcome(self.start_id, self.name, self._span(), kept)
        self._say(lost)
        return reply

    def goodbye(self, slave: str, session: object) -> None:
        """The connection of a slave has ended."""
        with self._lock:
            if self._sessions.get(slave) is session:
                del self._sessions[slave]
                self._ledger.drop(slave, self._clock())
                self._changed()

    def heard(self, slave: str) -> None:
        """A slave gives a sign of life, other than by a call."""
        with self._lock:
            self._ledger.heard(slave, self._clock())

    def exchange(self, slave: str, report: Report, want: int, prefetch: bool,
                 wait: float, session: object = None) -> Reply:
        """One round trip: take a report, give a lease.

        Waits up to ``wait`` seconds for a job, while ``session`` is the
        newest of the slave: what an older one is given would never arrive.
        """
        while True:
            with self._lock:
                if report.start != self.start_id:
                    return Stranger()
                self._take_report(slave, report)
                reply = self._lease(slave, want, prefetch,
                                    self._clock() + wait, session)
            if not isinstance(reply, Lease):
                return reply
            first, jobs = reply
            sent, payload = self._pickle(slave, first, jobs)
            if sent:
                return Jobs(self._span(), first, sent, payload)
            report = Report(self.start_id, [], [], [])

    def lost(self, slave: str, late: Sequence[Range]) -> None:
        """A supervisor says that a slave has died.

        Or that it has ended it, as the jobs ``late`` took too long.
        """
        with self._lock:
            lost = self._lose(slave, late)
            if lost:
                self._awaited.add(slave)
            self._wake_all()
            self._changed()
        self._say(lost)

    def give_back(self, slave: str, start: str,
                  ranges: Sequence[Range]) -> Reply:
        with self._lock:
            now = self._clock()
            if (start != self.start_id
                    or self._ledger.heard(slave, now) is None):
                return Stranger()
            self._ledger.give_back(slave, ranges)
            self._wake_all()
            self._changed()
            return Wait(self._span(), self.held)

    # -- the master's side ------------------------------------------------

    def hold(self, who: str, reason: str) -> None:
        """Lease nothing while anybody has a reason; '' takes it back."""
        if self._reasons.get(who, '') != reason:
            with self._lock:
                self._reasons[who] = reason
                self._wake_all()

    def set_rate(self, rate: Optional[float]) -> None:
        """Lease so many jobs a second, or None: as many as can be."""
        with self._lock:
            self._bucket = Bucket(rate, self._clock()) if rate else None
            self._wake_all()

    def pace(self) -> Optional[float]:
        """Wake who may go on; in how many seconds to ask again, if ever."""
        with self._lock:
            self._wake_one()
            return (None if self._bucket is None else
                    min(self._bucket.delay(self._clock()) or BATCH, PACE))

    def drain(self, reason: str, give_back: bool = False) -> None:
        """Lease no new jobs; what slaves have in hand they finish.

        Or, for ``give_back``, they give back what they have not begun.
        """
        with self._lock:
            self._reasons['drain'] = reason
            self._draining = self._closed = True
            self._give_back = give_back
            self._wake_all()
            self._room.notify_all()
            self._changed()

    def finish(self, how: str) -> None:
        """Tell every slave that asks that the run is over."""
        with self._lock:
            self._over = how
            self._closed = True
            self._wake_all()
            self._room.notify_all()

    @property
    def held(self) -> str:
        """Why nothing is leased now, or ''."""
        return next(filter(None, self._reasons.values()), '')

    @property
    def draining(self) -> bool:
        return self._draining

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
        return self._ledger.leased + self.qsize()

    def watermark(self) -> Tuple[int, Any]:
        """Number (0 at first) and job of the watermark."""
        with self._lock:
            return self._ledger.watermark()

    def unrecorded(self) -> List[FailedJob]:
        with self._lock:
            return self._ledger.unrecorded()

    def recorded(self, numbers: Sequence[int]) -> None:
        with self._lock:
            self._ledger.recorded(numbers)
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
                but_unrecorded or not ledger.unrecorded()) and (
                self.too_many or self._give_back or not ledger.resumable)

    def expire(self) -> None:
        """Let time pass: give up slaves that are silent."""
        with self._lock:
            now = self._clock()
            waiting = self._ledger.waiting
            lost, gone = self._ledger.expire(now)
            if lost:
                self._count_failures()
                for slave in self._sessions.keys() - self._ledger.slaves:
                    del self._sessions[slave]
            if lost or self._ledger.waiting != waiting:
                self._wake_all()
                self._changed()
        for name, jobs in gone:
            self._say(f'slave {name} is cut off, {jobs} jobs back')
        for name, jobs in lost:
            if jobs:                # or that was said when it was cut off
                self._say(f'lost slave {name}, {jobs} jobs back')

    def counts(self) -> Counts:
        with self._lock:
            ledger = self._ledger
            return Counts(ledger.finished, self.qsize(),
                          len(self._sessions), ledger.failed,
                          len(ledger.unrecorded()), ledger.twice,
                          ledger.seen)

    def slaves(self) -> List[SlaveReport]:
        """A slave each, those with the oldest lease first."""
        with self._lock:
            now = self._clock()
            found = []
            for slave in self._ledger.slaves.values():
                ages = [now - piece.since for piece in slave.pieces]
                found.append(SlaveReport(
                    slave.name, slave.workers, slave.dropped is None,
                    slave.done, slave.failed,
                    slave.done / max(now - slave.since, 1e-9), slave.in_hand,
                    max(ages, default=None)))
        return sorted(found, key=lambda slave: -(slave.oldest or 0))

    def oldest(self) -> Optional[Oldest]:
        with self._lock:
            piece = self._ledger.lowest()
            return None if piece is None else self._oldest(piece)

    def holders(self) -> List[Oldest]:
        """What each slave has had longest, the oldest of all first."""
        with self._lock:
            found = [self._oldest(min(slave.pieces, key=lambda piece:
                                      (piece.since, piece.first)))
                     for slave in self._ledger.slaves.values()
                     if slave.pieces]
        return sorted(found, key=lambda oldest: -oldest.age)

    @property
    def sessions(self) -> int:
        """How many slaves are connected, or about to be as successors."""
        with self._lock:
            return len(self._sessions) + len(self._awaited)

    # -- under the lock ---------------------------------------------------

    def _oldest(self, piece: Piece) -> Oldest:
        holder = piece.holder
        return Oldest(piece.first, piece.jobs[0], holder.name if holder
                      else '', self._clock() - piece.since)

    def _span(self) -> float:
        return lease_size.span(len(self._sessions))

    def _lose(self, slave: str, late: Sequence[Range] = ()) -> str:
        """Gives what is to be said of it, once the lock is let go of."""
        lost = self._ledger.slaves.get(slave)
        if lost is None:
            return ''
        jobs = self._ledger.lose(slave, late)
        self._count_failures()
        self._sessions.pop(slave, None)
        return f'lost slave {lost.name}, {jobs} jobs back'

    def _take_report(self, slave: str, report: Report) -> None:
        ledger = self._ledger
        ledger.done(slave, report.done)
        for failed in report.failed:
            ledger.fail(slave, *failed)
        for refused in report.refused:
            ledger.refuse(slave, *refused)
        if report.refused:
            self._wake_all()
        if report.failed or self._draining or ledger.complete:
            self._changed()
        if report.failed:
            self._count_failures()

    def _count_failures(self) -> None:
        ledger = self._ledger
        if self._too_many(ledger.failed + len(ledger.unrecorded()),
                          ledger.finished):
            self.too_many = True

    def _lease(self, slave: str, want: int, prefetch: bool,
               deadline: float, session: object) -> Union[Lease, Reply]:
        """A lease; or, after the deadline, what to reply instead."""
        want = min(want, self._weight.most())
        ledger = self._ledger
        # Those that wait come first, or in a crowd some would wait for ever.
        overtaking = bool(self.waiters and self.qsize() and not ledger.waiting)
        while True:
            now = self._clock()
            if (self._sessions.get(slave) is not session
                    or ledger.heard(slave, now) is None):
                return Stranger()
            if self._over is not None:
                return Over(self._over)
            if self.too_many or self._give_back:
                if ledger.slaves[slave].pieces:
                    return Recall(self._span(), self.held)
                want = 0
            ready = self.qsize()
            if self._draining or not (self.held or overtaking):
                allowed = want
                if self._bucket is not None and not self._draining:
                    allowed = self._bucket.allow(want, now)
                lease = ledger.lease(slave, allowed, now, prefetch,
                                     self._draining)
                if lease is not None:
                    if self._bucket is not None:
                        self._bucket.spend(len(lease.jobs))
                    if self.qsize() <= self.maxsize // 2:
                        self._room.notify()
                    return lease
            if (prefetch and self.waiters and self.exhausted
                    and ledger.late(ledger.slaves[slave], now,
                                    self._span())):
                return Recall(self._span(), 'others have no jobs')
            if now >= deadline or ledger.barred(ledger.slaves[slave]):
                return Wait(self._span(), self.held)
            self._wait(deadline - now, want > 0 and not prefetch, ready)
            overtaking = False

    def _wait(self, seconds: float, hungry: bool, ready: int) -> None:
        """Until woken; ``ready`` is how many jobs there were, in vain."""
        turn = self._lock.condition()
        queue = self.waiters if hungry else self._others
        queue.append(turn)
        # Only now: the feeder adds a job first, then looks for waiters.
        if not hungry or self.qsize() == ready:
            turn.wait(seconds)
        if turn in queue:
            queue.remove(turn)
        else:
            self.waking = False

    def _see_to_waiters(self) -> None:
        if self.waiters and not self.waking and self.qsize():
            self.wake()

    def _wake_one(self) -> None:
        # In vain it would wake the next one in vain, and so on for ever.
        if (self.waiters and not self.waking
                and not (self.held or self._ledger.full)
                and not (self._bucket and self._bucket.delay(self._clock()))):
            self.waking = True
            self.waiters.popleft().notify()

    def _wake_all(self) -> None:
        for queue in self.waiters, self._others:
            while queue:
                queue.popleft().notify()

    # -- outside the lock -------------------------------------------------

    @staticmethod
    def _say(text: str) -> None:
        """Not under the lock: a terminal may be stopped for hours."""
        if text:
            log.warning('%s', text)

    def _pickle(self, slave: str, first: int,
                jobs: Sequence[Any]) -> Tuple[int, Payload]:
        """Pickle as many of the jobs as go together; return the others.

        Gives how many go, maybe none, and the bytes.  A job that cannot be
        pickled has failed, alone.
        """
        count, payload = len(jobs), Payload()
        while count:
            payload = Payload()
            try:
                pickle.Pickler(payload, PICKLE).dump(
                    jobs if count == len(jobs) else jobs[:count])
            except BaseException as error:      # the operator's own code
                good = _picklable(jobs[:count])
                if good < count or count == 1:
                    count = min(good, count - 1)
                    self._unpicklable(slave, first + count, error)
                else:
                    count //= 2
                continue
            size = payload.size
            self._weight.observe(count, size)
            fits = self._weight.cut(count, size)
            if fits == count:
                break
            count = fits
        if count < len(jobs):
            with self._lock:
                self._ledger.give_back(slave, [(first + count,
                                                first + len(jobs) - 1)])
                self._wake_all()
        return count, payload

    def _unpicklable(self, slave: str, number: int,
                     error: BaseException) -> None:
        with self._lock:
            self._ledger.fail(slave, number, 'cannot be pickled: '
                              + summary(error), attempts=0)
            self._count_failures()
            self._changed()


def _picklable(jobs: Sequence[Any]) -> int:
    """How many of the first jobs can be pickled, each for itself."""
    for count, job in enumerate(jobs):
        try:
            pickle.dumps(job, PICKLE)
        except BaseException:
            return count
    return len(jobs)


class _Lock:
    """A lock; ``after`` is called whenever it has been let go of."""

    def __init__(self, after: Callable[[], None]):
        self._lock = threading.Lock()
        self._after = after
        self.acquire = self._lock.acquire

    def release(self) -> None:
        self._lock.release()
        self._after()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def condition(self) -> threading.Condition:
        return threading.Condition(self)        # type: ignore[arg-type]

    def unless_taken(self, act: Callable[[], None]) -> None:
        """Do it with the lock, or not at all if another thread has it."""
        if self._lock.acquire(blocking=False):
            try:
                act()
            finally:
                self._lock.release()
