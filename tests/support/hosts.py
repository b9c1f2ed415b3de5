"""Several hosts on one machine: network namespaces around a switch.

Each has an address, a name, and a cable to the switch, which is one more
namespace with a bridge; nothing is left in the machine's own network.
"""

import collections
import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import threading
import time
from pathlib import Path

PREFIX = 'tm-test'
TAPS = os.path.exists('/dev/net/tun')
NAMESPACES = Path('/run/netns')
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454ca, 0x0002, 0x1000


def ip(*words):
    """Run ``ip``; an OSError has what it said."""
    done = subprocess.run(['ip', *words], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True)
    if done.returncode:
        raise OSError(f'ip {" ".join(words)}: {done.stderr.strip()}')
    return done.stdout


def pids(namespace):
    """What runs in it."""
    return [int(pid) for pid in ip('netns', 'pids', namespace).split()]


def kill(namespace):
    for pid in pids(namespace):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def sweep():
    """Remove what tests that were killed have left."""
    for path in NAMESPACES.glob(f'{PREFIX}-*'):
        pid = path.name.split('-')[2]
        if not Path('/proc', pid).exists():
            kill(path.name)
            ip('netns', 'del', path.name)


class Host:
    """A namespace; ``command`` goes before what is to run on it."""

    def __init__(self, network, name, address):
        self.name, self.address = name, address
        self.namespace = network.add(name)
        self.command = [
            'ip', 'netns', 'exec', self.namespace, 'unshare', '--uts',
            'sh', '-c', 'hostname "$0" && exec "$@"', name]
        self._switch = network.switch

    def up(self):
        """Its end of the cable is there, and named eth0."""
        for words in (['addr', 'add', f'{self.address}/24', 'dev', 'eth0'],
                      ['link', 'set', 'eth0', 'up'],
                      ['link', 'set', 'lo', 'up']):
            ip('-n', self.namespace, *words)
        ip('-n', self._switch, 'link', 'set', 'dev', self.name, 'up')
        self.heal()

    def cut(self):
        """Nothing gets through, and neither end sees a cable go."""
        ip('-n', self._switch, 'link', 'set', 'dev', self.name, 'nomaster')

    def heal(self):
        ip('-n', self._switch, 'link', 'set', 'dev', self.name,
           'master', 'bridge')

    def pids(self):
        return pids(self.namespace)

    def kill(self):
        """Power off: nothing of it runs, nor says that it does not."""
        self.cut()
        kill(self.namespace)


class Network:
    """The switch, and the hosts that were asked for."""

    NET = '198.51.100'          # for documents and tests: nobody has it

    def __init__(self):
        sweep()
        self.hosts, self._cables = [], []
        self._names = []
        self.switch = self.add('switch')
        try:
            ip('-n', self.switch, 'link', 'add', 'bridge', 'type', 'bridge')
            ip('-n', self.switch, 'link', 'set', 'bridge', 'up')
        except OSError:
            self.close()
            raise

    def add(self, name):
        namespace = f'{PREFIX}-{os.getpid()}-{name}'
        ip('netns', 'add', namespace)
        self._names.append(namespace)
        return namespace

    def host(self, name, delay=0.0):
        """One more; everything takes ``delay`` seconds to it, and from it.

        With a delay there must be TAPS.
        """
        host = Host(self, name, f'{self.NET}.{len(self.hosts) + 1}')
        self.hosts.append(host)
        if delay:
            cable = SlowCable(delay)
            self._cables.append(cable)
            cable.connect((host.namespace, 'eth0'), (self.switch, name))
        else:
            ip('-n', self.switch, 'link', 'add', 'name', name, 'type',
               'veth', 'peer', 'name', 'eth0', 'netns', host.namespace)
        host.up()
        return host

    def close(self):
        for namespace in self._names:
            kill(namespace)
        for cable in self._cables:
            cable.close()
        for namespace in self._names:
            ip('netns', 'del', namespace)


class SlowCable:
    """Two Ethernet devices; each frame takes so long to the other one.

    `tc netem` would do, but its module is often missing.
    """

    def __init__(self, delay):
        self._delay = delay
        self._taps = []
        self._stop = os.pipe()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)

    def connect(self, *ends):
        """Put the two devices where they belong: (namespace, name)."""
        for namespace, name in ends:
            fd = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK)
            self._taps.append(fd)
            device = fcntl.ioctl(fd, TUNSETIFF, struct.pack(
                '16sH22x', b'tmtest%d', IFF_TAP | IFF_NO_PI))
            device = device[:16].rstrip(b'\0').decode()
            ip('link', 'set', device, 'netns', namespace, 'name', name)
        self._thread.start()

    def _pass_on(self):
        a, b = self._taps
        other = {a: b, b: a}
        under_way = collections.deque()         # (due, to, frame)
        while True:
            left = (max(0, under_way[0][0] - time.monotonic())
                    if under_way else None)
            ready = select.select([a, b, self._stop[0]], [], [], left)[0]
            if self._stop[0] in ready:
                return
            for fd in ready:
                try:
                    frame = os.read(fd, 65536)
                except BlockingIOError:
                    continue
                under_way.append((time.monotonic() + self._delay, other[fd],
                                  frame))
            while under_way and under_way[0][0] <= time.monotonic():
                _, fd, frame = under_way.popleft()
                with contextlib.suppress(OSError):  # as of cables: lost
                    os.write(fd, frame)

    def close(self):
        os.write(self._stop[1], b'!')
        if self._thread.is_alive():
            self._thread.join()
        for fd in (*self._taps, *self._stop):
            os.close(fd)


def repeats(pid, port):
    """How often each connection to a port repeats what is not answered.

    Of the host on which that process is.
    """
    found = []
    for line in Path(f'/proc/{pid}/net/tcp').read_text().splitlines()[1:]:
        _, _, remote, _, _, _, times, *_ = line.split()
        if int(remote.split(':')[1], 16) == port:
            found.append(int(times, 16))
    return found


def jobs_back(err):
    """What a master says that it lost: jobs, by the slave's host."""
    lost = collections.Counter()
    for host, jobs in re.findall(r'lost slave (\w+):\d+, (\d+) jobs?', err):
        lost[host] += int(jobs)
    return lost


__all__ = ['TAPS', 'Network', 'jobs_back', 'repeats']
