"""What the tests of the faults share: quick times, cut wires, proxies."""

import contextlib
import os
import select
import socket
import struct
import sys
import textwrap
import threading
from pathlib import Path

from programs import NUMBERS, eventually

ALL = range(1, 1001)

# What takes a minute in earnest; the heartbeats stay ten times as fast.
QUICK = '''
from taskmaster.wire import messages

TIMING = TIMING._replace(
    expiry=1.2, grace=0.4, user_timeout=1.0, wait=0.5, busy_wait=0.5, beats=1,
    longest_beat=0.1, first_backoff=0.01, longest_backoff=0.1, tick=0.05,
    save=0.1, farewell=0.5)
# Of rooms that do not take their times from that yet.
messages.WAIT_SECONDS = 0.5
'''

# The master dies at one step of what it writes: STEP is ('state' or
# 'failures', which operation since the source was asked, before or after).
CRASHING = '''
import os
import signal
from functools import partial

from taskmaster.master import recorder

STEP = {}
TIMING = TIMING._replace(save=0.05)


class System:
    def __init__(self, name):
        self.name, self.count = name, -1

    def __getattr__(self, name):
        operation = getattr(os, name)
        if name not in ('write', 'fsync', 'replace'):
            return operation

        def step(*args):
            self.count += os.path.exists('armed')
            now = STEP == (self.name, self.count, 'before')
            if not now:
                done = operation(*args)
                now = STEP == (self.name, self.count, 'after')
            if now:
                os.kill(os.getpid(), signal.SIGKILL)
            return done
        return step


recorder.StateFile = partial(recorder.StateFile, system=System('state'))
recorder.FailuresFile = partial(recorder.FailuresFile,
                                system=System('failures'))
'''

# For handlers: their slave's host is cut off, without a FIN or an ACK.
WIRES = '''
import ctypes
import gc
import socket
import struct

from taskmaster.wire.connection import Connection

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
_code = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 0))
DROP_ALL = struct.pack('HL', 1, ctypes.addressof(_code))


def cut():
    for thing in gc.get_objects():
        if type(thing) is Connection and thing._sock.fileno() >= 0:
            thing._sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER,
                                   DROP_ALL)


def heal():
    for thing in gc.get_objects():
        if type(thing) is Connection and thing._sock.fileno() >= 0:
            thing._sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
'''

# For what forks beside threads, which newer Pythons warn of.
FORK = '''
import os
import warnings


def fork():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return os.fork()
'''


def launch(work, settings, name, *words, on=(), **options):
    """Start ``tm-NAME`` with a ``TIMING`` of its own, and nothing else.

    ``settings`` is code that makes it from the standard one.
    ``on`` is what goes before it, if it is to run on another host.
    What is set here is not to be in slaves of its own: they are programs.
    """
    script = f'launch_{len(work.programs)}.py'
    work.write(script, textwrap.dedent('''
        from taskmaster.__main__ import main
        from taskmaster.supervisor import prefork
        from taskmaster.timing import STANDARD as TIMING

        prefork.First.fork = lambda self, settings: None
    ''') + f'{settings}\n' + textwrap.dedent('''
        if __name__ == '__main__':
            main(timing=TIMING)
    '''))
    if name in ('master', 'run') and not any(
            word.startswith('--host') for word in words):
        words = (*words, '--host=127.0.0.1:0')
    return work.program(*on, sys.executable, script, name, *words, **options)


def quick(work, name, *words, also='', **options):
    return launch(work, QUICK + also, name, *words, **options)


def is_stopped(pid):
    """Whether a process is where SIGSTOP leaves it."""
    stat = Path('/proc', str(pid), 'stat').read_text()
    return stat.rpartition(')')[2].split()[0] == 'T'


def connections(port):
    """Of those to a port of this machine, alive: bytes not yet taken."""
    found = []
    for line in Path('/proc/net/tcp').read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if state == '01' and int(local.split(':')[1], 16) == port:
            found.append(int(queues.split(':')[0], 16))
    return found


class _Pair:
    """A slave's connection, and the one to the master that belongs to it."""

    def __init__(self, slave, master):
        self.slave, self.master = slave, master
        self.heard = bytearray()            # from the master
        self._mine, self._theirs = os.pipe()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def reset(self):
        with contextlib.suppress(OSError):
            os.write(self._theirs, b'!')
        self._thread.join()

    def _pass_on(self):
        other = {self.slave: self.master, self.master: self.slave}
        with self.slave, self.master, contextlib.suppress(OSError):
            while True:
                ready = select.select([*other, self._mine], [], [])[0]
                if self._mine in ready:
                    for end in other:       # a close is a RST then
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                       struct.pack('ii', 1, 0))
                    break
                for end in ready:
                    data = end.recv(65536)
                    if not data:
                        return
                    if end is self.master:
                        self.heard += data
                    other[end].sendall(data)

    def close(self):
        self.reset()
        os.close(self._mine)
        os.close(self._theirs)


class Proxy:
    """Between slaves and a master; as a router that forgets connections."""

    def __init__(self, port):
        self.pairs = []
        self._to = port
        self._listener = socket.create_server(('127.0.0.1', 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def connected(self, times):
        """Wait until a slave was welcomed so many times."""
        eventually(lambda: sum(b'welcome' in pair.heard
                               for pair in self.pairs) == times, 'a welcome')

    def reset(self):
        self.pairs[-1].reset()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                slave, _ = self._listener.accept()
                self.pairs.append(_Pair(slave, socket.create_connection(
                    ('127.0.0.1', self._to))))

    def close(self):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for pair in self.pairs:
            pair.close()


__all__ = ['ALL', 'CRASHING', 'FORK', 'NUMBERS', 'QUICK', 'WIRES', 'Proxy',
           'connections', 'is_stopped', 'launch', 'quick']
