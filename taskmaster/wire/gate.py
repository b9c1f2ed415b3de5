"""The gate: who is let in by the first message, and what others are told."""

from __future__ import annotations

import threading
from collections import deque

from .. import logs
from ..errors import ConfigError, VersionMismatch
from ..records import NamedTuple
from .handshake import (CLEAR, KEY, UNIX, First, is_proved, read_first,
                        refusal, versions)
from .messages import PROTOCOL
from .quiet import Quiet

log = logs.logger(__name__)

REMEMBERED = 100_000        # nonces
HOSTS = 1000                # of slaves of an older version, each named once


class Verdict(NamedTuple):
    """``first`` is of whom is let in; ``answer`` is for the others."""

    first: First | None
    answer: bytes = b''     # or nothing


class Gate:
    """Judges first messages, for all ways in of one master."""

    def __init__(self, key: bytes, quiet: Quiet):
        self._key = key
        self._quiet = quiet
        self._lock = threading.Lock()
        self._nonces: set[bytes] = set()
        self._in_order: deque[bytes] = deque()
        self._old: set[str] = set()

    def judge(self, data: bytes, channel: bytes, peer: str) -> Verdict:
        """What comes of a whole first message that came by ``channel``."""
        first = read_first(data)
        if first is None:
            self._quiet.warn('%s: no slave', peer)
            return Verdict(None)
        if not is_proved(first, self._key):
            self._quiet.warn('%s does not hold the key', peer)
            return Verdict(None, KEY)
        if first.protocol != PROTOCOL:
            text = versions(first)
            self._quiet.warn('%s was refused: %s', peer, text)
            return Verdict(None, refusal(
                first, self._key, VersionMismatch.exit_code, text))
        if first.channel != channel:
            return self._elsewhere(first, channel, peer)
        if not self._is_new(first.nonce):
            self._quiet.warn('%s repeats what another has said', peer)
            return Verdict(None)
        return Verdict(first)

    def _elsewhere(self, first: First, channel: bytes, peer: str) -> Verdict:
        """Somebody is between, or speaks in clear where TLS is spoken."""
        if first.channel == CLEAR and channel != UNIX:
            self._quiet.warn('%s: no TLS (give --tls-ca)', peer)
            return Verdict(None, refusal(
                first, self._key, ConfigError.exit_code,
                'the master wants TLS; give --tls-ca'))
        self._quiet.warn('%s is between a slave and this master, and is not '
                         'let in (TLS must end here)', peer)
        return Verdict(None)

    def _is_new(self, nonce: bytes) -> bool:
        with self._lock:
            if nonce in self._nonces:
                return False
            self._nonces.add(nonce)
            self._in_order.append(nonce)
            if len(self._in_order) > REMEMBERED:
                self._nonces.discard(self._in_order.popleft())
            return True

    def note_old(self, peer: str) -> None:
        """A slave of an older version came; say so once for an address."""
        host = peer.rpartition(':')[0]
        with self._lock:
            new = host not in self._old and len(self._old) < HOSTS
            if new:
                self._old.add(host)
        if new:
            log.warning('a slave at %s is of an older version and was '
                        'not answered; upgrade it', host)
