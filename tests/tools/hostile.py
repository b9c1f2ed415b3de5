"""Strangers at the port of a running master, of every kind.

    python tests/tools/hostile.py --connections 10000 [--tls]

starts a master and two slaves, sends it the strangers while jobs run, and
has a new slave served every now and then; prints how long that took, what
the master took of memory and threads, and how many lines it logged.
"""

import argparse
import itertools
import os
import random
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'support')]

from fakes import KEY, introduction, report, take  # noqa: E402

from taskmaster.wire.client import connect  # noqa: E402
from taskmaster.wire.handshake import (CLEAR, FORM, PREAMBLE,  # noqa: E402
                                       first_message)
from taskmaster.wire.tls import trusting  # noqa: E402

PATIENT = 5             # of each thread's silent or slow strangers at a time
LENGTH = struct.Struct('!Q')

TLS_HELLO = bytes.fromhex(
    '16030100c5010000c10303') + bytes(32) + bytes.fromhex('00000213010100')


def proper(data):
    return LENGTH.pack(len(data)) + data


def first_of(key):
    return proper(FORM.pack(*first_message(key, CLEAR)))


COPIED = first_of(KEY)      # as if of an earlier start
SAID = {
    'random bytes': lambda: os.urandom(random.randrange(1, 2000)),
    'HTTP': lambda: b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n',
    'TLS hello': lambda: TLS_HELLO,
    'a copied first message': lambda: COPIED,
    'another key': lambda: first_of(b'another key'),
    'a slave of an older version': lambda: proper(PREAMBLE),
    'a huge frame': lambda: LENGTH.pack(1 << 60) + b'x' * 1000,
    'a cut first message': lambda: COPIED[:50],
    'a wrong answer': lambda: first_of(KEY) + proper(b'x' * 16),
    'nothing': lambda: b'',
    'one byte a second': lambda: b'\0',
}
PATIENTLY = ('nothing', 'one byte a second', 'a copied first message')


def strangers(address, connections, threads=20):
    """So many connections from a process of their own, which this starts."""
    return subprocess.Popen([
        sys.executable, __file__, '--connections', str(connections),
        '--threads', str(threads), '--address', *map(str, address)])


def besiege(address, connections, threads):
    kinds = itertools.islice(itertools.cycle(SAID), connections)
    lock = threading.Lock()

    def run():
        patient = []
        while True:
            with lock:
                kind = next(kinds, None)
            if kind is None:
                break
            try:
                sock = socket.create_connection(address, 10)
                sock.sendall(SAID[kind]())
            except OSError:
                continue
            if kind not in PATIENTLY:
                sock.close()
                continue
            patient.append(sock)
            for slow in patient:
                with suppress(OSError):
                    slow.send(b'\0')
            if len(patient) > PATIENT:
                patient.pop(0).close()
        for sock in patient:            # the slowest: until they are cut
            sock.settimeout(30)
            with suppress(OSError):
                while sock.recv(1000):
                    pass
            sock.close()

    everybody = [threading.Thread(target=run) for _ in range(threads)]
    for thread in everybody:
        thread.start()
    for thread in everybody:
        thread.join()


def of(pid):
    """Memory (MB) and threads of a process."""
    fields = dict(line.split(':', 1) for line in
                  Path(f'/proc/{pid}/status').read_text().splitlines())
    return int(fields['VmRSS'].split()[0]) / 1024, int(fields['Threads'])


def visit(address, key, tls=None):
    """Seconds until a new slave has been served."""
    begin = time.monotonic()
    with closing(connect(address, key, tls)) as link:
        welcome = link.call('hello', introduction('visitor'))
        start = welcome.start
        number, _ = take(link, 1, 10, start=start)
        link.call('exchange', report([(number, number)], start=start), 0,
                  True, 0)
        return time.monotonic() - begin


def watch(pid, address, key, strangers, tls=None, pause=0.1):
    """Watch a master while the process of the strangers lasts.

    Gives what visits took (seconds), the most memory (MB) and threads.
    """
    visits, memory, threads = [], [], []
    while strangers.poll() is None or not visits:
        visits.append(visit(address, key, tls))
        for seen, value in zip((memory, threads), of(pid)):
            seen.append(value)
        time.sleep(pause)
    return visits, max(memory), max(threads)


# -- by hand --------------------------------------------------------------

MODULE = '''
import time

def get_jobs(last=0):
    return iter(range(last + 1, 10_000_000))

def handle_job(job):
    time.sleep(0.001)
'''
CERTIFY = ('openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem '
           '-out cert.pem -subj /CN=test -addext subjectAltName=IP:127.0.0.1')


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--connections', type=int, default=10_000)
    parser.add_argument('--tls', action='store_true')
    parser.add_argument('--threads', type=int, default=20)
    parser.add_argument('--address', nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.address:
        host, port = options.address
        besiege((host, int(port)), options.connections, options.threads)
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, 'migrate.py').write_text(MODULE)
        environ = {**os.environ, 'TASKMASTER_KEY': KEY.decode(),
                   'PYTHONPATH': str(ROOT)}
        serve, trust, tls = [], [], None
        if options.tls:
            subprocess.run(CERTIFY.split(), cwd=folder, check=True,
                           stderr=subprocess.DEVNULL)
            serve = ['--tls-cert=cert.pem', '--tls-key=key.pem']
            trust = ['--tls-ca=cert.pem']
            tls = trusting(f'{folder}/cert.pem')
        said = Path(folder, 'said')

        def start(*words):
            with said.open('a') as file:
                return subprocess.Popen(
                    [sys.executable, '-m', 'taskmaster', *words], cwd=folder,
                    env=environ, stderr=file)

        def finished():
            found = re.findall(r'Current Job: (\d+)', said.read_text())
            return int(found[-1]) if found else 0

        master = start('master', 'migrate', '--host=127.0.0.1:0', *serve)
        while not (found := re.search(r":(\d+)'", said.read_text())):
            time.sleep(0.05)
        address = '127.0.0.1', int(found[1])
        spawn = start('spawn', 'migrate', '2', *trust,
                      f'--host=127.0.0.1:{address[1]}')
        try:
            while not finished():
                time.sleep(0.05)
            before, jobs, begin = of(master.pid), finished(), time.monotonic()
            visits, memory, threads = watch(
                master.pid, address, KEY,
                strangers(address, options.connections, options.threads),
                tls)
            took = time.monotonic() - begin
            print(f'{options.connections} strangers in {took:.1f} s; '
                  f'{(finished() - jobs) / took:.0f} jobs a second')
            print(f'new slaves: {len(visits)}, served in '
                  f'{statistics.median(visits) * 1e3:.0f} ms '
                  f'(slowest: {max(visits) * 1e3:.0f} ms)')
            print('master (MB, threads): {:.1f}, {} before; '.format(*before)
                  + f'{memory:.1f}, {threads} at most; '
                  + '{:.1f}, {} after'.format(*of(master.pid)))
            print('warnings:', said.read_text().count('warning:'))
        finally:
            for process in spawn, master:
                process.send_signal(signal.SIGTERM)
                process.wait()
            print(said.read_text()[-1500:])


if __name__ == '__main__':
    main()
