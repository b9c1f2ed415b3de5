"""What a master listens on: a TCP port, a Unix socket."""

from __future__ import annotations

import os
import socket
from socket import socket as Socket     # whatever takes its place later

from .. import forks
from ..address import Address, name_of, numeric
from ..timing import STANDARD, Timing
from . import unix
from .connection import Connection

BACKLOG = 4096          # with the library's 16, of 1,000 slaves 813 hung
DEFER = 1               # seconds in which a peer should say something


class Listener:
    """A TCP port.  Linux shows a connection when something was said on it."""

    timing: Timing = STANDARD       # of what is accepted

    def __init__(self, address: Address, backlog: int = BACKLOG):
        host, port = address
        bound = numeric(host), port
        family = socket.AF_INET6 if ':' in bound[0] else socket.AF_INET
        self.sock = Socket(family)      # as socket.create_server does
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY,
                                     1)
            self.sock.bind(bound)
            self.sock.listen(max(backlog, BACKLOG))
            self.sock.setblocking(False)
        except BaseException:
            self.sock.close()
            raise
        forks.close_in_child(self)
        if hasattr(socket, 'TCP_DEFER_ACCEPT'):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT,
                                 DEFER)
        self.address: Address = (host, self.sock.getsockname()[1])

    def fileno(self) -> int:
        return self.sock.fileno()

    def accept(self) -> Connection | None:
        """The next connection, or None: nobody is there.  Raises OSError."""
        try:
            sock, peer = self.sock.accept()
        except BlockingIOError:
            return None
        try:
            return Connection(sock, name_of(peer), self.timing)
        except OSError:             # it has gone already
            sock.close()
            return None

    def close(self) -> None:
        self.sock.close()


class UnixListener:
    """A Unix socket under a name that nobody else holds."""

    timing: Timing = STANDARD

    def __init__(self, name: unix.Name):
        self._name = name
        self.path = name.path
        self.sock = Socket(socket.AF_UNIX)
        try:
            self.sock.setblocking(False)
            name.clear()
            self.sock.bind(self.path)
            os.chmod(self.path, 0o600)
            self.sock.listen(BACKLOG)
        except BaseException:
            self.close()
            raise
        forks.close_in_child(self)

    def fileno(self) -> int:
        return self.sock.fileno()

    def accept(self) -> Connection | None:
        """The next connection, or None: nobody is there.  Raises OSError."""
        try:
            sock, _ = self.sock.accept()
        except BlockingIOError:
            return None
        return Connection(sock, self.path, self.timing)

    def close(self) -> None:
        """Remove the socket, and let go of its name."""
        self.sock.close()
        self._name.release()
