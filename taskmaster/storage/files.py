"""Writing that survives a crash; shared by the state and the failures file.

``system`` is the ``os`` module, or in tests something with its functions that
fails, or dies, at a chosen one of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from typing import Any, BinaryIO, Iterable

from ..errors import SaveError

System = Any

_TEMP = re.compile(r'\.[0-9a-f]{8}\.tmp')


def replace_file(system: System, path: str, chunks: Iterable[bytes]) -> None:
    """Put ``chunks`` in the place of ``path``: all of them, or nothing.

    The new name is durable only after ``sync_folder(system, path)``.
    Raises OSError, and then the file is as it was.
    """
    temp = _write_temp(system, path, chunks)
    try:
        system.replace(temp, path)
    except BaseException:
        _remove(system, temp)
        raise


def probe(system: System, path: str) -> None:
    """Raise OSError if ``replace_file`` on ``path`` could not work now."""
    system.unlink(_write_temp(system, path, [b' ' * 4096]))
    sync_folder(system, path)


def set_aside(system: System, path: str) -> None:
    """Rename ``path``, if there is one, to PATH.old; SaveError if not."""
    try:
        system.replace(path, path + '.old')
        sync_folder(system, path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise unwritable(path, error) from error


def sync_folder(system: System, path: str) -> None:
    """Make names new or gone in the folder of ``path`` survive a crash."""
    fd = system.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        system.fsync(fd)
    except OSError as error:
        # Some network file systems cannot do this to a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        system.close(fd)


def write_all(system: System, fd: int, data: bytes) -> None:
    """Write the whole of ``data``: one write may take only a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[system.write(fd, rest):]


def open_to_read(system: System, path: str) -> BinaryIO:
    """``open(path, 'rb')`` through ``system``."""
    return open(path, 'rb', opener=system.open)


def remove_leftovers(system: System, path: str) -> None:
    """Remove what a crash in ``replace_file`` left; for the lock's holder."""
    folder, name = os.path.split(path)
    for other in system.listdir(folder):
        if other.startswith(name) and _TEMP.fullmatch(other[len(name):]):
            _remove(system, os.path.join(folder, other))


def unwritable(path: str, error: OSError) -> SaveError:
    """The one line for a file that cannot be written."""
    return SaveError(
        f'cannot write {path} ({error.strerror or error}): make its folder '
        'writable and leave room on the disk, or choose another with --state')


def to_iso(seconds: float) -> str:
    """Unix seconds as text that a person can read, in UTC."""
    from datetime import datetime, timezone     # slaves have no use for it
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def from_iso(text: str) -> float:
    """Unix seconds of what ``to_iso`` gave; ValueError if it is not that."""
    from datetime import datetime
    return datetime.fromisoformat(text).timestamp()


def _write_temp(system: System, path: str, chunks: Iterable[bytes]) -> str:
    """Write and sync a new file beside ``path``; gives its name.

    New each time: after a failed fsync the kernel may have dropped the data,
    and a second fsync of the same file would say that all is well.
    """
    temp = f'{path}.{secrets.token_hex(4)}.tmp'
    fd = system.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            for chunk in chunks:
                write_all(system, fd, chunk)
            system.fsync(fd)
        finally:
            system.close(fd)
    except BaseException:
        _remove(system, temp)
        raise
    return temp


def _remove(system: System, path: str) -> None:
    with contextlib.suppress(OSError):
        system.unlink(path)
