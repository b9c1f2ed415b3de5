"""The master: puts source, feeder, queue, recorder and server together.

Five threads beside those that serve: the main one (progress, and when it is
over), the feeder, the *saver* (failures, then the watermark: all that writes
files), the *expirer* (slaves that are silent), which shares no thread
with a disk or a terminal that may hang, and the *pacer* (`--rate`).
"""

import secrets
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional

from .. import __version__, logs
from ..address import Address, name_of
from ..console.progress import SHOWN_WINDOW, Progress, Rate, Status, estimate
from ..console.status import lines
from ..console.summary import Summary
from ..errors import (EX_FAILED_JOBS, OperatorError, SaveError,
                      TaskmasterError, TooManyFailures, Unreachable)
from ..settings import Settings
from ..text import short, summary
from ..wire.messages import COMPLETE, PAUSE, RATE, STOP, STOPPED
from ..wire.server import Manager, Server
from .feeder import Feeder
from .jobqueue import JobQueue, Oldest
from .recorder import Recorder
from .session import Session

if TYPE_CHECKING:
    from ..wire.tls import Context

log = logs.logger(__name__)

THROTTLE = 1.0      # seconds between two calls of the operator's throttle
TICK = 0.25         # seconds between two looks at the run
SAVE = 1.0          # seconds between two saves of the state
FAREWELL = 5.0      # seconds in which slaves may hear that the run is over
QUIET = 10.0        # seconds without a job from get_jobs that are mentioned
PATIENCE = 60.0     # seconds without a failures file until leases stop
LOOKS = 40          # at the queue, to tell whether source or slaves are slower
STUCK = 30.0        # seconds in one slave's hands after which a job is named
STILL = 60.0        # seconds without a finished job that are worth a line
NAMED = 3           # slaves in it


