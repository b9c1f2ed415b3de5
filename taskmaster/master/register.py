"""The register: what a master leaves of its run on this machine.

It is for `tm-ctl`, which finds runs by it and says how they ended (see
`storage.runs`).  No run fails for its sake: what cannot be written is a line
for debugging, and a home that hangs keeps nobody but its thread.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from .. import logs
from ..address import Address, name_of
from ..console.line import Status
from ..console.summary import (COMPLETE, Outcome, Retried, reason, shown_code,
                               standing, state_of)
from ..errors import ConfigError
from ..records import TYPE_CHECKING
from ..storage.runs import (FAILED, FOLDER, LIVE, STOPPED, Machine, Record,
                            Runs, born)
from ..text import summary
from ..timing import Timing
from ..wire.key import beside_users_file
from .jobqueue import JobQueue
from .recorder import Recorder

if TYPE_CHECKING:
    from typing import Callable

log = logs.logger(__name__)

# What is served on all addresses of a machine, and how it is called there.
ANYWHERE = {'0.0.0.0': '127.0.0.1', '::': '::1', '': '127.0.0.1'}


class Register:
    """Keeps the record of one start: `open`, `keep` on a thread, `end`.

    ``thread`` is the one that runs `keep`.
    """

    def __init__(self, timing: Timing,
                 clock: Callable[[], float] = time.time):
        self._status = Status()
        self._retried: Retried | None = None    # where the run itself stands
        self.thread: threading.Thread | None = None
        self._timing = timing
        self._clock = clock
        self._news = threading.Event()
        self._stopping = ''         # by the signals' thread
        self._record: Record | None = None
        self._runs: Runs | None = None

    def open(self, queue: JobQueue, recorder: Recorder, address: Address,
             socket: str | None) -> None:
        """Say that this run is served there."""
        now = self._clock()
        pid, machine = os.getpid(), Machine.here()
        host, port = address[:2]
        resumable = recorder.source.resumable
        self._status = Status(recorder.count, failed=recorder.failed)
        self._retried = recorder.retried
        self._record = Record(
            queue.name, queue.start_id,
            name_of((ANYWHERE.get(host, host), port)), socket, pid,
            born(pid), machine.boot, machine.host,
            recorder.state.path if resumable else None,
            recorder.failures.path, now, now, 'running', recorder.count,
            None, recorder.failed)
        try:
            self._runs = Runs(beside_users_file(FOLDER))
        except ConfigError as error:        # of a user without a home
            log.debug('no record of this run: %s', error)
            return
        self._write()

    def note(self, status: Status) -> Status:
        """Take note of how the run goes; return that."""
        self._status = status
        return status

    def tell(self, status: Status) -> None:
        """Write at once how the run goes; any thread may call this."""
        self._status = status
        self._news.set()

    def stopping(self, number: int) -> None:
        """It drains because of that signal; any thread may call this."""
        self._stopping = signal.Signals(number).name
        self._news.set()

    def keep(self) -> None:
        """Write how the run goes, until it has ended."""
        if self._runs is not None and self._record is not None:
            # Here, as it may take a while: of 500 records all are read.
            self._look_at_others(self._record, self._runs)
        ended = False
        while not ended:
            self._news.wait(self._timing.register)
            self._news.clear()
            ended = self._record is None or self._record.ended is not None
            self._write()

    def _look_at_others(self, mine: Record, runs: Runs) -> None:
        """Remove old records; warn of a live run of the same name.

        Its state is another, or we would not be here: from another folder
        the same migration begins at the beginning.
        """
        here = Machine.here()
        for other in runs.prune(here, self._clock(), mine.start):
            if other.run == mine.run and here.state(other) == LIVE:
                log.warning('another run called %s goes on: pid %d, state %s; '
                            'if its jobs are the same, stop one of the two',
                            mine.run, other.pid, other.state_file)

    def end(self, outcome: Outcome, status: Status) -> None:
        """The run has ended like that."""
        self._status = status
        how, why = state_of(outcome), reason(outcome)
        if self._retried is not None and how == COMPLETE:
            # The source of a retry has ended, which the run's may not have.
            how = COMPLETE if self._retried.complete else STOPPED
            why = f'failed jobs were retried; {standing(self._retried)}'
        self._finish(how, shown_code(outcome), why)

    def correct(self, outcome: Outcome) -> None:
        """Slaves may have ended worse since then.

        A run that a signal has stopped ends by that all the same.
        """
        if (self._record is not None and outcome.stopped_by is None
                and outcome.code > (self._record.exit_code or 0)):
            self.end(outcome, self._status)

    def close(self) -> None:
        """The master serves no longer, whether or not it has said why."""
        if self._record is not None and self._record.ended is None:
            self._finish(FAILED, None, 'it did not come to an end of its own')

    @property
    def _current(self) -> int:
        """Jobs of the run, which those that are retried are among."""
        return (self._status.current if self._retried is None
                else self._retried.jobs)

    def _finish(self, how: str, code: int | None, why: str) -> None:
        if self._record is None:
            return
        self._record = self._record._replace(
            ended=self._clock(), how=how, exit_code=code, reason=why)
        self._news.set()
        if self.thread is None:
            self._write()
            return
        if not self.thread.is_alive():      # it has written an end already
            self.thread = threading.Thread(target=self._write,
                                           name='register', daemon=True)
            self.thread.start()
        self.thread.join(self._timing.register)

    def _write(self) -> None:
        if self._runs is None or self._record is None:
            return
        status, record = self._status, self._record
        try:
            self._runs.write(record._replace(
                seen=self._clock(), state=status.state or 'running',
                current=self._current, total=status.total,
                failed=status.failed, stopping=self._stopping),
                durable=record.ended is not None)
        except OSError as error:
            log.debug('no record of this run: %s', summary(error))
