"""The slaves that the ledger knows, and what it knows of each."""

from __future__ import annotations

from collections import OrderedDict

from ..records import TYPE_CHECKING
from ..wire.fields import Range

if TYPE_CHECKING:
    from typing import Sequence

    from .pieces import Piece

# Seconds that a slave's rate looks back: so many, or twice as many.
WINDOW = 2.5
# Slaves that have gone, of which the last report is still known.
REPORTS = 1000
# Ranges that are known of a last report: seldom has one as many.
REMEMBERED = 100


class Slave:
    """What the ledger knows of a slave."""

    def __init__(self, id: str, name: str, workers: int, now: float):
        self.id = id
        self.name = name                # for people: host:pid
        self.workers = workers
        self.since = now
        self.heard = now
        self.dropped: float | None = None       # when its connection ended
        self.gone: list[Range] = []     # what it held when its grace ended
        self.reported: Sequence[Range] = ()     # done, in its last report
        self.in_hand = 0                # jobs
        self.isolated = 0               # pieces in hand that go alone
        self.done = 0                   # jobs, as reported
        # When so many were done: some seconds ago, and since then.
        self.marks = (now, 0), (now, 0)
        self.failed = 0
        # What it holds, by when that was leased, the oldest first.
        self.leases: OrderedDict[float, OrderedDict[Piece, None]] = (
            OrderedDict())
        self.claims: set[Piece] = set()     # it may still keep these
        self.turns: dict[object, int] = {}   # up to which it refused all

    def hear(self, now: float) -> None:
        """It has said something, and so it lives."""
        self.heard = now
        if now - self.marks[1][0] >= WINDOW:
            self.marks = self.marks[1], (now, self.done)

    def rate(self, now: float) -> float:
        """Return the jobs a second of the last seconds."""
        since, done = self.marks[0]
        return (self.done - done) / max(now - since, 1e-9)

    @property
    def pieces(self) -> list[Piece]:
        """All that it holds."""
        return [piece for lease in self.leases.values() for piece in lease]

    @property
    def own(self) -> list[Piece]:
        """All that it holds, and what it may come back for."""
        return self.pieces + sorted(self.claims, key=lambda p: p.first)

    def oldest(self) -> Piece | None:
        """Return what it has had longest."""
        for lease in self.leases.values():
            return next(iter(lease))
        return None

    def age(self, now: float) -> float | None:
        """Return for how many seconds it has had that."""
        for since in self.leases:
            return now - since
        return None

    def take(self, piece: Piece) -> None:
        self.leases.setdefault(piece.since, OrderedDict())[piece] = None
        self.isolated += piece.isolated

    def let_go(self, piece: Piece) -> None:
        lease = self.leases[piece.since]
        del lease[piece]
        if not lease:
            del self.leases[piece.since]
        self.isolated -= piece.isolated


class Slaves(dict[str, Slave]):
    """By their ids; those that may still come back are among them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0               # how many have come
        self._reports: dict[str, Sequence[Range]] = {}  # of those gone

    @property
    def connected(self) -> list[Slave]:
        return [slave for slave in self.values() if slave.dropped is None]

    @property
    def workers(self) -> int:
        """Of all that are connected."""
        return sum(slave.workers for slave in self.connected)

    def arrive(self, id: str, name: str, workers: int, now: float,
               returns: bool) -> Slave:
        """Return the slave of that id; ``returns``: it was here before."""
        slave = self.get(id)
        if slave is None:
            slave = self[id] = Slave(id, name, workers, now)
            slave.reported = self._reports.pop(id, ())
            self.seen += not returns
        slave.heard, slave.dropped, slave.gone = now, None, []
        return slave

    def leave(self, slave: Slave) -> None:
        del self[slave.id]
        if slave.reported:
            self._remember(slave.id, slave.reported)

    def repeated(self, id: str, ranges: Sequence[Range]) -> int:
        """Return how many of these jobs it reported as done once before.

        It does when the reply to its last report was lost.
        """
        return _common(ranges, self[id].reported if id in self
                       else self._reports.get(id, ()))

    def reported(self, id: str, ranges: Sequence[Range]) -> None:
        """These are the jobs done of its last report."""
        if len(ranges) > REMEMBERED:
            ranges = ranges[:REMEMBERED]
        slave = self.get(id)
        if slave is not None:
            slave.reported = ranges
        else:
            self._remember(id, ranges)

    def _remember(self, id: str, ranges: Sequence[Range]) -> None:
        self._reports.pop(id, None)
        self._reports[id] = ranges
        if len(self._reports) > REPORTS:
            del self._reports[next(iter(self._reports))]


def _common(some: Sequence[Range], others: Sequence[Range]) -> int:
    """How many numbers are in both; each in order and without overlap."""
    count = at = 0
    for a, b in some:
        while at < len(others) and others[at][1] < a:
            at += 1
        last = at
        while last < len(others) and others[last][0] <= b:
            c, d = others[last]
            count += min(b, d) - max(a, c) + 1
            last += 1
        at = max(at, last - 1)
    return count
