"""Starting what is measured, and looking at it.

The clock of a run starts when its source, on the master's feeder thread,
is about to yield the first job, master and slaves being up and connected
(`jobs.gate`), and stops when the master saves that all is complete (the
last time that it renames a file, `jobs.note_rename`).  So everything that
jobs need is in it: the growing of the leases, acknowledgement, checkpoints,
the end.  Processes that start and stop are not, nor are they for the peers.
"""

import json
import os
import re
import resource
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
PEER_MISSING = 3
CERTIFY = ('openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout tls.key '
           '-out tls.crt -subj /CN=test -addext subjectAltName=IP:127.0.0.1')
PATIENCE = 300          # seconds for what is waited for


class Lab:
    """A folder of its own and the processes that are started in it."""

    def __init__(self, gate='imported 3', tree=HERE.parent):
        self._temporary = tempfile.TemporaryDirectory(prefix='benchmark-')
        self.folder = Path(self._temporary.name)
        self._processes = []
        self.key = secrets.token_hex(32)      # or it is stretched
        self.environ = {
            **as_installed(), 'TASKMASTER_KEY': self.key,
            'PYTHONPATH': f'{tree}{os.pathsep}{HERE}',
            'XDG_CONFIG_HOME': str(self.folder),    # a socket of its own
            'BENCHMARK_FOLDER': str(self.folder), 'BENCHMARK_GATE': gate}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self._processes:
            process.kill()
            process.wait()
        time.sleep(0.1)         # slaves die with their parent
        self._temporary.cleanup()

    def start(self, *arguments):
        path = self.folder / f'{len(self._processes)}.err'
        with path.open('w') as errors:
            process = subprocess.Popen(
                [sys.executable, *arguments], cwd=self.folder,
                env=self.environ, stdout=errors, stderr=errors)
        process.errors = path
        self._processes.append(process)
        return process

    def taskmaster(self, *arguments):
        return self.start('-m', 'taskmaster', *arguments)

    def run(self, source, handler, count, *flags):
        """`tm-run` from beginning to end."""
        self.finish(self.taskmaster(
            'run', 'jobs', '2', f'count={count}', f'--get-jobs={source}',
            f'--handle-job={handler}', *flags))
        return self

    def certificate(self):
        """Make one; gives the flags that use it."""
        subprocess.run(CERTIFY.split(), cwd=self.folder, check=True,
                       stderr=subprocess.DEVNULL)
        return ['--tls-cert=tls.crt', '--tls-key=tls.key', '--tls-ca=tls.crt']

    def master(self, source, *arguments):
        """`tm-master`; gives the process and its address."""
        process = self.taskmaster('master', f'jobs:{source}',
                                  '--host=127.0.0.1:0', *arguments)
        return process, self.wait_for(lambda: re.search(
            "running on '(.*)'", process.errors.read_text()))[1]

    def finish(self, *processes):
        for process in processes:
            if process.wait():          # a timeout would poll: 50 ms
                raise RuntimeError(f'{process.args} ended with '
                                   f'{process.returncode}:\n'
                                   + process.errors.read_text())

    def wait_for(self, what):
        deadline = time.monotonic() + PATIENCE
        while not what():
            if time.monotonic() > deadline:
                raise TimeoutError('the benchmark hangs')
            time.sleep(0.01)
        return what()

    def up(self, what):
        """How many processes have said that they have come so far."""
        return len(list(self.folder.glob(f'*.{what}')))

    # -- afterwards -------------------------------------------------------

    def notes(self):
        """What each process has noted down, the master's first."""
        notes = [json.loads(path.read_text())
                 for path in self.folder.glob('*.json')]
        return sorted(notes, key=lambda note: 'start' not in note)

    @property
    def seconds(self):
        """What the run took, of a complete one."""
        master = self.notes()[0]
        return master['saved'] - master['start']


def as_installed():
    """The environment; what is imported was compiled once, and is kept."""
    environ = {**os.environ}
    environ.pop('PYTHONDONTWRITEBYTECODE', None)
    return environ


def processor_seconds():
    """Of all processes that this one, and those, have waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Taken(NamedTuple):
    """Seconds."""

    seconds: float          # from the first job to the last
    whole: float            # with the start and the end of the processes


class Missing(Exception):
    """A peer is not installed."""


def peer(name, source, handler, count, *arguments):
    """What a peer took; raises Missing."""
    environ = {**as_installed(), 'PYTHONPATH': str(HERE)}
    environ.pop('BENCHMARK_FOLDER', None)
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, HERE / 'peers.py', name, source, handler,
         str(count), *map(str, arguments)], env=environ, text=True,
        stdout=subprocess.PIPE, cwd=tempfile.gettempdir())
    if done.returncode == PEER_MISSING:
        raise Missing(name)
    done.check_returncode()
    return Taken(float(done.stdout), time.monotonic() - start)


def family(*pids):
    """These processes and all that descend from them."""
    found = set(map(str, pids))
    parents = {}
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            fields = path.read_text().rpartition(')')[2].split()
        except OSError:
            continue
        parents[path.parent.name] = fields[1]
    size = 0
    while len(found) > size:
        size = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found


def cpu_seconds(pids):
    ticks = 0
    for pid in pids:
        fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2]
        ticks += sum(map(int, fields.split()[11:13]))
    return ticks / os.sysconf('SC_CLK_TCK')
