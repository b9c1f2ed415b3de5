"""Somebody between a slave and its master."""

import random
import socket
import struct
import threading
from contextlib import suppress

LENGTH = struct.Struct('!Q')


def opened(place):
    """A connection to HOST and port, or to a path."""
    if isinstance(place, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(place)
        return sock
    return socket.create_connection(place)


class Relay:
    """Passes on what is said, all of it or what ``meddle`` makes of it.

    ``meddle(data, to_master)`` returns what goes on, of each piece that was
    read; it may raise to cut both.  ``wrap`` is given each socket of a slave
    and ``onward`` each one to the master, to speak something else there.
    """

    def __init__(self, place, meddle=lambda data, to_master: data,
                 wrap=lambda sock: sock, onward=lambda sock: sock,
                 address=('127.0.0.1', 0), family=socket.AF_INET):
        self._place, self._meddle = place, meddle
        self._wrap, self._onward = wrap, onward
        self._listener = socket.create_server(address, family=family)
        self.address = self._listener.getsockname()
        self._pairs = []
        self.count = 0              # connections

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for pair in self._pairs:
            for sock in pair:
                sock.close()

    def to_slave(self, data):
        """Say something to the newest slave."""
        self._pairs[-1][0].sendall(data)

    def to_master(self, data):
        self._pairs[-1][1].sendall(data)

    def _accept(self):
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.count += 1
                threading.Thread(target=self._pair, args=(sock,),
                                 daemon=True).start()

    def _pair(self, sock):
        try:
            other = self._onward(opened(self._place))
            sock = self._wrap(sock)
        except OSError:
            sock.close()
            return
        self._pairs.append((sock, other))
        threading.Thread(target=self._pass, args=(sock, other, True),
                         daemon=True).start()
        self._pass(other, sock, False)

    def _pass(self, source, target, to_master):
        try:
            while True:
                data = source.recv(1 << 16)
                if not data:
                    break
                target.sendall(self._meddle(data, to_master))
        except (OSError, ValueError):
            pass
        for sock in source, target:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class Frames:
    """Cuts what goes one way into the frames that it consists of."""

    def __init__(self, mac):
        self._mac, self._rest = mac, b''

    def of(self, data):
        self._rest += data
        while len(self._rest) >= 8:
            size = 8 + LENGTH.unpack(self._rest[:8])[0] + self._mac
            if len(self._rest) < size:
                return
            yield self._rest[:size]
            self._rest = self._rest[size:]


def damaged(data, dice):
    """What a bad line, or a bad neighbour, makes of some bytes."""
    at = dice.randrange(len(data))
    kind = dice.choice(('flip', 'drop', 'repeat', 'swap', 'insert'))
    end = min(at + dice.choice((1, 8, 100)), len(data))
    if kind == 'flip':
        return (data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)])
                + data[at + 1:])
    if kind == 'drop':
        return data[:at] + data[end:]
    if kind == 'repeat':
        return data[:end] + data[at:]
    if kind == 'insert':
        return data[:at] + random.Random(at).randbytes(5) + data[at:]
    return data[:at] + data[end:] + data[at:end]
