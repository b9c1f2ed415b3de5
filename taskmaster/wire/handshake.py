"""The proof of the key, which holds for one connection alone.

A proof that can be carried to another connection lets whoever is between
two honest ends be let in by both.  So every key that is used depends on
random numbers of both sides, and on the *channel*: what the two are
connected by, as each of them sees it (in clear, a Unix socket, or TLS with
the certificate of that master).

    slave    the first message: who speaks, in which protocol and version,
             its nonce, its channel; and a MAC, so that whoever does not
             hold the key is known before anything is spent on him
    master   its nonce | `key`: that was not proved | a refusal, with a MAC
    both     the library's challenge, each with a key of its own

The first message and the answers to it keep their form in all versions, or
versions that do not fit could not say so.
"""

from __future__ import annotations

import hashlib
import hmac
import multiprocessing.connection
import os
import struct
from multiprocessing import AuthenticationError

from .. import __version__
from ..errors import KeyRefused, TaskmasterError
from ..records import TYPE_CHECKING, NamedTuple
from .connection import Connection
from .fields import BadMessage, line
from .messages import PROTOCOL, REFUSALS

if TYPE_CHECKING:
    from typing import Any

library: Any = multiprocessing.connection       # it has no types

PREAMBLE = b'taskmaster'
NONCE = 32                  # bytes
FORM = struct.Struct(f'!{len(PREAMBLE)}sH16s{NONCE}s32s32s')
START = struct.pack('!Q', FORM.size) + PREAMBLE     # of a first message
FIRST_BYTES = 8 + FORM.size
# What slaves said before, up to protocol 1; it is never answered.
OLD_FIRST = struct.pack('!Q', len(PREAMBLE)) + PREAMBLE

KEY, GO_ON, REFUSED = b'key', b'go on', b'refused'
REASON = 1000               # bytes of a refusal's text
ANSWER_BYTES = len(REFUSED) + 1 + 32 + REASON


def channel_of(what: bytes) -> bytes:
    """Return how a channel is named: by `clear`, `unix` or a certificate."""
    return hashlib.sha256(what).digest()


CLEAR, UNIX = channel_of(b'clear'), channel_of(b'unix')


class First(NamedTuple):
    """The first message of a slave."""

    preamble: bytes
    protocol: int
    version: bytes          # of the package, for people
    nonce: bytes
    channel: bytes
    mac: bytes


def derived(key: bytes, label: str, first: First,
            masters_nonce: bytes = b'') -> bytes:
    """Return the key for one use on one connection."""
    return hmac.digest(key, label.encode() + first.nonce + masters_nonce
                       + first.channel, 'sha256')


def mac_of(key: bytes, label: str, first: First, *parts: bytes) -> bytes:
    return hmac.digest(derived(key, label, first), b''.join(parts), 'sha256')


# -- the first message ----------------------------------------------------

def first_message(key: bytes, channel: bytes) -> First:
    """Make one, with a new nonce."""
    first = First(PREAMBLE, PROTOCOL, __version__.encode()[:16].ljust(16),
                  os.urandom(NONCE), channel, bytes(32))
    return first._replace(mac=mac_of(key, 'first', first, _signed(first)))


def read_first(data: bytes) -> First | None:
    """Return what was sent as ``FIRST_BYTES``, or None: that is none."""
    if len(data) != FIRST_BYTES or not data.startswith(START):
        return None
    return First(*FORM.unpack(data[8:]))


def is_proved(first: First, key: bytes) -> bool:
    """Whether it comes from somebody who holds the key, if not now."""
    return hmac.compare_digest(
        first.mac, mac_of(key, 'first', first, _signed(first)))


def _signed(first: First) -> bytes:
    return FORM.pack(*first)[:-32]


def versions(first: First) -> str:
    """Return the line for the two versions that do not fit."""
    theirs = line(first.version.decode('ascii', 'replace').strip())
    return (f'the master is taskmaster {__version__} (protocol {PROTOCOL}), '
            f'this slave {theirs} (protocol {first.protocol}); install the '
            'same version on both')


def refusal(first: First, key: bytes, code: int, text: str) -> bytes:
    """Return the answer that ends a slave, which will believe it."""
    said = bytes([code]) + text.encode()[:REASON]
    return REFUSED + mac_of(key, 'refused', first, said) + said


# -- both ends ------------------------------------------------------------

def prove_to_master(conn: Connection, key: bytes,
                    channel: bytes = CLEAR) -> None:
    """Prove the key, and have the master prove it.

    Raises KeyRefused where the key was not accepted, TaskmasterError for a
    refusal that was proved, BadMessage for anything that is no master.
    """
    first = first_message(key, channel)
    conn.send_bytes(FORM.pack(*first))
    answer = conn.recv_bytes(ANSWER_BYTES)
    if answer == KEY:
        raise KeyRefused(f'the master at {conn.peer} holds another key; give '
                         'its key with --key or --key-file')
    if answer.startswith(REFUSED):
        raise _refused(first, key, answer[len(REFUSED):])
    if not answer.startswith(GO_ON) or len(answer) != len(GO_ON) + NONCE:
        raise BadMessage('its answer is none of ours')
    nonce = answer[len(GO_ON):]
    try:
        library.answer_challenge(
            conn, derived(key, 'prove slave', first, nonce))
        library.deliver_challenge(
            conn, derived(key, 'prove master', first, nonce))
    except (AuthenticationError, AssertionError, ValueError) as error:
        raise BadMessage('it does not hold the key') from error
    if channel == CLEAR:
        conn.seal(derived(key, 'frames slave', first, nonce),
                  derived(key, 'frames master', first, nonce))


def _refused(first: First, key: bytes, answer: bytes) -> Exception:
    mac, said = answer[:32], answer[32:]
    if not said or not hmac.compare_digest(
            mac, mac_of(key, 'refused', first, said)):
        return BadMessage('its refusal is not proved')
    if said[0] not in REFUSALS:
        return BadMessage('its refusal has another exit code')
    error = TaskmasterError(line(said[1:].decode(errors='replace')))
    error.exit_code = said[0]
    return error


def prove_to_slave(conn: Connection, key: bytes, first: First) -> None:
    """Answer a first message that was proved; have the slave prove the key.

    Raises AuthenticationError where it cannot: that message was a copy.
    """
    nonce = os.urandom(NONCE)
    conn.send_bytes(GO_ON + nonce)
    try:
        library.deliver_challenge(
            conn, derived(key, 'prove slave', first, nonce))
        library.answer_challenge(
            conn, derived(key, 'prove master', first, nonce))
    except (AssertionError, ValueError) as error:
        raise AuthenticationError('out of form') from error
    if first.channel == CLEAR:
        conn.seal(derived(key, 'frames master', first, nonce),
                  derived(key, 'frames slave', first, nonce))
