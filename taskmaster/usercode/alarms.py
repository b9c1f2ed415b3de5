"""Alarms of the operator's handlers, which may ring in their calls alone.

A handler that limits its own time lets a signal raise what ends its call.
One that comes too late would raise anywhere in our code, between taking a
lock and the block that gives it back too, and nothing here stands that.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

from .. import logs
from ..records import TYPE_CHECKING
from ..text import summary

if TYPE_CHECKING:
    from typing import Any

log = logs.logger(__name__)

# The signals of `signal.alarm` and `signal.setitimer`.
TIMERS = signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF


class Alarms:
    """Within this context alarms raise; outside, that is one warning.

    To be used on one thread; on another than the main one, where Python
    handles no signals, it does nothing.
    """

    def __init__(self) -> None:
        main = threading.current_thread() is threading.main_thread()
        self._timers = TIMERS if main else ()
        self._held: dict[int, Any] = {}     # what the operator has installed
        self._said = False

    def hold(self) -> None:
        """Let them raise no more, from now on."""
        for number in self._timers:
            handler = signal.getsignal(number)
            if callable(handler) and handler != self._late:
                self._held[number] = handler
                # What is due already raises here, not later.
                signal.signal(number, self._late)

    def __enter__(self) -> None:
        for number in [*self._held]:
            signal.signal(number, self._held[number])
            del self._held[number]

    def __exit__(self, *raised: object) -> None:
        try:
            self.hold()
        except BaseException:       # of one that is due: still of the call
            self.hold()
            raise

    def _late(self, number: int, frame: FrameType | None) -> None:
        try:
            self._held[number](number, frame)
        except BaseException as error:
            say = log.debug if self._said else log.warning
            self._said = True
            say('a signal\'s handler raised %s while no job was there; '
                'switch an alarm off when its job is done', summary(error))
