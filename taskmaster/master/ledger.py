"""The ledger: every transition of a job, in one place.

It knows no thread, no socket, no file and no clock: time comes in as
``now`` (seconds of a monotonic clock).  Its owner, the job queue, holds one
lock around it.

Jobs are numbered from 1 as they are leased, in the order of the source.
Runs of them travel as *pieces*; a piece is in one of three states:

    leased      in the hands of one slave
    returned    out of any hands, to be leased before any new job
    failed      waiting to be recorded; nobody gets it any more

and a job goes this way (a piece is cut where only a part of it moves):

    ready    --lease-->                        leased
    leased   --done-->                         finished
    leased   --failed-->                       failed --recorded--> finished
    leased   --give back-->                    returned
    leased   --refused (cannot be unpickled)-> returned in eight pieces; a
                                               single job elsewhere, or failed
    leased   --silent for `grace` after a drop-> returned, nobody blamed yet:
                                               if the slave is then lost, as
                                               below, wherever they are by now
    leased   --lost with its slave-->          returned in eight suspect
                                               pieces; a single job at its
                                               third loss alone: failed
    leased   --took too long, and its slave was ended for that-->
                                               failed; several together as
                                               above; what else that slave
                                               had: returned, nobody blamed
    returned --lease-->                        leased
    any      --done, from anybody-->           finished

Finished jobs leave no trace but in the *watermark*: the job before the
lowest piece, or the last job leased when there is no piece.  A failed job
is still a piece until it is recorded, so the watermark cannot pass it.

Where a piece is, `pieces` knows; which one to lease, `leasing` says.
However a job fails, it is counted by `_fail`, and there alone.
"""

from __future__ import annotations

from ..records import TYPE_CHECKING, NamedTuple
from ..timing import STANDARD, Timing
from ..wire.fields import RANGES, Range, merged
from .leasing import Leasing
from .pieces import FailedJob, Piece, Pieces
from .ready import Ready
from .slaves import Slave, Slaves

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Sequence

# Losses as the only job of a slave after which a job has failed.
LOSSES = 3
# Slaves that cannot unpickle a job, after which it has failed.
REFUSALS = 3
# Failed jobs that are seen to at once, however many there are.
BATCH = 1000
# Failed jobs that are recorded yet when there are too many: more of what is
# in hand then waits for the next start, as if it had not been tried.
BEYOND = 100
# Characters of why a job cannot be unpickled.
REASON = 200


class Lease(NamedTuple):
    """What a slave is given: jobs ``first``, ``first + 1``, ..."""

    first: int
    jobs: Sequence[Any]


class Expired(NamedTuple):
    """The names of slaves, and how many jobs come back from each."""

    lost: list[tuple[str, int]]         # silent until their expiry
    gone: list[tuple[str, int]]         # cut off for long; may come back


