"""The watchdog: who is at which job, since when, for the supervisor to see.

It is memory that a slave and its supervisor share, so that a slave whose
handler hangs, even in C and with the GIL held, need not say so.  Only used
with `--job-timeout`: each call of a handler then costs about a microsecond.

A *beat* beside the jobs shows that other threads of the slave can run.  Where
it has stopped one of the jobs holds the GIL, and the others only wait for it.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time

from ..records import TYPE_CHECKING
from ..storage.files import write_all
from ..wire.fields import Range
from .parent import ENV_WATCHDOG

if TYPE_CHECKING:
    from typing import Callable, MutableMapping

# So many signs of life a slave gives in the time that a job may take.
BEATS = 8
# How many seconds a job may take; the beat, in monotonic seconds.
HEAD = struct.Struct('dd')
# The first and the last job; since when, in monotonic seconds, or 0.
SLOT = struct.Struct('qqd')


class Watchdog:
    """A slot each for the workers of one slave, in the file ``fd``.

    A slot says which jobs (numbers; 0: unknown) its worker has been at and
    since when.  Seconds are of the monotonic clock, which all processes of
    a machine share.  The beat is 0 if there is none.
    """

    def __init__(self, fd: int, clock: Callable[[], float] = time.monotonic):
        self._map = mmap.mmap(fd, 0)
        self._clock = clock
        self._lock = threading.Lock()       # of this process
        self._slots = (len(self._map) - HEAD.size) // SLOT.size
        self.limit: float = HEAD.unpack_from(self._map)[0]
        self.every = self.limit / BEATS     # seconds between two beats

    def begin(self, slot: int, first: int, last: int) -> None:
        with self._lock:
            self._write(slot, first, last, self._clock())

    def end(self, slot: int) -> None:
        with self._lock:
            self._write(slot, 0, 0, 0.0)

    def beat(self) -> None:
        HEAD.pack_into(self._map, 0, self.limit, self._clock())

    def disown(self) -> None:
        """What is being done is of a run that is over: no more numbers."""
        with self._lock:
            for slot in range(self._slots):
                _, _, since = self._slot(slot)
                self._write(slot, 0, 0, since)

    def late(self) -> list[Range] | None:
        """Return the jobs that have taken too long; None when none has.

        May be empty: something takes too long, and which job is not known.
        """
        now = self._clock()
        busy = [slot for slot in map(self._slot, range(self._slots))
                if slot[2]]
        late = [(first, last) for first, last, since in busy
                if now - since > self.limit]
        if not late:
            return None
        _, beat = HEAD.unpack_from(self._map)
        if beat and now - beat > self.limit / 2 and len(busy) > 1:
            return []
        return [jobs for jobs in late if jobs[0]]

    def _write(self, slot: int, first: int, last: int, since: float) -> None:
        SLOT.pack_into(self._map, HEAD.size + slot * SLOT.size, first, last,
                       since)

    def _slot(self, slot: int) -> tuple[int, int, float]:
        """Read until it is the same twice: it may be written meanwhile."""
        offset = HEAD.size + slot * SLOT.size
        found = SLOT.unpack_from(self._map, offset)
        while True:
            seen, found = found, SLOT.unpack_from(self._map, offset)
            if found == seen:
                first, last, since = found
                return first, last, since

    def close(self) -> None:
        self._map.close()


def make(slots: int, limit: float) -> int:
    """Return a new watchdog's file, which has no name.  Raises OSError."""
    content = HEAD.pack(limit, 0) + bytes(slots * SLOT.size)
    if hasattr(os, 'memfd_create'):     # Linux; no folder has to be writable
        fd = os.memfd_create('taskmaster')
        write_all(os, fd, content)
        return fd
    import tempfile     # it takes a while, and Linux does without
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return os.dup(file.fileno())


def find_watchdog(environ: MutableMapping[str, str]) -> Watchdog | None:
    """In a child: return the watchdog that its parent looks at, if any."""
    if ENV_WATCHDOG not in environ:
        return None
    fd = int(environ.pop(ENV_WATCHDOG))
    try:
        return Watchdog(fd)
    finally:
        os.close(fd)            # mapped, it stays
