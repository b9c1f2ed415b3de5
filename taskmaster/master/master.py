"""The master: puts source, feeder, queue, recorder and server together.

Beside the threads that serve there are the main one (progress, and when it
is over) and these services: the *feeder*, the *saver* (all that writes
files), the *expirer* (slaves that are silent), which shares no thread with
a disk or a terminal that may hang, the *disk* (says that it hangs), the
*pacer* (`--rate`), and, where the operator has such functions, the *throttle*
and the *counter*; the *register* tells `tm-ctl` of this run, in a home that
may hang too.  Whatever unforeseen comes out of any of them ends the run.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from .. import logs
from ..address import Address, name_of
from ..console.progress import Progress
from ..console.summary import Outcome, Summary
from ..errors import (EX_FAILED_JOBS, Fault, SaveError, TaskmasterError,
                      TooManyFailures)
from ..records import TYPE_CHECKING
from ..service import Service
from ..settings import Settings
from ..text import summary
from ..timing import STANDARD, Timing
from ..wire.messages import (COMPLETE, FAILED, LIMITED, PAUSE, RATE, STOP,
                             STOPPED, Failures)
from ..wire.binding import bind
from ..wire.server import Server
from .feeder import Feeder
from .jobqueue import JobQueue
from .limits import Limits
from .monitor import Monitor
from .recorder import Recorder
from .register import Register
from .saver import Saver
from .session import Session
from .throttle import Throttle

if TYPE_CHECKING:
    from typing import Any, Callable

    from ..wire.tls import Context

log = logs.logger(__name__)


class Master:
    """One start of one run: `open`, then `run`, then `close`.

    ``any_port`` is whether another one will do where that of ``address`` is
    taken; ``tls`` is for a port that others can reach (see `tls.serving`).
    """

    def __init__(self, recorder: Recorder, address: Address, key: bytes,
                 progress: Progress, settings: Settings,
                 any_port: bool = False, tls: Context | None = None,
                 timing: Timing = STANDARD):
        self.stopped_by: int | None = None          # a signal
        self.stopped_from_afar = False              # by `tm-ctl stop`
        self.said: TaskmasterError | None = None    # ends the run; logged
        self.speaks_last = True     # nobody else calls `finished`
        self._ended_as: Outcome | None = None
        self.saved = lambda: recorder.saved     # up to where; it waits not
        self.queue = JobQueue(settings.size, os.urandom(8).hex(),
                              recorder.source.name,
                              settings.max_failures.reached,
                              changed=self._changed, timing=timing)
        recorder.singly = self.queue.weight.go_singly
        self._server: Server | None = None
        self._recorder = recorder
        self._address, self._key, self._tls = address, key, tls
        self._any_port = any_port
        self._local = settings.host is None and tls is None
        self._progress = progress
        self._verifies = settings.verify
        self._limits = Limits(self.queue, settings)
        self._timing = timing
        self._news = threading.Event()      # for the main thread
        self._ended = threading.Event()     # for the expirer
        self._deadline: float | None = None     # of the end, after a fault
        self._summary = Summary()
        recorder.recorded = self._summary.add
        self._feeder = Feeder(self.queue, recorder.jobs, recorder.skip,
                              settings.limit, self.fail)
        self._saver = Saver(self.queue, recorder, self.fail, timing)
        self._throttle = Throttle(self.queue, recorder.source.throttle,
                                  settings.rate, timing)
        self._monitor = Monitor(self.queue, recorder, self._throttle,
                                settings.total, timing, self._summary,
                                self._saver)
        self.report = self._monitor.report      # as `session.Steered`
        self.tell = self._monitor.tell
        self._register = Register(timing)

    def open(self) -> Address:
        """Take the lock, load the state, bind.  Return the address.

        Raises Locked, ConfigError, SaveError or Unreachable.
        """
        try:
            self._recorder.open()
            self._server = bind(self._address, self._key, self._local,
                                self._any_port)
            address: Address = self._server.address
            self._register.open(self.queue, self._recorder, address,
                                self.socket)
            return address
        except BaseException:
            self.close()
            raise

    @property
    def socket(self) -> str | None:
        """The path of the Unix socket that is served, if any."""
        local = None if self._server is None else self._server.local
        return None if local is None else local.path

    def close(self) -> None:
        """Let go of the port, the files and the lock."""
        if self._server is not None:
            self._server.close()
        self._register.close()
        self._recorder.close()
        self._saver.close()

    def run(self) -> int:
        """Serve until all is finished or `stop` was called and all is in.

        Return the exit code; raises the TaskmasterError that ended the run,
        which is `said` if it has been logged.  When it was stopped,
        `stopped_by` is the signal.
        """
        server = self._server
        assert server is not None, 'open it first'
        if self._recorder.paused:
            log.info('paused, as the last run was; tm-ctl resume goes on')
            self.queue.hold('pause', 'paused')
        server.start(lambda: Session(self.queue, self, self._verifies),
                     self._tls, self.fail, self._timing)
        log.info("Taskmaster server running on '%s'", name_of(server.address))
        self._progress.start(self._recorder.count)
        saver = self._serve('saver', self._saver.loop)
        self._serve('disk', self._saver.watch)
        self._serve('expirer', self._keep_expiring)
        self._register.thread = self._serve('register', self._register.keep)
        self._serve('pacer', self._throttle.keep_pace)
        if self._throttle.ask is not None:
            self._serve('throttle', self._throttle.keep_asking)
        if self._monitor.countable:
            self._serve('counter', self._monitor.count)
        self._feeder.start()
        self._watch()
        self._ended.set()
        self._throttle.end()
        self._saver.end()
        saver.join()
        self._guarded(lambda: self._saver.save(self._complete))
        server.stop(self._farewell())
        self._progress.finish(self._monitor.status())
        self._saver.finish()
        self._feeder.join(self._timing.source)      # it closes the source
        error = gravest(self._saver.trouble, self._feeder.error, self.said)
        code = self._outcome(error)
        if self.speaks_last:
            self.finished(code)
        if error is not None:
            raise error
        return code

    def finished(self, code: int) -> None:
        """Call the operator's `finished`: the run has ended with that code."""
        if self._ended_as is not None:
            outcome = self._ended_as._replace(code=code)
            self._register.correct(outcome)
            self._recorder.source.end(self._summary.document(
                self._recorder.source.name, outcome), self._timing.finished)

    def stop(self, number: int) -> None:
        """Drain because of a signal; any thread may call this."""
        self.stopped_by = number
        self._register.stopping(number)
        log.info('stopping: jobs in hand are finished and saved first; '
                 'once more to stop at once')
        self.queue.drain('draining')

    def abandon(self, code: int) -> None:
        """Drain because no slave is left that could do anything."""
        if self.over() or self.queue.draining:
            return
        self.fail(TaskmasterError('no slave is left; the state is saved, '
                                  'correct what ended them and start again',
                                  code or None))

    def fail(self, error: TaskmasterError) -> None:
        """Drain because of an error, which `run` will raise.

        Of several the gravest; any thread may call this.
        """
        if self.said is not None and error.exit_code <= self.said.exit_code:
            return
        if isinstance(error, Fault):
            self._deadline = time.monotonic() + self._timing.fault
        self.said = error
        traceback = getattr(error, 'traceback', '')
        if traceback:
            log.info('%s', traceback.rstrip('\n'))
        log.error('%s', error)
        self.queue.drain('draining', give_back=True)

    # -- steering, by any thread ------------------------------------------

    def control(self, command: str, rate: float | None) -> str:
        """As `session.Steered`: for a key holder, wherever that is."""
        if command == STOP:
            if not self.queue.draining:
                self.stopped_from_afar = True
                self.stop(signal.SIGTERM)
            return 'stopping: jobs in hand are finished and saved first'
        if command == RATE:
            said = self._throttle.steer(rate)
        else:
            self._recorder.paused = command == PAUSE
            self.queue.hold('pause', 'paused' if command == PAUSE else '')
            self._saver.wake()
            said = 'paused' if command == PAUSE else 'going on'
        self._register.tell(self._monitor.status())     # for `tm-ctl list`
        self.queue.quiet.info('%s (tm-ctl)', said)
        return said

    def failures(self) -> Failures:
        """As `session.Steered`: what `tm-ctl failures` shows."""
        return Failures(*self._recorder.kinds())

    # -- the end ----------------------------------------------------------

    @property
    def stopped(self) -> bool:
        """Whether slaves are told to wait for the next start."""
        return self._how == STOPPED

    @property
    def _how(self) -> str:
        """What slaves are told of the end."""
        return (STOPPED if self.stopped_by or self._saver.trouble
                else FAILED if self.said or self._feeder.error
                else LIMITED if self._limits.option else COMPLETE)

    @property
    def _complete(self) -> bool:
        return (self.queue.complete and self._feeder.error is None
                and not isinstance(self.said, Fault)
                and not self._limits.option)

    def over(self) -> bool:
        """Return whether all is finished, or nothing more will be."""
        queue = self.queue
        if self._deadline is not None and time.monotonic() > self._deadline:
            return True
        # What cannot be recorded must not keep a stopped master for ever;
        # after a fault there may be no saver, and the last save records it.
        given_up = self._deadline is not None or (
            self._saver.trouble is not None
            and (queue.draining or self._saver.out_of_patience))
        over = queue.complete or (
            (queue.draining or given_up and queue.exhausted)
            and queue.at_rest(but_unrecorded=given_up))
        if self._limits.too_many(over):
            self.fail(TooManyFailures())
        return over

    def _watch(self) -> None:
        """Look at the run until it is over."""
        while not self._guarded(self._look, True):
            self._await_news(self._deadline)
        # If it was that which is at fault, without it.
        while self._deadline is not None and not self._guarded(
                self.over, True):
            self._await_news(self._deadline)

    def _look(self) -> bool:
        self._progress.update(self._register.note(self._monitor.look()))
        self.queue.quiet.flush()
        if self._server is not None:
            self._server.quiet.flush()
        over = self.over()
        if not over:
            self._limits.look()
        return over

    def _guarded(self, act: Callable[[], Any], otherwise: Any = None) -> Any:
        """Return what ``act`` gives; what it raises unforeseen is a fault."""
        try:
            return act()
        except BaseException as error:
            self.fail(Fault.of(error, 'the main thread'))
            return otherwise

    def _keep_expiring(self) -> None:
        while not self._ended.wait(self._timing.tick):
            self.queue.expire()

    def _farewell(self) -> float:
        """Tell the slaves, and wait a little until they know.

        Return how long others may be waited for.
        """
        self.queue.finish(self._how)
        deadline = time.monotonic() + (
            self._timing.farewell if self._deadline is None
            else self._timing.fault)
        while self.queue.sessions and time.monotonic() < deadline:
            self._await_news(deadline)
        return deadline - time.monotonic()

    def _await_news(self, deadline: float | None) -> None:
        """Wait until something has changed, or for a tick."""
        left = (self._timing.tick if deadline is None
                else min(deadline - time.monotonic(), self._timing.tick))
        self._news.wait(max(left, 0))
        self._news.clear()

    def _outcome(self, error: TaskmasterError | None) -> int:
        """Return the exit code; say how it went."""
        recorder, counts = self._recorder, self.queue.counts()
        code = (error.exit_code if error is not None
                else EX_FAILED_JOBS if recorder.failed else 0)
        outcome = Outcome(
            code, counts.finished, recorder.failed, recorder.failures.path,
            counts.twice, counts.seen, self.stopped_by, self._limits.option,
            isinstance(error, Fault), recorder.count, recorder.retried,
            recorder.resumes, self.queue.name)
        self._summary.say(outcome)
        self._register.end(outcome, self._monitor.status())
        self._ended_as = outcome
        return code

    # -- threads ----------------------------------------------------------

    def _changed(self) -> None:
        self._news.set()
        self._saver.wake()

    def _serve(self, name: str, loop: Callable[[], None]) -> Service:
        service = Service(name, loop, self.fail)
        service.start()
        return service


def gravest(trouble: OSError | None,
            *errors: TaskmasterError | None) -> TaskmasterError | None:
    """Return the gravest of what has ended the run early, if anything has.

    ``trouble`` is what the last save of state and failures met.
    """
    if trouble is not None:
        return SaveError(
            f'the last save did not succeed ({summary(trouble)}); '
            'what is on disk is older, and the jobs since then will run '
            'again')
    return max((error for error in errors if error),
               key=lambda error: error.exit_code, default=None)
