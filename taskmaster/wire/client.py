"""The slave's end of the wire: connect, prove the key, call."""

from __future__ import annotations

import socket
import time
from multiprocessing import AuthenticationError
from typing import TYPE_CHECKING, Any, Sequence

from ..address import Address, name_of
from ..errors import KeyRefused
from ..text import summary
from .connection import STALL, Connection
from .fields import BadMessage, line
from .handshake import prove_to_master
from .messages import QUEUE, reply

if TYPE_CHECKING:       # nobody else needs the ssl module
    from .tls import Context

CONNECT = 10.0          # seconds to connect


def connect(address: Address, key: bytes, tls: Context | None = None) -> Link:
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
            prove_to_master(conn, key)
        except (AuthenticationError, AssertionError) as error:
            raise KeyRefused(
                f'the master at {conn.peer} holds another key; give its key '
                'with --key or --key-file') from error
        dispatch(conn, None, 'accept_connection', ('slave',))
    except BadMessage as error:
        conn.close()
        raise EOFError(f'{conn.peer} is no taskmaster: {error}') from error
    except BaseException:
        conn.close()
        raise
    conn.deadline = None
    return Link(conn)


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
        self._conn.patience = wait + STALL
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
