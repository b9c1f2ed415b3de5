"""Unix sockets: how a user's processes meet on one machine.

A port can be taken first by anybody on the machine; a name in a folder of
the user's own cannot.  Who is at the other end the system tells.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from socket import socket as Socket      # whatever takes its place later

from .. import forks, logs
from ..address import HOST, PORT, Address, address
from ..errors import ConfigError
from ..records import TYPE_CHECKING
from ..storage.files import make_private
from .key import beside_users_file

if TYPE_CHECKING:
    from typing import Any

log = logs.logger(__name__)

PATH_BYTES = 107            # of a path, by the system; macOS has 103
FOLDER = 'sock'             # beside the user's key

_held: set[str] = set()     # by this process; lockf would not refuse it


class Unusable(OSError):
    """There can be no Unix socket here."""


class Taken(OSError):
    """A living master of this user holds that name."""


def path_of(port: int) -> str:
    """Return where the socket of the master at ``port`` is.

    Raises Unusable.
    """
    try:
        folder = beside_users_file(FOLDER)
    except ConfigError as error:        # of a user without a home
        raise Unusable(str(error)) from error
    path = os.path.join(
        folder, f'{socket.gethostname()}-{port}'.replace('/', '_'))
    if len(os.fsencode(path)) > PATH_BYTES:
        raise Unusable(f'{path} is too long for a socket')
    return path


def _make_folder(folder: str) -> None:
    """See to it that it is there, and nobody else's.  Raises Unusable."""
    try:
        make_private(folder)
    except OSError as error:
        raise Unusable(f'{folder}: {error.strerror}') from error


class Name:
    """The name of a socket, held for as long as this process lives.

    The system lets go of the lock when its holder ends, however it ends: so
    a file that is left over is nothing, and a living one's is never removed.
    """

    def __init__(self, path: str):
        """Hold it.  Raises Taken, or Unusable."""
        self.path = path
        self._lock = path + '.lock'
        _make_folder(os.path.dirname(path))
        try:
            self._file = self._locked()
        except BlockingIOError as error:
            raise Taken(f'a master of yours is at {path}') from error
        except Taken:
            raise
        except OSError as error:
            raise Unusable(f'{self._lock}: {error.strerror}') from error
        _held.add(self._lock)
        forks.close_in_child(self._file)

    def _locked(self) -> Any:
        if self._lock in _held:
            raise Taken(f'this process is at {self.path}')
        while True:
            file = open(os.open(self._lock, os.O_RDWR | os.O_CREAT
                                | os.O_NOFOLLOW, 0o600), 'rb')
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                try:        # its last holder may have removed it meanwhile
                    same = os.path.samestat(os.fstat(file.fileno()),
                                            os.lstat(self._lock))
                except FileNotFoundError:
                    same = False
                if same:
                    return file
            except BaseException:
                file.close()
                raise
            file.close()

    def clear(self) -> None:
        """Remove the socket, which is nobody's but ours."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass

    def release(self) -> None:
        """Remove socket and lock file, and let go."""
        if self._lock not in _held or forks.is_child():
            return
        for path in self.path, self._lock:
            try:
                os.unlink(path)
            except OSError:
                pass
        _held.discard(self._lock)
        self._file.close()


def connected(path: str, timeout: float) -> socket.socket:
    """Connect to the master at ``path``.  Raises OSError."""
    sock = Socket(socket.AF_UNIX)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
        if not is_ours(sock):
            raise PermissionError(f'{path} is served by another user')
        return sock
    except BaseException:
        sock.close()
        raise


def is_ours(sock: socket.socket) -> bool:
    """Whether the peer is this user, or root; True where none can tell."""
    if hasattr(socket, 'SO_PEERCRED'):              # Linux
        _, uid, _ = struct.unpack('3i', sock.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    elif hasattr(socket, 'LOCAL_PEERCRED'):         # macOS, from 3.11 on
        _, uid = struct.unpack_from('2I', sock.getsockopt(
            0, socket.LOCAL_PEERCRED, 76))
    else:
        return True
    return uid in (os.geteuid(), 0)


def places(host: str | None, tls: bool) -> list[Address | str]:
    """Where to look for the master, in turn; ``host`` is as it was given."""
    if host or tls:
        return [address(host)]
    try:
        return [path_of(PORT), (HOST, PORT)]
    except Unusable as error:
        log.debug('no Unix socket: %s', error)
        return [(HOST, PORT)]
