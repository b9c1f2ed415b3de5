"""The slaves' side of the queue: who comes and goes, reports and leases.

A `Session` calls it for one slave each, on a thread of its own.  All share
the lock and the ledger of the `JobQueue`.
"""

from __future__ import annotations

from ..records import TYPE_CHECKING, NamedTuple
from ..text import counted, summary
from ..timing import Timing
from ..wire.fields import Range
from ..wire.messages import Introduction, Payload, Report
from ..wire.quiet import Quiet
from .gate import Gate
from .ledger import Lease, Ledger
from .packing import Packed, Packer
from .times import Times
from .waiters import Waiters

if TYPE_CHECKING:
    from typing import Callable, Sequence, Union

# Characters of the traceback of a job that fails while very many wait to be
# recorded: those in hand may go on failing.
SHORT = 500
# Ranges, failures and refusals that are seen to before others have the lock.
AT_ONCE = 1000
# Lost slaves whose successors are waited for at the end.
AWAITED = 10_000


class Leased(NamedTuple):
    """So many jobs, pickled as a list."""

    first: int              # its number
    size: int
    payload: Payload


class Nothing(NamedTuple):
    """There is nothing for this slave now."""

    reason: str             # or ''


class Recalled(NamedTuple):
    """It is to give back what it has not begun."""

    reason: str


class Ended(NamedTuple):
    """The run is over."""

    how: str


class Unknown(NamedTuple):
    """It is to say hello first."""


if TYPE_CHECKING:
    Answer = Union[Leased, Nothing, Recalled, Ended, Unknown]


