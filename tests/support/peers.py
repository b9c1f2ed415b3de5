"""Whoever connects to a master: what is said and heard on bare sockets."""

import socket
import struct
from contextlib import closing, suppress

from fakes import KEY, LONG, greet, take

from taskmaster.wire import client
from taskmaster.wire.handshake import CLEAR, FORM, first_message


def frame(body):
    return struct.pack('!Q', len(body)) + body


def said(first):
    """A first message as it is sent."""
    return frame(FORM.pack(*first))


def first(key=KEY):
    """A new one; whoever holds another key can make one too."""
    return said(first_message(key, CLEAR))


def opened(server):
    """A bare socket to the server, to be closed by ``with``."""
    return closing(socket.create_connection(server.address, LONG))


def all_of(sock):
    """All that comes until the connection ends."""
    heard = b''
    with suppress(ConnectionResetError):
        while True:
            chunk = sock.recv(1 << 16)
            if not chunk:
                break
            heard += chunk
    return heard


def finish(sock):
    """Say that this was all."""
    with suppress(OSError):             # the other has gone already
        sock.shutdown(socket.SHUT_WR)


def answer_to(server, data):
    """All that the server says to this."""
    with opened(server) as sock:
        sock.sendall(data)
        finish(sock)
        return all_of(sock)


def a_slave_is_served(server, number=1):
    """One that behaves gets the next job, which is this number."""
    with closing(client.connect(server.address, KEY)) as link:
        greet(link, 'good')
        assert take(link) == (number, [number])
