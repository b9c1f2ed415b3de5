"""The wire: a multiprocessing manager whose server can face a network.

This is the only module that knows multiprocessing.  What is used of it is
the manager, its server object, its framing of calls (`dispatch`) and its
challenge of the key.  What is our own, because the library's would not do:

- the connection (see `connection`);
- the accepter: one that survives a full table of files or threads, and
  bounds how many peers may be connected without having proved the key;
- the serving of a connection: only the methods that are exposed, no
  tracebacks to the peer, an end at the first thing that is out of form.
"""

import resource
import socket
import struct
import threading
import time
from multiprocessing import AuthenticationError
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Set, Tuple

from .. import logs
from ..address import Address, name_of
from ..errors import Unreachable
from ..text import summary
from .connection import STALL, Connection
from .fields import BadMessage
from .messages import LEASE_BYTES, PREAMBLE, REQUEST_BYTES

if TYPE_CHECKING:       # nobody else needs the ssl module
    from .tls import Context

from .client import connect, reason
from .handshake import managers, prove_to_slave
from .messages import QUEUE, encoded, request

log = logs.logger(__name__)

BACKLOG = 4096          # with the library's 16, of 1,000 slaves 813 hung
UNPROVEN = 64           # connections that have not yet proved the key
FILES = 64              # that are not for connections
HANDSHAKE = 5.0         # seconds in all to prove it

TLS_HELLO = b'\x16\x03'

FIRST = struct.pack('!Q', len(PREAMBLE)) + PREAMBLE     # of a slave


class Listener:
    """What a manager's server listens on."""

    def __init__(self, address: Address, backlog: int = BACKLOG):
        family = socket.AF_INET6 if ':' in address[0] else socket.AF_INET
        self._sock = socket.create_server(address, family=family,
                                          backlog=max(backlog, BACKLOG))
        self.address = self._sock.getsockname()[:2]

    def accept(self) -> Connection:
        sock, peer = self._sock.accept()
        try:
            return Connection(sock, name_of(peer))
        except OSError:
            sock.close()
            raise

    def close(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)   # wakes accept()
        except OSError:
            pass
        self._sock.close()


managers.listener_client['taskmaster'] = (Listener, connect)


