"""Files that are ours, and writing that survives a crash.

What we read decides what runs and what is skipped, and the folder may be open
to others: a file that is believed, replaced or renamed must be a regular one
of this user, or of root.  A link is followed where it is that too.

``system`` is the ``os`` module, or in tests something with its functions that
fails, or dies, at a chosen one of them.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import time
from stat import S_ISDIR, S_ISLNK, S_ISREG

from ..errors import ConfigError, SaveError, TaskmasterError
from ..records import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, BinaryIO, Iterable

    System = Any

_TEMP = r'\.[0-9a-f]{8}\.tmp'

# Opening a FIFO does not wait for its other end, and a link is no file.
PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# Links to links are followed so many times.
LINKS = 40

FOREIGN = 'it belongs to another user'


class NotOurs(OSError):
    """A file is another than it must be: a link, a FIFO, another user's."""

    def __init__(self, path: str, why: str):
        super().__init__(errno.EPERM, why, path)


def real_path(path: str) -> str:
    """Return the path of the file itself, through links that are ours.

    A link of another user stays as it is, to be refused when it is opened.
    """
    path = _named(path)
    for _ in range(LINKS):
        try:
            status = os.lstat(path)
            if not S_ISLNK(status.st_mode) or not _is_trusted(status):
                break
            path = _named(os.path.join(os.path.dirname(path),
                                       os.readlink(path)))
        except OSError:                 # it is not there, or not to be seen
            break
    return path


def _named(path: str) -> str:
    """Return the path of a name in the real path of its folder."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def check_ours(path: str) -> None:
    """Raise NotOurs unless ``path`` is a file of ours, or nothing at all."""
    with contextlib.suppress(FileNotFoundError):
        _check(os.lstat(path), path)


def _check(status: os.stat_result, path: str) -> None:
    if S_ISLNK(status.st_mode):
        raise NotOurs(path, 'it is a link')
    if not _is_trusted(status):
        raise NotOurs(path, FOREIGN)
    if S_ISDIR(status.st_mode):
        raise NotOurs(path, 'it is a directory')
    if not S_ISREG(status.st_mode):
        raise NotOurs(path, 'it is no regular file')


def _is_trusted(status: os.stat_result) -> bool:
    """Return whether it is this user's, or root's, who may do anything."""
    return status.st_uid in (os.geteuid(), 0)


def open_ours(system: System, path: str, flags: int, mode: int = 0o600) -> int:
    """Open as ``os.open`` does; NotOurs for what is not a file of ours."""
    check_ours(path)
    try:
        fd: int = system.open(path, flags | PLAIN, mode)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise NotOurs(path, 'it is a link') from error
        raise
    # Once more, of what is open: another may have been put there since.
    try:
        _check(os.fstat(fd), path)
    except NotOurs:
        system.close(fd)
        raise
    return fd


def make_folder(path: str) -> None:
    """Make a folder, and those above it, for this user alone.

    What is there already stays as it is; the umask does not count.
    """
    if not path or os.path.isdir(path):
        return
    make_folder(os.path.dirname(path))
    try:
        os.mkdir(path, 0o700)
        os.chmod(path, 0o700)
    except FileExistsError:         # another process was first
        if not os.path.isdir(path):
            raise


def make_private(folder: str) -> None:
    """See to it that it is there, and nobody else's.  Raises OSError."""
    make_folder(folder)
    status = os.lstat(folder)
    if (not S_ISDIR(status.st_mode) or status.st_uid != os.geteuid()
            or status.st_mode & 0o077):
        raise NotOurs(folder, 'it must be a folder of your own, mode 0700')


def replace_file(system: System, path: str, chunks: Iterable[bytes],
                 durable: bool = True) -> None:
    """Put ``chunks`` in the place of ``path``: all of them, or nothing.

    The new name is durable only after ``sync_folder(system, path)``; what is
    not ``durable`` may be empty after a crash of the machine.
    Raises OSError, and then the file is as it was.
    """
    temp = _write_temp(system, path, chunks, durable)
    try:
        check_ours(path)
        system.replace(temp, path)
    except BaseException:
        _remove(system, temp)
        raise


def probe(system: System, path: str) -> None:
    """Raise OSError if ``replace_file`` on ``path`` could not work now."""
    check_ours(path)
    system.unlink(_write_temp(system, path, [b' ' * 4096]))
    sync_folder(system, path)


def set_aside(system: System, path: str) -> bool:
    """Rename ``path`` to PATH.old; return False if there is none.

    Raises ConfigError where either is not ours, SaveError.
    """
    old = path + '.old'
    try:
        check_ours(path)
        check_ours(old)
        system.replace(path, old)
        sync_folder(system, path)
        return True
    except FileNotFoundError:
        return False
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
    """``open(path, 'rb')`` through ``system``; raises NotOurs."""
    return os.fdopen(open_ours(system, path, os.O_RDONLY), 'rb')


def remove_leftovers(system: System, path: str) -> None:
    """Remove what a crash in ``replace_file`` left; for the lock's holder."""
    folder, name = os.path.split(path)
    for other in system.listdir(folder):
        if (other.startswith(name) and other.endswith('.tmp')
                and re.fullmatch(_TEMP, other[len(name):])):
            left = os.path.join(folder, other)
            with contextlib.suppress(NotOurs):
                check_ours(left)
                _remove(system, left)


def unreadable(path: str, error: OSError) -> ConfigError:
    """Return the one line for a file that cannot be read."""
    if isinstance(error, NotOurs):
        return ConfigError(
            f'{path} is not trusted ({error.strerror}): look who put it '
            'there, and remove it, or choose another place with --state')
    return ConfigError(
        f'cannot read {path} ({error.strerror or error}): make it readable, '
        'or choose another with --state')


def unwritable(path: str, error: OSError) -> TaskmasterError:
    """Return the one line for a file that cannot be written."""
    if isinstance(error, NotOurs):
        return unreadable(error.filename or path, error)
    folder = os.path.dirname(path)
    if isinstance(error, FileNotFoundError) and not os.path.isdir(folder):
        return SaveError(f'cannot write {path}: there is no folder {folder}; '
                         'make it, or choose another with --state')
    return SaveError(
        f'cannot write {path} ({error.strerror or error}): make its folder '
        'writable and leave room on the disk, or choose another with --state')


def to_iso(seconds: float) -> str:
    """Unix seconds as text that a person can read, in UTC."""
    # As `datetime` has it, which takes a while to load.
    part, whole = math.modf(seconds)
    more, micros = divmod(round(part * 1e6), 1_000_000)
    whole += more
    text = time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))
    return f'{text}.{micros:06}+00:00' if micros else f'{text}+00:00'


def from_iso(text: str) -> float:
    """Unix seconds of what ``to_iso`` gave; ValueError if it is not that."""
    from datetime import datetime
    return datetime.fromisoformat(text).timestamp()


def _write_temp(system: System, path: str, chunks: Iterable[bytes],
                durable: bool = True) -> str:
    """Write (and sync) a new file beside ``path``; return its name.

    New each time: after a failed fsync the kernel may have dropped the data,
    and a second fsync of the same file would say that all is well.
    """
    temp = f'{path}.{os.urandom(4).hex()}.tmp'
    fd = system.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        try:
            os.fchmod(fd, 0o600)        # whatever the umask is
            for chunk in chunks:
                write_all(system, fd, chunk)
            if durable:
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
