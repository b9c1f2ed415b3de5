"""A slave: take jobs, handle them, report.

Workers call the operator's function (see `workers`).  One more thread, the
link, speaks with the master (see `link`).  Between them is the `Backlog`,
with the only lock that both take.
"""

from __future__ import annotations

import threading
import time

from ..errors import Fault, TaskmasterError
from ..records import TYPE_CHECKING
from ..service import Service
from ..settings import Settings
from ..timing import STANDARD, Timing
from ..usercode.handler import Handler
from .backlog import Backlog
from .link import Identity, LinkLoop
from .parent import RETIRED
from .workers import Workers

if TYPE_CHECKING:
    from typing import Callable

    from .link import Connect, Tell
    from .watchdog import Watchdog


class Slave:
    """One slave process: its workers, its link, and how it leaves.

    ``connect`` returns a new connection to the master (see `wire.client`);
    ``watchdog`` is for a supervisor to see who is at which job, and ``tell``
    is called with news for it: CONNECTED, OVER, RETIRED (see `parent`).
    ``give_up`` ends the process, on a thread, where `run` does not end soon
    after a fault of ours.
    """

    def __init__(self, connect: Connect, handler: Handler,
                 identity: Identity, settings: Settings = Settings(),
                 tell: Tell = lambda news: None,
                 watchdog: Watchdog | None = None, timing: Timing = STANDARD,
                 clock: Callable[[], float] = time.monotonic,
                 give_up: Callable[[TaskmasterError], None] = lambda e: None):
        self._name = identity.name
        self._timing = timing
        self._give_up = give_up
        self._giving_up: threading.Timer | None = None
        self._tell = tell
        self._backlog = Backlog(settings.threads, handler.batch or 1,
                                identity.quota, clock)
        self._workers = Workers(self._backlog, handler, watchdog, timing,
                                self.fail)
        self._link = LinkLoop(connect, identity, self._backlog,
                              settings.timeout, tell, watchdog, timing, clock)
        self._error: TaskmasterError | None = None

    def run(self) -> None:
        """Work until the run is over or `leave` is called.

        Raises what ends a slave otherwise: KeyRefused, Unreachable,
        VersionMismatch, ConfigError, OperatorError, Fault.
        """
        link = Service('link', self._link.run, self.fail)
        try:
            self._workers.run(link.start)
        finally:
            self._backlog.drain()       # whatever has ended them
            if link.ident is not None:
                link.join()
            if self._giving_up is not None:
                self._giving_up.cancel()
            if self._link.retired:
                self._tell(RETIRED)
        if self._error is not None:
            raise self._error

    def leave(self) -> None:
        """Finish the jobs begun, report, give back the others, end."""
        self._backlog.drain()
        if self._backlog.appetite().empty:
            self._link.cut()        # it may wait for jobs; then goodbye

    def fail(self, error: TaskmasterError) -> None:
        """Leave; `run` raises that error at the end.  Any thread may call.

        After a fault of ours nobody may be there to take a report: the jobs
        that are being done are not waited for long.
        """
        if self._error is None:
            self._error = error
        if isinstance(error, Fault) and self._giving_up is None:
            self._giving_up = threading.Timer(self._timing.fault,
                                              self._give_up, (error,))
            self._giving_up.daemon = True
            self._giving_up.start()
        self.leave()

    def doing(self) -> list[str]:
        """Return what the workers are at, a line each, for a person."""
        return [f'{self._name}: {line}' for line in self._backlog.doing()]