class Master:
    """One start of one run: `open`, then `run`, then `close`.

    ``any_port`` is whether another one will do where that of ``address`` is
    taken; ``tls`` is for a port that others can reach (see `tls.serving`).
    """

    def __init__(self, recorder: Recorder, address: Address, key: bytes,
                 progress: Progress, settings: Settings,
                 any_port: bool = False, tls: Optional['Context'] = None):
        self.stopped_by: Optional[int] = None       # a signal
        self.stopped_from_afar = False              # by `tm-ctl stop`
        self.queue = JobQueue(settings.size, secrets.token_hex(8),
                              recorder.source.name,
                              settings.max_failures.reached,
                              changed=self._changed)
        self._recorder = recorder
        self._address, self._key = address, key
        self._any_port = any_port
        self._tls = tls
        self._progress = progress
        self._feeder = Feeder(self.queue, recorder.jobs, recorder.skip,
                              settings.limit)
        self._news = threading.Event()          # for the main thread
        self._to_save = threading.Event()       # for the saver
        self._ended = threading.Event()
        self._trouble: Optional[OSError] = None     # with the files
        self._troubled = 0.0                        # since when
        self._error: Optional[TaskmasterError] = None   # ends the run
        self._source_seen = (0, 0.0)    # jobs fed, and when that changed
        self._rate = settings.rate
        self._limit = settings.limit
        self._total = settings.total
        self._steered = threading.Event()       # for the pacer
        self._speed = Rate(SHOWN_WINDOW)
        self._starved = [0, 0]          # looks at the queue: empty, and all
        self._summary = Summary()
        self._finished = 0, 0.0         # jobs, and when that was said last

    def open(self) -> Address:
        """Take the lock, load the state, bind.  Gives the address.

        Raises Locked, ConfigError, SaveError or Unreachable.
        """
        try:
            self._recorder.open()
            self._server = self._bind()
        except BaseException:
            self.close()
            raise
        address: Address = self._server.address
        return address

    def _bind(self) -> Server:
        try:
            return Manager(self._address, self._key).get_server()
        except Unreachable:
            if not self._any_port:
                raise
            host, _ = self._address
            return Manager((host, 0), self._key).get_server()

    def close(self) -> None:
        """Let go of files and lock."""
        self._recorder.close()

    def run(self) -> int:
        """Serve until all is finished or `stop` was called and all is in.

        Gives the exit code; raises the TaskmasterError that ended the run.
        When it was stopped, `stopped_by` is the signal.
        """
        if self._recorder.paused:
            log.info('paused, as the last run was; tm-ctl resume goes on')
            self.queue.hold('pause', 'paused')
        self.queue.set_rate(self._rate)
        self._server.start(lambda: Session(self.queue, self), self._tls)
        log.info("Taskmaster server running on '%s'",
                 name_of(self._server.address))
        self._progress.start(self._recorder.count)
        saver = self._thread('saver', self._keep_saving)
        self._thread('expirer', self._keep_expiring)
        self._thread('pacer', self._keep_pace)
        source = self._recorder.source
        if source.throttle is not None:
            self.queue.hold('throttle', 'waiting for throttle')
            self._thread('throttle', self._keep_throttling)
        if (self._total is None and source.count is not None
                and self._recorder.whole):
            self._thread('counter', self._count)
        self._feeder.start()
        while not self._over():
            self._news.wait(TICK)
            self._news.clear()
            self._look()
        self._ended.set()
        self._steered.set()
        self._to_save.set()
        saver.join()
        self._save(complete=self._complete)
        self._farewell()
        self._progress.finish(self.status())
        return self._outcome()

    def stop(self, number: int) -> None:
        """Drain because of a signal; any thread may call this."""
        self.stopped_by = number
        log.info('stopping: jobs in hand are finished and saved first; '
                 'once more to stop at once')
        self.queue.drain('draining')

    def abandon(self, code: int) -> None:
        """Drain because no slave is left that could do anything."""
        if self._over() or self.queue.draining:
            return
        error = TaskmasterError('no slave is left; the state is saved, '
                                'correct what ended them and start again')
        error.exit_code = code or error.exit_code
        self._fail(error)

    # -- steering, by any thread ------------------------------------------

    def control(self, command: str, rate: Optional[float]) -> str:
        """As `control.Steered`: for a key holder, wherever that is."""
        if command == STOP:
            if not self.queue.draining:
                self.stopped_from_afar = True
                self.stop(signal.SIGTERM)
            return 'stopping: jobs in hand are finished and saved first'
        if command == RATE:
            self._rate = rate or None
            self.queue.set_rate(self._rate)
            self._steered.set()
            said = (f'at most {rate:g} jobs a second' if rate
                    else 'as fast as can be')
        else:
            self._recorder.paused = command == PAUSE
            self.queue.hold('pause', 'paused' if command == PAUSE else '')
            self._to_save.set()
            said = 'paused' if command == PAUSE else 'going on'
        log.info('%s (tm-ctl)', said)
        return said

    def report(self) -> Dict[str, Any]:
        """As `control.Steered`: what `tm-ctl status --json` shows."""
        status, oldest = self.status(), self.queue.oldest()
        rate = self._speed.per_second()
        empty, looks = self._starved
        return {
            'run': self.queue.name, 'version': __version__,
            'state': self._reason() or 'running', 'paused':
            self._recorder.paused, 'current': status.current,
            'total': status.total, 'failed': status.failed, 'rate': rate,
            'limit': self._rate, 'eta': estimate(status, rate),
            'queued': status.queued, 'size': self.queue.maxsize,
            'slower': ('slaves' if self.queue.ended else
                       'source' if 2 * empty > looks else
                       'rate' if self._rate else 'slaves'),
            'oldest': None if oldest is None else {
                'number': self._recorder.count + oldest.number,
                'key': self._recorder.shown_key(oldest.job),
                'slave': oldest.slave, 'age': oldest.age},
            'slaves': [slave._asdict() for slave in self.queue.slaves()]}

    def _look(self) -> None:
        status = self.status()
        self._progress.update(status)
        self._speed.add(time.monotonic(), status.current)
        empty, looks = self._starved
        if looks >= LOOKS:              # the older ones count less and less
            empty, looks = empty // 2, looks // 2
        self._starved = [empty + (status.queued < self.queue.maxsize // 2),
                         looks + 1]
        self._say_when_stuck(status)

    def _say_when_stuck(self, status: Status) -> None:
        """A line when nothing has finished for a minute, and each minute."""
        finished, since = self._finished
        now = time.monotonic()
        if status.current != finished or not since:
            self._finished = status.current, now
        elif now - since >= STILL:
            self._finished = finished, now
            holders = self.queue.holders()
            if holders:
                log.warning('nothing has finished for a minute: %s%s',
                            '; '.join(map(self._held, holders[:NAMED])),
                            f'; and {len(holders) - NAMED} slaves more'
                            if len(holders) > NAMED else '')

    def _held(self, oldest: Oldest) -> str:
        return (f'job {self._recorder.count + oldest.number} '
                f'(key {self._recorder.shown_key(oldest.job)}) is with '
                f'{oldest.slave} for {oldest.age:.0f} s')

    def tell(self) -> None:
        """Say what is going on, on SIGUSR1; any thread may call this."""
        for line in lines(self.report()):
            log.info('%s', line)

    def status(self) -> Status:
        counts = self.queue.counts()
        return Status(self._recorder.count + counts.finished, counts.queued,
                      counts.slaves, self._recorder.failed
                      + counts.unrecorded, self._reason() or self._stuck(),
                      self._total)

    # -- the end ----------------------------------------------------------

    @property
    def stopped(self) -> bool:
        """Whether slaves are told to wait for the next start."""
        return self.stopped_by is not None or self._trouble is not None

    @property
    def _complete(self) -> bool:
        return (self.queue.complete and self._feeder.error is None
                and not self._limited)

    @property
    def _limited(self) -> bool:
        """Whether there may be more jobs beyond the limit."""
        return self._limit is not None and self.queue.fed >= self._limit

    def _over(self) -> bool:
        queue = self.queue
        if queue.too_many and not queue.draining:
            self._fail(TooManyFailures(
                'stopped by too many failed jobs (--max-failures); see the '
                'failures file, then start again'))
        # What cannot be recorded must not keep a stopped master for ever.
        given_up = self._trouble is not None and (
            queue.draining or time.monotonic() - self._troubled > PATIENCE)
        return queue.complete or (
            (queue.draining or given_up and queue.exhausted)
            and queue.at_rest(but_unrecorded=given_up))

    def _fail(self, error: TaskmasterError) -> None:
        """Drain because of an error, which `run` will raise."""
        if self._error is None:
            self._error = error
            error.said = True
            if isinstance(error, OperatorError) and error.traceback:
                log.info('%s', error.traceback.rstrip('\n'))
            log.error('%s', error)
            self.queue.drain('draining', give_back=True)

    def _farewell(self) -> None:
        """Tell the slaves, and wait a little until they know."""
        self.queue.finish(STOPPED if self.stopped else COMPLETE)
        deadline = time.monotonic() + FAREWELL
        while self.queue.sessions and time.monotonic() < deadline:
            self._news.wait(TICK)
            self._news.clear()
        self._server.stop()

    def _outcome(self) -> int:
        """The exit code, or raise what it is for; says how it went."""
        if self._trouble is None:
            try:
                self._recorder.finish()
            except OSError as error:
                self._trouble = error
        code = EX_FAILED_JOBS if self._recorder.failed else 0
        ended_by = self._feeder.error or self._error
        if self._trouble is not None:
            ended_by = SaveError(
                f'the last save did not succeed ({summary(self._trouble)}); '
                'what is on disk is older, and the jobs since then will run '
                'again')
        if ended_by is not None:
            code = ended_by.exit_code
        counts = self.queue.counts()
        self._summary.say(counts.finished, self._recorder, code, counts.twice,
                          counts.seen, self.stopped_by,
                          self._limited and self.queue.complete)
        if ended_by is not None:
            raise ended_by
        return code

    # -- what is going on -------------------------------------------------

    def _reason(self) -> str:
        """Why nothing is leased, or what is being waited for, or ''."""
        queue = self.queue
        if queue.held:
            return queue.held
        fed, since = self._source_seen
        now = time.monotonic()
        if queue.fed != fed or queue.qsize() or not since:
            self._source_seen = queue.fed, now
        elif now - since > QUIET and not queue.exhausted:
            return f'waiting for get_jobs, {now - since:.0f} s'
        return ''

    def _stuck(self) -> str:
        """Which job is held up while the others go on, or ''."""
        oldest = self.queue.oldest()
        if oldest is not None and oldest.slave and oldest.age > STUCK:
            return self._held(oldest)
        return ''

    # -- threads ----------------------------------------------------------

    def _changed(self) -> None:
        self._news.set()
        self._to_save.set()

    def _thread(self, name: str, run: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread

    def _keep_expiring(self) -> None:
        while not self._ended.wait(TICK):
            self.queue.expire()

    def _keep_pace(self) -> None:
        """Let jobs go at a limited rate; asleep while there is none."""
        while not self._ended.is_set():
            self._steered.wait(self.queue.pace())
            self._steered.clear()

    def _keep_throttling(self) -> None:
        throttle = self._recorder.source.throttle
        assert throttle is not None
        self._hold_back(throttle)
        while not self._ended.wait(THROTTLE):
            self._hold_back(throttle)

    def _hold_back(self, throttle: Callable[[], Any]) -> None:
        """Ask the operator whether to hand out jobs now."""
        try:
            answer = throttle()
            reason = ('' if not answer else f'throttled: {short(answer)}'
                      if isinstance(answer, str) else 'throttled')
        except BaseException as error:      # what it looks at is not well
            reason = f'throttle raised {summary(error)}'
        self.queue.hold('throttle', reason)

    def _count(self) -> None:
        """Ask the operator how many jobs there are in all."""
        count = self._recorder.source.count
        assert count is not None
        try:
            total = count()
            self._total = None if total is None else int(total)
        except BaseException as error:
            log.warning('count_jobs raised %s; there will be no ETA',
                        summary(error))

    def _keep_saving(self) -> None:
        due = 0.0
        while not self._ended.is_set():
            left = due - time.monotonic()
            self._to_save.wait(left if left > 0 else SAVE)
            self._to_save.clear()
            if self._trouble is None or time.monotonic() >= due:
                self._record()
            if time.monotonic() >= due:
                due = time.monotonic() + SAVE
                self._save()

    def _record(self) -> None:
        """Write the failed jobs down, which lets the watermark pass them."""
        failed = self.queue.unrecorded()
        if not failed:
            return
        try:
            self._recorder.record(failed)
            self._summary.add(job.error for job in failed)
        except OSError as error:
            self._in_trouble(error)
            if time.monotonic() - self._troubled > PATIENCE:
                self.queue.hold('failures', 'failed jobs cannot be recorded')
        else:
            self.queue.recorded([job.number for job in failed])
            self.queue.hold('failures', '')

    def _save(self, complete: bool = False) -> None:
        """Save failures and watermark, if there is anything new in them."""
        self._record()
        try:
            self._recorder.save(*self.queue.watermark(), complete)
        except OperatorError as error:
            self._fail(error)
        except OSError as error:
            self._in_trouble(error)
        else:
            if self._trouble is not None and not self.queue.unrecorded():
                self._trouble = None
                log.info('saving works again')

    def _in_trouble(self, error: OSError) -> None:
        if self._trouble is None:
            self._troubled = time.monotonic()
            log.warning('cannot save (%s); jobs go on, but what is on disk '
                        'stays as it is until this works again',
                        summary(error))
        self._trouble = error
