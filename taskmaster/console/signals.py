"""Signals: the first asks for a drain, the second ends the process at once.

SIGUSR1 asks what the process is doing.  The Python-level handlers do next to
nothing (setting an Event in one can deadlock); a thread reads what the C
level writes to the wakeup descriptor.
"""

import os
import signal
import socket
import threading
from types import FrameType
from typing import Any, Callable, Dict, Optional

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Between `install` and `restore`, ``stop(signum)`` is called once.

    It is called on a thread of its own, at the first of SIGINT, SIGTERM
    and SIGHUP (each left ignored where it was, as under nohup); ``tell`` is
    called there too, at each SIGUSR1; ``stopped()`` says whether somebody
    else has asked for a drain already.  To be used on the main thread.
    """

    def __init__(self, stop: Callable[[int], None],
                 tell: Optional[Callable[[], None]] = None,
                 stopped: Callable[[], bool] = lambda: False):
        self._stop = stop
        self._stopped = stopped
        self._tell = tell
        self._count = 0
        self._before: Dict[int, Any] = {}

    def install(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(),
                                            warn_on_full_buffer=False)
        for number in STOPPING:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        if self._tell is not None:
            self._before[signal.SIGUSR1] = signal.signal(
                signal.SIGUSR1, lambda number, frame: None)
        threading.Thread(target=self._read, name='signals',
                         daemon=True).start()

    def restore(self) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        signal.set_wakeup_fd(self._wakeup)
        self._writer.close()            # ends the thread

    def _handle(self, number: int, frame: Optional[FrameType]) -> None:
        self._count += 1
        if self._count > 1 or self._stopped():
            die_by(number)

    def _read(self) -> None:
        with self._reader:
            seen = 0
            for number in iter(lambda: self._reader.recv(1), b''):
                if number[0] not in self._before:
                    continue            # another's: SIGCHLD, SIGWINCH ...
                if number[0] == signal.SIGUSR1:
                    assert self._tell is not None
                    self._tell()
                    continue
                seen += 1
                if seen == 1 and not self._stopped():
                    self._stop(number[0])
                else:
                    # The main thread may be busy in C, and not hear it.
                    threading.Timer(0.5, os._exit,
                                    (128 + number[0],)).start()


def die_by(number: int) -> None:
    """End this process as that signal would have."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)      # the first process of a container lives on
