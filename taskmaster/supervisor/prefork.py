"""The first slaves: forked from the script, before it is anything yet.

A program of Python's takes a tenth of a second of processor time until it
is a slave; a copy of a process that has loaded one takes a tenth of that.  So
the first children are forked before there is a thread, a socket or a line of
the operator's code, and wait to be told what to be.  Those that come later
are programs, as there is all that by then.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from json import dumps, loads

from .. import forks
from ..console.output import flush
from ..records import TYPE_CHECKING, NamedTuple
from ..settings import ENV_PARENT, Settings
from ..slave import watchdog
from ..slave.parent import ENV_NEWS, ENV_WATCHDOG
from ..slave.watchdog import Watchdog
from ..storage.files import write_all

if TYPE_CHECKING:
    from typing import IO, Any, Collection, Mapping, Sequence

# What `python -m taskmaster` runs; by its path, as `-m` would look in the
# current folder first.
MAIN = os.path.join(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))), '__main__.py')

# Seconds between two looks whether a child has ended, at first and at most.
LOOK, LONGEST_LOOK = 0.0005, 0.05


class Forked:
    """A forked child: what a Popen is of a program.  Any thread may call."""

    def __init__(self, pid: int, stdout: IO[str], stderr: IO[str]):
        self.pid = pid
        self.stdout, self.stderr = stdout, stderr
        self._code: int | None = None
        self._lock = threading.Lock()   # its number is its own until `_poll`

    def send_signal(self, number: int) -> None:
        with self._lock:
            if self._code is None:
                with suppress(ProcessLookupError):
                    os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code, or -signal.  Raises TimeoutExpired."""
        if timeout is None:
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        deadline = time.monotonic() + (timeout or 0.0)
        look = LOOK
        while True:
            code = self._poll()
            if code is not None:
                return code
            left = deadline - time.monotonic()
            if timeout is not None and left <= 0:
                raise subprocess.TimeoutExpired('a slave', timeout)
            time.sleep(look if timeout is None else min(look, left))
            look = min(look * 2, LONGEST_LOOK)

    def _poll(self) -> int | None:
        with self._lock:
            if self._code is None:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                except ChildProcessError:   # it was waited for by others
                    pid, status = self.pid, 0
                if pid:
                    self._code = os.waitstatus_to_exitcode(status)
            return self._code


class Waiting(NamedTuple):
    """A child that waits to be told what to be, and the parent's pipes."""

    process: Forked
    order: IO[bytes]
    news: IO[bytes]
    shared: Watchdog | None

    def close(self) -> None:
        for pipe in (self.order, self.news, self.process.stdout,
                     self.process.stderr):
            pipe.close()
        if self.shared is not None:
            self.shared.close()


