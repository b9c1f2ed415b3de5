"""One slave that holds the key and has turned, beside an honest one.

    python tests/tools/turned.py [WAY ...] [--seconds 4]

Of each way to do harm: how fast the honest slave was alone and beside it,
the longest that a call of a third one took, what the master took of memory,
how many lines it logged, how large its failures file became, and what
`tm-ctl status` says of it.
"""

import argparse
import itertools
import os
import re
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'support')]

from fakes import KEY, introduction  # noqa: E402

from taskmaster.wire.client import connect  # noqa: E402
from taskmaster.wire.messages import Jobs, Report  # noqa: E402

WAYS = {}
MANY = 10_000           # ranges, failures, refusals in a message


def way(function):
    WAYS[function.__name__.replace('_', '-')] = function
    return function


class Turned:
    """A connection of one who holds the key."""

    def __init__(self, address):
        self.address = address
        self.link = connect(address, KEY)
        self.id = secrets.token_hex(8)

    def hello(self, **fields):
        welcome = self.link.call('hello', introduction(self.id, **fields))
        self.start = welcome.start
        return welcome

    def report(self, *fields):
        """Of what comes after those that are given there is nothing."""
        rest = len(Report._fields) - 1 - len(fields)
        return [self.start, *map(list, fields), *([] for _ in range(rest))]

    def exchange(self, want=0, done=(), failed=(), refused=(), wait=0.0):
        return self.link.call(
            'exchange', self.report(done, failed, refused), want, False,
            wait, wait=wait)

    def close(self):
        self.link.close()


def of_jobs(reply):
    """The numbers of a lease."""
    return range(reply.first, reply.first + reply.size) if isinstance(
        reply, Jobs) else range(0)


# -- the ways -------------------------------------------------------------

@way
def nothing(address):
    """For comparison."""
    while True:
        time.sleep(1)


@way
def hoard(address):
    """Takes all that it gets, lives, and finishes nothing."""
    turned = Turned(address)
    turned.hello(workers=10_000)
    while True:
        if not of_jobs(turned.exchange(1_000_000)):
            time.sleep(0.1)


@way
def fragments(address):
    """Every other job done; then it has never heard of the others."""
    turned = Turned(address)
    turned.hello()
    while True:
        for _ in range(50):
            jobs = of_jobs(turned.exchange(MANY))
            if not jobs:
                break
            turned.exchange(done=[[n, n] for n in jobs[::2]])
        turned.hello()


@way
def everything(address):
    """Says that it holds all jobs there are, and gives them back."""
    turned = Turned(address)
    turned.hello()
    while True:
        jobs = of_jobs(turned.exchange(MANY))
        turned.exchange(done=[[n, n] for n in jobs[::2]])
        for _ in range(200):
            turned.hello(start=turned.start, holds=[[1, 1 << 61]])
            turned.link.call('give_back', turned.start, [])


@way
def deaths(address):
    """Slaves of it die, one after another."""
    turned = Turned(address)
    while True:
        turned.id = secrets.token_hex(8)
        with closing(Turned(address)) as other:
            other.hello()
            other.exchange(1)
            turned.link.call('lost', other.id, [], True)


@way
def successors(address):
    """And name their successors, on one connection each."""
    dead = None
    while True:
        with closing(Turned(address)) as turned:
            turned.hello(after=dead)
            turned.exchange(10)
            dead = turned.id


@way
def drops(address):
    """Takes a job, and drops the connection."""
    while True:
        with closing(Turned(address)) as turned:
            turned.hello()
            turned.exchange(1)


@way
def failures(address):
    """All fails, with as much to say of it as may be said."""
    turned = Turned(address)
    turned.hello()
    for _ in range(100):
        jobs = [n for n in of_jobs(turned.exchange(MANY))]
        while jobs:
            some, jobs = jobs[:150], jobs[150:]
            turned.exchange(failed=[[n, f'{n}' * 100, f'{n}x' * 1200, 1, '']
                                    for n in some])
    while True:
        time.sleep(1)


@way
def refusals(address):
    """Can unpickle nothing; and so can't its brothers."""
    three = [Turned(address) for _ in range(3)]
    for turned in itertools.cycle(three):
        turned.hello()
        jobs = of_jobs(turned.exchange(MANY))
        turned.exchange(refused=[[n, n, 'no'] for n in jobs])


@way
def items(address):
    """4 MiB of empty lists, again and again."""
    said = b'["queue","exchange",[' + b'[[]],' * 800_000 + b'0],{}]'
    while True:
        with closing(Turned(address)) as turned, suppress(OSError, EOFError):
            turned.link._conn.send_bytes(said)
            turned.link._conn.recv()


@way
def reports(address):
    """Of jobs that there never were, each time by another slave."""
    done = [[2 * n + (1 << 60), 2 * n + (1 << 60)] for n in range(MANY)]
    while True:
        with closing(Turned(address)) as turned:
            turned.hello()
            turned.exchange(done=done)


@way
def halves(address):
    """Half a message on each of very many connections."""
    conns = []
    while True:
        turned = Turned(address)
        half = struct.pack('!Q', 4 << 20) + b'x' * (3 << 20)
        with suppress(OSError):
            turned.link._conn.sock.settimeout(0.5)
            turned.link._conn.sock.send(half)
        conns.append(turned)
        if len(conns) > 500:
            conns.pop(0).close()


