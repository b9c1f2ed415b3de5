"""The wire: a multiprocessing manager whose server can face a network.

This is the only module that knows multiprocessing.  What is used of it is
the manager, its server object, its framing of calls (`dispatch`) and its
challenge of the key.  What is our own, because the library's would not do:

- the connection: a socket with deadlines, JSON instead of pickle, and bytes
  (the jobs) only from the master to a slave;
- the accepter: one that survives a full table of files or threads, and
  bounds how many peers may be connected without having proved the key;
- the serving of a connection: only the methods that are exposed, no
  tracebacks to the peer, an end at the first thing that is out of form.

A frame is its length (8 bytes, big-endian), a JSON document, and, if bytes
go with it, a newline and the bytes.
"""

import hashlib
import hmac
import io
import json
import logging
import multiprocessing.connection
import multiprocessing.managers
import socket
import struct
import threading
import time
from collections import deque
from itertools import islice
from multiprocessing import AuthenticationError
from typing import (Any, Callable, Deque, Dict, Optional, Sequence, Tuple,
                    Union)

from .errors import KeyRefused, Unreachable
from .messages import PREAMBLE, REQUEST_BYTES, BadMessage, Payload

log = logging.getLogger(__name__)

Address = Tuple[str, int]

BACKLOG = 4096          # with the library's 16, of 1,000 slaves 813 hung
UNPROVEN = 64           # connections that have not yet proved the key
HANDSHAKE = 5.0         # seconds in all to prove it
CONNECT = 10.0          # seconds to connect
STALL = 60.0            # seconds that a frame may stand still
CHUNK = 1 << 20         # bytes; no more is allocated on a peer's word
PARTS = 1024            # of a frame in one call: IOV_MAX of Linux, BSD, macOS
KEEPALIVE = (20, 5, 4)  # seconds idle, seconds between probes, probes
USER_TIMEOUT = 45_000   # milliseconds that sent bytes may go unacknowledged

QUEUE = 'queue'         # the name of the one object that is served

managers: Any = multiprocessing.managers    # what we use has no types

_json = json.JSONEncoder(separators=(',', ':')).encode


# -- the connection -------------------------------------------------------

