"""The link: the one thread of a slave that speaks with the master.

It introduces the slave, asks for the next lease while the present one is
worked on, reports, says that the slave lives, and connects anew when the
connection is lost.  What it hears goes into the `Backlog`, and what it says
comes from there.
"""

from __future__ import annotations

import math
import pickle
import time

from .. import logs
from ..errors import ConfigError, TaskmasterError, Unreachable
from ..records import TYPE_CHECKING, NamedTuple
from ..text import summary
from ..timing import STANDARD, Timing, jitter
from ..wire import messages
from ..wire.messages import (STOPPED, Introduction, Jobs, Over, Recall,
                             Refused, Stranger, Wait)
from .backlog import Backlog
from .parent import CONNECTED, FAILED, LIMITED, OVER

if TYPE_CHECKING:
    from typing import Any, Callable

    from ..wire.messages import Reply
    from .watchdog import Watchdog

    Connect = Callable[[], Any]
    Tell = Callable[[bytes], None]

log = logs.logger(__name__)

# What the parent is told of how the run has ended, where it is not complete.
HOW = {messages.FAILED: FAILED, messages.LIMITED: LIMITED}

# From here on the pauses between two attempts to connect grow no more.
MOST_DOUBLINGS = 10


class Identity(NamedTuple):
    """Who a slave is."""

    id: str                     # random, for its life
    name: str                   # host:pid, for people
    module: str | None = None   # whose run it wants; None: any
    after: str | None = None    # the id of the dead slave that it replaces
    quota: int | None = None    # after how many jobs to retire
    local: bool = False         # its parent has the master too
    checks: bool = False        # it is for `--verify`


class OtherWork(ConfigError):
    """The master wants jobs checked, and this slave handles them; or not."""


