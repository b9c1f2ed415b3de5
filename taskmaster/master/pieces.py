"""The index of pieces: where each is, and which of them is next.

It knows no rules of the run; those are the ledger's.  Nothing here takes
longer the more pieces there are, but for what is done to each of several.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import combinations, islice

from ..records import TYPE_CHECKING, NamedTuple
from .ordered import Numbers
from .slaves import Slave

if TYPE_CHECKING:
    from typing import Any, Iterator

CUTS = 8                # into how many pieces one under suspicion is cut


class FailedJob(NamedTuple):
    """A job that failed and is not recorded yet."""

    number: int
    job: Any
    error: str                          # one line
    traceback: str
    slave: str                          # a name for people: host:pid
    attempts: int
    cause: str = ''                     # its first error, if another


class Piece:
    """Unfinished jobs ``first`` .. ``last``, and the job before them.

    They are a part of a list that is never changed, as it may be pickled
    just now.  Cutting a piece copies only what became the smaller half, or
    a lease done job by job would be copied for each.
    """

    __slots__ = ('first', 'size', 'before', 'holder', 'since', 'claim',
                 'suspect', 'losses', 'refused', 'failure', 'turn', '_list',
                 '_start')

    def __init__(self, first: int, jobs: list[Any], before: Any):
        self.first = first
        self.size = len(jobs)
        self.before = before
        self.holder: Slave | None = None
        self.since = 0.0                # when it was leased
        self.claim: Slave | None = None     # who may come back for it
        self.suspect = False
        self.losses = 0
        self.refused: dict[str, str] = {}   # by whom (id), and why
        self.failure: FailedJob | None = None
        self.turn = 0                   # where it waits; 0: nowhere
        self._list = jobs
        self._start = 0

    @property
    def last(self) -> int:
        return self.first + self.size - 1

    @property
    def job(self) -> Any:
        """Its first job."""
        return self._list[self._start]

    @property
    def jobs(self) -> list[Any]:
        if self.size == len(self._list):
            return self._list
        return self._list[self._start:self._start + self.size]

    @property
    def isolated(self) -> bool:
        """Whether it must be all that its slave holds."""
        return self.suspect and self.size == 1

    def split(self, number: int) -> Piece:
        """Keep the jobs before ``number``; return the others as a piece."""
        cut = self._start + number - self.first
        right = Piece(number, self._list, self._list[cut - 1])
        right.size, right._start = self.last - number + 1, cut
        self.size = number - self.first
        for name in ('holder', 'since', 'claim', 'suspect'):
            setattr(right, name, getattr(self, name))
        self._trim()
        right._trim()
        return right

    def _trim(self) -> None:
        """Let go of a list when half of it is not ours any more."""
        if 2 * self.size <= len(self._list):
            self._list = self.jobs
            self._start = 0


class Turns:
    """Single jobs that slaves refused, each waiting for another slave.

    In the order in which they came here.  So a slave need look only once
    at those that it refused, for where it begins to look only moves on.
    """

    def __init__(self) -> None:
        self._last = 0
        self._order = Numbers()
        self._pieces: dict[int, Piece] = {}

    def __bool__(self) -> bool:
        return bool(self._pieces)

    def __iter__(self) -> Iterator[Piece]:
        return (self._pieces[turn] for turn in self._order)

    def add(self, piece: Piece) -> None:
        self._last += 1
        piece.turn = self._last
        self._order.add(piece.turn)
        self._pieces[piece.turn] = piece

    def remove(self, piece: Piece) -> None:
        self._order.remove(piece.turn)
        del self._pieces[piece.turn]
        piece.turn = 0

    def first(self, slave: Slave) -> Piece | None:
        """Return the first that this slave has not refused, or None."""
        for turn in self._order.beginning(slave.turns.get(self, 1)):
            if slave.id not in self._pieces[turn].refused:
                slave.turns[self] = turn
                return self._pieces[turn]
        slave.turns[self] = self._last + 1
        return None


class Pieces:
    """All pieces of a run, by their jobs' numbers, and those that wait."""

    def __init__(self) -> None:
        self.jobs = 0                       # in all pieces
        self.returned_jobs = 0              # waiting, but not to go alone
        # Failed, and to be recorded; in the order in which they failed.
        self.failed: OrderedDict[int, Piece] = OrderedDict()
        self.waiting = 0                    # pieces, to be leased again
        self._at: dict[int, Piece] = {}     # by first number
        self._firsts = Numbers()
        # Where those that wait are, by whether they are suspect, and alone.
        self._innocent, self._suspect, self._isolated = (
            Numbers(), Numbers(), Numbers())
        self._refused, self._refused_isolated = Turns(), Turns()
        # Those that refused ones wait, by any who all refused them.
        self._refused_by: dict[frozenset[str], OrderedDict[int, Piece]] = {}

    def __iter__(self) -> Iterator[Piece]:
        """All of them in order."""
        return (self._at[first] for first in self._firsts)

    # -- which there are --------------------------------------------------

    def lowest(self) -> Piece | None:
        first = self._firsts.first()
        return None if first is None else self._at[first]

    def within(self, a: int, b: int) -> list[Piece]:
        """Return the pieces that have a job in a .. b."""
        piece = self._at.get(a)
        if piece is not None and piece.last >= b:
            return [piece]
        start = self._firsts.at_most(a)
        found = []
        for first in self._firsts.beginning(a if start is None else start):
            if first > b:
                break
            piece = self._at[first]
            if piece.last >= a:
                found.append(piece)
        return found

    def add(self, piece: Piece) -> None:
        self._at[piece.first] = piece
        self._firsts.add(piece.first)
        self.jobs += piece.size

    def remove(self, piece: Piece) -> None:
        self.release(piece)
        if piece.failure is not None:
            del self.failed[piece.first]
        del self._at[piece.first]
        self._firsts.remove(piece.first)
        self.jobs -= piece.size

    # -- cutting ----------------------------------------------------------

    def isolate(self, piece: Piece, a: int, b: int) -> Piece:
        """Cut a piece so that what it has of a .. b stands alone."""
        if a > piece.first:
            piece = self.cut(piece, a)
        if b < piece.last:
            self.cut(piece, b + 1)
        return piece

    def cut(self, piece: Piece, number: int) -> Piece:
        """Cut a piece in two before ``number``; return the right part."""
        waits, holder = self.withdraw(piece), piece.holder
        if holder is not None:
            holder.isolated -= piece.isolated
        self.jobs -= piece.size
        right = piece.split(number)
        self.jobs += piece.size
        self.add(right)
        if holder is not None:
            holder.isolated += piece.isolated
            holder.take(right)
        if right.claim is not None:
            right.claim.claims.add(right)
        if waits:
            self.wait(piece)
            self.wait(right)
        return right

    def crumble(self, piece: Piece) -> list[Piece]:
        """Cut a piece into eight, or fewer where it has fewer jobs."""
        step = -(-piece.size // CUTS)
        parts = [piece]
        for number in range(piece.first + step, piece.last + 1, step):
            parts.append(self.cut(parts[-1], number))
        return parts

    # -- in whose hands ---------------------------------------------------

    def hold(self, piece: Piece, slave: Slave, now: float) -> None:
        if piece.turn or piece.claim is not None:
            self.release(piece)
        piece.holder, piece.since = slave, now
        slave.take(piece)
        slave.in_hand += piece.size

    def release(self, piece: Piece) -> None:
        """Out of its slave's hands, and out of those that wait."""
        if piece.turn:
            self.withdraw(piece)
        if piece.claim is not None:
            piece.claim.claims.discard(piece)
            piece.claim = None
        slave = piece.holder
        if slave is not None:
            slave.let_go(piece)
            slave.in_hand -= piece.size
            piece.holder = None

    def claim(self, piece: Piece, slave: Slave) -> None:
        """Nobody holds it, but this slave may come back for it."""
        self.release(piece)
        piece.claim = slave
        slave.claims.add(piece)

    @staticmethod
    def forget_claims(slave: Slave) -> None:
        for piece in slave.claims:
            piece.claim = None
        slave.claims.clear()

    def suspect(self, piece: Piece) -> None:
        """One of its jobs may be what kills slaves."""
        waits, holder = self.withdraw(piece), piece.holder
        if holder is not None:
            holder.isolated -= piece.isolated
        piece.suspect = True
        if holder is not None:
            holder.isolated += piece.isolated
        if waits:
            self.wait(piece)

    # -- those that wait to be leased again -------------------------------

    @property
    def isolated_wait(self) -> bool:
        """Whether any waits that must go alone."""
        return bool(self._isolated or self._refused_isolated)

    @property
    def innocent_wait(self) -> bool:
        """Whether any waits that nobody suspects."""
        return bool(self._innocent or self._refused)

    def wait(self, piece: Piece) -> None:
        """It is to be leased again."""
        if piece.refused:
            (self._refused_isolated if piece.isolated
             else self._refused).add(piece)
            for who in _groups(piece):
                self._refused_by.setdefault(
                    who, OrderedDict())[piece.first] = piece
        else:
            self._line(piece).add(piece.first)
            piece.turn = 1
        self.waiting += 1
        if not piece.isolated:
            self.returned_jobs += piece.size

    def withdraw(self, piece: Piece) -> bool:
        """It waits no more.  Return whether it did."""
        if not piece.turn:
            return False
        if piece.refused:
            (self._refused_isolated if piece.isolated
             else self._refused).remove(piece)
            for who in _groups(piece):
                those = self._refused_by[who]
                del those[piece.first]
                if not those:
                    del self._refused_by[who]
        else:
            self._line(piece).remove(piece.first)
            piece.turn = 0
        self.waiting -= 1
        if not piece.isolated:
            self.returned_jobs -= piece.size
        return True

    def refused_by(self, slaves: frozenset[str], most: int) -> list[Piece]:
        """Return those waiting that every one of these slaves refused.

        No more than ``most`` of them.
        """
        those = self._refused_by.get(slaves, OrderedDict())
        return list(islice(those.values(), most))

    def next_isolated(self, slave: Slave) -> Piece | None:
        """Return one that must go alone, and may go to this slave."""
        first = self._isolated.first()
        if first is not None:
            return self._at[first]
        return self._refused_isolated.first(slave)

    def next_returned(self, slave: Slave, suspects: bool) -> Piece | None:
        """Return another one for this slave, the lowest.

        ``suspects`` says whether it may be one that is suspect.
        """
        firsts = [self._innocent.first(),
                  self._suspect.first() if suspects else None]
        found = [self._at[first] for first in firsts if first is not None]
        refused = self._refused.first(slave) if self._refused else None
        if refused is not None:
            found.append(refused)
        return min(found, key=lambda piece: piece.first, default=None)

    def _line(self, piece: Piece) -> Numbers:
        return (self._isolated if piece.isolated else
                self._suspect if piece.suspect else self._innocent)


def _groups(piece: Piece) -> Iterator[frozenset[str]]:
    """All sets of those who refused it, but for the empty one."""
    for count in range(1, len(piece.refused) + 1):
        for who in combinations(piece.refused, count):
            yield frozenset(who)
