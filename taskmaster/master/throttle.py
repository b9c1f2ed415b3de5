"""What holds jobs back: the operator's throttle, and a limit of the rate.

Each is a loop for a service thread, until `end`.
"""

from __future__ import annotations

import threading

from ..records import TYPE_CHECKING
from ..text import counted, short, summary
from ..timing import Timing
from .jobqueue import JobQueue

if TYPE_CHECKING:
    from typing import Any, Callable


class Throttle:
    """Holds ``queue`` back while ``ask()`` gives a reason to.

    ``ask`` is the operator's function, if there is one; ``rate`` is how many
    jobs a second to lease at most, or None.
    """

    def __init__(self, queue: JobQueue, ask: Callable[[], Any] | None,
                 rate: float | None, timing: Timing):
        self.ask = ask
        self.rate = rate
        self._queue = queue
        self._timing = timing
        self._ended = threading.Event()
        self._steered = threading.Event()       # for the pace
        if ask is not None:
            queue.hold('throttle', 'waiting for throttle')
        queue.set_rate(rate)

    def steer(self, rate: float | None) -> str:
        """Lease so many jobs a second from now on; any thread may call.

        Return what is to be said of it.
        """
        self.rate = rate or None
        self._queue.set_rate(self.rate)
        self._steered.set()
        return (f"at most {counted(f'{rate:g}', 'job')} a second" if rate
                else 'as fast as can be')

    def end(self) -> None:
        self._ended.set()
        self._steered.set()

    def keep_pace(self) -> None:
        """Let jobs go at a limited rate; asleep while there is none."""
        while not self._ended.is_set():
            self._steered.wait(self._queue.pace())
            self._steered.clear()

    def keep_asking(self) -> None:
        """Ask the operator, now and then, whether to hand out jobs now."""
        assert self.ask is not None
        self._queue.hold('throttle', _reason(self.ask))
        while not self._ended.wait(self._timing.throttle):
            self._queue.hold('throttle', _reason(self.ask))


def _reason(ask: Callable[[], Any]) -> str:
    """Return why not to lease now, or ''."""
    try:
        answer = ask()
        if not answer:
            return ''
        return (f'throttled: {short(answer)}' if isinstance(answer, str)
                else 'throttled')
    except BaseException as error:      # what it looks at is not well
        return f'throttle raised {summary(error)}'