class Connection:
    """What `multiprocessing` expects of a connection, over one socket.

    Raises EOFError when the peer has gone, OSError (TimeoutError among
    them) when the network fails, BadMessage when a frame is out of form.
    """

    def __init__(self, sock: socket.socket, peer: str = ''):
        self.peer = peer
        self.deadline: Optional[float] = None   # of all that comes, or None
        self.patience: Optional[float] = STALL  # until a frame begins
        self.limit = 0              # bytes of a frame, or 0: no limit
        self._sock = sock
        self._timeout: Optional[float] = -1.0       # the socket's, if known
        self._begun = False         # a frame is under way
        self._reader = io.BufferedReader(_Incoming(self._recv_into))
        _tune(sock)

    def send_bytes(self, body: bytes, tail: Payload = Payload()) -> None:
        head = struct.pack('!Q', len(body) + tail.size)
        self._write([head + body, *tail])

    def recv_bytes(self, maxlength: Optional[int] = None) -> bytes:
        return bytes(self._frame(maxlength or self.limit))

    def send(self, message: Any) -> None:
        """Send JSON; a payload may be the last item of the second field."""
        kind, *rest = message
        tail = Payload()
        if len(rest) == 1 and rest[0] and type(rest[0]) is list:
            result = rest[0]
            if type(result[-1]) is Payload:
                tail = result[-1]
                rest = [result[:-1]]
        body = _json([kind, *rest]).encode()
        if tail:
            body += b'\n'
        self.send_bytes(body, tail)

    def recv(self) -> Any:
        frame = self._frame(self.limit)
        end = frame.find(b'\n')
        try:
            message = json.loads(
                str(frame if end < 0 else frame[:end], 'utf-8'))
        except (ValueError, RecursionError) as error:
            raise BadMessage('not JSON') from error
        if end >= 0:
            if self.limit:
                raise BadMessage('bytes, where only JSON may be')
            message[1].append(memoryview(frame)[end + 1:])
        return message

    def cut(self) -> None:
        """End the connection, whichever thread is waiting on it."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        self._sock.close()

    def _frame(self, limit: int) -> Union[bytes, bytearray]:
        self._begun = False
        size, = struct.unpack('!Q', self._read(8))
        if limit and size > limit:
            raise BadMessage(f'a frame of {size} bytes')
        return self._read(size)

    def _read(self, size: int) -> Union[bytes, bytearray]:
        """Exactly so many bytes, however many they are said to be."""
        data = self._reader.read(min(size, CHUNK))
        if len(data) < min(size, CHUNK):
            raise EOFError('the peer has gone')
        if size <= CHUNK:
            return data
        whole = bytearray(data)
        while len(whole) < size:
            have = len(whole)
            whole += bytes(min(size - have, have))
            with memoryview(whole) as view:
                if self._reader.readinto(view[have:]) < len(whole) - have:
                    raise EOFError('the peer has gone')
        return whole

    def _recv_into(self, buffer: Any) -> int:
        self._wait_at_most(STALL if self._begun else self.patience)
        count = self._sock.recv_into(buffer)
        self._begun = True
        return count

    def _write(self, parts: Sequence[Any]) -> None:
        """All of it: `sendall` would have STALL seconds for the whole."""
        views = deque(memoryview(part).cast('B') for part in parts)
        while views:
            self._wait_at_most(STALL)
            sent = self._sock.sendmsg(islice(views, PARTS))
            while views and sent >= len(views[0]):
                sent -= len(views.popleft())
            if sent:
                views[0] = views[0][sent:]

    def _wait_at_most(self, seconds: Optional[float]) -> None:
        """Set how long the next call may take."""
        if self.deadline is not None:
            left = self.deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError('too slow')
            seconds = left if seconds is None else min(left, seconds)
        if seconds != self._timeout:    # it costs a call of the kernel
            self._sock.settimeout(seconds)
            self._timeout = seconds


class _Incoming(io.RawIOBase):
    """What a socket receives, as the library's buffers want to have it."""

    def __init__(self, recv_into: Callable[[Any], int]):
        self._recv_into = recv_into

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._recv_into(buffer)


def _tune(sock: socket.socket) -> None:
    idle, interval, probes = KEEPALIVE
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (('TCP_KEEPIDLE', idle), ('TCP_KEEPINTVL', interval),
                        ('TCP_KEEPCNT', probes),
                        ('TCP_USER_TIMEOUT', USER_TIMEOUT)):
        if hasattr(socket, name):       # Linux has all of them
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def name_of(address: Sequence[Any]) -> str:
    """HOST:PORT, or [HOST]:PORT where the host has colons."""
    host, port = address[:2]
    return f'[{host}]:{port}' if ':' in host else f'{host}:{port}'


# -- the key --------------------------------------------------------------

def _derived(key: bytes, prover: str) -> bytes:
    """The key that one side proves to hold.

    Two of them, or an impostor could answer one slave's challenge with
    another slave's answer to it.
    """
    return hmac.new(key, f'taskmaster {prover}'.encode(),
                    hashlib.sha256).digest()


def _prove_to_master(conn: Any, key: bytes) -> None:
    conn.send_bytes(PREAMBLE)
    multiprocessing.connection.answer_challenge(conn, _derived(key, 'slave'))
    multiprocessing.connection.deliver_challenge(conn,
                                                 _derived(key, 'master'))


def _prove_to_slave(conn: Any, key: bytes) -> None:
    if conn.recv_bytes(len(PREAMBLE)) != PREAMBLE:
        raise AuthenticationError('no taskmaster')
    multiprocessing.connection.deliver_challenge(conn, _derived(key, 'slave'))
    multiprocessing.connection.answer_challenge(conn,
                                                _derived(key, 'master'))


# -- the slave's end ------------------------------------------------------