class Ledger:
    """The books of one start.

    ``size`` is the cap of the ready jobs; ``too_many`` says of the numbers
    of jobs failed and finished whether so many failures are to stop the run.
    """

    def __init__(self, size: int, timing: Timing = STANDARD,
                 too_many: Callable[[int, int], bool] = lambda f, n: False):
        self.ready = Ready()
        self.pieces = Pieces()
        self.slaves = Slaves()
        self.leasing = Leasing(size, self.ready, self.pieces, self.slaves,
                               timing)
        self.ended = False              # the source has no more jobs
        self.too_many = False           # jobs have failed
        self.finished = 0               # jobs done, or failed and recorded
        self.failed = 0                 # of those: failed and recorded
        self.twice = 0                  # jobs done once more
        self._beyond = 0                # failed since they are too many
        self._timing = timing
        self._too_many = too_many

    # -- what can be asked ------------------------------------------------

    def watermark(self) -> tuple[int, Any]:
        """Return number and job of the watermark; 0 and None at first."""
        piece = self.pieces.lowest()
        if piece is not None:
            return piece.first - 1, piece.before
        return self.ready.leased, self.ready.before

    @property
    def complete(self) -> bool:
        """Whether every job of the source is finished."""
        return self.ended and not self.ready and not self.pieces.jobs

    @property
    def idle(self) -> bool:
        """Whether no job is in a slave's hands."""
        return not any(slave.in_hand for slave in self.slaves.values())

    @property
    def failures(self) -> int:
        """How many jobs have failed, recorded or not."""
        return self.failed + len(self.pieces.failed)

    def unrecorded(self) -> list[FailedJob]:
        """Return failed jobs to be recorded; not all at once of very many."""
        pieces = zip(range(BATCH), self.pieces.failed.values())
        return [piece.failure for _, piece in pieces if piece.failure]

    # -- slaves come and go -----------------------------------------------

    def hello(self, id: str, name: str, workers: int, now: float,
              holds: Sequence[Range] = (), returns: bool = False
              ) -> list[Range]:
        """A slave introduces itself, once per connection.

        ``holds`` is what it believes to hold, and ``returns`` whether it
        was here before.  Return what of that is still its own; what it was
        given and does not hold is returned.
        """
        slave = self.slaves.arrive(id, name, workers, now, returns)
        found: dict[Piece, Range] = {}
        for a, b in merged(holds):
            for piece in self.pieces.within(a, b):
                if slave in (piece.holder, piece.claim):
                    piece = self.pieces.isolate(piece, a, b)
                    if piece.holder is None:
                        self.pieces.hold(piece, slave, now)
                    found[piece] = piece.first, piece.last
        # Not more of them than a message may hold.
        kept = merged(list(found.values()))[:RANGES]
        end = kept[-1][1] if kept else 0
        self.pieces.forget_claims(slave)
        for piece in slave.pieces:
            if piece not in found or piece.first > end:
                self._return(piece)
        return kept

    def heard(self, id: str, now: float) -> Slave | None:
        """Renew all that a slave holds; None when it must say hello."""
        slave = self.slaves.get(id)
        if slave is not None:
            slave.hear(now)
        return slave

    def drop(self, id: str, now: float) -> None:
        """The connection of a slave has ended, which is not a death."""
        slave = self.slaves.get(id)
        if slave is not None and slave.dropped is None:
            slave.dropped = now
            if not slave.in_hand:
                self.slaves.leave(slave)

    def lose(self, id: str, late: Sequence[Range] = ()) -> int:
        """A slave is dead.  Return the number of jobs that come back.

        One of its jobs may have killed it, so they go out again in eight
        pieces.  What was its own and is still unleased is cut as well.
        But if it was ended since the jobs ``late`` took too long, the
        others are not to blame.
        """
        slave = self.slaves.get(id)
        if slave is None:
            return 0
        self.slaves.leave(slave)
        jobs = sum(piece.size for piece in slave.own)
        alone = jobs == 1
        if slave.gone and not late:
            (a, b), *more = slave.gone
            alone = a == b and not more
            self._blame(slave, alone)
        for a, b in late:
            for piece in self.pieces.within(a, b):
                if slave not in (piece.holder, piece.claim):
                    continue
                piece = self.pieces.isolate(piece, a, b)
                if piece.size == 1:
                    self._fail(piece, 'took longer than --job-timeout', '',
                               slave.name, 1)
                else:
                    self._suspect(piece)
        for piece in slave.own:
            if late:
                self._return(piece)
                continue
            piece.losses += alone
            if not self._fail_hopeless(piece, slave.name):
                self._suspect(piece)
        return jobs

    def expire(self, now: float) -> Expired:
        """Let time pass."""
        lost, gone = [], []
        for slave in list(self.slaves.values()):
            if now - slave.heard >= self._timing.expiry:
                lost.append((slave.name, self.lose(slave.id)))
            elif (slave.dropped is not None and slave.in_hand
                    and now - slave.dropped >= self._timing.grace):
                gone.append((slave.name, slave.in_hand))
                pieces = slave.pieces
                slave.gone = [(piece.first, piece.last) for piece in pieces]
                for piece in pieces:
                    self._return(piece, claim=slave)
                    if piece.suspect:       # once more: as when it is lost
                        self.pieces.crumble(piece)
        self._fail_refused()
        return Expired(lost, gone)

    # -- jobs -------------------------------------------------------------

    def lease(self, id: str, want: int, now: float,
              prefetch: bool = False,
              draining: bool = False) -> Lease | None:
        """Return up to ``want`` jobs for a slave, or None: nothing for it.

        ``prefetch`` says that it has work for all its workers yet.
        """
        slave = self.slaves[id]
        if want < 1:
            return None
        piece = (self.leasing.choose_draining(slave, want) if draining else
                 self.leasing.choose(slave, want, now, prefetch, self.ended))
        if piece is None:
            return None
        self.pieces.hold(piece, slave, now)
        return Lease(piece.first, piece.jobs)

    def done(self, id: str, ranges: Sequence[Range]) -> None:
        """Jobs are done, whoever says so: a success is a success.

        ``ranges`` are in order.
        """
        slave = self.slaves.get(id)
        count = absent = 0
        for a, b in ranges:
            before = self.pieces.jobs
            for piece in self.pieces.within(a, b):
                self._finish(self.pieces.isolate(piece, a, b))
            found = before - self.pieces.jobs
            count += found
            if found <= b - a:
                absent += max(min(b, self.ready.leased) - a + 1, 0) - found
        if absent:
            self.twice += max(absent - self.slaves.repeated(id, ranges), 0)
        if ranges:
            self.slaves.reported(id, ranges)
        if slave is not None:
            slave.done += count

    def fail(self, id: str, number: int, error: str, traceback: str = '',
             attempts: int = 1, cause: str = '') -> None:
        """A job failed; counts only from the slave that holds it."""
        for slave, piece in self._held(id, number, number):
            slave.failed += 1
            self._fail(piece, error, traceback, slave.name, attempts, cause)

    def give_back(self, id: str, ranges: Iterable[Range]) -> None:
        """A slave gives back what it has not begun; nobody is blamed."""
        for a, b in ranges:
            for _, piece in self._held(id, a, b):
                self._return(piece)

    def refuse(self, id: str, a: int, b: int, error: str) -> None:
        """A slave cannot unpickle jobs a .. b as they were sent to it."""
        for slave, piece in self._held(id, a, b):
            self.pieces.release(piece)
            if piece.size == 1:
                piece.refused[slave.id] = error[:REASON]
                if len(piece.refused) >= REFUSALS:
                    self._fail(piece, error, '', slave.name, 0)
                    continue
            for part in self.pieces.crumble(piece):
                self.pieces.wait(part)

    def recorded(self, numbers: Iterable[int]) -> None:
        """These failed jobs are on disk, so the watermark may pass them."""
        for number in numbers:
            if number in self.pieces.failed:
                self.failed += 1
                self._finish(self.pieces.failed[number])

    # -- what becomes of a piece ------------------------------------------

    def _held(self, id: str, a: int, b: int) -> list[tuple[Slave, Piece]]:
        """What of a .. b this slave holds, as pieces of its own."""
        slave = self.slaves.get(id)
        if slave is None:
            return []
        return [(slave, self.pieces.isolate(piece, a, b))
                for piece in self.pieces.within(a, b)
                if piece.holder is slave]

    def _finish(self, piece: Piece) -> None:
        self.pieces.remove(piece)
        self.finished += piece.size

    def _return(self, piece: Piece, claim: Slave | None = None) -> None:
        """It is to be leased again, nobody blamed."""
        if self._fail_hopeless(piece, ''):
            return
        if claim is None:
            self.pieces.release(piece)
        else:
            self.pieces.claim(piece, claim)
        self.pieces.wait(piece)

    def _suspect(self, piece: Piece) -> None:
        """One of these jobs may be what killed or held up their slave."""
        self.pieces.release(piece)
        for part in self.pieces.crumble(piece):
            self.pieces.suspect(part)
            self.pieces.wait(part)

    def _blame(self, slave: Slave, alone: bool) -> None:
        """What a lost slave had in hand, and others have had since."""
        for a, b in slave.gone:
            for piece in self.pieces.within(a, b):
                if piece.claim is slave or piece.failure is not None:
                    continue
                piece = self.pieces.isolate(piece, a, b)
                piece.losses += alone
                if piece.holder is not None:
                    self.pieces.suspect(piece)
                elif not self._fail_hopeless(piece, slave.name):
                    self._suspect(piece)

    def _fail(self, piece: Piece, error: str, traceback: str, slave: str,
              attempts: int, cause: str = '') -> None:
        """A single job has failed and is to be recorded."""
        self.pieces.release(piece)
        self._beyond += self.too_many
        if self._beyond > BEYOND:
            self.pieces.wait(piece)
            return
        piece.failure = FailedJob(piece.first, piece.job, error, traceback,
                                  slave, attempts, cause)
        self.pieces.failed[piece.first] = piece
        self.too_many |= bool(self._too_many(self.failures, self.finished))

    def _fail_hopeless(self, piece: Piece, slave: str) -> bool:
        """Whether a job was lost too often."""
        if piece.losses >= LOSSES:
            self._fail(piece, f'lost with its slave {LOSSES} times', '',
                       slave, LOSSES)
        return piece.losses >= LOSSES

    def _fail_refused(self) -> None:
        """A job that every connected slave refused has failed."""
        connected = self.slaves.connected
        if not 0 < len(connected) < REFUSALS:
            return
        first = connected[0]
        for piece in self.pieces.refused_by(
                frozenset(slave.id for slave in connected), BATCH):
            if self.too_many:           # the next start offers them again
                break
            self._fail(piece, piece.refused[first.id], '', first.name, 0)
