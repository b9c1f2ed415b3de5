"""The master: puts source, feeder, queue, state and server together.

Four threads beside those that serve: the main one (progress, and when it is
over), the feeder, the *saver* (failures, then the watermark: all that writes
files) and the *expirer* (slaves that are silent), which shares no thread
with a disk or a terminal that may hang.
"""

import logging
import os
import secrets
import threading
import time
from typing import Any, Callable, Optional

from .checkpoint import Checkpoint, StateFile
from .errors import (EX_FAILED_JOBS, ConfigError, OperatorError, SaveError,
                     TaskmasterError)
from .failures import Failure, FailuresFile
from .feeder import Feeder
from .jobqueue import JobQueue
from .ledger import FailedJob
from .messages import COMPLETE, STOPPED
from .progress import Progress, Status
from .session import Session
from .source import Source
from .texts import safe_repr, short, summary
from .wire import Address, Manager, name_of

log = logging.getLogger(__name__)

TICK = 0.25         # seconds between two looks at the run
SAVE = 1.0          # seconds between two saves of the state
FAREWELL = 5.0      # seconds in which slaves may hear that the run is over
QUIET = 10.0        # seconds without a job from get_jobs that are mentioned


class Master:
    """One start of one run: `open`, then `run`.

    ``state`` is the path of the state file, by default in the current
    directory; the failures file lies beside it.
    """

    def __init__(self, source: Source, address: Address, key: bytes,
                 progress: Progress, state: Optional[str] = None,
                 size: int = 10_000, reset: bool = False):
        self.stopped_by: Optional[int] = None       # a signal
        self._source = source
        self._progress = progress
        self._news = threading.Event()          # for the main thread
        self._to_save = threading.Event()       # for the saver
        self._ended = threading.Event()
        self._manager = Manager(address, key)
        self._reset = reset
        self.queue = JobQueue(size, secrets.token_hex(8), source.name,
                              changed=self._changed)
        state = os.path.abspath(state or source.state_name)
        self._state = StateFile(state, source.name, source.path)
        self._failures = FailuresFile(_beside(state))
        self._start = Checkpoint(None, 0, 0, False)     # what was loaded
        self._saved = (0, 0)            # watermark and failures, on disk
        self._saved_key: Any = None
        self._trouble: Optional[OSError] = None     # with the files
        self._error: Optional[TaskmasterError] = None   # ends the run
        self._feeder: Optional[Feeder] = None
        self._source_seen = (0, 0.0)    # jobs fed, and when that changed

    # -- before the run ---------------------------------------------------

    def open(self) -> Address:
        """Take the lock, load the state, bind.  Gives the address.

        Raises Locked, ConfigError, SaveError or Unreachable.
        """
        self._state.lock()
        try:
            self._load()
            self._server = self._manager.get_server()
        except BaseException:
            self.close()
            raise
        address: Address = self._server.address
        return address

    def _load(self) -> None:
        path = self._state.path
        if not self._source.resumable:
            self._failures.set_aside()
            log.info('state: none is kept, as a plain iterable cannot be '
                     'resumed; give a get_jobs function for that')
            return
        if self._reset:
            self._forget()
        found = self._state.load()
        self._state.check_writable()
        self._failures.open(found.count if found else 0)
        if found is None:
            log.info('state: none in %s; starting at the beginning', path)
            return
        self._start = found
        self._saved = found.count, self._failures.count
        self._saved_key = found.key
        if found.key is None:
            log.info('state: %s, no job finished yet; starting at the '
                     'beginning', path)
        elif not self._source.takes_last:
            raise ConfigError(
                f'{path} says where to go on, but get_jobs takes no `last` '
                'to be told so; give it one, or start over with --reset')
        else:
            log.info('state: %s, %s after key %s (%d jobs, %d failed)', path,
                     'complete; looking for new jobs' if found.complete
                     else 'resuming', short(safe_repr(found.key)),
                     found.count, self._failures.count)

    def _forget(self) -> None:
        """Set state and failures aside, and say what is forgotten."""
        try:
            found = self._state.load()
            what = f'{found.count} finished jobs' if found else 'nothing'
        except ConfigError as error:
            what = f'a state that cannot be used ({error})'
        self._state.set_aside()
        self._failures.set_aside()
        log.info('--reset: %s forgotten; the files of before end in .old',
                 what)

    def close(self) -> None:
        """Let go of files and lock."""
        self._failures.close()
        self._state.close()

    # -- the run ----------------------------------------------------------

    def run(self) -> int:
        """Serve until all is finished or `stop` was called and all is in.

        Gives the exit code; raises the TaskmasterError that ended the run.
        When it was stopped, `stopped_by` is the signal.
        """
        start = self._start
        last = {} if start.key is None else {'last': start.key}
        self._feeder = Feeder(self.queue, lambda: self._source.open(**last),
                              self._is_last)
        self._server.start(lambda: Session(self.queue))
        log.info("Taskmaster server running on '%s'",
                 name_of(self._server.address))
        self._progress.start(start.count)
        saver = self._thread('saver', self._keep_saving)
        self._thread('expirer', self._keep_expiring)
        self._feeder.start()
        while not self._over():
            self._news.wait(TICK)
            self._news.clear()
            self._progress.update(self.status())
        self._ended.set()
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
        error.exit_code = code
        self.fail(error)

    def fail(self, error: TaskmasterError) -> None:
        """Drain because of an error, which `run` will raise."""
        if self._error is None:
            self._error = error
            error.said = True
            log.error('%s', error)
            self.queue.drain('draining')

    def status(self) -> Status:
        counts = self.queue.counts()
        before = self._start
        return Status(
            before.count + counts.finished, counts.queued, counts.slaves,
            self._failures.count + counts.unrecorded, self._reason())

    @property
    def _complete(self) -> bool:
        assert self._feeder
        return self.queue.complete and self._feeder.error is None

    def _over(self) -> bool:
        return self.queue.complete or (self.queue.draining
                                       and self.queue.at_rest)

    def _outcome(self) -> int:
        assert self._feeder
        if self._trouble is not None:
            raise SaveError(
                f'the last save did not succeed ({self._trouble}); what is '
                'on disk is older, so the jobs since then will run again')
        error = self._feeder.error or self._error
        if error is not None:
            raise error
        counts = self.queue.counts()
        failed = self._failures.count
        if not counts.finished and self._complete:
            log.info('no jobs')
        if failed:
            log.info('%d failed jobs are in %s', failed, self._failures.path)
        return EX_FAILED_JOBS if failed else 0

    def _reason(self) -> str:
        """Why nothing is leased, or what is being waited for, or ''."""
        if self.queue.held:
            return self.queue.held
        fed, since = self._source_seen
        now = time.monotonic()
        if self.queue.fed != fed or self.queue.qsize():
            self._source_seen = self.queue.fed, now
        elif now - since > QUIET and not self.queue.ended:
            return f'waiting for get_jobs, {now - since:.0f} s'
        return ''

    def _is_last(self, job: Any) -> bool:
        """Whether an earlier run finished this job, the source's first."""
        if self._start.key is None:
            return False
        return _equal(self._source.key(job), self._start.key)

    def _farewell(self) -> None:
        """Tell the slaves, and wait a little until they know."""
        stopped = self.stopped_by is not None or self._trouble is not None
        self.queue.finish(STOPPED if stopped else COMPLETE)
        deadline = time.monotonic() + FAREWELL
        while self.queue.sessions and time.monotonic() < deadline:
            self._news.wait(TICK)
            self._news.clear()
        self._server.stop()

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

    def _keep_saving(self) -> None:
        due = 0.0
        while not self._ended.is_set():
            self._to_save.wait(max(0, due - time.monotonic()) or SAVE)
            self._to_save.clear()
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
            self._failures.append([self._failure(job) for job in failed])
        except OSError as error:
            self._warn(error)
            return
        for job in failed:
            log.debug('failed: job %d: %s', job.number, job.error)
        self.queue.recorded([job.number for job in failed])

    def _failure(self, job: FailedJob) -> Failure:
        try:
            key = self._source.key(job.job)
        except OperatorError:
            key = job.job
        return Failure(self._start.count + job.number, safe_repr(key),
                       job.error, job.traceback, job.slave, job.attempts,
                       job.job, time.time())

    def _save(self, complete: bool = False) -> None:
        """Save failures and watermark, if there is anything new in them."""
        self._record()
        if not self._source.resumable:
            return
        number, job = self.queue.watermark()
        count, failed = self._start.count + number, self._failures.count
        if (count, failed) == self._saved and not (
                complete and not self._start.complete or self._trouble):
            return
        try:
            key = self._key_to_save(number, job)
            self._state.save(Checkpoint(key, count, failed, complete,
                                        time=time.time()))
        except OperatorError as error:
            self.fail(error)
        except OSError as error:
            self._warn(error)
        else:
            self._saved, self._saved_key = (count, failed), key
            if self._trouble is not None:
                self._trouble = None
                log.info('state: saved again')

    def _key_to_save(self, number: int, job: Any) -> Any:
        if not number:
            return self._start.key
        key = self._source.key(job)
        if (self._start.count + number != self._saved[0]
                and _equal(key, self._saved_key)):
            raise OperatorError(
                f'two jobs have the key {short(safe_repr(key))}; keys must '
                'be unique, or a run could not be resumed')
        return key

    def _warn(self, error: OSError) -> None:
        if self._trouble is None:
            log.warning('cannot save (%s); jobs go on, the state on disk '
                        'stays as it is until this works again',
                        summary(error))
        self._trouble = error


def _beside(state: str) -> str:
    """The failures file of a state file."""
    stem = state[:-len('.state')] if state.endswith('.state') else state
    return stem + '.failures'


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:       # of types that do not compare
        return False
