"""The slave's end of the wire: connect, prove the key, call."""

from __future__ import annotations

import time
from functools import lru_cache
from socket import SOCK_STREAM, getaddrinfo
from socket import socket as Socket

from .. import logs
from ..address import Address, name_of, numeric
from ..errors import KeyRefused
from ..records import TYPE_CHECKING
from ..text import summary
from ..timing import STANDARD, Timing
from . import unix
from .connection import BUFFER, Connection
from .fields import BadMessage, line
from .handshake import CLEAR, UNIX, channel_of, prove_to_master
from .key import stretched
from .messages import QUEUE, reply

if TYPE_CHECKING:
    from typing import Any, Sequence, Union

    from .tls import Context    # nobody else needs the ssl module

    # HOST and port, the path of a Unix socket, or some to try in turn.
    Place = Union[Address, str, Sequence[Union[Address, str]]]

log = logs.logger(__name__)

_stretched = lru_cache(4)(stretched)    # a key as typed takes 48 ms each time


def connect(address: Place, key: bytes, tls: Context | None = None,
            timing: Timing = STANDARD) -> Link:
    """Connect and prove the key; over TLS where ``tls`` is given.

    Raises KeyRefused when the key was not accepted or the certificate is
    not trusted, another TaskmasterError for what a master that holds the
    key refuses, OSError or EOFError when there is no master to talk to.
    """
    key = _stretched(key)
    if not isinstance(address, list):
        return _connect(address, key, tls,              # type: ignore
                        timing.connect, timing)
    if len(address) == 1:
        return _connect(address[0], key, tls, timing.connect, timing)
    refused: KeyRefused | None = None
    for place in address:
        try:
            return _connect(place, key, tls, timing.tried, timing)
        except KeyRefused as error:
            refused = error
        except (OSError, EOFError) as error:
            failed: Exception = error
    raise refused or failed


def _connect(place: Address | str, key: bytes, tls: Context | None,
             seconds: float, timing: Timing) -> Link:
    if isinstance(place, str):
        conn = Connection(unix.connected(place, seconds), place, timing,
                          BUFFER)
        channel = UNIX
    else:
        host, port = place
        conn = Connection(_dialed(host, port, seconds), name_of(place),
                          timing, BUFFER)
        channel = CLEAR
    conn.deadline = time.monotonic() + seconds
    try:
        if tls is not None and not isinstance(place, str):
            _start_tls(conn, tls, place[0])
            channel = channel_of(conn.certificate)
        prove_to_master(conn, key, channel)
        dispatch(conn, None, 'accept_connection', ('slave',))
    except BadMessage as error:
        conn.close()
        raise EOFError(f'{conn.peer} is no taskmaster: {error}') from error
    except BaseException:
        conn.close()
        raise
    conn.deadline = None
    return Link(conn)


def _dialed(host: str, port: int, seconds: float) -> Socket:
    """Connect as `socket.create_connection` does.

    But by the library's own means, whatever the operator's module has since
    put in their place for all: the way through a proxy, say.
    """
    failed = OSError(f'no address of {host}')
    for family, kind, protocol, _, place in getaddrinfo(
            _plain(numeric(host)), port, 0, SOCK_STREAM):
        try:
            sock = Socket(family, kind, protocol)
        except OSError as error:        # a kernel without IPv6, say
            failed = error
            continue
        try:
            sock.settimeout(seconds)
            sock.connect(place)
            return sock
        except OSError as error:
            failed = error
            sock.close()
    raise failed


def _plain(host: str) -> Any:
    """In bytes where it is ASCII: of text the idna codec would be loaded."""
    return host.encode() if host.isascii() else host


class Connector:
    """Connects, again and again, until what it meets is final.

    Whoever is at a port can say that the key is another.  So that counts
    only when every attempt for a while met it: the last of them raises
    KeyRefused, those before it EOFError.
    """

    def __init__(self, place: Place, key: bytes, tls: Context | None,
                 timeout: float, timing: Timing = STANDARD):
        self._place, self._key, self._tls = place, key, tls
        self._timing = timing
        # The last attempt within the timeout is to be late enough.
        self._patience = min(timing.refused, 0.9 * timeout)
        self._since: float | None = None        # refused all the time

    def __call__(self) -> Link:
        begin = time.monotonic()
        try:
            link = connect(self._place, self._key, self._tls, self._timing)
        except KeyRefused as error:
            if self._since is None:
                self._since = begin
                if self._patience:
                    log.warning('%s', error)
            if time.monotonic() - self._since >= self._patience:
                raise
            raise EOFError('the key was refused') from error
        except (OSError, EOFError):
            self._since = None
            raise
        self._since = None
        return link


def dispatch(conn: Connection, ident: str | None, method: str,
             args: Sequence[Any]) -> Any:
    """A call as a manager's server has it, whatever comes in return.

    The library's own would raise what it is sent, or TypeError.
    """
    conn.send((ident, method, args, {}))
    answer = conn.recv()
    if type(answer) is not list or len(answer) != 2:
        raise BadMessage('an answer out of form')
    kind, result = answer
    if kind == '#TRACEBACK':
        raise BadMessage(line(result))
    if kind != '#RETURN':
        raise BadMessage('an answer of another kind')
    return result


def _start_tls(conn: Connection, tls: Context, host: str) -> None:
    try:
        conn.start_tls(tls, host)
    except TimeoutError:
        raise
    except OSError as error:
        from .tls import refusal
        raise refusal(error, conn.peer) or EOFError(
            f'no TLS with {conn.peer}: {reason(error)}; was it started '
            'with --tls-cert?') from error


def reason(error: OSError) -> str:
    return getattr(error, 'reason', None) or summary(error)


class Link:
    """Calls on the master's queue, one at a time."""

    def __init__(self, conn: Connection):
        self._conn = conn

    def call(self, method: str, *args: Any, wait: float = 0) -> Any:
        """The reply to a call that may take ``wait`` seconds; checked.

        See `messages` for what it may be.  Raises EOFError or OSError when
        the connection fails, or what comes is no such reply.
        """
        self._conn.patience = wait + self._conn.stall
        try:
            return reply(method, dispatch(self._conn, QUEUE, method, args))
        except BadMessage as error:
            raise EOFError(f'{self._conn.peer}: {error}') from error

    def cut(self) -> None:
        """End the call that another thread is waiting in, if any."""
        self._conn.cut()

    def close(self) -> None:
        self._conn.cut()
        self._conn.close()