class Dispatcher:
    """Gives out leases and takes reports.

    ``took`` is called when jobs have left the queue or the slaves' hands,
    and ``changed`` as that of the `JobQueue`; both under the lock.  To
    ``quiet`` goes what is said of slaves.
    """

    def __init__(self, ledger: Ledger, gate: Gate, waiters: Waiters,
                 packer: Packer, start_id: str, clock: Callable[[], float],
                 changed: Callable[[], None], took: Callable[[], None],
                 timing: Timing, quiet: Quiet):
        self._waiters = waiters
        self._ledger = ledger
        self._gate = gate
        self._lock = waiters.lock
        self._start_id = start_id
        self._clock = clock
        self._changed = changed
        self._took = took
        self._timing = timing
        self._quiet = quiet
        self._packer = packer
        self.times = Times()
        self._sessions: dict[str, object] = {}      # the newest of a slave
        # Lost ones that are to have a successor, the oldest first.
        self._awaited: dict[str, None] = {}

    @property
    def connected(self) -> int:
        """How many slaves are connected."""
        return len(self._sessions)

    @property
    def sessions(self) -> int:
        """How many slaves are connected, or about to be as successors."""
        return len(self._sessions) + len(self._awaited)

    @property
    def span(self) -> float:
        """How many seconds a lease should take now."""
        return self._timing.span_of(len(self._sessions))

    def hello(self, who: Introduction, session: object) -> list[Range]:
        """A slave of this run introduces itself on a new connection.

        Return what it still holds.
        """
        lost: _Loss | None = None
        with self._lock:
            ledger = self._ledger
            waiting = ledger.pieces.waiting
            if who.after:
                lost = self._lose(who.after)
                self._awaited.pop(who.after, None)
            if who.slave in self._sessions:
                self._waiters.wake_all()     # its older session, if that waits
            self._sessions[who.slave] = session
            returns = who.start == self._start_id
            kept = ledger.hello(who.slave, who.name, who.workers,
                                self._clock(), who.holds if returns else (),
                                returns)
            if ledger.pieces.waiting > waiting:
                self._waiters.wake_all()
        self._say(lost)
        return kept

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
                 wait: float, session: object = None) -> Answer:
        """One round trip: take a report, give a lease.

        Waits up to ``wait`` seconds for a job, while ``session`` is the
        newest of the slave: what an older one is given would never arrive.
        """
        if report.start != self._start_id:
            return Unknown()
        if (len(report.done) > AT_ONCE or len(report.failed) > AT_ONCE
                or len(report.refused) > AT_ONCE):
            *parts, report = _parts(report)
            for part in parts:
                with self._lock:
                    self._take_report(slave, part, session)
        taken = False
        while True:
            with self._lock:
                if not taken:
                    self._take_report(slave, report, session)
                    taken = True
                found = self._lease(slave, want, prefetch,
                                    self._clock() + wait, session)
            if not isinstance(found, Lease):
                return found
            packed = self._packer.pack(found.jobs)
            if packed.size < len(found.jobs):
                self._unpacked(slave, found, packed, session)
            if packed.size:
                return Leased(found.first, packed.size, packed.payload)

    def lost(self, slave: str, late: Sequence[Range],
             awaited: bool = True) -> None:
        """A supervisor says that a slave has died.

        Or that it has ended it, as the jobs ``late`` took too long.  At the
        end of the run its successor is waited for, if that is ``awaited``.
        """
        with self._lock:
            lost = self._lose(slave, late)
            if not awaited:
                self._awaited.pop(slave, None)
            elif lost:
                self._awaited[slave] = None
                if len(self._awaited) > AWAITED:
                    del self._awaited[next(iter(self._awaited))]
            if lost:                    # or it would wake all for nothing
                self._waiters.wake_all()
            if lost or not awaited:
                self._changed()
        self._say(lost)

    def give_back(self, slave: str, start: str, ranges: Sequence[Range],
                  session: object = None) -> Nothing | Unknown:
        """A slave gives back what it has not begun, on its connection."""
        with self._lock:
            # One that was replaced: what it says may have been overtaken.
            if (start != self._start_id
                    or self._sessions.get(slave) is not session
                    or self._ledger.heard(slave, self._clock()) is None):
                return Unknown()
            if ranges:                  # or it would wake all for nothing
                self._ledger.give_back(slave, ranges)
                self._waiters.wake_all()
                self._changed()
            return Nothing(self._gate.held)

    def expire(self) -> None:
        """Let time pass: give up slaves that are silent."""
        with self._lock:
            ledger = self._ledger
            before = ledger.pieces.waiting, ledger.failures
            lost, gone = ledger.expire(self._clock())
            if lost:
                for slave in self._sessions.keys() - ledger.slaves.keys():
                    del self._sessions[slave]
            if lost or before != (ledger.pieces.waiting, ledger.failures):
                self._waiters.wake_all()
                self._changed()
        for name, jobs in gone:
            self._quiet.warn('slave %s is cut off, %s back', name,
                             counted(jobs, 'job'))
        for name, jobs in lost:
            if jobs:                # or that was said when it was cut off
                self._say(_Loss(name, jobs))

    # -- under the lock ---------------------------------------------------

    def _lose(self, slave: str, late: Sequence[Range] = ()) -> _Loss | None:
        """Return what is to be said of it, once the lock is let go of."""
        lost = self._ledger.slaves.get(slave)
        if lost is None:
            return None
        jobs = self._ledger.lose(slave, late)
        self._sessions.pop(slave, None)
        return _Loss(lost.name, jobs)

    def _take_report(self, slave: str, report: Report,
                     session: object) -> None:
        ledger = self._ledger
        self.times.note(report.times, ledger.pieces)    # while it has them
        ledger.done(slave, report.done)
        self._took()
        news = report.failed or report.refused
        # Of a connection that was replaced only successes are believed: the
        # slave says the rest again, unless it was overtaken.
        if news and self._sessions.get(slave) is session:
            for failed in report.failed:
                if ledger.leasing.behind:
                    failed = failed._replace(
                        error=failed.error[:SHORT], cause='',
                        traceback=failed.traceback[-SHORT:])
                ledger.fail(slave, *failed)
            for refused in report.refused:
                ledger.refuse(slave, *refused)
            if report.refused:
                self._waiters.wake_all()
        if news or self._gate.draining or ledger.complete:
            self._changed()

    def _lease(self, slave: str, want: int, prefetch: bool, deadline: float,
               session: object) -> Lease | Answer:
        """A lease; or, after the deadline, what to answer instead."""
        ledger, gate = self._ledger, self._gate
        leasing = ledger.leasing
        # Those that wait come first, or in a crowd some would wait for ever.
        overtaking = bool(self._waiters.hungry and ledger.ready
                          and not ledger.pieces.waiting)
        while True:
            now = self._clock()
            known = ledger.heard(slave, now)
            if known is None or self._sessions.get(slave) is not session:
                return Unknown()
            if gate.over is not None:
                return Ended(gate.over)
            if ledger.too_many or gate.recalling:
                if known.in_hand:
                    return Recalled(gate.held)
                want = 0
            ready = len(ledger.ready)
            if gate.draining or not (gate.held or overtaking):
                # That may have changed while this call has waited.
                most = min(want, self._packer.most())
                lease = ledger.lease(slave, gate.allow(most), now, prefetch,
                                     gate.draining)
                if lease is not None:
                    gate.spend(len(lease.jobs))
                    self._took()
                    return lease
            if (prefetch and self._waiters.hungry
                    and ledger.ended and not ledger.ready
                    and leasing.late(known, now, self.span)):
                return Recalled('others have no jobs')
            if now >= deadline or leasing.barred(known):
                return Nothing(gate.held)
            self._waiters.wait(deadline - now, want > 0 and not prefetch,
                               ready)
            overtaking = False

    # -- outside the lock -------------------------------------------------

    def _unpacked(self, slave: str, lease: Lease, packed: Packed,
                  session: object) -> None:
        """What could not be sent has failed, or goes another time."""
        errors = [(lease.first + at,
                   f'cannot be pickled: {summary(error)}; yield plain values, '
                   'as tuple(row) or dict(row)')
                  for at, error in packed.culprits]
        with self._lock:
            for number, error in errors:
                self._ledger.fail(slave, number, error, attempts=0)
            # On its next connection the slave did not list them.
            if self._sessions.get(slave) is session:
                self._ledger.give_back(slave, [(
                    lease.first + packed.size,
                    lease.first + len(lease.jobs) - 1)])
            self._waiters.wake_all()
            if errors:
                self._changed()

    def _say(self, loss: _Loss | None) -> None:
        """Not under the lock: a terminal may be stopped for hours."""
        if loss is not None:
            self._quiet.warn('lost slave %s, %s back', loss[0],
                             counted(loss[1], 'job'))


class _Loss(NamedTuple):
    """A slave that is lost."""

    name: str
    jobs: int               # that come back


def _parts(report: Report) -> list[Report]:
    """What it says, cut so that none keeps the lock for long."""
    longest = max(len(report.done), len(report.failed), len(report.refused))
    return [report._replace(done=report.done[at:at + AT_ONCE],
                            failed=report.failed[at:at + AT_ONCE],
                            refused=report.refused[at:at + AT_ONCE],
                            times=[] if at else report.times)
            for at in range(0, longest, AT_ONCE)]