class LinkLoop:
    """The state of the link, and one step of it.

    ``connect`` returns a new connection to the master (see `wire.client`) or
    raises KeyRefused, OSError or EOFError; ``timeout`` is how long, in
    seconds, to look for a master; ``tell`` is called with the news that are
    for the parent, CONNECTED and OVER: then the workers may not have ended.
    """

    def __init__(self, connect: Connect, identity: Identity,
                 backlog: Backlog, timeout: float,
                 tell: Tell = lambda news: None,
                 watchdog: Watchdog | None = None, timing: Timing = STANDARD,
                 clock: Callable[[], float] = time.monotonic):
        self.retired = False        # the slave has done its quota
        self._connect = connect
        self._identity = identity
        self._backlog = backlog
        self._timeout = timeout
        self._tell = tell
        self._watchdog = watchdog
        self._timing = timing
        self._clock = clock
        self._link: Any = None
        self._connected = False         # a master had it once
        self._start_id: str | None = None
        self._run: str | None = None
        self._beaten = 0.0          # when the master last heard of us
        self._refused = False       # there was nothing, at once
        self._hungry_wait = backlog.span        # seconds

    def run(self) -> None:
        """Serve the backlog until the run is over or the slave leaves.

        Raises what ends a slave otherwise: KeyRefused, Unreachable,
        VersionMismatch, ConfigError.  The backlog is closed at the end.
        """
        lost = self._clock()
        attempt = 0
        try:
            while not self._left():
                try:
                    self._link = self._connect()
                    try:
                        self.hello()
                        attempt = 0
                        while self.step():
                            pass
                        return
                    finally:
                        lost = max(lost, self._beaten)
                        self._link.close()
                except (OSError, EOFError) as error:
                    attempt = self._pause(attempt, lost, error)
        finally:
            self._backlog.close()

    def cut(self) -> None:
        """End the call that the link may be waiting in; any thread may."""
        link = self._link
        if link is not None:
            link.cut()

    # -- connecting -------------------------------------------------------

    def _left(self) -> bool:
        """Return whether the slave is to end, and no master waits for it."""
        return self._backlog.leaving.is_set() and self._start_id is None

    def _pause(self, attempt: int, lost: float, error: Exception) -> int:
        """Wait between two attempts to connect; return the next's number."""
        identity, backlog, timing = (self._identity, self._backlog,
                                     self._timing)
        if backlog.leaving.is_set():
            if attempt:             # nobody there to say goodbye to
                backlog.forget()
                self._start_id = None
            return attempt + 1
        now = self._clock()
        # A parent that was stopped (a debugger, a suspended laptop) goes on.
        timeout = (math.inf if identity.local and self._connected
                   else self._timeout)
        if now - lost >= timeout:
            raise Unreachable(
                f'no master for {self._timeout:g} s ({summary(error)}); '
                'check --host, or wait longer with --timeout')
        if attempt == 0:
            log.info('no master there (%s); looking for it for %g s',
                     summary(error), self._timeout)
        else:
            log.debug('still no master there (%s)', summary(error))
        # Full jitter: slaves that lost one master do not come back as one.
        delay = jitter(min(timing.longest_backoff,
                           timing.first_backoff * 2 ** attempt))
        backlog.leaving.wait(min(delay, max(0, lost + timeout - now)))
        return min(attempt + 1, MOST_DOUBLINGS)

    def hello(self) -> None:
        """Introduce the slave; raises when the master will not have it."""
        identity, backlog = self._identity, self._backlog
        welcome = self._link.call('hello', Introduction(
            identity.id, identity.name, backlog.workers, identity.module,
            self._start_id, self._run, backlog.holds(), identity.after))
        if isinstance(welcome, Refused):
            raise TaskmasterError(welcome.line, welcome.code)
        if welcome.verifies is not identity.checks:
            raise OtherWork(
                'the master has jobs checked (--verify), and this slave would '
                'handle them; give it the module alone'
                if welcome.verifies else
                'the master has jobs handled, and this slave checks them '
                '(--verify); start a new slave for it')
        # The master knows of the dead one now.
        self._identity = identity._replace(after=None)
        if not self._connected:
            self._connected = True
            self._tell(CONNECTED)
        self._beaten = self._clock()
        self._refused = False
        if welcome.start == self._start_id:
            backlog.keep(welcome.holds)
        else:
            backlog.forget()
            if self._watchdog is not None:
                self._watchdog.disown()
            log.info('connected to the run %s', welcome.run)
        self._start_id, self._run = welcome.start, welcome.run
        backlog.span = welcome.span

    # -- one thing after another ------------------------------------------

    def step(self) -> bool:
        """See to one thing; return False when that was the end."""
        backlog = self._backlog
        if backlog.spent:
            self.retired = True
            backlog.drain()
        unbegun = backlog.give_back()
        if unbegun:
            self._obey(self._link.call('give_back', self._start_id, unbegun))
            return True
        # After giving back, or it would still not ask for what is there.
        appetite = backlog.appetite()
        leaving = backlog.leaving.is_set()
        if leaving and appetite.empty and not appetite.unreported:
            return False
        asked = self._clock()
        due = self._beaten + self._timing.beat(backlog.span) - asked
        if due > 0 and not appetite.urgent and (
                self._refused or not (appetite.want or appetite.empty)):
            if backlog.wait(due):
                self._refused = False
            return True
        wait = (0.0 if leaving
                else self._timing.wait if appetite.empty
                else self._hungry_wait if appetite.hungry else 0.0)
        report = backlog.report(self._start_id or '')
        reply = self._link.call('exchange', report, appetite.want,
                                not (appetite.hungry or appetite.empty), wait,
                                wait=wait)
        backlog.reported(report)
        self._beaten = self._clock()
        # What is done meanwhile waits to be reported: so at first not long.
        busy_wait = self._timing.busy_wait
        self._hungry_wait = (min(2 * self._hungry_wait, busy_wait)
                             if isinstance(reply, Wait)
                             else min(backlog.span, busy_wait))
        # Refused at once, not after a wait: ask again when things change.
        self._refused = (isinstance(reply, Wait)
                         and (not wait or self._beaten - asked < wait))
        return self._obey(reply)

    def _obey(self, reply: Reply) -> bool:
        """Do what the master said; return False when that was the end."""
        backlog = self._backlog
        if isinstance(reply, Jobs):
            backlog.span = reply.span
            self._take_in(reply)
        elif isinstance(reply, Wait):
            backlog.span = reply.span
        elif isinstance(reply, Recall):
            backlog.recall()
        elif isinstance(reply, Stranger):
            self.hello()
        elif isinstance(reply, Over) and reply.how == STOPPED:
            log.info('the master was stopped')
            raise EOFError('the master was stopped')
        else:
            if isinstance(reply, Over):
                log.info('the run is over: %s', reply.how)
                if reply.how in HOW:
                    self._tell(HOW[reply.how])
            self._tell(OVER)
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
        log.debug('leased: jobs %d to %d of this start', lease.first,
                  lease.first + lease.size - 1)
        self._backlog.add(lease.first, jobs, lease.pickled)
