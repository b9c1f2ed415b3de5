"""The supervisor: keeps slave processes alive until the run is over.

Each child is in a session of its own, so that a Ctrl-C reaches only the
parent, which forwards it.  Each holds the reading end of a pipe of which
only the parent has the other: however the parent ends, its children notice
and end too.

A child that is ended by something else than the end of the run has a
successor, and the master is told which slave was lost; by the supervisor at
once, and by the successor's `hello` in case the supervisor was not heard.
"""

import json
import os
import secrets
import signal
import subprocess
import threading
import time
from contextlib import ExitStack
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from .. import logs
from ..errors import (ConfigError, KeyRefused, OperatorError, Unreachable,
                      UsageError, VersionMismatch)
from ..settings import ENV_KEY, Settings
from ..slave import watchdog
from ..slave.parent import (CONNECTED, ENV_AFTER, ENV_ID, ENV_NEWS, ENV_PARENT,
                            ENV_PATH, ENV_QUOTA, OVER, RETIRED)
from ..slave.watchdog import ENV_WATCHDOG, Watchdog
from ..wire.fields import Range
from .child import _Child, _ending, _pass_on, _wait

log = logs.logger(__name__)

BACKOFF = 0.5       # seconds before the successor of one that never connected,
GIVE_UP = 5         # doubled each time; and how many of them in a row
GRACE = 10.0        # seconds that children may take to end

Lost = Callable[[str, Sequence[Range]], None]

# Exit codes that another start would only repeat.
FINAL = {kind.exit_code for kind in (
    UsageError, ConfigError, KeyRefused, Unreachable, VersionMismatch)}


