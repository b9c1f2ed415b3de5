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
    leased   --silent for GRACE after a drop-> returned, nobody blamed yet:
                                               if the slave is then lost, as
                                               below, wherever they are by now
    leased   --lost with its slave-->          returned in eight suspect
                                               pieces; a single job at its
                                               third lone loss: failed
    leased   --took too long, and its slave was ended for that-->
                                               failed; several together as
                                               above; what else that slave
                                               had: returned, nobody blamed
    returned --lease-->                        leased
    any      --done, from anybody-->           finished

Finished jobs leave no trace but in the *watermark*: the job before the
lowest piece, or the last job leased when there is no piece.  A failed job
is still a piece until it is recorded, so the watermark cannot pass it.

A suspect single job may be the one that kills: it goes only to a slave that
holds nothing else, which then gets nothing else.  While no slave is empty,
one of them is *reserved*: it gets no more until it is.  Every RESERVE
seconds one more is, so that one stuck slave cannot keep a job waiting.
"""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from typing import (Any, Deque, Dict, Iterable, List, NamedTuple, Optional,
                    Sequence, Set, Tuple)

from ..wire.fields import Range, merged
from . import lease_size

GRACE = 5.0             # seconds a dropped connection may come back within
EXPIRY = 60.0           # seconds of silence after which a slave is lost
RESERVE = 10.0          # seconds until one more slave is kept from prefetch
CUTS = 8                # into how many pieces a suspect piece is cut
LOSSES = 3              # lone losses after which a job has failed
REFUSALS = 3            # slaves that cannot unpickle a job until it failed
IN_HAND = 50            # jobs out of the queue, in sizes of the queue


class FailedJob(NamedTuple):
    """A job that failed and is not recorded yet."""

    number: int
    job: Any
    error: str                          # one line
    traceback: str
    slave: str                          # a name for people: host:pid
    attempts: int


class Lease(NamedTuple):
    """What a slave is given: jobs ``first``, ``first + 1``, ..."""

    first: int
    jobs: Sequence[Any]


class Expired(NamedTuple):
    """The names of slaves, and how many jobs come back from each."""

    lost: List[Tuple[str, int]]         # silent for EXPIRY
    gone: List[Tuple[str, int]]         # cut off for GRACE; may come back


class Slave:
    """What the ledger knows of a slave."""

    def __init__(self, id: str, name: str, workers: int, now: float):
        self.id = id
        self.name = name                # for people: host:pid
        self.workers = workers
        self.since = now
        self.heard = now
        self.dropped: Optional[float] = None    # when its connection ended
        self.gone: List[Range] = []     # what it held when its GRACE ended
        self.pieces: Set['Piece'] = set()
        self.in_hand = 0                # jobs
        self.done = 0                   # jobs, as reported
        self.failed = 0


class Piece:
    """Unfinished jobs ``first`` .. ``last``, and the job before them."""

    __slots__ = ('first', 'jobs', 'before', 'holder', 'since', 'claim',
                 'suspect', 'losses', 'refused', 'failure')

    def __init__(self, first: int, jobs: List[Any], before: Any):
        self.first = first
        self.jobs = jobs                # replaced when cut, never changed
        self.before = before
        self.holder: Optional[Slave] = None
        self.since = 0.0                # when it was leased
        self.claim: Optional[str] = None    # the slave that may come back
        self.suspect = False
        self.losses = 0
        self.refused: Dict[str, str] = {}   # by whom (id), and why
        self.failure: Optional[FailedJob] = None

    @property
    def last(self) -> int:
        return self.first + len(self.jobs) - 1

    @property
    def lone(self) -> bool:
        """Whether it must be all that its slave holds."""
        return self.suspect and len(self.jobs) == 1

    def split(self, number: int) -> 'Piece':
        """Keep the jobs before ``number``; give the others as a piece."""
        cut = number - self.first
        right = Piece(number, self.jobs[cut:], self.jobs[cut - 1])
        self.jobs = self.jobs[:cut]
        for name in ('holder', 'since', 'claim', 'suspect'):
            setattr(right, name, getattr(self, name))
        return right


class Ready:
    """The jobs that nobody has had yet, in order.

    They are kept in the lists that they came in, as popping them one by
    one takes longer than all else about a lease.  The newest list may grow
    while it is here: whoever fills it need not ask.
    """

    def __init__(self) -> None:
        self._lists: Deque[List[Any]] = deque()
        self._newest: List[Any] = []    # the last of them
        self._older = 0                 # jobs of the others
        self._taken = 0                 # jobs of the first

    def __len__(self) -> int:
        return self._older + len(self._newest) - self._taken

    def extend(self, jobs: List[Any]) -> None:
        """Add a list, which may grow until the next one is added."""
        if self._lists:
            self._older += len(self._newest)
        self._lists.append(jobs)
        self._newest = jobs

    def take(self, count: int) -> List[Any]:
        """The first ``count`` of the jobs, of which there are as many."""
        jobs = self._slice(count)
        while len(jobs) < count:
            jobs += self._slice(count - len(jobs))
        return jobs

    def _slice(self, count: int) -> List[Any]:
        """As many, or what is left of the first list, which then goes."""
        first, start = self._lists[0], self._taken
        jobs = first[start:start + count]
        self._taken += len(jobs)
        if first is not self._newest and self._taken == len(first):
            self._lists.popleft()
            self._older -= self._taken
            self._taken = 0
        return jobs


class Ledger:
    """The books of one run.  ``size`` is the cap of the ready jobs."""

    def __init__(self, size: int):
        self.size = size
        self.ready = Ready()
        self.ended = False              # the source has no more jobs
        self.leased = 0                 # number of the last job leased
        self.finished = 0               # jobs done, or failed and recorded
        self.failed = 0                 # of those: failed and recorded
        self.twice = 0                  # jobs reported done once more
        self.seen = 0                   # slaves that have come
        self.unfinished = 0             # jobs in pieces
        self.slaves: Dict[str, Slave] = {}
        self._before: Any = None        # the last job leased
        self._pieces: Dict[int, Piece] = {}     # by first number
        self._firsts: List[int] = []            # the same, in order
        self._returned: List[int] = []          # those to lease again
        self._lone: List[int] = []              # and those that go alone
        self._failed: Dict[int, Piece] = {}     # and those to be recorded
        self._reserved: Set[str] = set()
        self._reserved_at = 0.0

    # -- what can be asked ------------------------------------------------

    def watermark(self) -> Tuple[int, Any]:
        """Number and job of the watermark; number 0 and None at first."""
        if self._firsts:
            piece = self._pieces[self._firsts[0]]
            return piece.first - 1, piece.before
        return self.leased, self._before

    @property
    def complete(self) -> bool:
        """Whether every job of the source is finished."""
        return self.ended and not self.ready and not self._firsts

    @property
    def idle(self) -> bool:
        """Whether no job is in a slave's hands."""
        return not any(slave.pieces for slave in self.slaves.values())

    @property
    def resumable(self) -> bool:
        """Whether, when draining, a slave is there for what was given back."""
        return self.workers > 0 and any(
            not self._pieces[first].suspect for first in self._returned)

    @property
    def workers(self) -> int:
        return sum(slave.workers for slave in self.slaves.values()
                   if slave.dropped is None)

    @property
    def waiting(self) -> int:
        """Pieces that wait to be leased again."""
        return len(self._returned) + len(self._lone)

    @property
    def full(self) -> bool:
        """Whether no more jobs may be out of the queue."""
        return self.unfinished >= IN_HAND * self.size

    def unrecorded(self) -> List[FailedJob]:
        """The failed jobs that wait to be recorded, in order."""
        return [piece.failure for _, piece in sorted(self._failed.items())
                if piece.failure]

    def lowest(self) -> Optional[Piece]:
        """The piece that holds the watermark back."""
        return self._pieces[self._firsts[0]] if self._firsts else None

    def late(self, slave: Slave, now: float, span: float) -> bool:
        """Whether a slave should share what it has leased too long ago."""
        return slave.in_hand > slave.workers and any(
            now - piece.since > lease_size.LATE * span
            for piece in slave.pieces)

    def barred(self, slave: Slave) -> bool:
        """Whether this slave gets nothing until it holds nothing."""
        if not slave.pieces:
            return False
        return (slave.id in self._reserved
                or any(piece.lone for piece in slave.pieces))

    # -- slaves come and go -----------------------------------------------

    def hello(self, id: str, name: str, workers: int, now: float,
              holds: Sequence[Range] = ()) -> List[Range]:
        """A slave introduces itself, once per connection.

        ``holds`` is what it believes to hold.  Gives what of that is
        still its own; what it was given and does not hold is returned.
        """
        slave = self.slaves.get(id)
        if slave is None:
            slave = self.slaves[id] = Slave(id, name, workers, now)
            self.seen += 1
        slave.heard, slave.dropped, slave.gone = now, None, []
        kept = []
        for a, b in merged(holds):
            for piece in self._within(a, b):
                if piece.holder is slave:
                    kept.append(self._isolate(piece, a, b))
                elif piece.holder is None and piece.claim == id:
                    kept.append(self._isolate(piece, a, b))
                    self._withdraw(kept[-1])
                    self._hold(kept[-1], slave, now)
        for piece in self._claimed(id):
            piece.claim = None
        for piece in slave.pieces.difference(kept):
            self._return(piece)
        return [(piece.first, piece.last) for piece in kept]

    def heard(self, id: str, now: float) -> Optional[Slave]:
        """Renew all that a slave holds; None when it must say hello."""
        slave = self.slaves.get(id)
        if slave is not None:
            slave.heard = now
        return slave

    def drop(self, id: str, now: float) -> None:
        """The connection of a slave has ended, which is not a death."""
        slave = self.slaves.get(id)
        if slave is not None and slave.dropped is None:
            slave.dropped = now
            if not slave.pieces:
                del self.slaves[id]

    def lose(self, id: str, late: Sequence[Range] = ()) -> int:
        """A slave is dead.  Gives the number of jobs that come back.

        One of its jobs may have killed it, so they go out again in eight
        pieces.  What was its own and is still unleased is cut as well.
        But if it was ended since the jobs ``late`` took too long, the
        others are not to blame.
        """
        slave = self.slaves.pop(id, None)
        if slave is None:
            return 0
        self._reserved.discard(id)
        pieces = [*slave.pieces, *self._claimed(id)]
        jobs = sum(len(piece.jobs) for piece in pieces)
        alone = jobs == 1
        if slave.gone and not late:
            (a, b), *more = slave.gone
            alone = a == b and not more
            self._blame(slave, alone)
        for a, b in late:
            for piece in self._within(a, b):
                if piece.holder is not slave and piece.claim != id:
                    continue
                piece = self._isolate(piece, a, b)
                if len(piece.jobs) == 1:
                    self._fail(piece, 'took longer than --job-timeout', '',
                               slave.name, 1)
                else:
                    self._suspect(piece)
        for piece in [*slave.pieces, *self._claimed(id)]:
            if late:
                self._return(piece)
                continue
            if alone:
                piece.losses += 1
            if not self._fail_hopeless(piece, slave.name):
                self._suspect(piece)
        return jobs

    def expire(self, now: float) -> Expired:
        """Let time pass."""
        lost, gone = [], []
        for slave in list(self.slaves.values()):
            if now - slave.heard >= EXPIRY:
                lost.append((slave.name, self.lose(slave.id)))
            elif (slave.dropped is not None and slave.pieces
                    and now - slave.dropped >= GRACE):
                gone.append((slave.name, slave.in_hand))
                slave.gone = [(piece.first, piece.last)
                              for piece in slave.pieces]
                for piece in list(slave.pieces):
                    self._return(piece, claim=slave.id)
                    if piece.suspect:       # once more: as when it is lost
                        self._split(piece)
        self._fail_refused()
        for first in list(self._lone):
            self._fail_hopeless(self._pieces[first], '')
        return Expired(lost, gone)

    # -- jobs -------------------------------------------------------------

    def feed(self, jobs: List[Any]) -> None:
        """New jobs of the source, in its order; see `Ready.extend`."""
        self.ready.extend(jobs)

    def lease(self, id: str, want: int, now: float,
              prefetch: bool = False,
              draining: bool = False) -> Optional[Lease]:
        """Up to ``want`` jobs for a slave, or None: nothing for it now.

        ``prefetch`` says that it has work for all its workers yet.  When
        draining only what was given back is leased: left undone it would
        hold the watermark below jobs that are done, to be done again.
        """
        slave = self.slaves[id]
        if want < 1 or self.barred(slave):
            return None
        piece = None if draining else self._lone_piece(slave, now)
        if piece is None and not self.barred(slave):
            if self.ended and not draining:
                want = self._share(want, prefetch)
            piece = self._returned_piece(slave, want, draining)
            if piece is None and not draining:
                piece = self._new_piece(want)
        if piece is None:
            return None
        self._hold(piece, slave, now)
        return Lease(piece.first, piece.jobs)

    def done(self, id: str, ranges: Iterable[Range]) -> None:
        """Jobs are done, whoever says so: a success is a success."""
        slave = self.slaves.get(id)
        for a, b in ranges:
            count = 0
            for piece in self._within(a, b):
                piece = self._isolate(piece, a, b)
                count += len(piece.jobs)
                self._finish(piece)
            self.twice += max(min(b, self.leased) - a + 1, 0) - count
            if slave:
                slave.done += count

    def fail(self, id: str, number: int, error: str, traceback: str = '',
             attempts: int = 1) -> None:
        """A job failed; counts only from the slave that holds it."""
        slave = self.slaves.get(id)
        for piece in self._held(slave, number, number):
            assert slave is not None
            slave.failed += 1
            self._fail(piece, error, traceback, slave.name, attempts)

    def give_back(self, id: str, ranges: Iterable[Range]) -> None:
        """A slave gives back what it has not begun; nobody is blamed."""
        for a, b in ranges:
            for piece in self._held(self.slaves.get(id), a, b):
                self._return(piece)

    def refuse(self, id: str, a: int, b: int, error: str) -> None:
        """A slave cannot unpickle jobs a .. b as they were sent to it."""
        slave = self.slaves.get(id)
        for piece in self._held(slave, a, b):
            assert slave is not None
            self._release(piece)
            if len(piece.jobs) == 1:
                piece.refused[slave.id] = error
                if len(piece.refused) >= REFUSALS:
                    self._fail(piece, error, '', slave.name, 0)
                    continue
            for part in self._split(piece):
                self._await(part)

    def recorded(self, numbers: Iterable[int]) -> None:
        """These failed jobs are on disk, so the watermark may pass them."""
        for number in numbers:
            piece = self._failed.get(number)
            if piece is not None:
                self.failed += 1
                self._finish(piece)

    # -- the books --------------------------------------------------------

    def _within(self, a: int, b: int) -> List[Piece]:
        """The pieces that have a job in a .. b."""
        firsts = self._firsts
        i = max(bisect_right(firsts, a) - 1, 0)
        found = []
        while i < len(firsts) and firsts[i] <= b:
            piece = self._pieces[firsts[i]]
            if piece.last >= a:
                found.append(piece)
            i += 1
        return found

    def _held(self, slave: Optional[Slave], a: int, b: int) -> List[Piece]:
        """What of a .. b this slave holds, as pieces of its own."""
        if slave is None:
            return []
        return [self._isolate(piece, a, b) for piece in self._within(a, b)
                if piece.holder is slave]

    def _claimed(self, id: str) -> List[Piece]:
        """The pieces in nobody's hands that this slave may still keep."""
        waiting = [self._pieces[i] for i in self._returned + self._lone]
        return [piece for piece in waiting if piece.claim == id]

    def _isolate(self, piece: Piece, a: int, b: int) -> Piece:
        """Cut a piece so that what it has of a .. b stands alone."""
        if a > piece.first:
            piece = self._cut(piece, a)
        if b < piece.last:
            self._cut(piece, b + 1)
        return piece

    def _cut(self, piece: Piece, number: int) -> Piece:
        """Cut a piece in two before ``number``; give the right part."""
        waits = self._withdraw(piece)
        right = piece.split(number)
        self._pieces[number] = right
        insort(self._firsts, number)
        if right.holder is not None:
            right.holder.pieces.add(right)
        if waits:
            self._await(piece)
            self._await(right)
        return right

    def _split(self, piece: Piece) -> List[Piece]:
        """Cut a piece into eight, or fewer where it has fewer jobs."""
        step = -(-len(piece.jobs) // CUTS)
        parts = [piece]
        for number in range(piece.first + step, piece.last + 1, step):
            parts.append(self._cut(parts[-1], number))
        return parts

    def _blame(self, slave: Slave, alone: bool) -> None:
        """What a lost slave had in hand, and others have had since."""
        for a, b in slave.gone:
            for piece in self._within(a, b):
                if piece.claim == slave.id or piece.failure is not None:
                    continue
                piece = self._isolate(piece, a, b)
                piece.losses += alone
                if piece.holder is not None:
                    piece.suspect = True
                elif not self._fail_hopeless(piece, slave.name):
                    self._suspect(piece)

    def _fail_hopeless(self, piece: Piece, slave: str) -> bool:
        """Whether a job was lost too often."""
        if piece.losses < LOSSES:
            return False
        self._fail(piece, f'lost with its slave {LOSSES} times', '', slave,
                   LOSSES)
        return True

    def _suspect(self, piece: Piece) -> None:
        """One of these jobs may be what killed or held up their slave."""
        self._release(piece)
        for part in self._split(piece):
            part.suspect = True
            self._await(part)

    def _hold(self, piece: Piece, slave: Slave, now: float) -> None:
        piece.holder, piece.since, piece.claim = slave, now, None
        slave.pieces.add(piece)
        slave.in_hand += len(piece.jobs)

    def _release(self, piece: Piece) -> None:
        """Out of its slave's hands, and out of those that wait."""
        self._withdraw(piece)
        slave, piece.holder, piece.claim = piece.holder, None, None
        if slave is not None:
            slave.pieces.discard(piece)
            slave.in_hand -= len(piece.jobs)

    def _return(self, piece: Piece, claim: Optional[str] = None) -> None:
        """It is to be leased again, nobody blamed."""
        self._release(piece)
        piece.claim = claim
        self._await(piece)

    def _await(self, piece: Piece) -> None:
        insort(self._lone if piece.lone else self._returned, piece.first)

    def _withdraw(self, piece: Piece) -> bool:
        """It waits no more to be leased.  Says whether it did."""
        firsts = self._lone if piece.lone else self._returned
        i = bisect_left(firsts, piece.first)
        if firsts[i:i + 1] != [piece.first]:
            return False
        del firsts[i]
        if not self._lone:
            self._reserved.clear()
        return True

    def _finish(self, piece: Piece) -> None:
        self._release(piece)
        self._failed.pop(piece.first, None)
        del self._pieces[piece.first]
        del self._firsts[bisect_left(self._firsts, piece.first)]
        self.finished += len(piece.jobs)
        self.unfinished -= len(piece.jobs)

    def _fail(self, piece: Piece, error: str, traceback: str, slave: str,
              attempts: int) -> None:
        """A single job is to be recorded as failed."""
        self._release(piece)
        piece.failure = FailedJob(piece.first, piece.jobs[0], error,
                                  traceback, slave, attempts)
        self._failed[piece.first] = piece

    def _fail_refused(self) -> None:
        """A job that every connected slave refused has failed."""
        connected = [slave for slave in self.slaves.values()
                     if slave.dropped is None]
        for first in self._returned + self._lone:
            piece = self._pieces[first]
            if connected and all(slave.id in piece.refused
                                 for slave in connected):
                self._fail(piece, piece.refused[connected[0].id], '',
                           connected[0].name, 0)

    def _lone_piece(self, slave: Slave, now: float) -> Optional[Piece]:
        """A suspect single job for an empty slave; else reserve this one."""
        if not slave.pieces:
            self._reserved.discard(slave.id)
        for first in self._lone:
            piece = self._pieces[first]
            if slave.id in piece.refused:
                continue
            if not slave.pieces:
                self._withdraw(piece)
                return piece
            self._reserved &= self.slaves.keys()
            if not self._reserved or now - self._reserved_at >= RESERVE:
                self._reserved.add(slave.id)
                self._reserved_at = now
            break
        return None

    def _share(self, want: int, prefetch: bool) -> int:
        """How many of the last jobs a slave may have at once."""
        waiting = sum(len(self._pieces[first].jobs)
                      for first in self._returned)
        return lease_size.share(len(self.ready) + waiting, want, self.workers,
                                prefetch)

    def _returned_piece(self, slave: Slave, want: int,
                        draining: bool) -> Optional[Piece]:
        if want < 1:
            return None
        for first in self._returned:
            piece = self._pieces[first]
            if (slave.id not in piece.refused
                    and not (draining and piece.suspect)):
                # Of a suspect piece at least two, as one goes alone.
                count = max(want, 2) if piece.suspect else want
                if len(piece.jobs) > count:
                    self._cut(piece, first + count)
                self._withdraw(piece)
                return piece
        return None

    def _new_piece(self, want: int) -> Optional[Piece]:
        count = min(want, len(self.ready),
                    IN_HAND * self.size - self.unfinished)
        if count < 1:
            return None
        jobs = self.ready.take(count)
        piece = Piece(self.leased + 1, jobs, self._before)
        self._pieces[piece.first] = piece
        self._firsts.append(piece.first)
        self.unfinished += count
        self.leased += count
        self._before = jobs[-1]
        return piece
