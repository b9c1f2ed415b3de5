"""The connection: what a manager needs of one, over one socket.

A socket with deadlines, JSON instead of pickle, and bytes (the jobs) only from
the master to a slave.  A frame is its length (8 bytes, big-endian), a JSON
document, and, if bytes go with it, a newline and the bytes.  Once the key is
proved in clear over TCP a MAC follows (see `Mac`), and nothing of a frame is
looked at before that was checked.  A length above UNPROVED has a MAC of its
own, just after it, or whoever is between could have the peer take in all
that its memory holds.
"""

from __future__ import annotations

import hmac
import io
import json
import math
import socket
import struct
import time
from collections import deque
from itertools import islice

from .. import forks
from ..records import TYPE_CHECKING
from ..timing import STANDARD, Timing
from .fields import BadMessage
from .key import MAC_BYTES, Mac
from .messages import LEASE_BYTES, Payload

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, Sequence

    from .large import Large    # of the master

# Bytes; no more is allocated on a peer's word.  Every lease, but that of a
# single large job, is shorter, and so is taken in without being copied.
CHUNK = 2 * LEASE_BYTES + 4096
PARTS = 1024            # of a frame in one call: IOV_MAX of Linux, BSD, macOS
UNPROVED = 16 << 20     # bytes taken in before anything of a frame is proved
JOINED = 1 << 18        # bytes of parts that are sent as one over TLS
NEWS = 0.1              # seconds, at least, between two calls of `progress`
BUFFER = 1 << 16        # bytes that a slave takes in at once: a lease of ints


def _int(digits: str) -> int:
    """Reading millions of digits would take minutes, with the GIL held."""
    if len(digits) > 20:
        raise ValueError('a number of too many digits')
    return int(digits)


_json = json.JSONEncoder(separators=(',', ':')).encode
_from_json = json.JSONDecoder(parse_int=_int).decode


class Connection:
    """What `multiprocessing` expects of a connection, over one socket.

    Raises EOFError when the peer has gone, OSError (TimeoutError among
    them) when the network fails, BadMessage when a frame is out of form.
    """

    def __init__(self, sock: socket.socket, peer: str = '',
                 timing: Timing = STANDARD, buffer: int = 1 << 13):
        self.peer = peer
        self.stall = timing.stall   # seconds that a frame may stand still
        self.deadline: float | None = None  # of all that comes, or None
        # Seconds until a frame begins.
        self.patience: float | None = timing.stall
        self.limit = 0              # bytes of a frame, or 0: no limit
        self.large: Large | None = None     # if what comes is bounded
        # Called when a part of a frame has gone out and more is to go.
        self.progress: Callable[[], None] | None = None
        self._sock = sock
        self._tls = False
        self._ended = False
        self._timeout: float | None = None      # of what comes
        self._begun = False         # a frame is under way
        self._macs: tuple[Mac, Mac] | None = None   # outgoing, incoming
        self._reader = io.BufferedReader(_Incoming(self._recv_into), buffer)
        forks.close_in_child(self)
        _tune(sock, timing)

    def fileno(self) -> int:
        return self._sock.fileno()

    @property
    def is_unix(self) -> bool:
        return self._sock.family == socket.AF_UNIX

    @property
    def host(self) -> str:
        """The peer's, without its port."""
        return self.peer.rpartition(':')[0]

    @property
    def sock(self) -> Any:
        """The socket, for whoever has to look at it."""
        return self._sock

    def seal(self, outgoing: bytes, incoming: bytes) -> None:
        """Have a MAC after each frame from here on, by these keys."""
        self._macs = Mac(outgoing), Mac(incoming)

    def start_tls(self, context: Any, host: str | None = None) -> None:
        """Speak TLS from here on: with the master ``host``, or as one.

        Raises OSError when that fails.
        """
        self._tls, self._timeout = True, None
        self._wait_at_most(self.stall)
        self._sock = context.wrap_socket(
            self._sock, server_side=host is None, server_hostname=host,
            do_handshake_on_connect=False)
        if self._ended:                 # while there was no socket to end
            self.cut()
        self._sock.do_handshake()       # type: ignore[attr-defined]

    @property
    def certificate(self) -> bytes:
        """The peer's, in DER, over TLS; it was checked."""
        der: bytes = self._sock.getpeercert(True)   # type: ignore
        return der

    def come(self, most: int, peek: bool = False) -> bytes | None:
        """What has come up to now: b'' at the end, None for nothing yet.

        For the time before the first frame is received.  Raises OSError.
        """
        flags = socket.MSG_DONTWAIT | (socket.MSG_PEEK if peek else 0)
        try:
            come: bytes = self._sock.recv(most, flags)
            return come
        except BlockingIOError:
            return None

    def received(self, size: int) -> bytes:
        """Exactly so many bytes, which are no frame."""
        return bytes(self._read(size))

    def say(self, body: bytes) -> None:
        """Send a short frame, or as much of it as goes without waiting."""
        try:
            self._sock.send(struct.pack('!Q', len(body)) + body,
                            socket.MSG_DONTWAIT)
        except OSError:
            pass

    def send_bytes(self, body: bytes, tail: Payload = Payload()) -> None:
        size = len(body) + tail.size
        head = struct.pack('!Q', size)
        if self._macs is not None and size > UNPROVED:
            head += self._macs[0].next([head])
        parts = [head + body, *tail]
        if self._macs is not None:
            parts.append(self._macs[0].next(parts))
        self._write(parts)

    def recv_bytes(self, maxlength: int | None = None) -> bytes:
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

    def recv_request(self, check: Callable[[Any], Any]) -> Any:
        """What ``check`` makes of the next message, of somebody who asks."""
        assert self.large is not None
        frame = self._frame(self.limit)
        with self.large.reading(self, frame):
            return check(self._message(frame))

    def recv(self) -> Any:
        return self._message(self._frame(self.limit))

    def _message(self, frame: bytes | bytearray) -> Any:
        end = frame.find(b'\n')
        try:
            message = _from_json(
                str(frame if end < 0 else frame[:end], 'utf-8'))
        except (ValueError, RecursionError) as error:
            raise BadMessage('not JSON') from error
        if end >= 0:
            if self.limit:
                raise BadMessage('bytes, where only JSON may be')
            if (type(message) is not list or not message
                    or type(message[-1]) is not list):
                raise BadMessage('bytes, and no place for them')
            message[-1].append(memoryview(frame)[end + 1:])
        return message

    def cut(self) -> None:
        """End the connection, whichever thread is waiting on it."""
        self._ended = True
        try:    # not of an SSLSocket: that would go on in clear
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        self._sock.close()

    def _frame(self, limit: int) -> bytes | bytearray:
        self._begun = False
        head = self._read(8)
        size, = struct.unpack('!Q', head)
        if limit and size > limit:
            raise BadMessage(f'a frame of {size} bytes')
        if self.large is not None:
            self.large.begin(self, size)
        if self._macs is None:
            return self._read(size)
        if size > UNPROVED:
            head += self._proved(head)
        body = self._read(size)
        self._proved(head, body)
        return body

    def _proved(self, *parts: bytes | bytearray) -> bytes | bytearray:
        """The MAC that comes next, which is of these parts."""
        assert self._macs is not None
        mac = self._read(MAC_BYTES)
        if not hmac.compare_digest(mac, self._macs[1].next(parts)):
            raise BadMessage('a frame that was changed on its way')
        return mac

    def _read(self, size: int) -> bytes | bytearray:
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
        self._wait_at_most(self.stall if self._begun else self.patience)
        try:
            count = self._sock.recv_into(buffer)
        except BlockingIOError as error:
            raise TimeoutError('timed out') from error
        self._begun = True
        return count

    def _write(self, parts: Sequence[Any]) -> None:
        """All of it: `sendall` would have that time for the whole."""
        views = deque(memoryview(part).cast('B') for part in (
            _joined(parts) if self._tls else parts))
        said = moved = time.monotonic()
        while views:
            sent = self._send(views)
            now = time.monotonic()
            if sent:
                moved = now
            elif now - moved >= self.stall:
                raise TimeoutError('timed out')
            while views and sent >= len(views[0]):
                sent -= len(views.popleft())
            if views:
                views[0] = views[0][sent:]
                if self.progress is not None and now - said >= NEWS:
                    said = now          # over TLS each 16 kB is one
                    self.progress()

    def _send(self, views: deque[memoryview]) -> int:
        """Send some of it; return how many bytes, 0 after a while of none."""
        if self._tls:
            self._wait_at_most(self.stall)
            return self._sock.send(views[0])
        self._at_most(self.stall)
        try:
            return self._sock.sendmsg(islice(views, PARTS))
        except BlockingIOError:
            return 0

    def _at_most(self, seconds: float | None) -> float | None:
        """How long the next call may take; raises after the deadline."""
        if self.deadline is None:
            return seconds
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError('too slow')
        return left if seconds is None else min(left, seconds)

    def _wait_at_most(self, seconds: float | None) -> None:
        """Set how long the next call that receives may take."""
        seconds = self._at_most(seconds)
        if seconds != self._timeout:    # it costs a call of the kernel
            self._timeout = seconds
            if self._tls:
                self._sock.settimeout(seconds)
            else:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO,
                                      _timeval(seconds or 0))


