"""Signals: the first asks for a drain, the second ends the process at once.

SIGUSR1 asks what the process is doing.  The Python-level handlers do next to
nothing (setting an Event in one can deadlock); a thread reads from a pipe
which signals have come.  The C level writes them there, as the main thread may
be busy in C; but its wake-up descriptor is one for the process, and asyncio,
uvloop and trio take it for themselves.  So the handlers write them too, with a
mark, and what has come both ways counts once.

The operator's code may also ignore a signal, or handle it itself, as asyncio
does.  For those that are ours `signal.signal` only remembers what it wants
(see `guard`); a forked child has that.
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
from types import FrameType

from .. import forks, logs
from ..errors import TaskmasterError, descriptor_closed
from ..records import TYPE_CHECKING
from ..service import Service

if TYPE_CHECKING:
    from typing import Any, Callable, Collection

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Added to the number of a signal that a handler, not the C level, has seen.
MARK = 0x80
# Seconds that the main thread has to begin to end the process itself, and
# then to have done so.
AT_ONCE = 1.0
LAST = 5.0
# What this process was started to ignore, as under nohup: the operator's code
# has not been here yet.
IGNORED = frozenset(number for number in STOPPING
                    if signal.getsignal(number) == signal.SIG_IGN)


_set: Any = signal.signal
_interrupt: Any = signal.siginterrupt
_installed: Signals | None = None


def guard() -> None:
    """Put ours in the place of `signal.signal` and `signal.siginterrupt`.

    To be called before the operator's code runs, as some remember them.
    """
    signal.signal = _guarded
    signal.siginterrupt = _interrupting


def _guarded(number: int, handler: Any) -> Any:
    """`signal.signal`, but for the signals that are ours while they are."""
    if _installed is None or number not in _installed.theirs:
        return _set(number, handler)
    if threading.get_ident() != _installed.thread or not (
            callable(handler) or handler in (signal.SIG_IGN, signal.SIG_DFL)):
        return _set(number, handler)    # raises
    theirs, _installed.theirs[number] = _installed.theirs[number], handler
    return theirs


def _interrupting(number: int, flag: bool) -> None:
    """`signal.siginterrupt`, but for the signals that are ours.

    asyncio has its system calls go on after a signal; so would the main
    thread's wait for jobs, and no handler of ours be called.
    """
    if _installed is None or number not in _installed.theirs:
        _interrupt(number, flag)


def ignored_now() -> Collection[int]:
    """Return which of STOPPING are ignored at this moment."""
    return {number for number in STOPPING
            if signal.getsignal(number) == signal.SIG_IGN}


class Signals:
    """Between `install` and `restore`, ``stop(signum)`` is called once.

    It is called on a thread of its own, at the first of SIGINT, SIGTERM
    and SIGHUP, but for those ``ignored``; ``tell`` is called there too, at
    each SIGUSR1; ``stopped()`` says whether somebody else has asked for a
    drain already; ``failed`` is called with a fault of ours.  ``last()`` is
    the last that is done when a second one ends the process, and ``saved()``
    what is said then; they take no locks.  All else is to be used on the main
    thread.

    A forked child has the handlers of the operator, or of before, and no
    wake-up descriptor of ours.
    """

    def __init__(self, stop: Callable[[int], None],
                 tell: Callable[[], None] | None = None,
                 stopped: Callable[[], bool] = lambda: False,
                 failed: Callable[[TaskmasterError], None] = lambda e: None,
                 last: Callable[[], None] = lambda: None,
                 ignored: Collection[int] = IGNORED,
                 saved: Callable[[], str] = lambda: ''):
        self._stop = stop
        self._stopped = stopped
        self._tell = tell
        self._failed = failed
        self._last = last
        self._saved = saved
        self._ours = [number for number in STOPPING if number not in ignored]
        if tell is not None:
            self._ours.append(signal.SIGUSR1)
        self._count = 0
        self._ending = False        # the main thread is at it
        self.theirs: dict[int, Any] = {}        # what the operator wants
        self.thread = 0

    def install(self) -> None:
        global _installed
        guard()
        self.thread = threading.get_ident()
        # It says so when it takes over a wake-up descriptor, of whoever.
        warnings.filterwarnings('ignore', 'It looks like Trio', RuntimeWarning)
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)
        self._wakeup = signal.set_wakeup_fd(self._writer,
                                            warn_on_full_buffer=False)
        for number in self._ours:
            self.theirs[number] = _set(number, self._handle)
        # Whoever started us, or the operator's module, may have blocked them.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._ours)
        _installed = self
        forks.call_in_child(self._in_child)
        Service('signals', self._read, self._failed).start()

    def restore(self) -> None:
        self._undo(self._wakeup)
        os.close(self._writer)          # ends the thread

    def _take_wakeup(self) -> None:
        """Be woken by the C level again, if nobody else wants to be."""
        now = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        if now not in (-1, self._writer):
            signal.set_wakeup_fd(now)

    def _undo(self, wakeup: int) -> None:
        global _installed
        _installed = None
        while self.theirs:
            number, theirs = self.theirs.popitem()
            # None: of a handler that was not set by Python.
            _set(number, signal.SIG_DFL if theirs is None else theirs)
        now = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(wakeup if now == self._writer else now)

    def _in_child(self) -> None:
        if self.theirs:
            self._undo(-1)
            os.close(self._reader)
            os.close(self._writer)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGUSR1:
            self._count += 1
            if self._count > 1 or self._stopped():
                self._ending = True
                self._end_by(number)
                die_by(number)
            self._take_wakeup()
        try:
            os.write(self._writer, bytes([number | MARK]))
        except OSError:             # full, or we are about to end
            pass

    def _read(self) -> None:
        stops, asked = _Count(), _Count()
        try:
            for byte in iter(lambda: os.read(self._reader, 1), b''):
                number, mark = byte[0] & ~MARK, byte[0] & MARK
                if number not in self._ours:
                    continue            # another's: SIGCHLD, SIGWINCH ...
                if number != signal.SIGUSR1:
                    if stops.another(mark):
                        self._act(number, stops.count)
                elif asked.another(mark) and self._tell is not None:
                    self._tell()
            os.close(self._reader)
        except OSError as error:
            raise descriptor_closed(error) from error

    def _act(self, number: int, count: int) -> None:
        if count == 1 and not self._stopped():
            self._stop(number)
        else:       # the main thread may be busy in C, and not hear it
            threading.Timer(AT_ONCE, self._end, (number,)).start()

    def _end(self, number: int) -> None:
        if self._ending:        # to end the slaves may take a while
            threading.Event().wait(LAST)
        else:
            self._end_by(number)
        os._exit(128 + number)

    def _end_by(self, number: int) -> None:
        """Do the last, and say so past all that may hold a lock."""
        self._last()
        said = '; '.join(filter(None, [
            f'stopped by {signal.Signals(number).name}',
            'start again to go on', self._saved()]))
        try:        # it may be in the middle of the status line
            start = '\r\n' if os.isatty(2) else ''
            os.write(2, f'{start}{logs.stamp()}{said}\n'.encode(
                errors='backslashreplace'))
        except OSError:
            pass


class _Count:
    """Counts signals that come in two ways, or in one of them."""

    def __init__(self) -> None:
        self._ways = {0: 0, MARK: 0}
        self.count = 0

    def another(self, way: int) -> bool:
        """Count one; return whether it is not known from the other way."""
        self._ways[way] += 1
        new = self._ways[way] > self.count
        self.count = max(self.count, self._ways[way])
        return new


def default() -> None:
    """Let each of STOPPING end the process, but for what was ignored."""
    global _installed
    _installed = None
    for number in STOPPING:
        if number not in IGNORED:
            _set(number, signal.SIG_DFL)


def die_by(number: int) -> None:
    """End this process as that signal would have."""
    _set(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)      # the first process of a container lives on
