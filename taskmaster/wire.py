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
import resource
import socket
import struct
import threading
import time
from collections import deque
from itertools import islice
from multiprocessing import AuthenticationError
from typing import (TYPE_CHECKING, Any, Callable, Dict, Optional, Sequence,
                    Set, Tuple, Union)

from .errors import ConfigError, KeyRefused, Unreachable
from .messages import PREAMBLE, REQUEST_BYTES, BadMessage, Payload
from .sizing import LEASE_BYTES
from .texts import summary

if TYPE_CHECKING:       # nobody else needs the ssl module
    from .tls import Context

log = logging.getLogger(__name__)

Address = Tuple[str, int]

BACKLOG = 4096          # with the library's 16, of 1,000 slaves 813 hung
UNPROVEN = 64           # connections that have not yet proved the key
FILES = 64              # that are not for connections
HANDSHAKE = 5.0         # seconds in all to prove it
CONNECT = 10.0          # seconds to connect
STALL = 60.0            # seconds that a frame may stand still
CHUNK = 1 << 20         # bytes; no more is allocated on a peer's word
PARTS = 1024            # of a frame in one call: IOV_MAX of Linux, BSD, macOS
KEEPALIVE = (20, 5, 4)  # seconds idle, seconds between probes, probes
USER_TIMEOUT = 45_000   # milliseconds that sent bytes may go unacknowledged

TLS_HELLO = b'\x16\x03'
TLS_ALERT = b'\x15\x03'  # how one begins: RFC 8446, 5.1 and 6.2
PROTOCOL_VERSION = b'\x03\x00\x02\x02\x46'     # fatal, "protocol_version"

FIRST = struct.pack('!Q', len(PREAMBLE)) + PREAMBLE     # of a slave

QUEUE = 'queue'         # the name of the one object that is served

managers: Any = multiprocessing.managers    # what we use has no types


def _int(digits: str) -> int:
    """Reading millions of digits would take minutes, with the GIL held."""
    if len(digits) > 20:
        raise ValueError('a number of too many digits')
    return int(digits)


_json = json.JSONEncoder(separators=(',', ':')).encode
_from_json = json.JSONDecoder(parse_int=_int).decode


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
        # Called when a part of a frame has gone out and more is to go.
        self.progress: Optional[Callable[[], None]] = None
        self._sock = sock
        self._tls = False
        self._ended = False
        self._timeout: Optional[float] = -1.0       # the socket's, if known
        self._begun = False         # a frame is under way
        self._reader = io.BufferedReader(_Incoming(self._recv_into))
        _tune(sock)

    def start_tls(self, context: Any, host: Optional[str] = None) -> None:
        """Speak TLS from here on: with the master ``host``, or as one.

        Raises OSError when that fails.
        """
        self._wait_at_most(STALL)
        self._sock = context.wrap_socket(
            self._sock, server_side=host is None, server_hostname=host,
            do_handshake_on_connect=False)
        self._tls = True
        if self._ended:                 # while there was no socket to end
            self.cut()
        self._sock.do_handshake()       # type: ignore[attr-defined]

    def begins(self, *expected: bytes) -> Optional[bool]:
        """Whether what has come begins like one of these; None: nothing."""
        try:
            said = self._sock.recv(max(map(len, expected)),
                                   socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return False
        return any(said and said.startswith(begin[:len(said)])
                   for begin in expected)

    def peek(self) -> bytes:
        """Some of what comes next, or nothing at the end."""
        return self._reader.peek(1)

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
            message = _from_json(
                str(frame if end < 0 else frame[:end], 'utf-8'))
        except (ValueError, RecursionError) as error:
            raise BadMessage('not JSON') from error
        if end >= 0:
            if self.limit:
                raise BadMessage('bytes, where only JSON may be')
            message[1].append(memoryview(frame)[end + 1:])
        return message

    def say_tls(self) -> None:
        """Answer a peer that does not speak TLS as the RFC would have it."""
        raw = socket.socket
        try:
            raw.send(self._sock, TLS_ALERT + PROTOCOL_VERSION)
            # Closed over unread bytes it would be reset, and not be heard.
            raw.recv(self._sock, REQUEST_BYTES, socket.MSG_DONTWAIT)
        except OSError:
            pass

    def cut(self) -> None:
        """End the connection, whichever thread is waiting on it."""
        self._ended = True
        try:    # not of an SSLSocket: that would go on in clear
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
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
            sent = (self._sock.send(views[0]) if self._tls
                    else self._sock.sendmsg(islice(views, PARTS)))
            while views and sent >= len(views[0]):
                sent -= len(views.popleft())
            if sent:
                views[0] = views[0][sent:]
            if views and self.progress is not None:
                self.progress()

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
    if conn.peek().startswith(TLS_ALERT):
        raise ConfigError(f'the master at {conn.peer} wants TLS; give '
                          '--tls-ca')
    multiprocessing.connection.answer_challenge(conn, _derived(key, 'slave'))
    multiprocessing.connection.deliver_challenge(conn,
                                                 _derived(key, 'master'))


def _prove_to_slave(conn: Any, key: bytes,
                    spoke: Callable[[], None] = lambda: None) -> None:
    if conn.recv_bytes(len(PREAMBLE)) != PREAMBLE:
        raise AuthenticationError('no taskmaster')
    spoke()
    multiprocessing.connection.deliver_challenge(conn, _derived(key, 'slave'))
    multiprocessing.connection.answer_challenge(conn,
                                                _derived(key, 'master'))


# -- the slave's end ------------------------------------------------------

def connect(address: Address, key: bytes,
            tls: Optional['Context'] = None) -> 'Link':
    """Connect and prove the key; over TLS where ``tls`` is given.

    Raises KeyRefused when either side does not hold it or the certificate
    is not trusted, ConfigError when the master wants TLS, OSError or
    EOFError when there is no master to talk to.
    """
    conn = Connection(socket.create_connection(address, CONNECT),
                      name_of(address))
    conn.deadline = time.monotonic() + CONNECT
    try:
        if tls is not None:
            _start_tls(conn, tls, address[0])
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


def _start_tls(conn: Connection, tls: 'Context', host: str) -> None:
    try:
        conn.start_tls(tls, host)
    except TimeoutError:
        raise
    except OSError as error:
        from .tls import refusal
        raise refusal(error, conn.peer) or EOFError(
            f'no TLS with {conn.peer}: {_reason(error)}; was it started '
            'with --tls-cert?') from error


def _reason(error: OSError) -> str:
    return getattr(error, 'reason', None) or summary(error)


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
                _prove_to_slave(conn, self.authkey,
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
                if (ident != QUEUE or kwds
                        or session.exposed.get(name) != len(args)):
                    raise BadMessage('a call of what is not served')
                try:
                    result = getattr(session, name)(*args)
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
            reason = _reason(error)
            if reason == 'WRONG_VERSION_NUMBER':
                conn.say_tls()
            raise BadMessage(f'no TLS ({reason})') from error

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
