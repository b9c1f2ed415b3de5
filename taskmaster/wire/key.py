"""The key that both sides must hold.

Without a flag it is a random key made once per user, in a file that only
its owner can read (as Erlang's cookie and Jupyter's token are), so that
everything on one machine fits together and nobody else gets in.
"""

import os
import secrets
import socket
import stat
from typing import List, Mapping, Optional, Type

from ..address import HOST, Address, is_loopback
from ..errors import ConfigError, TaskmasterError, UsageError
from ..settings import ENV_KEY
from ..storage.files import open_to_read, write_all

SHORT = 16                  # characters; a key with fewer can be guessed
KEY_BYTES = 4096            # at most; a larger file is no key


def exposure(address: Address, key: bytes, tls: bool) -> List[str]:
    """What to warn of, a line each, when others can reach the address."""
    host, port = address
    if is_loopback(host):
        return []
    warnings = []
    if len(key) < SHORT:
        warnings.append(
            f'the key is shorter than {SHORT} characters, and can be '
            'guessed by whoever reaches the port; make a better one with: '
            'openssl rand -hex 32')
    if not tls:
        warnings.append(
            f'jobs and reports cross the network in clear; give --tls-cert, '
            'or leave --host out and give each slave a tunnel: '
            f'ssh -N -L {port}:{HOST}:{port} {socket.gethostname()}')
    return warnings


def key(given: Optional[str], file: Optional[str],
        environ: Mapping[str, str] = os.environ) -> bytes:
    """The key: as given, from a file, or the user's own.

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
    base = environ.get('XDG_CONFIG_HOME') or os.path.join(
        os.path.expanduser('~'), '.config')
    return os.path.join(base, 'taskmaster', 'key')


def users_key(path: str) -> bytes:
    """The key in ``path``, which is made when it is not there."""
    try:
        if not os.path.lexists(path):
            _make(path)
        return _checked(_read(path), path, ConfigError)
    except OSError as error:
        raise ConfigError(f'cannot make the key file {path} '
                          f'({error.strerror}); give --key') from error


def _make(path: str) -> None:
    """Make a new key, whole or not at all, and never replace one."""
    folder = os.path.dirname(path)
    os.makedirs(folder, 0o700, exist_ok=True)
    temp = f'{path}.{secrets.token_hex(4)}.tmp'
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        write_all(os, fd, secrets.token_urlsafe(32).encode() + b'\n')
        os.fsync(fd)
        os.link(temp, path)
    except FileExistsError:         # another process was first
        pass
    finally:
        os.close(fd)
        os.unlink(temp)


def _read(path: str) -> bytes:
    """The one line in ``path``, which only its owner may read."""
    try:
        with open_to_read(os, path) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
                raise ConfigError(
                    f'others can read the key file {path}; chmod 600 it, '
                    'or remove it and give both sides a new key')
            data = file.read(KEY_BYTES + 1)
    except OSError as error:
        raise ConfigError(f'cannot read the key file {path} '
                          f'({error.strerror})') from error
    if len(data) > KEY_BYTES:
        raise ConfigError(f'{path} is too large to be a key file')
    return data


def _checked(value: bytes, where: str,
             error: Type[TaskmasterError] = UsageError) -> bytes:
    value = value.strip()       # a file, or what is made of one, ends a line
    if not value:
        raise error(f'the key from {where} is empty; give a real one, or '
                    'none to use your own')
    return value
