"""The master's end of the wire: a multiprocessing manager for a network.

What is used of the library is the manager, its server object, its framing
of calls and its challenge of the key.  What is our own, because the
library's would not do:

- the connection (see `connection`);
- the accepter (see `accepter`): strangers cost next to nothing;
- the serving of a connection: only the methods that are exposed, no
  tracebacks to the peer, an end at the first thing that is out of form.
"""

from __future__ import annotations

import multiprocessing.managers
import resource
import threading
import time
from multiprocessing import AuthenticationError

from .. import logs
from ..address import Address, name_of
from ..errors import TaskmasterError, Unreachable
from ..records import TYPE_CHECKING
from ..service import Service
from ..text import summary
from ..timing import STANDARD, Timing
from .accepter import Accepter
from .client import connect, reason
from .connection import Connection
from .fields import BadMessage
from .gate import Gate
from .handshake import FIRST_BYTES, OLD_FIRST, First, prove_to_slave
from .key import stretched
from .large import Large
from .listener import Listener, UnixListener
from .messages import (LEASE_BYTES, QUEUE, REQUEST_BYTES, encoded, request)
from .quiet import Quiet

if TYPE_CHECKING:
    from typing import Any, Callable

    from .tls import Context    # nobody else needs the ssl module

managers: Any = multiprocessing.managers    # what we use has no types
managers.listener_client['taskmaster'] = (Listener, connect)

log = logs.logger(__name__)

UNPROVEN = 1024         # connections that began a proof of the key
MOST = 20_000           # connections, however many files there may be
FILES = 64              # that are not for connections
LOOK = 0.005            # seconds between two looks whether all is answered


