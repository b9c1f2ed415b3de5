"""Sessions: what the operator's code has started, and is still there.

A slave that has a supervisor leads a session of its own, and whatever its
handlers start is in it: until a program makes a session for itself
(`start_new_session=True`, `setsid`), which is how one starts what is to live
on.  So what a session holds is ours to end, and nothing else is.

Only where the system has /proc can it be asked who is in a session; elsewhere
(macOS) the process group stands for it.
"""

from __future__ import annotations

import os
import signal

from .records import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

# Signals reach whoever is forked between two looks, too.
LOOKS = 10
# In the command lines of what multiprocessing, and loky, start for themselves.
HELPERS = b'resource_tracker', b'forkserver'


def members(session: int) -> list[int]:
    """Return the pids of what lives in a session, its leader apart."""
    found = []
    for entry in _listed('/proc'):
        if entry.isdigit() and int(entry) != session:
            try:
                if os.getsid(int(entry)) == session and lives(int(entry)):
                    found.append(int(entry))
            except OSError:         # it has ended meanwhile
                pass
    return found


def send(session: int, number: int) -> None:
    """Send a signal to all that is in a session.

    To its leader first: it is not to see the others end, and go on.
    """
    _kill(os.killpg, session, number)
    for pid in members(session):
        _kill(os.kill, pid, number)


def end(session: int) -> None:
    """End all that is in a session; also in a signal handler."""
    for _ in range(LOOKS):
        send(session, signal.SIGKILL)
        if not members(session):
            break


def end_own() -> None:
    """End all that is in the session that this process leads, and itself."""
    leader = os.getpid()
    for pid in members(leader):
        try:
            if os.getpgid(pid) != leader:
                os.kill(pid, signal.SIGKILL)
        except OSError:             # it has ended meanwhile
            pass
    # The rest at one stroke, or we would see our own end, and go on.
    os.killpg(leader, signal.SIGKILL)


def children() -> list[int]:
    """Return the pids of this process's own children that live.

    But for the helpers of multiprocessing, which end when it does.
    """
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    # As a rule: none, and nothing to look for.  Python has no `waitid` on
    # macOS before 3.13, where there is no /proc to look in either.
    except (ChildProcessError, AttributeError):
        return []
    found = []
    for thread in _listed('/proc/self/task'):
        pids = _read(os.getpid(), f'task/{thread}/children').split()
        found += [pid for pid in map(int, pids)
                  if lives(pid) and not _helps(pid)]
    return found


def named(pids: list[int]) -> str:
    """Return what these processes are, for a person."""
    return ', '.join(f'{_name(pid)} (pid {pid})' for pid in pids)


def lives(pid: int) -> bool:
    """Whether there is such a process, and it is more than a zombie."""
    stat = _read(pid, 'stat')
    return bool(stat) and stat.rpartition(b')')[2].split()[0] not in b'ZX'


def _helps(pid: int) -> bool:
    words = _read(pid, 'cmdline')
    return any(name in words for name in HELPERS)


def _name(pid: int) -> str:
    return _read(pid, 'comm').decode(errors='replace').strip() or '?'


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f'/proc/{pid}/{name}', 'rb') as file:
            return file.read()
    except OSError:                 # it has ended
        return b''


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _kill(send: Callable[[int, int], None], target: int,
          number: int) -> None:
    try:
        send(target, number)
    except (ProcessLookupError, PermissionError):   # macOS: all zombies
        pass
