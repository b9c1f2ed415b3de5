"""What the status line and `tm-ctl status` tell of the queue.

Each is read from the ledger under the queue's lock, at one moment.
"""

from __future__ import annotations

from heapq import nsmallest

from ..records import TYPE_CHECKING, NamedTuple
from .ledger import Ledger
from .pieces import Piece

if TYPE_CHECKING:
    from typing import Any


class Oldest(NamedTuple):
    """An unfinished job, such as the one that holds the watermark back."""

    number: int
    job: Any
    slave: str          # host:pid, or '' when nobody has it
    age: float          # seconds
    in_hand: int        # jobs that this slave has, this one among them


class SlaveReport(NamedTuple):
    """What `tm-ctl status` tells of a slave."""

    name: str
    workers: int
    connected: bool
    done: int
    failed: int
    rate: float         # jobs a second, of the last seconds
    in_hand: int
    oldest: float | None        # seconds that it has had a lease, at most


class Counts(NamedTuple):
    """What the status line needs."""

    finished: int
    queued: int
    slaves: int         # connected
    failed: int         # and recorded
    unrecorded: int     # failed, and about to be recorded
    twice: int          # jobs done once more
    seen: int           # slaves that have come


def counts(ledger: Ledger, connected: int) -> Counts:
    return Counts(ledger.finished, len(ledger.ready), connected,
                  ledger.failed, len(ledger.pieces.failed), ledger.twice,
                  ledger.slaves.seen)


def slaves(ledger: Ledger, now: float,
           most: int | None = None) -> list[SlaveReport]:
    """A slave each, those with the oldest lease first; ``most`` of them."""
    found = [(-(slave.age(now) or 0), n, slave) for n, slave
             in enumerate(ledger.slaves.values())]
    found = sorted(found) if most is None else nsmallest(most, found)
    return [SlaveReport(
        slave.name, slave.workers, slave.dropped is None, slave.done,
        slave.failed, slave.rate(now),
        slave.in_hand, slave.age(now)) for _, _, slave in found]


def lowest(ledger: Ledger, now: float) -> Oldest | None:
    """What holds the watermark back, if anything does."""
    piece = ledger.pieces.lowest()
    return None if piece is None else _oldest(piece, now)


def holders(ledger: Ledger, now: float) -> list[Oldest]:
    """What each slave has had longest, the oldest of all first."""
    pieces = [slave.oldest() for slave in ledger.slaves.values()]
    return sorted((_oldest(piece, now) for piece in pieces if piece),
                  key=lambda oldest: -oldest.age)


def _oldest(piece: Piece, now: float) -> Oldest:
    holder = piece.holder
    return Oldest(piece.first, piece.job, holder.name if holder else '',
                  now - piece.since, holder.in_hand if holder else 0)
