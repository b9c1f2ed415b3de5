"""Where master and slaves meet: HOST:PORT, and how it is written."""

from __future__ import annotations

from .errors import UsageError
from .records import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Sequence

HOST, PORT = '127.0.0.1', 3050
ENV_HOST = 'TASKMASTER_HOST'

Address = tuple[str, int]


def address(text: str | None) -> Address:
    """Read ``HOST[:PORT]``, ``[HOST]:PORT`` or ``PORT``: digits alone.

    '' or None is the default.

    Raises UsageError.
    """
    text = text or ''
    if text.startswith('['):
        host, bracket, port = text[1:].partition(']')
        if not bracket or port and not port.startswith(':'):
            raise _no_address(text)
        port = port[1:]
    elif text.isdecimal():
        host, port = '', text
    elif text.count(':') > 1:               # a bare IPv6 address
        host, port = text, ''
    else:
        host, _, port = text.partition(':')
    if not (port or '0').isdecimal() or int(port or 0) > 65535:
        raise _no_address(text)
    return host or HOST, int(port) if port else PORT


def _no_address(text: str) -> UsageError:
    return UsageError(f'{text!r} is no address; give HOST, HOST:PORT or '
                      '[IPV6]:PORT')


def name_of(place: Sequence[Any]) -> str:
    """HOST:PORT, or [HOST]:PORT where the host has colons."""
    host, port = place[:2]
    return f'[{host}]:{port}' if ':' in host else f'{host}:{port}'


def is_loopback(host: str) -> bool:
    numbers = host.split('.')       # 127.example.org is a name
    return host in ('localhost', '::1') or (
        numbers[0] == '127' and len(numbers) == 4
        and all(map(str.isdecimal, numbers)))


def numeric(host: str) -> str:
    """What to bind or call for a name: `localhost` is 127.0.0.1 always.

    It may stand for ::1 too, and somebody else may listen there.
    """
    return HOST if host.lower() == 'localhost' else host
