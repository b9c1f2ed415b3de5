"""What to lease next, and to whom nothing more.

What came back goes before any new job.  A job that may be the one that
kills goes only to a slave that holds nothing else, which then gets nothing
else: it is *isolated*.  While no slave is empty, one of them is *reserved*:
it gets no more until it is.  Every `Timing.reserve` one more is, so that one
stuck slave cannot keep a job waiting.
"""

from __future__ import annotations

from ..timing import Timing
from . import lease_size
from .pieces import Piece, Pieces
from .ready import Ready
from .slaves import Slave, Slaves

# Jobs out of the queue at most, in sizes of the queue.
IN_HAND = 50
# Of one slave, in the same; or two for each of its workers, if those are
# more.  What is in work, and the next lease, is never half of it.
OF_ONE = 4
# Pieces that wait, after which nothing new is leased: each costs memory.
WAITING = 10_000
# Failed jobs that wait to be recorded, after which no more are leased: they
# are kept in memory with their tracebacks (10 kB each).
UNRECORDED = 1000


class Leasing:
    """Chooses; the ledger then acts on it."""

    def __init__(self, size: int, ready: Ready, pieces: Pieces,
                 slaves: Slaves, timing: Timing):
        self.size = size
        self._of_one = OF_ONE * size
        self._ready = ready
        self._pieces = pieces
        self._slaves = slaves
        self._timing = timing
        self._reserved: set[str] = set()
        self._reserved_at = 0.0

    @property
    def full(self) -> bool:
        """Whether no more jobs may be out of the queue."""
        return (self._pieces.jobs >= IN_HAND * self.size
                or self.behind or self._pieces.waiting > WAITING)

    @property
    def behind(self) -> bool:
        """Whether so many failed jobs must be recorded first."""
        return len(self._pieces.failed) >= UNRECORDED

    @property
    def resumable(self) -> bool:
        """Whether, when draining, a slave is there for what was given back."""
        return self._slaves.workers > 0 and self._pieces.innocent_wait

    @property
    def reserved(self) -> set[str]:
        """The slaves that are kept from more, while a job waits for that."""
        if not self._pieces.isolated_wait:
            self._reserved.clear()
        return self._reserved

    def barred(self, slave: Slave) -> bool:
        """Whether this slave gets nothing until it holds less."""
        return slave.in_hand > 0 and (
            slave.isolated > 0 or slave.in_hand >= self._of_one
            and slave.in_hand >= 2 * slave.workers
            or slave.id in self.reserved)

    def late(self, slave: Slave, now: float, span: float) -> bool:
        """Whether a slave should share what it has leased too long ago."""
        age = slave.age(now)
        return (age is not None and slave.in_hand > slave.workers
                and age > self._timing.late * span)

    def choose(self, slave: Slave, want: int, now: float, prefetch: bool,
               ended: bool) -> Piece | None:
        """Return a piece of about ``want`` jobs for this slave, or None.

        ``ended`` says that the source has no more jobs.
        """
        if self.behind or self.barred(slave):
            return None
        if self._pieces.waiting:
            piece = self._isolated(slave, now)
            if piece is not None or self.barred(slave):
                return piece
        if ended:
            want = lease_size.share(
                len(self._ready) + self._pieces.returned_jobs, want,
                self._slaves.workers, prefetch)
        return self._returned(slave, want) or self._new(want)

    def choose_draining(self, slave: Slave, want: int) -> Piece | None:
        """Return what was given back, and no other.

        Left undone it would hold the watermark below jobs that are done, to
        be done again.
        """
        if self.barred(slave):
            return None
        return self._returned(slave, want, suspects=False)

    def _isolated(self, slave: Slave, now: float) -> Piece | None:
        """A suspect single job for an empty slave; else reserve this one."""
        reserved = self.reserved
        if not slave.in_hand:
            reserved.discard(slave.id)
        piece = self._pieces.next_isolated(slave)
        if piece is None or not slave.in_hand:
            return piece
        reserved.intersection_update(self._slaves)
        if not reserved or now - self._reserved_at >= self._timing.reserve:
            reserved.add(slave.id)
            self._reserved_at = now
        return None

    def _returned(self, slave: Slave, want: int,
                  suspects: bool = True) -> Piece | None:
        if want < 1 or not self._pieces.waiting:
            return None
        piece = self._pieces.next_returned(slave, suspects)
        if piece is not None:
            # Of a suspect piece at least two, as one goes alone.
            count = max(want, 2) if piece.suspect else want
            if piece.size > count:
                self._pieces.cut(piece, piece.first + count)
        return piece

    def _new(self, want: int) -> Piece | None:
        if self._pieces.waiting > WAITING:
            return None
        count = min(want, len(self._ready),
                    IN_HAND * self.size - self._pieces.jobs)
        if count < 1:
            return None
        before = self._ready.before
        jobs = self._ready.take(count)
        if not jobs:
            return None
        piece = Piece(self._ready.leased - len(jobs) + 1, jobs, before)
        self._pieces.add(piece)
        return piece
