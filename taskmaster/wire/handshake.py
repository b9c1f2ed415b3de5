"""The proof of the key, from both ends."""

import hashlib
import hmac
import multiprocessing.connection
import multiprocessing.managers
from multiprocessing import AuthenticationError
from typing import Any, Callable

from ..errors import ConfigError
from .connection import TLS_ALERT
from .messages import PREAMBLE

managers: Any = multiprocessing.managers    # what we use has no types


def _derived(key: bytes, prover: str) -> bytes:
    """The key that one side proves to hold.

    Two of them, or an impostor could answer one slave's challenge with
    another slave's answer to it.
    """
    return hmac.new(key, f'taskmaster {prover}'.encode(),
                    hashlib.sha256).digest()


def prove_to_master(conn: Any, key: bytes) -> None:
    conn.send_bytes(PREAMBLE)
    if conn.peek().startswith(TLS_ALERT):
        raise ConfigError(f'the master at {conn.peer} wants TLS; give '
                          '--tls-ca')
    multiprocessing.connection.answer_challenge(conn, _derived(key, 'slave'))
    multiprocessing.connection.deliver_challenge(conn,
                                                 _derived(key, 'master'))


def prove_to_slave(conn: Any, key: bytes,
                   spoke: Callable[[], None] = lambda: None) -> None:
    if conn.recv_bytes(len(PREAMBLE)) != PREAMBLE:
        raise AuthenticationError('no taskmaster')
    spoke()
    multiprocessing.connection.deliver_challenge(conn, _derived(key, 'slave'))
    multiprocessing.connection.answer_challenge(conn,
                                                _derived(key, 'master'))