class Server(managers.Server):          # type: ignore[misc]
    """Serves the sessions of one queue, each on a thread of its own."""

    public = ['accept_connection']
    fallback_mapping: Dict[str, Any] = {}

    def start(self, open_session: Callable[[], Any],
              tls: Optional['Context'] = None) -> None:
        """Serve on daemon threads; ``open_session`` makes one a peer."""
        self.stop_event = threading.Event()
        # glibc gives freed memory back to the system, and each lease would
        # fetch it again, page by page, unless it once saw a block as large
        # come and go: it keeps twice that (mallopt(3), M_MMAP_THRESHOLD).
        bytes(2 * LEASE_BYTES)
        self._tls = tls
        self._open_session = open_session
        # Those that have not proved the key; whether they said the preamble.
        self._unproven: Dict[Connection, bool] = {}
        self._connections: Set[Connection] = set()
        self._most = _raise_limit()
        self._quiet = _Quiet()
        threading.Thread(target=self.accepter, daemon=True,
                         name='accepter').start()

    def stop(self) -> None:
        self.stop_event.set()
        self.listener.close()

    def accepter(self) -> None:
        while not self.stop_event.is_set():
            try:
                conn = self.listener.accept()
            except OSError as error:
                if not self.stop_event.is_set():
                    self._quiet.warn('cannot accept: %s', error)
                    self._make_room(0)
                    self.stop_event.wait(0.05)  # a full table spins else
                continue
            begins = conn.begins(FIRST, *([TLS_HELLO] if self._tls else []))
            if begins is False:
                conn.close()            # it is not worth a thread
                self._quiet.warn('%s: no slave', conn.peer)
                continue
            conn.limit = REQUEST_BYTES
            conn.deadline = time.monotonic() + HANDSHAKE
            if not self._admit(conn, begins is True):
                conn.close()
                self._quiet.warn('%s turned away: all %d connections are '
                                 'in use; raise ulimit -n', conn.peer,
                                 self._most)
                continue
            try:
                threading.Thread(target=self.handle_request, args=(conn,),
                                 daemon=True, name=conn.peer).start()
            except RuntimeError as error:       # no more threads
                self._leave(conn)
                self._quiet.warn('no thread for a connection: %s', error)
                self._make_room(0)
                self.stop_event.wait(0.05)

    def _admit(self, conn: Connection, spoke: bool) -> bool:
        """Take one more in, if only by cutting one that is unproven."""
        with self.mutex:
            full = len(self._connections) >= self._most
        if full and not self._make_room(0):
            return False
        self._make_room(UNPROVEN - 1)
        with self.mutex:
            self._connections.add(conn)
            self._unproven[conn] = spoke
        return True

    def _make_room(self, most: int) -> bool:
        """Cut one of the unproven, if there are more than so many.

        The oldest of those that have not even said the preamble, if there
        is one: strangers, who are in no position to keep slaves out.
        """
        with self.mutex:
            if len(self._unproven) <= most:
                return False
            mute = (conn for conn, spoke in self._unproven.items()
                    if not spoke)
            conn = next(mute, None) or next(iter(self._unproven))
            del self._unproven[conn]
            conn.cut()
            return True

    def handle_request(self, conn: Connection) -> None:
        """One connection, from its handshake to its end."""
        try:
            try:
                if self._tls is not None:
                    self._accept_tls(conn, self._tls)
                prove_to_slave(conn, self.authkey,
                               lambda: self._spoke(conn))
                ident, name, _, _ = conn.recv()
                if (ident, name) != (None, 'accept_connection'):
                    raise BadMessage('no accept_connection')
            finally:
                self._proven(conn)
            conn.deadline = None
            conn.patience = STALL       # a slave that lives says so
            conn.send(('#RETURN', None))
            self.serve_client(conn)
        except AuthenticationError:
            self._quiet.warn('%s does not hold the key', conn.peer)
        except (BadMessage, AssertionError, TypeError, ValueError) as error:
            self._quiet.warn('%s: %s', conn.peer, error)
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
                ident, name, args, kwds = conn.recv()
                if ident != QUEUE or kwds:
                    raise BadMessage('a call of what is not served')
                args = request(name, args)
                try:
                    result = encoded(getattr(session, name)(*args))
                except BadMessage:
                    raise
                except Exception as error:
                    self._quiet.warn('error in %s for %s: %s', name,
                                     conn.peer, summary(error))
                    log.debug('in full:', exc_info=True)
                    conn.send(('#TRACEBACK', 'the master had an error'))
                    return
                conn.send(('#RETURN', result))
                # Or they stay until the next call, which may not come.
                del args, kwds, result
        finally:
            session.close()

    def _accept_tls(self, conn: Connection, tls: 'Context') -> None:
        """On the connection's own thread, in the time of its handshake."""
        try:
            conn.start_tls(tls)
        except OSError as error:
            why = reason(error)
            if why == 'WRONG_VERSION_NUMBER':
                conn.say_tls()
            raise BadMessage(f'no TLS ({why})') from error

    def _leave(self, conn: Connection) -> None:
        conn.close()
        with self.mutex:
            self._unproven.pop(conn, None)
            self._connections.discard(conn)

    def _spoke(self, conn: Connection) -> None:
        with self.mutex:
            if conn in self._unproven:
                self._unproven[conn] = True

    def _proven(self, conn: Connection) -> None:
        with self.mutex:
            self._unproven.pop(conn, None)


def _raise_limit() -> int:
    """Allow as many open files as may be; gives how many for connections.

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
        super().__init__(address, key, serializer='taskmaster')
        self._place = address
        self._key = key

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


class _Quiet:
    """Warnings that strangers cause: of each kind one every ten seconds."""

    EVERY = 10.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kinds: Dict[str, Tuple[float, int]] = {}  # next, left out

    def warn(self, text: str, *args: Any) -> None:
        now = time.monotonic()
        with self._lock:
            due, left_out = self._kinds.get(text, (0.0, 0))
            if now < due:
                self._kinds[text] = due, left_out + 1
                return
            self._kinds[text] = now + self.EVERY, 0
        if left_out:
            text += f' (and {left_out} more like it)'
        log.warning(text, *args)
