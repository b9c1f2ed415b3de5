"""The first slaves: forked from the script, before it is anything yet.

A program of Python's takes a tenth of a second of processor time until it
is a slave; a copy of a process that has loaded one takes a tenth of that.  So
the first children are forked before there is a thread, a socket or a line of
the operator's code, and wait to be told what to be.  Those that come later
are programs, as there is all that by then.

Meanwhile the operator's module is loaded, which may do what it likes: close
all descriptors, and have others of their numbers; wait for all children.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from json import dumps, loads
from select import POLLIN, poll

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

# Seconds that a child waits to be told what to be.  One that waits longer is
# in the way of a module that waits for all its children, and saves little.
PATIENCE = 5.0

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
            if self._poll() is None:
                os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code, or -signal.  Raises TimeoutExpired."""
        if timeout is None:
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        deadline = time.monotonic() + (timeout or 0.0)
        look = LOOK
        while True:
            with self._lock:
                code = self._poll()
            if code is not None:
                return code
            left = deadline - time.monotonic()
            if timeout is not None and left <= 0:
                raise subprocess.TimeoutExpired('a slave', timeout)
            time.sleep(look if timeout is None else min(look, left))
            look = min(look * 2, LONGEST_LOOK)

    def _poll(self) -> int | None:
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:       # it was waited for by others
                pid, status = self.pid, 0
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code


class Held:
    """A descriptor, for as long as its number is not another's."""

    def __init__(self, fd: int):
        self._fd = fd
        self._file = _file_of(fd)
        forks.close_in_child(self)

    def fileno(self) -> int:
        """Return its number, or -1 if somebody has closed it."""
        return self._fd if _file_of(self._fd) == self._file else -1

    def take(self) -> int:
        """Return its number, for good.  Raises OSError if it was closed."""
        fd, self._fd = self.fileno(), -1
        if fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return fd

    def close(self) -> None:
        with suppress(OSError):
            os.close(self.take())


class Waiting(NamedTuple):
    """A child that waits to be told what to be, and the parent's pipes."""

    pid: int
    order: Held
    news: Held
    out: Held
    err: Held
    watchdog: Held | None

    def tell(self, order: bytes) -> Taken:
        """Tell it.  Raises OSError if it, or a pipe, is not there any more."""
        if any(held and held.fileno() < 0 for held in self[1:]):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        with pipe_end(self.order.take(), 'wb') as pipe:
            write_all(os, pipe.fileno(), order)
        news = self.news.take()
        os.set_blocking(news, False)
        return Taken(Forked(self.pid, read_text(self.out.take()),
                            read_text(self.err.take())),
                     pipe_end(news, 'rb'), _watchdog(self.watchdog))

    def let_go(self) -> None:
        for held in self[1:]:
            if held:
                held.close()


class Taken(NamedTuple):
    """A child that is a slave now; ``shared`` only with `--job-timeout`."""

    process: Forked
    news: IO[bytes]
    shared: Watchdog | None


class First:
    """The first children, until a `child.Starter` takes them.

    All is to be used on the main thread, but for `take`.
    """

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []
        theirs, ours = os.pipe()
        self._lifeline = Held(theirs), Held(ours)

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
            def new(keep: int) -> tuple[int, int]:
                """Return one end that we keep, and one for the child."""
                pipe = os.pipe()
                ours.callback(os.close, pipe[keep])
                theirs.callback(os.close, pipe[1 - keep])
                return pipe[keep], pipe[1 - keep]
            order, news, out, err = new(1), new(0), new(0), new(0)
            parent = os.dup(self._lifeline[0].fileno())
            theirs.callback(os.close, parent)
            ties = {ENV_PARENT: parent, ENV_NEWS: news[1]}
            shared: int | None = None
            if settings.job_timeout is not None:
                shared = watchdog.make(settings.threads + 1,
                                       settings.job_timeout)
                ours.callback(os.close, shared)
                ties[ENV_WATCHDOG] = os.dup(shared)
                theirs.callback(os.close, ties[ENV_WATCHDOG])
            flush()
            pid = forks.fork()
            if not pid:
                ours.pop_all()      # all is closed there that is not its own
                theirs.pop_all()
                return _told(order[1], out[1], err[1], ties)
            ours.pop_all()
        self._waiting.append(Waiting(
            pid, Held(order[0]), Held(news[0]), Held(out[0]), Held(err[0]),
            None if shared is None else Held(shared)))
        return None

    def lifeline(self) -> tuple[IO[bytes], IO[bytes]]:
        """Return the pipe by which children see the parent's end.

        See `child.Starter`.  Without it the first ones are none.
        """
        theirs, ours = self._lifeline
        if theirs.fileno() < 0 or ours.fileno() < 0:
            self.close()
            return pipe()
        return pipe_end(theirs.take(), 'rb'), pipe_end(ours.take(), 'wb')

    def take(self, arguments: Sequence[str], environ: Mapping[str, str]
             ) -> Taken | None:
        """Tell a child what to be, and return it; or None if none is left."""
        order = dumps([[*arguments], {**environ}]).encode()
        while self._waiting:
            child = self._waiting.pop(0)
            try:
                return child.tell(order)
            except OSError:         # somebody has ended it, or closed a pipe
                _kill(child)
        return None

    def close(self) -> None:
        """End those that nobody has taken."""
        while self._waiting:
            _kill(self._waiting.pop())
        for held in self._lifeline:
            held.close()


