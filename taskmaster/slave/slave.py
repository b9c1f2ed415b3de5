"""A slave: take jobs, handle them, report.

Workers call the operator's function (see `workers`).  One more thread, the
*link*, owns the connection: it asks for the next lease while the present one
is worked on, reports, says that the slave lives, and connects anew when the
connection is lost.  Between them is the `Backlog`.
"""

import pickle
import random
import threading
import time
from typing import Any, Callable, List, Optional

from .. import __version__, logs
from ..errors import TaskmasterError, Unreachable
from ..text import summary
from ..usercode.handler import Handler
from ..wire.messages import (PROTOCOL, STOPPED, WAIT_SECONDS, Introduction,
                             Jobs, Over, Recall, Refused, Reply, Stranger,
                             Wait)
from .backlog import Backlog
from .watchdog import Watchdog
from .workers import Workers

log = logs.logger(__name__)

BEAT = 10           # spans between two signs of life while there is work
BUSY_WAIT = 1.0     # seconds at most to wait for jobs while some are done
BACKOFF = (0.1, 5.0)    # seconds, first and last, between attempts

Connect = Callable[[], Any]


class Slave:
    """One slave process.

    ``connect`` gives a new link to the master (see `wire.connect`) or
    raises KeyRefused, OSError or EOFError; ``workers`` call ``handler``;
    ``timeout`` is how long, in seconds, to look for a master; ``after`` is
    the id of a dead slave that this one replaces; ``quota`` is after how
    many jobs to leave; ``watchdog`` is for a supervisor to see who is at which
    job; ``connected`` is called whenever a master has it, ``over`` when the
    master says that the run is over; its workers may not have ended by then.
    """

    def __init__(self, connect: Connect, handler: Handler, id: str,
                 name: str, module: Optional[str] = None, workers: int = 1,
                 timeout: float = 60.0, after: Optional[str] = None,
                 quota: Optional[int] = None,
                 watchdog: Optional[Watchdog] = None,
                 connected: Callable[[], None] = lambda: None,
                 over: Callable[[], None] = lambda: None,
                 clock: Callable[[], float] = time.monotonic):
        self.id = id
        self.name = name
        self.retired = False        # it has done its quota
        self._connect = connect
        self._module = module
        self._timeout = timeout
        self._after = after
        self._connected = connected
        self._over = over
        self._clock = clock
        self._watchdog = watchdog
        self._backlog = Backlog(workers, handler.batch or 1, quota, clock)
        self._link: Any = None
        self._start_id: Optional[str] = None
        self._run: Optional[str] = None
        self._error: Optional[TaskmasterError] = None
        self._leaving = threading.Event()
        self._workers = Workers(self._backlog, handler,
                                self._leaving, watchdog)
        self._beaten = 0.0          # when the master last heard of us
        self._refused = False       # there was nothing, at once
        self._hungry_wait = self._backlog.span     # seconds

    # -- the main thread --------------------------------------------------

    def run(self) -> None:
        """Work until the run is over or `leave` is called.

        Raises what ends a slave otherwise: KeyRefused, Unreachable,
        VersionMismatch, ConfigError, OperatorError.
        """
        link = threading.Thread(target=self._serve, name='link', daemon=True)
        try:
            self._workers.run(link.start)
        finally:
            if link.ident is not None:
                link.join()
        if self._error is not None:
            raise self._error

    def leave(self) -> None:
        """Finish the jobs begun, report, give back the others, end."""
        self._leaving.set()
        self._backlog.drain()
        if self._backlog.appetite().empty:
            link = self._link
            if link is not None:
                link.cut()          # it may wait for jobs; then goodbye

    def doing(self) -> List[str]:
        """What the workers are at, a line each, for a person."""
        return [f'{self.name}: {line}' for line in self._backlog.doing()]

    # -- the link ---------------------------------------------------------

    def _serve(self) -> None:
        try:
            lost = self._clock()
            attempt = 0
            while not self._left():
                try:
                    self._link = self._connect()
                    try:
                        self._hello()
                        attempt = 0
                        while self.step():
                            pass
                        return
                    finally:
                        lost = max(lost, self._beaten)
                        self._link.close()
                except (OSError, EOFError) as error:
                    attempt = self._wait(attempt, lost, error)
        except TaskmasterError as error:
            self._error = error
        except Exception as error:      # ours: say so, keep nobody waiting
            log.exception('the link failed')
            self._error = TaskmasterError(f'internal error: {error!r}')
        finally:
            self._backlog.close()

    def _left(self) -> bool:
        """Whether this slave is to end, and no master waits for it."""
        return self._leaving.is_set() and self._start_id is None

    def _wait(self, attempt: int, lost: float, error: Exception) -> int:
        """Between two attempts to connect; gives the next one's number."""
        if self._leaving.is_set():
            if attempt:             # nobody there to say goodbye to
                self._backlog.forget()
                self._start_id = None
            return attempt + 1
        now = self._clock()
        if now - lost >= self._timeout:
            raise Unreachable(
                f'no master for {self._timeout:g} s ({summary(error)}); '
                'check --host, or wait longer with --timeout')
        if attempt == 0:
            log.info('no master there (%s); looking for it for %g s',
                     summary(error), self._timeout)
        first, last = BACKOFF
        # Full jitter: slaves that lost one master do not come back as one.
        delay = random.uniform(0, min(last, first * 2 ** attempt))
        self._leaving.wait(min(delay, max(0, lost + self._timeout - now)))
        return min(attempt + 1, 10)

    def _hello(self) -> None:
        """Introduce this slave; raises when the master will not have it."""
        welcome = self._link.call('hello', Introduction(
            PROTOCOL, __version__, self.id, self.name, self._backlog.workers,
            self._module, self._start_id, self._run, self._backlog.holds(),
            self._after))
        if isinstance(welcome, Refused):
            error = TaskmasterError(welcome.line)
            error.exit_code = welcome.code
            raise error
        self._after = None          # the master knows now
        self._connected()
        self._beaten = self._clock()
        self._refused = False
        if welcome.start == self._start_id:
            self._backlog.keep(welcome.holds)
        else:
            self._backlog.forget()
            if self._watchdog is not None:
                self._watchdog.disown()
            log.info('connected to the run %s', welcome.run)
        self._start_id, self._run = welcome.start, welcome.run
        self._backlog.span = welcome.span

    def step(self) -> bool:
        """See to one thing; False when the run is over for this slave."""
        backlog = self._backlog
        if backlog.spent:
            self.retired = True
            self._leaving.set()
        appetite = backlog.appetite()
        unbegun = backlog.give_back()
        if unbegun:
            self._reply(self._link.call('give_back', self._start_id, unbegun))
            return True
        if (self._leaving.is_set() and appetite.empty
                and not appetite.unreported):
            return False
        asked = self._clock()
        due = self._beaten + BEAT * backlog.span - asked
        if due > 0 and not appetite.urgent and (
                self._refused or not (appetite.want or appetite.empty)):
            if backlog.wait(due):
                self._refused = False
            return True
        wait = (0.0 if self._leaving.is_set()
                else WAIT_SECONDS if appetite.empty
                else self._hungry_wait if appetite.hungry else 0.0)
        report = backlog.report(self._start_id or '')
        reply = self._link.call('exchange', report, appetite.want,
                                not (appetite.hungry or appetite.empty), wait,
                                wait=wait)
        backlog.reported(report)
        self._beaten = self._clock()
        # What is done meanwhile waits to be reported: so at first not long.
        self._hungry_wait = (min(2 * self._hungry_wait, BUSY_WAIT)
                             if isinstance(reply, Wait)
                             else min(backlog.span, BUSY_WAIT))
        # Refused at once, not after a wait: ask again when things change.
        self._refused = (isinstance(reply, Wait)
                         and (not wait or self._beaten - asked < wait))
        return self._reply(reply)

    def _reply(self, reply: Reply) -> bool:
        """Do what the master said; False when that was the end."""
        backlog = self._backlog
        if isinstance(reply, Jobs):
            backlog.span = reply.span
            self._take_in(reply)
        elif isinstance(reply, Wait):
            backlog.span = reply.span
        elif isinstance(reply, Recall):
            backlog.recall()
        elif isinstance(reply, Stranger):
            self._hello()
        elif isinstance(reply, Over) and reply.how == STOPPED:
            log.info('the master was stopped')
            raise EOFError('the master was stopped')
        else:
            self._over()
            return False
        return True

    def _take_in(self, lease: Jobs) -> None:
        try:
            jobs = pickle.loads(lease.pickled)
        except BaseException as error:      # the operator's own code
            self._backlog.refuse(lease.first, lease.first + lease.size - 1,
                                 f'cannot be unpickled: {summary(error)}')
            return
        if type(jobs) is not list or len(jobs) != lease.size:
            raise EOFError('a lease of other jobs than was said')
        self._backlog.add(lease.first, jobs)
