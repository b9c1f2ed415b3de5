"""The key that both sides must hold.

Without a flag it is a random key made once per user, in a file that only
its owner can read (as Erlang's cookie and Jupyter's token are), so that
everything on one machine fits together and nobody else gets in.

A key that can be guessed is stretched before it is used: each guess of it
costs scrypt's time, and not a hash's.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct

from .. import logs
from ..errors import ConfigError, TaskmasterError, UsageError
from ..records import TYPE_CHECKING
from ..settings import ENV_KEY, Settings
from ..storage.files import (make_folder, open_to_read, real_path,
                             write_all)

if TYPE_CHECKING:
    from typing import Any, Iterable, Mapping

log = logs.logger(__name__)

# Bytes of a key file, at most; a larger file is no key.
KEY_BYTES = 4096

# As `openssl rand -hex 32` makes them; and as `secrets.token_urlsafe(32)`
# does, which has digits, small and capital letters, but for one in 1,000
# (so a key of our own making is not of that form).
HEX = rb'[0-9a-fA-F]{64,}'
TOKEN = rb'(?=.*[0-9])(?=.*[a-z])(?=.*[A-Z])[A-Za-z0-9_-]{43,}'

# Of scrypt: 16 MiB, and 48 ms on a machine of 2020.
COST = {'n': 1 << 14, 'r': 8, 'p': 1}
SALT = b'taskmaster 2'

# A key that was stretched already, for a child.
STRETCHED = rb'scrypt:[0-9a-f]{64}'

# Where the key may be a pipe: what the shell makes of <(pass show key).
OWN_DESCRIPTORS = '/dev/fd/', '/proc/self/fd/', '/dev/stdin'

MAC_BYTES = 16          # of HMAC-SHA256; RFC 2104, 5 wants half at least
BLOCK = 64              # bytes of a block of SHA-256

BETTER = 'make a better one with: openssl rand -hex 32'


def key_of(settings: Settings, warn: bool = True) -> bytes:
    """Return the key to use, stretched where it can be guessed.

    That is warned of.  Raises UsageError or ConfigError, as `key` does.
    """
    given = key(settings.key, settings.key_file)
    if warn and can_be_guessed(given):
        log.warning('the key can be guessed, by whoever reaches the port or '
                    'listens in; %s', BETTER)
    return stretched(given)


def can_be_guessed(key: bytes) -> bool:
    """Return whether a key is none of those that are made at random.

    Its text alone decides, as both sides must come to the same answer.
    """
    return not any(re.fullmatch(form, key)
                   for form in (HEX, TOKEN, STRETCHED))


def stretched(key: bytes) -> bytes:
    """Return a key that is as good as random; what is so already as it is.

    Raises ConfigError where this Python has no scrypt.
    """
    if not can_be_guessed(key):
        return key
    try:
        return b'scrypt:' + hashlib.scrypt(
            key, salt=SALT, dklen=32, **COST).hex().encode()
    except (AttributeError, ValueError) as error:   # of FIPS, say
        raise ConfigError('the key can be guessed, and this Python has no '
                          f'scrypt to make that hard; {BETTER}') from error


def key(given: str | None, file: str | None,
        environ: Mapping[str, str] = os.environ) -> bytes:
    """Return the key as it was given, or from a file, or the user's own.

    Raises UsageError for an empty one, ConfigError for a file that cannot
    be used.
    """
    if given is not None:
        return _checked(given.encode('utf-8', 'surrogateescape'),
                        f'--key or ${ENV_KEY}')
    if file is not None:
        return _checked(_read(file), file, ConfigError)
    return users_key(users_file(environ))


def users_file(environ: Mapping[str, str] = os.environ) -> str:
    """Return where the user's own key is.

    A relative XDG_CONFIG_HOME is ignored, as its standard says.  Raises
    ConfigError for a user without a home.
    """
    base = environ.get('XDG_CONFIG_HOME') or ''
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser('~'), '.config')
    if not os.path.isabs(base):
        raise ConfigError('this user has no home directory to keep a key in; '
                          'give --key-file, or set HOME')
    return os.path.join(base, 'taskmaster', 'key')


def beside_users_file(folder: str,
                      environ: Mapping[str, str] = os.environ) -> str:
    """Return where a folder of the user's own is.  Raises ConfigError."""
    return os.path.join(os.path.dirname(users_file(environ)), folder)


def users_key(path: str) -> bytes:
    """Return the key in ``path``, which is made when it is not there."""
    try:
        if not os.path.lexists(path):
            _make(path)
        return _checked(_read(path), path, ConfigError)
    except OSError as error:
        raise ConfigError(f'cannot make the key file {path} '
                          f'({error.strerror}); give --key') from error


def new_key() -> bytes:
    """Return a random key, which its text shows to be one."""
    import secrets      # of a user, once
    return secrets.token_hex(32).encode()


def _make(path: str) -> None:
    """Make a new key, whole or not at all, and never replace one."""
    make_folder(os.path.dirname(path))
    import secrets      # of a user, once
    temp = f'{path}.{secrets.token_hex(4)}.tmp'
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.fchmod(fd, 0o600)
        write_all(os, fd, new_key() + b'\n')
        os.fsync(fd)
        os.link(temp, path)
    except FileExistsError:         # another process was first
        pass
    finally:
        os.close(fd)
        os.unlink(temp)


def _read(path: str) -> bytes:
    """Return what is in ``path``, which only its owner may read."""
    try:
        if path.startswith(OWN_DESCRIPTORS):
            with open(path, 'rb') as pipe:
                data = pipe.read(KEY_BYTES + 1)
        else:
            with open_to_read(os, real_path(path)) as file:
                if os.fstat(file.fileno()).st_mode & 0o077:
                    raise ConfigError(
                        f'others can read the key file {path}; chmod 600 '
                        'it, or remove it and give both sides a new key')
                data = file.read(KEY_BYTES + 1)
    except OSError as error:
        advice = ('' if not isinstance(error, FileNotFoundError) else
                  '; both sides have the same: openssl rand -hex 32 >key '
                  '&& chmod 600 key')
        raise ConfigError(f'cannot read the key file {path} '
                          f'({error.strerror}){advice}') from error
    if len(data) > KEY_BYTES:
        raise ConfigError(f'{path} is too large to be a key file')
    return data


def _checked(value: bytes, where: str,
             error: type[TaskmasterError] = UsageError) -> bytes:
    value = value.strip()       # a file, or what is made of one, ends a line
    if not value:
        raise error(f'the key from {where} is empty; give a real one, or '
                    'none to use your own')
    if b'\0' in value:
        raise error(f'the key from {where} has a NUL in it, so it is no '
                    f'text; {BETTER}')
    return value


class Mac:
    """The MACs of all frames that go one way: HMAC-SHA256 (RFC 2104).

    Each is over the frame's number too, or one could be left out, repeated
    or put in another's place.  The two hashes that a key begins with are
    kept: `hmac` would take half as long again for a small frame.
    """

    def __init__(self, key: bytes):
        padded = key.ljust(BLOCK, b'\0')       # 32 bytes: never hashed first
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5c for byte in padded))
        self._number = 0

    def next(self, parts: Iterable[Any]) -> bytes:
        """Of the next frame, which consists of these parts."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(struct.pack('!Q', self._number))
        self._number += 1
        for part in parts:
            inner.update(part)
        outer.update(inner.digest())
        return outer.digest()[:MAC_BYTES]