def connect(address: Address, key: bytes) -> 'Link':
    """Connect and prove the key.

    Raises KeyRefused when either side does not hold it, OSError or
    EOFError when there is no master to talk to.
    """
    conn = Connection(socket.create_connection(address, CONNECT),
                      name_of(address))
    conn.deadline = time.monotonic() + CONNECT
    try:
        try:
            _prove_to_master(conn, key)
        except (AuthenticationError, AssertionError) as error:
            raise KeyRefused(
                f'the master at {conn.peer} holds another key; give its key '
                'with --key or --key-file') from error
        managers.dispatch(conn, None, 'accept_connection', ('slave',))
    except BadMessage as error:
        conn.close()
        raise EOFError(f'{conn.peer} is no taskmaster: {error}') from error
    except BaseException:
        conn.close()
        raise
    conn.deadline = None
    return Link(conn)


class Link:
    """Calls on the master's queue, one at a time."""

    def __init__(self, conn: Connection):
        self._conn = conn

    def call(self, method: str, *args: Any, wait: float = 0) -> Any:
        """The result of a call that may take ``wait`` seconds.

        Raises EOFError or OSError when the connection fails.
        """
        self._conn.patience = wait + STALL
        try:
            return managers.dispatch(self._conn, QUEUE, method, args)
        except (BadMessage, managers.RemoteError) as error:
            raise EOFError(str(error)) from error

    def cut(self) -> None:
        """End the call that another thread is waiting in, if any."""
        self._conn.cut()

    def close(self) -> None:
        self._conn.cut()
        self._conn.close()


# -- the master's end -----------------------------------------------------

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

    def start(self, open_session: Callable[[], Any]) -> None:
        """Serve on daemon threads; ``open_session`` makes one a peer."""
        self.stop_event = threading.Event()
        self._open_session = open_session
        self._unproven: Deque[Connection] = deque()
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
                    self.stop_event.wait(0.05)  # a full table spins else
                continue
            conn.limit = REQUEST_BYTES
            conn.deadline = time.monotonic() + HANDSHAKE
            with self.mutex:
                self._unproven.append(conn)
                if len(self._unproven) > UNPROVEN:
                    self._unproven.popleft().cut()
            try:
                threading.Thread(target=self.handle_request, args=(conn,),
                                 daemon=True, name=conn.peer).start()
            except RuntimeError as error:       # no more threads
                self._proven(conn)
                conn.close()
                self._quiet.warn('no thread for a connection: %s', error)
                self.stop_event.wait(0.05)

    def handle_request(self, conn: Connection) -> None:
        """One connection, from its handshake to its end."""
        try:
            try:
                _prove_to_slave(conn, self.authkey)
                ident, name, _, _ = conn.recv()
                if (ident, name) != (None, 'accept_connection'):
                    raise BadMessage('no accept_connection')
            finally:
                self._proven(conn)
            conn.deadline = None
            conn.patience = None        # the ledger knows who is silent
            conn.send(('#RETURN', None))
            self.serve_client(conn)
        except AuthenticationError:
            self._quiet.warn('%s does not hold the key', conn.peer)
        except (BadMessage, AssertionError, TypeError, ValueError) as error:
            self._quiet.warn('%s: %s', conn.peer, error)
        except (EOFError, OSError) as error:
            log.debug('%s: %s', conn.peer, error)
        finally:
            conn.close()

    def serve_client(self, conn: Connection) -> None:
        """Answer calls until the connection ends."""
        session = self._open_session()
        try:
            while not self.stop_event.is_set():
                ident, name, args, kwds = conn.recv()
                if (ident != QUEUE or kwds
                        or session.exposed.get(name) != len(args)):
                    raise BadMessage('a call of what is not served')
                try:
                    result = getattr(session, name)(*args)
                except BadMessage:
                    raise
                except Exception:
                    log.exception('error in %s for %s', name, conn.peer)
                    conn.send(('#TRACEBACK', 'the master had an error'))
                    return
                conn.send(('#RETURN', result))
        finally:
            session.close()

    def _proven(self, conn: Connection) -> None:
        with self.mutex:
            try:
                self._unproven.remove(conn)
            except ValueError:
                pass


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
    """Warnings that strangers cause: one every ten seconds at most."""

    EVERY = 10.0

    def __init__(self) -> None:
        self._next = 0.0
        self._left_out = 0

    def warn(self, text: str, *args: Any) -> None:
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return
        if self._left_out:
            text += f' (and {self._left_out} more like it)'
        self._next, self._left_out = now + self.EVERY, 0
        log.warning(text, *args)
