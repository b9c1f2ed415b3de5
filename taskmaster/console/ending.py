"""The end of a script: as Python ends a program, but not for ever.

What the operator's code has registered with `atexit` runs, and its threads
are waited for, also after a drain; only then does the process die by its
signal.  Each has some seconds; the clock is the alarm signal, which reaches
the main thread in what it waits for.  The handlers are done by then.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
from types import FrameType

from .. import forks, logs, sessions
from ..records import TYPE_CHECKING
from .output import flush
from .signals import default, die_by

if TYPE_CHECKING:
    from typing import Any, NoReturn

log = logs.logger(__name__)

# Seconds that threads may take to end, and then functions of `atexit`.
THREADS = 5.0
FUNCTIONS = 10.0


class Stopped(Exception):
    """A signal has stopped the script, which is to die by it in the end."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class _Enough(Exception):
    """Threads have been waited for long enough."""


class Ending:
    """To be made before the operator's code runs: what it registers is first.

    On the main thread.  What is left running it says, unless a supervisor of
    this process sees to that.
    """

    def __init__(self, supervised: bool = False) -> None:
        self._supervised = supervised
        self._code = 0
        self._number: int | None = None
        self._waited = False        # for the threads
        atexit.register(self._last)

    def leave(self, code: int, number: int | None = None) -> NoReturn:
        """Exit with that code, or die by the signal ``number``."""
        self._code = code if number is None else 128 + number
        self._number = number
        flush()
        default()               # from here on one of them is enough
        signal.signal(signal.SIGALRM, self._late)
        signal.setitimer(signal.ITIMER_REAL, THREADS)
        sys.exit(self._code)

    def _late(self, number: int, frame: FrameType | None) -> None:
        names = [thread.name for thread in threading.enumerate()
                 if not thread.daemon
                 and thread is not threading.main_thread()]
        if not self._waited:
            self._waited = True
            signal.setitimer(signal.ITIMER_REAL, FUNCTIONS)
            if names:
                log.warning('threads that the operator\'s code started have '
                            'not ended in %g s, and end now: %s; let them be '
                            'daemons, or end them', THREADS, ', '.join(names))
                sys.unraisablehook = _silent(sys.unraisablehook)
                raise _Enough
        else:
            log.warning('what the operator\'s code registered with atexit has '
                        'not ended in %g s, and ends now', FUNCTIONS)
            self._last(late=True)

    def _last(self, late: bool = False) -> None:
        """All else is done: die by the signal, if it was one."""
        if forks.is_child():
            return
        left = [] if self._supervised else sessions.children()
        if left:
            log.warning('what the operator\'s code started is left running: '
                        '%s', sessions.named(left))
        if self._number is None and not late:
            return
        logging.shutdown()
        flush()
        if self._number is not None:
            die_by(self._number)
        os._exit(self._code)


def _silent(hook: Any) -> Any:
    """A hook that has nothing to say of what we have raised ourselves."""
    return lambda raised: (None if raised.exc_type is _Enough
                           else hook(raised))
