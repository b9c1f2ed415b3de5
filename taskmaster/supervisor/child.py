"""One child of the supervisor: a slave process, its pipes, its end.

A child leads a session of its own: what its handlers start is in it, and is
ended with a child that does not end by itself.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from json import dumps, loads

from .. import forks, logs, sessions
from ..address import Address, name_of
from ..errors import TaskmasterError
from ..records import TYPE_CHECKING, NamedTuple
from ..service import Service
from ..settings import ENV_KEY, ENV_PARENT, Settings, flags
from ..slave import watchdog
from ..slave.parent import (ENV_AFTER, ENV_CHECK, ENV_ID, ENV_LOCAL, ENV_NEWS,
                            ENV_PATH, ENV_QUOTA, ENV_SOCKET, ENV_TWICE,
                            ENV_WATCHDOG)
from ..slave.watchdog import Watchdog
from ..text import printable
from ..timing import STANDARD, Timing
from ..wire.fields import Range
from .prefork import MAIN, pipe

if TYPE_CHECKING:
    from typing import IO, Callable, Mapping, Sequence

    from .prefork import First, Forked

log = logs.logger(__name__)

# Times that a watchdog is looked at while a job takes as long as it may.
LOOKS = 10
# Errors of children that are shown, and known again.
ERRORS = 100
# Where a slave looks for a master that serves everywhere.
HERE = {'0.0.0.0': '127.0.0.1', '::': '::1'}


class Ended(NamedTuple):
    """How a child has ended."""

    code: int                       # its exit code, or -signal
    told: bytes = b''               # see `slave.parent`
    late: list[Range] | None = None     # jobs that took too long, if any did
    why: str = ''                   # for a person
    left: int | None = None         # the session, if it has left something
    name: str = ''                  # host:pid


class Child:
    """A slave process.  Any thread may call any method."""

    def __init__(self, process: subprocess.Popen[str] | Forked,
                 news: IO[bytes], shared: Watchdog | None, timing: Timing):
        self._process = process
        self._news = news           # a grandchild may keep it open
        self._shared = shared
        self._timing = timing
        self._told = b''
        self._lock = threading.Lock()
        self._printers: list[Service] = []

    @property
    def pid(self) -> int:
        return self._process.pid

    def read(self, out: Callable[[str], None], err: Callable[[str], None],
             failed: Callable[[TaskmasterError], None]) -> None:
        """Pass on, line by line, what it prints."""
        self._printers = [_pass_on(self._process.stdout, out, failed),
                          _pass_on(self._process.stderr, err, failed)]

    def told(self) -> bytes:
        """Return what it has told up to now, each thing once."""
        with self._lock:
            while not self._news.closed:
                news = self._news.read(1000)
                if not news:        # nothing now, or never again
                    break
                self._told = bytes({*self._told, *news})
            return self._told

    def send_signal(self, number: int) -> None:
        """Send a signal to the slave, not to what its handlers started."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End the slave and all of its session; also in a signal handler."""
        sessions.end(self.pid)

    def wait(self) -> Ended:
        """Wait for the end, and end it when a job takes too long."""
        try:
            code, late = self._wait()
            left = None
            if code != 0:
                self.kill()         # what is left of the session
            elif sessions.members(self.pid):
                left = self.pid
            for printer in self._printers:
                printer.join(self._timing.last_words)
            return Ended(code, self.told(), late, _why(code)
                         if late is None or self._shared is None else
                         f'--job-timeout {self._shared.limit:g} s', left,
                         f'{socket.gethostname()}:{self.pid}')
        finally:
            with self._lock:
                self._news.close()
            if self._shared is not None:
                self._shared.close()

    def _wait(self) -> tuple[int, list[Range] | None]:
        if self._shared is None:
            return self._process.wait(), None
        pause = min(self._shared.limit / LOOKS, self._timing.look)
        late: list[Range] | None = None
        while True:
            try:
                return self._process.wait(pause), late
            except subprocess.TimeoutExpired:
                late = late or self._shared.late()
                if late is not None:
                    self.kill()


def _why(code: int) -> str:
    if code >= 0:
        return f'exit code {code}'
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f'signal {-code}'


