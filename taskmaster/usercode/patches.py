"""Libraries that replace what the standard library gives to everybody.

gevent and eventlet make threads, locks and sockets of their own of it.  Once
we have threads and sockets that comes too late: some of ours would be of the
one kind and some of the other, and wait for each other for ever.
"""

from __future__ import annotations

import _thread
import socket

from ..errors import ConfigError

PATCHERS = {'gevent', 'eventlet'}


def _patched_by() -> set[str]:
    """Return which of them are what sockets and threads come from."""
    return {(thing.__module__ or '').partition('.')[0]
            for thing in (socket.socket, _thread.start_new_thread)} & PATCHERS


# Whoever patches before all else may do so: `python -m gevent.monkey`.
_BEFORE = _patched_by()


def check_patches(target: str) -> None:
    """Raise ConfigError when one of them came after us, with the target."""
    for name in _patched_by() - _BEFORE:
        raise ConfigError(
            f'{target} patches threads and sockets with {name}, which cannot '
            'work once Taskmaster runs; leave the patching out (gevent works '
            'without in a handler), or use --threads or an async handler')