class _Incoming(io.RawIOBase):
    """What a socket receives, as the library's buffers want to have it."""

    def __init__(self, recv_into: Callable[[Any], int]):
        self._recv_into = recv_into

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._recv_into(buffer)


def _joined(parts: Iterable[Any]) -> Iterator[Any]:
    """Parts as TLS should have them: each begins a record, of 16 kB at most.

    A record is a call of the kernel, and a part one of OpenSSL.  What is
    long is not copied, as that would take longer.
    """
    short: list[Any] = []
    size = 0
    for part in parts:
        if len(part) < JOINED:
            short.append(part)
            size += len(part)
            if size < JOINED:
                continue
        if short:
            yield b''.join(short)
            short, size = [], 0
        if len(part) >= JOINED:
            yield part
    if short:
        yield b''.join(short)


def _timeval(seconds: float) -> bytes:
    """As socket(7) has it; 0 is for ever."""
    return struct.pack('@ll', int(seconds), math.ceil(seconds % 1 * 999_999))


def _tune(sock: socket.socket, timing: Timing) -> None:
    # It is the kernel that waits, in the very call: a timeout of Python's is a
    # `poll` before it, and one more wait for the GIL.
    sock.settimeout(None)       # whatever the operator's default is
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(NEWS))
    if sock.family == socket.AF_UNIX:
        try:
            # A lease goes out in one call then, not in five, each of which
            # waits for the GIL.  Linux grants what net.core.wmem_max allows.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF,
                            2 * LEASE_BYTES)
        except OSError:         # macOS, of more than it allows
            pass
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
            ('TCP_KEEPIDLE', timing.keepalive_idle),
            ('TCP_KEEPINTVL', timing.keepalive_every),
            ('TCP_KEEPCNT', timing.keepalive_probes),
            ('TCP_USER_TIMEOUT', round(1000 * timing.user_timeout))):
        if hasattr(socket, name):       # Linux has all of them
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