class Supervisor:
    """Children that run ``command``, each with an environment of its own.

    The settings say how many, and what each may do before another takes its
    place.  ``key`` reaches them in their environment, where only this user
    can read it.  ``out`` and ``err`` are given what they print, line by line.
    ``lost(id, jobs)`` is called when one with leases has died, or was ended
    as these jobs took too long.  ``path`` is the `sys.path` of a program,
    in which alone children are to look for modules.
    """

    def __init__(self, command: Sequence[str], key: bytes,
                 settings: Settings, out: Callable[[str], None],
                 err: Callable[[str], None],
                 changed: Callable[[], None] = lambda: None,
                 lost: Lost = lambda id, jobs: None,
                 path: Optional[Sequence[str]] = None):
        self.codes: List[int] = []      # of the children that ended for good
        self._command = list(command)
        self._key = key
        self._out, self._err = out, err
        self._changed = changed
        self._lost = lost
        self._path = path
        self._settings = settings
        self._stopping = threading.Event()
        self._children: Dict[int, _Child] = {}
        self._lock = threading.Lock()
        self._slots: List[threading.Thread] = []
        self._pipe = os.pipe()

    def start(self) -> None:
        for number in range(self._settings.slaves):
            slot = threading.Thread(target=self._keep, args=(number,),
                                    name=f'slot-{number}', daemon=True)
            self._slots.append(slot)
            slot.start()

    @property
    def alive(self) -> bool:
        """Whether any slot may still have a child."""
        return any(slot.is_alive() for slot in self._slots)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to the children, and start no more of them.

        Never SIGINT: a child that is starting would show a traceback.
        """
        self._stopping.set()
        with self._lock:
            for child in self._children.values():
                child.process.send_signal(number)

    def join(self, timeout: Optional[float] = None) -> bool:
        """Wait for all children to end; whether they did."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for slot in self._slots:
            slot.join(None if deadline is None
                      else max(0, deadline - time.monotonic()))
        return not self.alive

    def close(self) -> None:
        """The run is over: end what is left of the children.

        Those that have connected know it, and end by themselves.
        """
        self._stopping.set()
        with self._lock:
            for child in self._children.values():
                if not child.told():
                    child.process.kill()
        for number in (signal.SIGTERM, signal.SIGKILL):
            while not self.join(GRACE):
                with self._lock:
                    busy = [child for child in self._children.values()
                            if OVER not in child.told()]
                    for child in busy:
                        child.process.send_signal(number)
                if busy:
                    break
                log.info('waiting for slaves to end what follows the yield '
                         'of setup')
            else:
                break
            if number == signal.SIGKILL:
                log.warning('slaves did not end and were killed: %d',
                            len(busy))
        self.join(GRACE)
        for fd in self._pipe:
            os.close(fd)

    # -- one slot ---------------------------------------------------------

    def _keep(self, slot: int) -> None:
        """Run one child after another until one ends for good."""
        code = OperatorError.exit_code
        try:
            code = self._keep_one(slot)
        finally:
            self.codes.append(code)
            self._changed()

    def _keep_one(self, slot: int) -> int:
        """Gives the exit code that counts for this slot."""
        dead: Optional[str] = None
        deaths = 0
        theirs = 0          # or the code of one that ended badly at its end
        while not self._stopping.is_set():
            id = secrets.token_hex(8)
            try:
                code, told, late = self._run(slot, id, dead)
            except OSError as error:        # no more files, or processes
                log.warning('slave %d cannot be started: %s', slot, error)
                code, told, late = os.EX_OSERR, b'', None
            if code == OperatorError.exit_code and (
                    OVER in told or RETIRED in told):
                theirs = code       # what follows the yield of setup raised
            if OVER in told or self._stopping.is_set():
                if not self._stopping.is_set():
                    self.stop()     # others may be looking for the master
                break
            if RETIRED in told:
                dead, deaths = None, 0
                continue
            if CONNECTED in told:
                self._lost(id, late or ())
            if code in FINAL:
                log.debug('slave %d ended with %d', slot, code)
                return code
            deaths = 0 if told else deaths + 1
            if deaths == GIVE_UP:
                log.error('slave %d was ended by %s, %d times in a row and '
                          'before it could connect; given up', slot,
                          _ending(code), deaths)
                return OperatorError.exit_code
            if told:        # or else the master has never heard of it
                dead = id
            delay = BACKOFF * 2 ** (deaths - 1) if deaths else 0
            log.warning('slave %d was ended by %s; starting another%s', slot,
                        _ending(code) if late is None else
                        f'--job-timeout {self._settings.job_timeout:g} s',
                        f' in {delay:g} s' if delay else '')
            self._stopping.wait(delay)
        return theirs

    def _run(self, slot: int, id: str, dead: Optional[str]
             ) -> Tuple[int, bytes, Optional[List[Range]]]:
        """Run one child to its end; raises OSError if it cannot start.

        Gives its exit code, or -signal; what it has told; and the jobs that
        took too long, if it was ended for that.
        """
        job_timeout = self._settings.job_timeout
        quota = self._settings.max_jobs_per_slave
        shared: Optional[Watchdog] = None
        with ExitStack() as given:      # to the child; here it is closed
            news, tell = os.pipe()
            given.callback(os.close, tell)
            undo = given.enter_context(ExitStack())
            undo.callback(os.close, news)
            fds = [self._pipe[0], tell]
            environ = {**os.environ, ENV_ID: id, ENV_PARENT: str(fds[0]),
                       ENV_NEWS: str(tell), ENV_KEY: os.fsdecode(self._key)}
            if dead is not None:
                environ[ENV_AFTER] = dead
            if self._path is not None:
                environ[ENV_PATH] = json.dumps(self._path)
            if quota is not None:
                environ[ENV_QUOTA] = str(quota)
            if job_timeout is not None:
                fds.append(watchdog.make(self._settings.threads + 1,
                                         job_timeout))
                given.callback(os.close, fds[-1])
                environ[ENV_WATCHDOG] = str(fds[-1])
                shared = Watchdog(fds[-1])
                undo.callback(shared.close)
            with self._lock:
                if self._stopping.is_set():
                    return 0, b'', None
                process = subprocess.Popen(
                    self._command, env=environ, pass_fds=fds,
                    start_new_session=True, stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    text=True, errors='backslashreplace')
                child = self._children[slot] = _Child(process, news)
            undo.pop_all()
        printers = [_pass_on(process.stdout, self._out),
                    _pass_on(process.stderr, self._err)]
        code, late = _wait(process, shared)
        for printer in printers:        # a grandchild may keep a pipe open
            printer.join(1.0)
        with self._lock:
            del self._children[slot]
            told = child.told()
            os.close(news)
        return code, told, late

    def doing(self) -> List[str]:
        """The children, a line each, for a person."""
        with self._lock:
            return [f'slave {slot}: pid {child.process.pid}'
                    for slot, child in sorted(self._children.items())]
