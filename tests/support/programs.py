"""The real scripts in a folder of their own: started, watched, counted."""

import ast
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest

import taskmaster

LONG = 60.0             # seconds; for conditions that come about much sooner
POLL = 0.01
PACKAGE = Path(taskmaster.__file__).resolve().parent
STAMP = re.compile(r'^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 ', re.M)
MARK = 'TASKMASTER_TEST'    # in the environment of all that a test starts

# What the modules of the tests import: how a handler says what it did.
RECORDER = '''
import os
import time

_done = os.open('done', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def record(job):
    """One line, one write: whole even if the process dies just after."""
    os.write(_done, b'%s\\n' % str(job).encode())


def first(name):
    """Whether nobody has been here before, in any process."""
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def block(name, until='go'):
    """Say that one is here, then wait for the test."""
    open(name, 'w').close()
    while not os.path.exists(until):
        time.sleep(0.01)
'''

# Numbers 1 .. count; `handle_job` only records.
NUMBERS = '''
from recorder import block, first, record


def get_jobs(last=0, count='1000'):
    return iter(range(last + 1, int(count) + 1))


def handle_job(job):
    record(job)
'''


def eventually(condition, what='it'):
    """Wait until ``condition()`` is true; gives what it gave."""
    deadline = time.monotonic() + LONG
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f'{what} did not happen'
        time.sleep(POLL)


def needs_package(name):
    """Skip the test where a package that its programs use is not there.

    It is not imported: eventlet would warn of each fork that comes after.
    """
    if importlib.util.find_spec(name) is None:
        pytest.skip(f'{name} is not installed')


def can_listen(host, port):
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family):
            return True
    except OSError:
        return False


def free_port():
    """A port that stays free while nobody listens on it.

    Not one of those that the system gives to outgoing connections: a slave
    that looks for its master there could meet itself.  Tests that run side
    by side look in other places.
    """
    start = 20000 + os.getpid() % 120 * 100
    return next(port for port in range(start, start + 100)
                if can_listen('127.0.0.1', port))


def processes(mark):
    """The pids of all processes with that mark in their environment."""
    mark = f'{MARK}={mark}'.encode()
    found = []
    for entry in os.listdir('/proc'):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                environ = Path('/proc', entry, 'environ').read_bytes()
            except OSError:         # gone, or not ours
                continue
            if mark in environ.split(b'\0'):
                found.append(int(entry))
    return found


class Program:
    """One script, in a session of its own."""

    def __init__(self, folder, name, command, environ, **options):
        self.command = command
        self.stacks = False         # whether it was asked for them
        self._err = folder / f'{name}.err'
        self._out = folder / f'{name}.out'
        with open(self._err, 'wb') as err, open(self._out, 'wb') as out:
            self.process = subprocess.Popen(
                command, cwd=folder, env=environ, start_new_session=True,
                **{'stdin': subprocess.DEVNULL, 'stdout': out, 'stderr': err,
                   **options})

    @property
    def log(self):
        """What it said on stderr."""
        return self._err.read_text()

    @property
    def err(self):
        """The same without the times."""
        return STAMP.sub('', self.log)

    @property
    def out(self):
        return self._out.read_text()

    @property
    def pid(self):
        return self.process.pid

    def says(self, pattern, times=1):
        """Wait for a line on stderr that has ``pattern``; its match."""
        def look():
            ended = self.process.poll() is not None
            found = list(re.finditer(pattern, self.err, re.M))
            assert len(found) >= times or not ended, (
                f'{pattern!r} was not said: {self.err}')
            return found[times - 1] if len(found) >= times else None
        return eventually(look, pattern)

    @property
    def port(self):
        """Where the master listens, once it does."""
        return int(self.says(r"^Taskmaster server running on '.*:(\d+)'$")[1])

    @property
    def host(self):
        return f'--host=127.0.0.1:{self.port}'

    def send(self, number):
        self.process.send_signal(number)

    def stop(self, number=signal.SIGINT):
        """Ask for a drain, and wait until it has begun."""
        self.send(number)
        self.says('^stopping:')

    def code(self):
        """Wait for the end; the exit code, or -signal."""
        try:
            return self.process.wait(LONG)
        except subprocess.TimeoutExpired:
            raise AssertionError(f'it did not end: {self.err}') from None


class Workspace:
    """A folder with modules, and the programs started in it."""

    def __init__(self, path):
        self.path = path
        self.mark = uuid.uuid4().hex
        self.programs = []
        self.home = path / 'home'
        self.home.mkdir()
        self.environ = {
            'PATH': os.environ['PATH'], 'HOME': str(self.home),
            'PYTHONPATH': str(PACKAGE.parent), 'LANG': 'C.UTF-8',
            'PYTHONWARNINGS': 'error', MARK: self.mark}
        self.write('recorder.py', RECORDER)

    # -- files ------------------------------------------------------------

    def write(self, name, text):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    def touch(self, name):
        (self.path / name).touch()

    def has(self, name):
        return (self.path / name).exists()

    def lines(self, name):
        """The lines that are whole; none while there is no such file."""
        try:
            text = (self.path / name).read_text()
        except FileNotFoundError:
            return []
        return text.split('\n')[:-1]

    def handled(self):
        """How often each job was recorded."""
        return Counter(self.lines('done'))

    def check(self, jobs, twice=()):
        """Each of the jobs was handled: none lost, none twice but these."""
        handled, expected = self.handled(), {str(job) for job in jobs}
        assert expected - handled.keys() == set(), 'lost'
        assert handled.keys() - expected == set(), 'never yielded'
        often = {job for job, times in handled.items() if times > 1}
        assert often <= {str(job) for job in twice}, 'handled twice'

    def state(self, name='migrate'):
        """The state file, its key decoded."""
        state = json.loads((self.path / f'{name}.state').read_text())
        if state['key'] is not None:
            state['key'] = ast.literal_eval(state['key']['literal'])
        return state

    def failures(self, name='migrate'):
        return [json.loads(line) for line in self.lines(f'{name}.failures')]

    # -- programs ---------------------------------------------------------

    def program(self, *command, **options):
        """Start any program."""
        environ = {**self.environ, **options.pop('environ', {})}
        self.programs.append(Program(
            self.path, f'program-{len(self.programs)}', list(command),
            environ, **options))
        return self.programs[-1]

    def start(self, name, *words, python=sys.executable,
              host='127.0.0.1:0', **options):
        """Start ``tm-NAME``; masters get ``host`` if they are given none."""
        if name in ('master', 'run') and host and not any(
                word.startswith('--host') for word in words):
            words = (*words, f'--host={host}')
        return self.program(python, '-m', 'taskmaster', name, *words,
                            **options)

    def finish(self, name, *words, **options):
        """Start, and wait for the end."""
        program = self.start(name, *words, **options)
        program.code()
        return program

    def pids(self):
        return processes(self.mark)

    def close(self):
        """End all that is left, show what was said, look for our frames."""
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for program in self.programs:
            program.process.wait()
            print('$', ' '.join(program.command[1:]))
            print(program.err, 'ended with', program.process.returncode)
        for program in self.programs:
            assert (program.stacks or f'File "{PACKAGE}'
                    not in program.err), 'our traceback'
            assert 'Warning: ' not in program.err