class Starter:
    """Starts children, with these ``arguments`` (see `slave_arguments`).

    ``key`` reaches them where only this user can read it.  ``out`` and
    ``err`` are given what they print, line by line.  Where they are ``local``
    the master is in this process: it says for them what goes as it should,
    and is there as long as they are; ``socket`` is the Unix socket that it
    serves, if any; ``path`` is the `sys.path` of a program, where they find
    its modules.  They run in the folder of the settings, wherever the
    operator's code has gone since.  The ``first`` of them are there already.

    Each child holds the reading end of a pipe of which only the parent has
    the other: however the parent ends, its children notice and end too.
    """

    def __init__(self, arguments: Sequence[str], key: bytes,
                 settings: Settings, out: Callable[[str], None],
                 err: Callable[[str], None], local: bool = False,
                 path: Sequence[str] | None = None,
                 timing: Timing = STANDARD, socket: str | None = None,
                 first: First | None = None):
        self._socket = socket
        self._arguments = arguments
        self._key = key
        self._settings = settings
        self._out, self._err = out, Errors(err)
        self._local = local
        self._path = path
        self._timing = timing
        self._first = first
        with forks.none_now():
            self._theirs, self._ours = first.lifeline() if first else pipe()

    def start(self, id: str, after: str | None,
              failed: Callable[[TaskmasterError], None]) -> Child:
        """Start a child that goes by ``id``; raises OSError if that fails.

        ``after`` is the id of the dead one in whose place it comes;
        ``failed`` is called with a fault of ours on a thread of ours.
        """
        environ = {ENV_ID: id, ENV_KEY: os.fsdecode(self._key)}
        if after is not None:
            environ[ENV_AFTER] = after
        if self._path is not None:
            environ[ENV_PATH] = dumps(self._path)
        if self._settings.twice:
            environ[ENV_TWICE] = '1'
        if self._settings.verify:
            environ[ENV_CHECK] = '1'
        if self._local:
            environ[ENV_LOCAL] = '1'
        if not logs.are_stamped():
            environ[logs.ENV_PLAIN] = '1'
        if self._socket is not None:
            environ[ENV_SOCKET] = self._socket
        if self._settings.max_jobs_per_slave is not None:
            environ[ENV_QUOTA] = str(self._settings.max_jobs_per_slave)
        child = self._forked(environ) or self._executed(environ)
        child.read(self._out, self._err, failed)
        return child

    def _forked(self, environ: Mapping[str, str]) -> Child | None:
        """Return one of the first children, while there are any."""
        first = self._first and self._first.take(self._arguments, environ)
        return Child(first.process, first.news, first.shared,
                     self._timing) if first else None

    def _executed(self, environ: dict[str, str]) -> Child:
        environ = {**os.environ, **environ,
                   ENV_PARENT: str(self._theirs.fileno())}
        with forks.none_now(), ExitStack() as theirs, ExitStack() as ours:
            news, tell = pipe()
            theirs.enter_context(tell)
            ours.enter_context(news)
            os.set_blocking(news.fileno(), False)
            environ[ENV_NEWS] = str(tell.fileno())
            fds = [self._theirs.fileno(), tell.fileno()]
            shared: Watchdog | None = None
            if self._settings.job_timeout is not None:
                fds.append(watchdog.make(self._settings.threads + 1,
                                         self._settings.job_timeout))
                theirs.callback(os.close, fds[-1])
                environ[ENV_WATCHDOG] = str(fds[-1])
                shared = Watchdog(fds[-1])
                ours.callback(shared.close)
            process = subprocess.Popen(
                [sys.executable, *_interpreter_flags(), MAIN,
                 *self._arguments],
                env=environ, pass_fds=fds, cwd=self._folder(),
                start_new_session=True, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                encoding=getattr(sys.stdout, 'encoding', None),
                errors='backslashreplace')
            for stream in (process.stdout, process.stderr):
                assert stream is not None
                forks.close_in_child(stream)
            ours.pop_all()
            return Child(process, news, shared, self._timing)

    def _folder(self) -> str | None:
        folder = self._settings.folder
        return folder if os.path.isdir(folder) else None    # it is removed

    def close(self) -> None:
        """Start no more; those that still run end at once."""
        self._theirs.close()
        self._ours.close()


def _interpreter_flags() -> list[str]:
    """Return what multiprocessing gives its own children: -O, -X, -W ..."""
    return subprocess._args_from_interpreter_flags()    # type: ignore


class Errors:
    """Passes on what children print on stderr, and each error of theirs once.

    Ten slaves whose `setup` raises the same have one thing to say.
    """

    def __init__(self, line: Callable[[str], None]):
        self._line = line
        self._said: set[str] = set()

    def __call__(self, text: str) -> None:
        if not text.startswith(logs.ERROR):
            self._line(text)
            return
        try:
            error = str(loads(text[1:])['error'])
        except (ValueError, LookupError, TypeError):    # it is none of ours
            error = text
        if error not in self._said:
            if len(self._said) >= ERRORS:
                self._said.clear()
            self._said.add(error)
            self._line(logs.stamp() + printable(error, lines=True))


def _pass_on(stream: IO[str] | None, line: Callable[[str], None],
             failed: Callable[[TaskmasterError], None]) -> Service:
    """Give each line of a stream to ``line``, on a thread of its own."""
    def read() -> None:
        assert stream is not None
        with stream:
            for text in stream:
                line(text.rstrip('\n'))
    printer = Service('printer', read, failed)
    printer.start()
    return printer


def slave_arguments(target: str, address: Address | None,
                    settings: Settings) -> list[str]:
    """Return the command line of a child of `tm-run` or `tm-spawn`.

    Without an ``address`` it looks where everybody on this machine does.
    """
    settings = settings._replace(host=None, key=None, key_file=None)
    if address is not None:
        host, port = address
        settings = settings._replace(
            host=name_of((HERE.get(host, host), port)))
    return ['slave', target, *flags(settings, 'slave')]
