"""Forks: what a forked child of this process must not have.

The operator's code may fork wherever it runs: `multiprocessing`, an executor
of processes, `os.fork`.  The child is a copy of us in one thread.  Were it to
keep our sockets, pipes and lock files, nobody would see when we end; with our
signal handlers and the wake-up descriptor its signals would count as ours;
and what it would do after it has left the operator's function is our work.

So who makes such a thing says so here, and a child is without it before any
code of the operator's runs in it.  Programs that are executed (`subprocess`)
need none of this: our descriptors are not inheritable, and handlers end there.

No fork happens while this process starts one of its own children (see
`none_now`): the copy would keep open the pipe by which `Popen` learns that its
child runs, and `Popen` would wait for the end of a stranger.  Nobody takes
another lock inside of it that a forking thread may hold.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from contextlib import contextmanager

from .records import TYPE_CHECKING, Protocol
from .text import traceback_of

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, NoReturn

# Held back in the thread that forks until a child has handlers of its own.
HELD_BACK = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1}


class Holder(Protocol):
    """What has a descriptor: a socket, a file, a connection."""

    def fileno(self) -> int:
        """Return the descriptor, or -1 (or raise ValueError) once closed."""


_lock = threading.RLock()       # one fork, or one start of a child, at a time
_masks: list[Any] = []          # of the thread that forks
_holders: weakref.WeakSet[Holder] = weakref.WeakSet()
_lasting: list[int] = []
_calls: list[Callable[[], Callable[[], Any] | None]] = []
_child = False


def close_in_child(holder: Holder) -> None:
    """Let no child keep what this one holds; it is known weakly."""
    _holders.add(holder)


def close_fd_in_child(fd: int) -> None:
    """The same for a descriptor that is open as long as the process."""
    _lasting.append(fd)


def call_in_child(function: Callable[[], Any]) -> None:
    """Have ``function`` called in each child; a method is known weakly."""
    if hasattr(function, '__self__'):
        _calls.append(weakref.WeakMethod(function))
    else:
        _calls.append(lambda: function)


def is_child() -> bool:
    """Whether this process is the forked child of one of ours."""
    return _child


def fork() -> int:
    """Fork, as `os.fork` does; the child is a process of ours.

    It has none of what no child must have, but it is no stranger either.
    """
    global _child
    pid = os.fork()
    if not pid:
        _child = False
    return pid


def end_child(error: BaseException | None = None) -> NoReturn:
    """End a child that has left the operator's function, as a script ends.

    The exit code is that of a SystemExit, 1 for another ``error``, which is
    shown, or else 0.  What our streams hold is the parent's to write.
    """
    code: Any = 0
    if isinstance(error, SystemExit):
        code = error.code
        if code is None or not isinstance(code, int):
            _say(code)
            code = 0 if code is None else 1
    elif error is not None:
        _say(traceback_of(error).rstrip('\n'))
        code = 1
    os._exit(code & 0xff)


def _say(text: Any) -> None:
    if text is not None and sys.stderr is not None:
        try:
            os.write(sys.stderr.fileno(), f'{text}\n'.encode(
                errors='backslashreplace'))
        except (OSError, ValueError):
            pass


@contextmanager
def none_now() -> Iterator[None]:
    """No thread forks inside of this."""
    with _lock:
        yield


def _before() -> None:
    _lock.acquire()
    _masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK))


def _after() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())
    _lock.release()


def _in_child() -> None:
    global _lock, _child
    _child = True
    _lock = threading.RLock()       # the old one is as another thread left it
    _let_go()
    for known in [*_calls]:
        function = known()
        if function is not None:
            function()
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.pop())


def _let_go() -> None:
    """/dev/null takes the place: the objects still have these numbers."""
    descriptors = [*_lasting]
    for holder in [*_holders]:
        try:
            descriptors.append(holder.fileno())
        except (OSError, ValueError):
            pass                    # it is closed
    _holders.clear()
    _lasting.clear()
    try:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    except OSError:                 # no more files
        null = -1
    for fd in descriptors:
        if fd >= 0 and null >= 0:
            os.dup2(null, fd, inheritable=False)
        elif fd >= 0:
            os.close(fd)
    if null >= 0:
        os.close(null)


os.register_at_fork(before=_before, after_in_parent=_after,
                    after_in_child=_in_child)