@way
def unread(address):
    """Leases that it never reads, on one connection after another."""
    conns, id = [], secrets.token_hex(8)
    while True:
        turned = Turned(address)
        turned.id = id
        turned.hello()
        turned.link._conn.sock.setsockopt(socket.SOL_SOCKET,
                                          socket.SO_RCVBUF, 1)
        turned.link._conn.send(('queue', 'exchange', [
            turned.report(), 1_000_000, False, 0], {}))
        conns.append(turned)
        if len(conns) > 800:
            conns.pop(0).close()


@way
def steering(address):
    """Sets the rate, to none, as often as can be."""
    turned = Turned(address)
    while True:
        turned.link.call('control', None, 'rate', None)


@way
def questions(address):
    """How is it going?"""
    turned = Turned(address)
    while True:
        turned.link.call('status', None, None)


# -- beside an honest one -------------------------------------------------

MODULE = '''
import time

def get_jobs(last=0):
    return ((n, 'x' * 100) for n in range(last + 1, 1_000_000_000))

def get_key(job):
    return job[0]

def handle_job(job):
    time.sleep(0.001)
'''


def of(pid):
    """Memory of a process, now and at most (MB)."""
    fields = dict(line.split(':', 1) for line in
                  Path(f'/proc/{pid}/status').read_text().splitlines())
    return [int(fields[name].split()[0]) // 1024
            for name in ('VmRSS', 'VmHWM')]


def honest(status, name):
    """Jobs that the slave of that name has done."""
    return sum(slave['done'] for slave in status['slaves']
               if slave['name'].endswith(f':{name}'))


def beside(name, seconds):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, 'migrate.py').write_text(MODULE)
        said = Path(folder, 'said')
        environ = {**os.environ, 'TASKMASTER_KEY': KEY.decode(),
                   'PYTHONPATH': str(ROOT)}

        def start(*words):
            with said.open('a') as file:
                return subprocess.Popen([sys.executable, *words], cwd=folder,
                                        env=environ, stderr=file)

        processes = [start('-m', 'taskmaster', 'master', 'migrate',
                           '--host=127.0.0.1:0')]
        try:
            while not (found := re.search(r":(\d+)'", said.read_text())):
                time.sleep(0.02)
            address = '127.0.0.1', int(found[1])
            slave = start('-m', 'taskmaster', 'slave', 'migrate',
                          f'--host=127.0.0.1:{address[1]}')
            processes.append(slave)
            watcher = connect(address, KEY)

            def look():
                begin = time.monotonic()
                status = watcher.call('status', None, None).status
                return honest(status, slave.pid), begin, status

            def rate(seconds):
                """Jobs a second, the longest call, the last status."""
                done, begin, status = look()
                longest, now = 0.0, begin
                while now < begin + seconds:
                    time.sleep(0.05)
                    found, now, status = look()
                    longest = max(longest, time.monotonic() - now)
                return (found - done) / (now - begin), longest, status

            while not look()[0]:
                time.sleep(0.05)
            alone, usual, _ = rate(seconds / 2)
            before, lines = of(processes[0].pid)[0], said.read_text().count(
                '\n')
            processes.append(start(__file__, '--be', name, '--at',
                                   str(address[1])))
            with suppress(EOFError, OSError):   # it may have ended the run
                while not Path(folder, 'here').exists():
                    time.sleep(0.05)
                crowd, longest, status = rate(seconds)
                crowd = max(crowd, 0)       # less than none: it has gone
                print(f'{name:12} {alone:8.0f} -> {crowd:8.0f} jobs/s  '
                      f'call {usual * 1e3:4.0f} -> {longest * 1e3:5.0f} ms  '
                      f'memory {before:4} -> '
                      f'{of(processes[0].pid)[1]:4} MB  '
                      f'lines {said.read_text().count(chr(10)) - lines:6}  '
                      f'failures '
                      f'{size(folder) / 1e6:6.1f} MB  {status["state"]}',
                      flush=True)
                return
            processes[0].wait(30)
            print(f'{name:12} {alone:8.0f} jobs/s until it ended with '
                  f'{processes[0].returncode}  memory {before:4}  '
                  f'lines {said.read_text().count(chr(10)) - lines:6}  '
                  f'failures {size(folder) / 1e6:6.1f} MB', flush=True)
        finally:
            for process in reversed(processes):
                process.send_signal(signal.SIGKILL)
                process.wait()
            if os.environ.get('SAID'):
                print(said.read_text()[-3000:])


def size(folder):
    path = Path(folder, 'migrate.failures')
    return path.stat().st_size if path.exists() else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('ways', nargs='*', choices=[[], *WAYS])
    parser.add_argument('--seconds', type=float, default=4)
    parser.add_argument('--be', help=argparse.SUPPRESS)
    parser.add_argument('--at', type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be:
        Path('here').touch()
        with suppress(EOFError, OSError):       # the run is over
            WAYS[options.be](('127.0.0.1', options.at))
        return
    for name in options.ways or WAYS:
        beside(name, options.seconds)


if __name__ == '__main__':
    main()
