"""Lines that others cause, however fast: of each kind some, then counts."""

from __future__ import annotations

import logging
import threading
import time

from .. import logs
from ..records import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

log = logs.logger(__name__)

# For how many seconds a kind has its lines; then it has as many again.
EVERY = 10.0


class _Kind:
    """The lines of one kind since ``began``, on the clock."""

    def __init__(self, began: float):
        self.began = began
        self.said = 0
        self.left_out = 0
        self.last: tuple[int, tuple[object, ...]] = 0, ()   # of those


class Quiet:
    """Of each kind of line ``most`` every ten seconds, then how many more.

    Any thread may call; whoever it is writes what is to be said.
    """

    def __init__(self, most: int = 1,
                 clock: Callable[[], float] = time.monotonic):
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: dict[str, _Kind] = {}

    def warn(self, text: str, *args: object) -> None:
        """Log this, if its kind, which is ``text``, may say more."""
        self._say(logging.WARNING, text, args)

    def info(self, text: str, *args: object) -> None:
        self._say(logging.INFO, text, args)

    def flush(self) -> None:
        """Say what was left out, of the kinds whose time is over.

        To be called now and then, or it waits for the next of its kind.
        """
        for text in [*self._kinds]:
            self._end(text)

    def _say(self, level: int, text: str, args: tuple[object, ...]) -> None:
        self._end(text)
        with self._lock:
            kind = self._kinds.setdefault(text, _Kind(self._clock()))
            if kind.said == self._most:
                kind.left_out += 1
                kind.last = level, args
                return
            kind.said += 1
        log.log(level, text, *args)

    def _end(self, text: str) -> None:
        """Forget a kind whose time is over; its last line is said."""
        with self._lock:
            kind = self._kinds.get(text)
            if kind is None or self._clock() - kind.began < EVERY:
                return
            del self._kinds[text]
        if kind.left_out:
            level, args = kind.last
            if kind.left_out > 1:
                text += f' (and {kind.left_out - 1:,} more like it)'
            log.log(level, text, *args)
