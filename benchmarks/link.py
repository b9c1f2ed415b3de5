"""What a master costs, its slaves on another host: docs/many-machines.md.

    python benchmarks/link.py [--rounds N] [--quick]        as root

Two network namespaces stand for the hosts, a veth pair for the cable (it
has no speed limit and no delay).  Per job and per lease it is the processor
time of the master that counts, of user and kernel, less that of a master
with one job: a figure for one master, whatever its slaves have to run on.
"""

import argparse
import contextlib
import os
import re
import resource
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve()
MASTER, SLAVES = '198.51.100.1', '198.51.100.2'

# Rows as a driver gives them: an id, and text that is made for each.
ROWS = '''
import time


def get_jobs(count, size, nap='0'):
    fill = int(size) - 20
    for id in range(1, int(count) + 1):
        yield id, str(id).ljust(fill), float(nap)


def get_key(row):
    return row[0]


def handle_job(row):
    if row[2]:
        time.sleep(row[2])
'''

# (what, jobs, bytes, slaves, seconds a job, settings of the slaves, TLS)
SINGLE = 'from taskmaster.slave.pace import Pace\nPace.want = lambda self: 1\n'
POINTS = [
    ('100 B', 4_000_000, 100, 2, 0, '', False),
    ('1 KB', 1_000_000, 1000, 2, 0, '', False),
    ('5 KB', 400_000, 5000, 2, 0, '', False),
    ('5 KB, TLS', 400_000, 5000, 2, 0, '', True),
    ('1 KB, one in a lease', 60_000, 1000, 2, 0, SINGLE, False),
    ('1 KB, 200 slaves, 10 ms', 200_000, 1000, 200, 0.01, '', False),
    ('1 KB, 200 slaves, 100 ms', 30_000, 1000, 200, 0.1, '', False)]


def ip(*words):
    subprocess.run(['ip', *words], check=True)


@contextlib.contextmanager
def two_hosts():
    """The commands that run something on the one and on the other."""
    names = [f'tm-link-{os.getpid()}-{end}' for end in 'ab']
    try:
        for name in names:
            ip('netns', 'add', name)
        ip('-n', names[0], 'link', 'add', 'eth0', 'type', 'veth', 'peer',
           'name', 'eth0', 'netns', names[1])
        for name, address in zip(names, (MASTER, SLAVES)):
            ip('-n', name, 'addr', 'add', f'{address}/24', 'dev', 'eth0')
            ip('-n', name, 'link', 'set', 'eth0', 'up')
        yield [['ip', 'netns', 'exec', name] for name in names]
    finally:
        for name in names:
            subprocess.run(['ip', 'netns', 'del', name])


def crossed(host):
    """Bytes that have gone from a host, and to it, headers and all."""
    lines = subprocess.run([*host, 'cat', '/proc/net/dev'], check=True,
                           stdout=subprocess.PIPE, text=True).stdout
    fields = re.search(r'eth0:(.*)', lines)[1].split()
    return int(fields[8]) + int(fields[0])


def measure(hosts, count, size, slaves, nap, settings, tls):
    with tempfile.TemporaryDirectory(prefix='link-') as folder:
        Path(folder, 'rows.py').write_text(ROWS)
        Path(folder, 'launch.py').write_text(
            f'{settings}\nfrom taskmaster.__main__ import main\nmain()\n')
        environ = {**os.environ, 'TASKMASTER_KEY': secrets.token_hex(),
                   'PYTHONPATH': f'{HERE.parent.parent}'}
        host, flags, trust = f'--host={MASTER}', [], []
        if tls:
            subprocess.run(
                'openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout '
                'tls.key -out tls.crt -subj /CN=test -addext '
                f'subjectAltName=IP:{MASTER}'.split(), cwd=folder,
                check=True, stderr=subprocess.DEVNULL)
            flags = ['--tls-cert=tls.crt', '--tls-key=tls.key']
            trust = ['--tls-ca=tls.crt']
        with open(Path(folder, 'err'), 'w') as err:
            start = partial(subprocess.Popen, cwd=folder, env=environ,
                            stdout=err, stderr=err)
            before = crossed(hosts[0])
            if slaves <= 2:
                others = [start([*hosts[1], sys.executable, 'launch.py',
                                 'slave', 'rows', host, *trust])
                          for _ in range(slaves)]
            else:
                others = [start([*hosts[1], sys.executable, str(HERE),
                                 '--crowd', str(slaves)])]
            master = start([*hosts[0], sys.executable, '-m', 'taskmaster',
                            'master', 'rows', f'count={count}',
                            f'size={size}', f'nap={nap}', host, *flags])
            begin = time.monotonic()
            _, status, usage = os.wait4(master.pid, 0)
            seconds = time.monotonic() - begin
            master.returncode = os.waitstatus_to_exitcode(status)
            codes = [master.returncode, *(other.wait() for other in others)]
        assert not any(codes), Path(folder, 'err').read_text()
        return (seconds, usage.ru_utime + usage.ru_stime,
                usage.ru_maxrss * 1024, crossed(hosts[0]) - before)


def crowd(count):
    """So many slaves in this process, each on threads of its own."""
    from taskmaster.slave.link import Identity
    from taskmaster.slave.slave import Slave
    from taskmaster.usercode.handler import from_target
    from taskmaster.wire.client import connect
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sys.path.insert(0, os.getcwd())
    _, handler = from_target('rows', 0)
    key = os.environ['TASKMASTER_KEY'].encode()
    threads = [threading.Thread(target=Slave(
        partial(connect, (MASTER, 3050), key), handler,
        Identity(secrets.token_hex(8), f'slave-{number}')).run)
        for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--quick', action='store_true',
                        help='a tenth of the jobs: does it still work?')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--crowd', type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.crowd:
        crowd(options.crowd)
        return
    print('| jobs | jobs/s, here | master, us a job | so one core does '
          '| bytes a job | master, MB |')
    print('| --- ' * 6 + '|')
    with two_hosts() as hosts:
        for what, count, *rest in POINTS:
            count //= 10 if options.quick else 1
            rates, costs = [], []
            for _ in range(options.rounds):
                idle = measure(hosts, 1, 100, 1, 0, '', False)
                seconds, cpu, memory, octets = measure(hosts, count, *rest)
                rates.append(count / (seconds - idle[0]))
                costs.append((cpu - idle[1]) / count * 1e6)
            print(f'| {what} | {spread(rates, ",.0f")} '
                  f'| {spread(costs, ".2f")} '
                  f'| {1e6 / statistics.median(costs):,.0f}/s '
                  f'| {octets / count:,.0f} | {memory / 1e6:,.0f} |',
                  flush=True)


def spread(values, form):
    """The median, the least and the most."""
    median, *ends = (format(value, form) for value in (
        statistics.median(values), min(values), max(values)))
    return f'{median} ({" .. ".join(ends)})'


if __name__ == '__main__':
    main()
