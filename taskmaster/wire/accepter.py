"""The accepter: takes connections in, and spends nothing on strangers.

One thread looks at all that comes in, and waits for nobody:

    in clear    it reads the first message itself.  Who cannot make its
                proof gets neither a thread nor a place.
    over TLS    a handshake comes before that message, and needs a thread:
                so one of SLOTS, no more than SLOTS_OF_ONE for one address.
                Who finds none free waits in a line.

Only so many are waited for, and each for `Timing.handshake` in all; of too
many the oldest is cut, as what has just come in may be a slave.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import Counter

from .. import forks
from ..records import TYPE_CHECKING, Protocol
from ..timing import Timing
from .connection import Connection
from .gate import Gate
from .handshake import CLEAR, FIRST_BYTES, OLD_FIRST, START, UNIX, First
from .quiet import Quiet
from .unix import is_ours

if TYPE_CHECKING:
    from typing import Any, Callable, Sequence

    Serve = Callable[[Connection, 'First | None'], bool]

SPEECHLESS = 1024       # connections on which the first message is to come
LINE = 1024             # those that wait for a slot
SLOTS = 64              # of those that are in the handshake of TLS
SLOTS_OF_ONE = 8        # of these, of one address
AT_ONCE = 64            # connections taken in before others are looked at
LOOK = 0.05             # seconds between two looks at those who wait
PAUSE = 0.05            # seconds after a failure: a full table would spin

TLS_RECORD = b'\x16'    # how a handshake begins: RFC 8446, 5.1


class Door(Protocol):
    """What the accepter listens on."""

    timing: Timing

    def fileno(self) -> int:
        """For a selector."""

    def accept(self) -> Connection | None:
        """Without waiting."""


class Accepter:
    """Takes connections in from ``doors``.

    ``serve(connection, first message)`` gives one a thread, or says False
    where there is none; over TLS there is no first message yet, and
    ``done`` is to be called after the handshake.  ``room()`` says whether
    one more connection can be had at all.
    """

    def __init__(self, doors: Sequence[Door], gate: Gate, quiet: Quiet,
                 serve: Serve, room: Callable[[int], bool], tls: bool,
                 timing: Timing):
        self._gate = gate
        self._quiet = quiet
        self._serve = serve
        self._room = room
        self._tls = tls
        self._timing = timing
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        for holder in self._wake, self._woken, self._selector:
            forks.close_in_child(holder)
        self._stopping = threading.Event()
        # What was heard of a first message that is not whole.
        self._heard: dict[Connection, bytes] = {}
        self._line: dict[Connection, None] = {}     # the oldest first
        self._lock = threading.Lock()
        self._slots: dict[Connection, float] = {}   # since when
        # Before there is a thread: whoever stops it closes the doors.
        self._selector.register(self._woken, selectors.EVENT_READ)
        for door in doors:
            self._selector.register(door, selectors.EVENT_READ)

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                waiting = self._heard or self._line
                for key, _ in self._selector.select(
                        LOOK if waiting else None):
                    self._look_at(key.fileobj)
                self._cut_late()
                self._give_slots()
        finally:
            for conn in [*self._heard, *self._line]:
                conn.close()
            self._selector.close()
            self._wake.close()
            self._woken.close()

    def stop(self) -> None:
        """Any thread may call this."""
        self._stopping.set()
        try:
            self._wake.send(b'!')
        except OSError:                 # it has stopped already
            pass

    def done(self, conn: Connection) -> None:
        """The handshake of TLS is over, one way or the other."""
        with self._lock:
            self._slots.pop(conn, None)

    @property
    def waiting(self) -> int:
        """How many have no thread yet."""
        return len(self._heard) + len(self._line)

    def _look_at(self, what: Any) -> None:
        if isinstance(what, Connection):
            if what in self._heard:     # it may have been cut since
                self._hear(what)
        elif what is not self._woken:
            for _ in range(AT_ONCE):
                try:
                    conn = what.accept()
                except OSError as error:
                    if not self._stopping.is_set():
                        self._quiet.warn('cannot accept: %s', error)
                        self._cut_oldest(self._heard or self._line)
                        self._stopping.wait(PAUSE)
                    break
                if conn is None:
                    break
                self._take_in(conn)

    def _take_in(self, conn: Connection) -> None:
        conn.deadline = time.monotonic() + self._timing.handshake
        if conn.is_unix and not is_ours(conn.sock):
            self._quiet.warn('%s: another user is not let in', conn.peer)
            conn.close()
        elif not self._room(self.waiting) and not self._cut_oldest(
                self._heard or self._line):
            conn.close()
        else:
            if len(self._heard) >= SPEECHLESS:
                self._cut_oldest(self._heard)
            self._heard[conn] = b''
            self._hear(conn)

    # -- who has not said all yet -----------------------------------------

    def _hear(self, conn: Connection) -> None:
        heard = self._heard[conn]
        try:
            if self._tls and not heard and not conn.is_unix:
                begun = conn.come(1, peek=True)
                if begun == TLS_RECORD:
                    self._let_go(conn)
                    if len(self._line) >= LINE:
                        self._cut_oldest(self._line)
                    self._line[conn] = None
                    return
            come = conn.come(FIRST_BYTES - len(heard))
        except OSError:
            come = b''
        if come is None:                # nothing yet
            if not heard:
                self._watch(conn)
            return
        heard += come
        if not come or not (START.startswith(heard[:len(START)])
                            or OLD_FIRST.startswith(heard[:len(OLD_FIRST)])):
            if heard:
                self._quiet.warn('%s: no slave', conn.peer)
            self._drop(conn)
        elif heard.startswith(OLD_FIRST):
            self._gate.note_old(conn.peer)
            self._drop(conn)
        elif len(heard) < FIRST_BYTES:
            self._heard[conn] = heard
            self._watch(conn)
        else:
            self._let_go(conn)
            self._judge(conn, heard)

    def _judge(self, conn: Connection, said: bytes) -> None:
        channel = UNIX if conn.is_unix else b'' if self._tls else CLEAR
        first, answer = self._gate.judge(said, channel, conn.peer)
        if answer:
            conn.say(answer)
        if first is None or not self._serve(conn, first):
            conn.close()

    def _watch(self, conn: Connection) -> None:
        try:
            self._selector.register(conn, selectors.EVENT_READ)
        except KeyError:                # it is there already
            pass

    def _let_go(self, conn: Connection) -> None:
        """It is somebody else's now."""
        self._line.pop(conn, None)
        if self._heard.pop(conn, None) is not None:
            try:
                self._selector.unregister(conn)
            except KeyError:
                pass

    def _drop(self, conn: Connection) -> None:
        self._let_go(conn)
        conn.close()

    def _cut_late(self) -> None:
        now = time.monotonic()
        for waiting in self._heard, self._line:
            while waiting:
                conn = next(iter(waiting))
                if conn.deadline is not None and now < conn.deadline:
                    break
                self._drop(conn)

    def _cut_oldest(self, of: dict[Connection, Any]) -> bool:
        conn = next(iter(of), None)
        if conn is not None:
            self._drop(conn)
        return conn is not None

    # -- who wants to speak TLS -------------------------------------------

    def _give_slots(self) -> None:
        """The newest first: in a flood it is what may be a slave."""
        full: set[str] = set()      # addresses that get no more now
        for conn in reversed([*self._line]):
            if conn.host in full:
                continue
            if not self._has_slot(conn):
                full.add(conn.host)
                continue
            self._let_go(conn)
            if not self._serve(conn, None):
                self.done(conn)
                conn.close()

    def _has_slot(self, conn: Connection) -> bool:
        """Give it one, if only by cutting who has had one for long."""
        now = time.monotonic()
        with self._lock:
            of_hosts = Counter(other.host for other in self._slots)
            if of_hosts[conn.host] >= SLOTS_OF_ONE:
                rivals = [other for other in self._slots
                          if other.host == conn.host]
            elif len(self._slots) >= SLOTS:
                rivals = [*self._slots]
            else:
                rivals = []
            if rivals:
                if now - self._slots[rivals[0]] < self._timing.slot:
                    return False
                rivals[0].cut()
                del self._slots[rivals[0]]
            self._slots[conn] = now
            return True