class Server(managers.Server):          # type: ignore[misc]
    """Serves the sessions of one queue, each on a thread of its own."""

    public = ['accept_connection']
    fallback_mapping: dict[str, Any] = {}
    local: UnixListener | None = None       # a Unix socket to serve too

    def start(self, open_session: Callable[[], Any],
              tls: Context | None = None,
              failed: Callable[[TaskmasterError], None] = lambda error: None,
              timing: Timing = STANDARD) -> None:
        """Serve on daemon threads; ``open_session`` makes one a peer.

        ``failed`` is told, as of a Service, if nobody is let in any more.
        """
        self.stop_event = threading.Event()
        # glibc gives freed memory back to the system, and each lease would
        # fetch it again, page by page, unless it once saw a block as large
        # come and go: it keeps twice that (mallopt(3), M_MMAP_THRESHOLD).
        bytes(2 * LEASE_BYTES)
        self._tls = tls
        self._open_session = open_session
        self._doors = [self.listener] + ([self.local] if self.local else [])
        for door in self._doors:
            door.timing = timing
        self._unproven: dict[Connection, None] = {}     # the oldest first
        self._connections: set[Connection] = set()
        # Those with a call under way, or about to make their first; no lock,
        # as adding and removing is one step under the GIL.
        self._answering: set[Connection] = set()
        self._most = min(_raise_limit(), MOST)
        self.quiet = Quiet()
        self._large = Large()
        self._gate = Gate(self.authkey, self.quiet)
        self._accepter = Accepter(self._doors, self._gate, self.quiet,
                                  self._serve, self._has_room,
                                  tls is not None, timing)
        Service('accepter', self._accepter.run, failed).start()

    def stop(self, patience: float = 0.0) -> None:
        """Let nobody in; answer what has been asked, but for so long."""
        self._accepter.stop()
        deadline = time.monotonic() + patience
        while self._answering and time.monotonic() < deadline:
            time.sleep(LOOK)
        self.stop_event.set()
        self.close()

    def close(self) -> None:
        """Let go of port and socket, also where it was never started."""
        self.listener.close()
        if self.local is not None:
            self.local.close()

    # -- by the accepter --------------------------------------------------

    def _has_room(self, waiting: int) -> bool:
        """Whether one more can be had, if only by cutting an unproven one."""
        with self.mutex:
            full = len(self._connections) + waiting >= self._most
        if not full or self._cut_unproven(0):
            return True
        if not waiting:
            self.quiet.warn('a connection was turned away: all %d are in '
                            'use; raise ulimit -n', self._most)
        return False

    def _serve(self, conn: Connection, first: First | None) -> bool:
        """Give it a thread; False where there is none to be had."""
        conn.limit, conn.large = REQUEST_BYTES, self._large
        self._cut_unproven(UNPROVEN - 1)
        with self.mutex:
            self._connections.add(conn)
            self._unproven[conn] = None
        try:
            threading.Thread(target=self._attend, args=(conn, first),
                             daemon=True, name=conn.peer).start()
            return True
        except RuntimeError as error:       # no more threads
            self.quiet.warn('no thread for a connection: %s', error)
            self._leave(conn)
            self._cut_unproven(0)
            return False

    def _cut_unproven(self, most: int) -> bool:
        """Cut the oldest of the unproven, if there are more than so many."""
        with self.mutex:
            if len(self._unproven) <= most:
                return False
            conn = next(iter(self._unproven))
            del self._unproven[conn]
            conn.cut()
            return True

    # -- by the thread of a connection ------------------------------------

    def _attend(self, conn: Connection, first: First | None) -> None:
        """One connection, from its handshake to its end."""
        try:
            try:
                if first is None:
                    first = self._first_over_tls(conn)
                if first is None:
                    return
                prove_to_slave(conn, self.authkey, first)
                self._answering.add(conn)
                ident, name, _, _ = conn.recv()
                if (ident, name) != (None, 'accept_connection'):
                    raise BadMessage('no accept_connection')
            finally:
                with self.mutex:
                    self._unproven.pop(conn, None)
            conn.deadline = None
            conn.patience = conn.stall  # a slave that lives says so
            conn.send(('#RETURN', None))
            self.serve_client(conn)
        except AuthenticationError:
            self.quiet.warn('%s does not hold the key', conn.peer)
        except (BadMessage, TypeError, ValueError) as error:
            self.quiet.warn('%s: %s', conn.peer, error)
        except (EOFError, OSError) as error:
            log.debug('%s: %s', conn.peer, error)
        finally:
            self._leave(conn)

    def serve_client(self, conn: Connection) -> None:
        """Answer calls until the connection ends."""
        session = self._open_session()
        conn.progress = session.heard   # it cannot speak while it listens
        try:
            while not self.stop_event.is_set():
                name, args = conn.recv_request(_checked)
                self._answering.add(conn)
                try:
                    result = encoded(getattr(session, name)(*args))
                except BadMessage:
                    raise
                except Exception as error:
                    self.quiet.warn('error in %s for %s: %s', name,
                                    conn.peer, summary(error))
                    log.debug('in full:', exc_info=True)
                    conn.send(('#TRACEBACK', 'the master had an error'))
                    return
                conn.send(('#RETURN', result))
                self._answering.discard(conn)
                # Or they stay until the next call, which may not come.
                del args, result
        finally:
            session.close()

    def _first_over_tls(self, conn: Connection) -> First | None:
        """The handshake of TLS, and the first message after it."""
        assert self._tls is not None
        try:
            conn.start_tls(self._tls)
            said = conn.received(len(OLD_FIRST))
            if said == OLD_FIRST:
                self._gate.note_old(conn.peer)
                return None
            said += conn.received(FIRST_BYTES - len(said))
        except OSError as error:
            raise BadMessage(f'no TLS ({reason(error)})') from error
        finally:
            self._accepter.done(conn)
        first, answer = self._gate.judge(said, self._tls.channel, conn.peer)
        if answer:
            conn.send_bytes(answer)
        return first

    def _leave(self, conn: Connection) -> None:
        conn.close()
        self._answering.discard(conn)
        with self.mutex:
            self._unproven.pop(conn, None)
            self._connections.discard(conn)


def _checked(call: Any) -> tuple[str, list[Any]]:
    """The name of a method and its arguments, as they are to be used."""
    ident, name, args, kwds = call
    if ident != QUEUE or kwds:
        raise BadMessage('a call of what is not served')
    return name, request(name, args)


def _raise_limit() -> int:
    """Allow as many open files as may be; how many are for connections.

    Some are left for what else the master opens, its state first of all.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    except (OSError, ValueError):       # macOS says "infinity" and means less
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        most = 1 << 20
    return most - min(FILES, most // 2)


class Manager(managers.BaseManager):    # type: ignore[misc]
    """A BaseManager of which only the server is used."""

    def __init__(self, address: Address, key: bytes):
        super().__init__(address, serializer='taskmaster')
        self._place = address
        self._key = stretched(key)

    def get_server(self) -> Server:
        """Bind the address.

        Raises Unreachable (69) when that is not possible.
        """
        try:
            return Server(self._registry, self._place, self._key,
                          'taskmaster')
        except OSError as error:
            raise Unreachable(
                f'cannot listen on {name_of(self._place)}: '
                f'{error.strerror or error}; give another --host') from error