class First:
    """The first children, until a `child.Starter` takes them.

    ``lifeline`` is the pipe by which they see the parent's end.  All is to
    be used on the main thread, but for `take`.
    """

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []
        self.lifeline = pipe()

    def fork(self, settings: Settings) -> Sequence[str] | None:
        """Fork the children that settings ask for, as many as one safely can.

        Return None; and in a child, once it is told, its command line.
        """
        if not hasattr(os, 'waitid') or sys.platform == 'darwin':
            return None             # its libraries do not bear a fork
        most = min(settings.slaves, _most())
        with suppress(OSError):     # no more files or processes: later, then
            while len(self._waiting) < most and _is_alone():
                arguments = self._fork(settings)
                if arguments is not None:
                    return arguments
        return None

    def _fork(self, settings: Settings) -> Sequence[str] | None:
        with ExitStack() as theirs, ExitStack() as ours:
            def new(pipe: tuple[int, int], keep: int = 1) -> tuple[int, int]:
                theirs.callback(os.close, pipe[1 - keep])
                ours.callback(os.close, pipe[keep])
                return pipe
            order, news, out, err = (new(os.pipe()), new(os.pipe(), 0),
                                     new(os.pipe(), 0), new(os.pipe(), 0))
            parent = os.dup(self.lifeline[0].fileno())
            theirs.callback(os.close, parent)
            ties = {ENV_PARENT: parent, ENV_NEWS: news[1]}
            shared: Watchdog | None = None
            if settings.job_timeout is not None:
                ties[ENV_WATCHDOG] = watchdog.make(settings.threads + 1,
                                                   settings.job_timeout)
                theirs.callback(os.close, ties[ENV_WATCHDOG])
                shared = Watchdog(ties[ENV_WATCHDOG])
                ours.callback(shared.close)
            flush()
            pid = forks.fork()
            if not pid:
                theirs.pop_all()
                ours.close()
                self._let_go()
                return _told(order[0], out[1], err[1], ties)
            ours.pop_all()
        os.set_blocking(news[0], False)
        self._waiting.append(Waiting(
            Forked(pid, read_text(out[0]), read_text(err[0])),
            end(order[1], 'wb'), end(news[0], 'rb'), shared))
        return None

    def take(self, arguments: Sequence[str], environ: Mapping[str, str]
             ) -> Waiting | None:
        """Tell a child what to be, and return it; or None if none is left."""
        while self._waiting:
            child = self._waiting.pop(0)
            with suppress(BrokenPipeError):     # somebody has ended it
                with child.order as order:
                    write_all(os, order.fileno(), dumps(
                        [[*arguments], {**environ}]).encode())
                return child
            self._end(child)
        return None

    def close(self) -> None:
        """End those that nobody has taken."""
        for child in self._waiting:
            self._end(child)
        self._let_go()

    def _end(self, child: Waiting) -> None:
        child.process.send_signal(signal.SIGKILL)
        child.process.wait()
        child.close()

    def _let_go(self) -> None:
        for child in self._waiting:
            child.close()
        self._waiting.clear()
        for end in self.lifeline:
            end.close()


def _most() -> int:
    """Return how many to fork: they have pipes before all else has."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 16 if soft == resource.RLIM_INFINITY else soft // 16


def _is_alone() -> bool:
    """Whether this is but one thread, and nobody looks on.

    Of what others are at a copy has half: a thread of `sitecustomize`, say,
    or a debugger.
    """
    try:
        threads = len(os.listdir('/proc/self/task'))
    except OSError:
        threads = threading.active_count()
    return threads == 1 and not (sys.gettrace() or sys.getprofile())


def _told(order: int, out: int, err: int, ties: Mapping[str, int]
          ) -> Sequence[str]:
    """In a child: be as a program that was just started, when one is told.

    Return its command line.  A parent that has ended tells nothing.
    """
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd, place in (null, 0), (out, 1), (err, 2):
            os.dup2(fd, place)
        _close_but({order, *ties.values()})
        with suppress(OSError), open('/proc/self/comm', 'w') as comm:
            comm.write('tm-slave')      # for `ps` and `top`
        with open(order, 'rb') as pipe:
            told = pipe.read()
        if not told:
            os._exit(0)
        arguments: list[str]
        arguments, environ = loads(told)
        os.environ.update(environ, **{name: str(fd)
                                      for name, fd in ties.items()})
        for fd, name in (1, 'stdout'), (2, 'stderr'):
            if getattr(sys, name) is None:      # the parent's was closed
                setattr(sys, name, open(fd, 'w', closefd=False))
        sys.argv = [MAIN, *arguments]
        # What multiprocessing's own programs load again.
        main: Any = sys.modules['__main__']
        main.__file__, main.__spec__ = MAIN, None
        return arguments[1:]
    except Exception as error:
        forks.end_child(error)


def _close_but(kept: Collection[int]) -> None:
    """Close what a program that is executed does not get."""
    for name in os.listdir('/dev/fd'):
        if int(name) > 2 and int(name) not in kept:
            with suppress(OSError):     # that of the list itself
                os.close(int(name))


def pipe() -> tuple[IO[bytes], IO[bytes]]:
    """Return both ends of a pipe, which no forked child keeps."""
    reader, writer = os.pipe()
    return end(reader, 'rb'), end(writer, 'wb')


def end(fd: int, mode: str) -> IO[bytes]:
    """Return one end of a pipe, which no forked child keeps."""
    file: IO[bytes] = open(fd, mode, 0)
    forks.close_in_child(file)
    return file


def read_text(fd: int) -> IO[str]:
    """Return what reads what a child prints, however it is encoded."""
    file = open(fd, encoding=getattr(sys.stdout, 'encoding', None),
                errors='backslashreplace')
    forks.close_in_child(file)
    return file