def _kill(child: Waiting) -> None:
    """End it, and what is left of its pipes."""
    with suppress(ChildProcessError):       # or it may be another's number
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
    child.let_go()


def _file_of(fd: int) -> tuple[int, int] | None:
    """Return which file that is, or None."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _watchdog(held: Held | None) -> Watchdog | None:
    if held is None:
        return None
    try:
        return Watchdog(held.fileno())
    finally:
        held.close()            # mapped, it stays


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
    tools = getattr(sys, 'monitoring', None)        # from Python 3.12 on
    return threads == 1 and not (
        sys.gettrace() or sys.getprofile()
        or tools and any(map(tools.get_tool, range(6))))


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
        looked = poll()
        looked.register(order, POLLIN)
        if not looked.poll(PATIENCE * 1000):
            os._exit(0)
        with open(order, 'rb') as pipe:
            told = pipe.read()
        if not told:
            os._exit(0)
        arguments: list[str]
        arguments, environ = loads(told)
        os.environ.update(environ, **{name: str(fd)
                                      for name, fd in ties.items()})
        _be_called(['tm-slave', *arguments[1:]])
        for fd, name in enumerate(['stdin', 'stdout', 'stderr']):
            if getattr(sys, name) is None:      # the parent's was closed
                stream = open(fd, 'w' if fd else 'r', 1, closefd=False,
                              errors='backslashreplace')
                setattr(sys, name, stream)
                setattr(sys, f'__{name}__', stream)
        if sys.path[:1] == [os.path.dirname(os.path.realpath(sys.argv[0]))]:
            del sys.path[0]         # the script's folder is no program's
        sys.argv = [MAIN, *arguments]
        # What multiprocessing's own programs load again.
        main: Any = sys.modules['__main__']
        main.__file__, main.__spec__ = MAIN, None
        return arguments[1:]
    except BaseException as error:
        forks.end_child(error)


def _be_called(words: Sequence[str]) -> None:
    """Have `ps` show these words, and `pkill -f tm-run` find the parent alone.

    Where Linux keeps the command line, which is memory of this process.
    """
    with suppress(OSError, ValueError, IndexError):
        with open('/proc/self/comm', 'w') as comm:
            comm.write(words[0])
        with open('/proc/self/stat', 'rb') as stat:
            # Of proc(5), `arg_start` and `arg_end`: the 48th and the 49th.
            fields = stat.read().rpartition(b')')[2].split()
        start, stop = int(fields[45]), int(fields[46])
        with open('/proc/self/cmdline', 'rb') as line:
            known = line.read()
        room = stop - start
        shown = os.fsencode('\0'.join(words))[:room - 1].ljust(room, b'\0')
        with open('/proc/self/mem', 'r+b', 0) as memory:
            memory.seek(start)
            if memory.read(room) == known:
                memory.seek(start)
                memory.write(shown)


def _close_but(kept: Collection[int]) -> None:
    """Close what a program that is executed does not get."""
    for name in os.listdir('/dev/fd'):
        if int(name) > 2 and int(name) not in kept:
            with suppress(OSError):     # that of the list itself
                os.close(int(name))


def pipe() -> tuple[IO[bytes], IO[bytes]]:
    """Return both ends of a pipe, which no forked child keeps."""
    reader, writer = os.pipe()
    return pipe_end(reader, 'rb'), pipe_end(writer, 'wb')


def pipe_end(fd: int, mode: str) -> IO[bytes]:
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
