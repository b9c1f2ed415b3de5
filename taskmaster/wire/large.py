"""Large requests: what they may cost, of all connections together.

Few slaves ever have much to say.  Whoever turned could have a thousand
connections say half of something large, or have JSON read that is forty
times as large in memory as on the wire.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager

from ..records import TYPE_CHECKING, Protocol
from .fields import RANGES, TEXT, TRACEBACK, BadMessage

if TYPE_CHECKING:
    from typing import Iterator

LARGE = 1 << 14             # bytes; what is smaller is not counted
MOST = 32 << 20             # bytes that are under way at a time
FAILURES = 20               # in a report, as slaves make them
# Lists, objects and items in a request: all ranges, and each character of
# all texts, were it one of these.
ITEMS = 3 * RANGES + FAILURES * (2 * TEXT + TRACEBACK) + 30_000


class Cut(Protocol):
    """A connection."""

    def cut(self) -> None:
        """End it."""


class Large:
    """Bounds how many bytes are under way, and has one read at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._under_way: dict[Cut, int] = {}    # the oldest first

    def begin(self, conn: Cut, size: int) -> None:
        """A frame of so many bytes has begun; of too many the oldest ends."""
        if size <= LARGE:
            return
        with self._lock:
            self._under_way[conn] = size
            while sum(self._under_way.values()) > MOST:
                oldest = next(iter(self._under_way))
                if oldest is conn:
                    break
                del self._under_way[oldest]
                oldest.cut()

    @contextmanager
    def reading(self, conn: Cut, frame: bytes | bytearray) -> Iterator[None]:
        """Look through a whole frame.  Raises BadMessage."""
        if len(frame) <= LARGE:
            yield
            return
        try:
            if sum(map(frame.count, b'[{,')) > ITEMS:
                raise BadMessage('a message of too many items')
            with self._reading:
                yield
        finally:
            with self._lock:
                self._under_way.pop(conn, None)
