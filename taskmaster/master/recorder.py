"""What a run keeps on disk: how far it came, and the jobs that failed.

`Recorder` goes through the operator's source and saves the watermark;
`RetryRecorder` goes through the failures of earlier runs instead, and saves
what became of each.  One thread at a time (the saver's, once a run goes on).
"""

from __future__ import annotations

import os
import time

from .. import logs
from ..console.summary import Retried
from ..errors import ConfigError, NothingToDo, OperatorError, UsageError
from ..records import TYPE_CHECKING
from ..settings import Settings
from ..storage.codec import encode_key, same
from ..storage.failures import MISSING, Failure, FailuresFile
from ..storage.state import Checkpoint, StateFile
from ..text import counted, safe_repr, short
from ..usercode.source import Source, deaf
from ..wire.fields import NUMBER, TEXT
from .pieces import FailedJob

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, Sequence

log = logs.logger(__name__)

# To read the failures file beside who writes it.
TRIES = 3


class Recorder:
    """State and failures of the run of ``source``, in the file ``path``.

    ``reset`` sets both aside first, and so does ``anew`` where the run is
    complete.
    """

    whole = True        # the source is the operator's, which can be counted

    def __init__(self, source: Source, path: str, reset: bool = False,
                 anew: bool = False):
        self.source = source
        self.state = StateFile(path, source.name, source.path)
        self.failures = FailuresFile(_beside(path))
        self._reset = reset
        self._anew = anew
        self._start = Checkpoint(None, 0, 0, False)     # what was loaded
        # Told of each failure that is written down.
        self.recorded: Callable[[list[Failure]], None] = lambda failures: None
        # Up to which key is saved: of a person who stops the run at once.
        self.saved = ''
        self.paused = False         # by `tm-ctl pause`, until it is resumed
        # Called before jobs that are not to be together in a list.
        self.singly: Callable[[], None] = lambda: None
        # What is on disk; None when a save has failed somewhere on the way.
        self._saved: tuple[int, int, bool, bool] | None = 0, 0, False, False
        self._watermark: tuple[int, Any] = 0, None  # the last, saved or not
        self._first: dict[str, str] | None = None   # key of the run, encoded

    def open(self) -> None:
        """Take the lock and load; says where the run goes on.

        Raises Locked, ConfigError or SaveError, and then nothing is held.
        """
        self.state.lock()
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        if self.source.resumable:
            self._load()
        else:
            self.failures.set_aside()
            log.info('state: none is kept, as a plain iterable cannot be '
                     'resumed; give a get_jobs function for that')

    def jobs(self) -> Iterable[Any]:
        """Call the operator's source, for what is not finished yet."""
        if self._start.key is None:
            return self.source.open()
        return self.source.open(last=self._start.key)

    def skip(self, job: Any) -> bool:
        """Whether an earlier run finished this job, the source's first.

        Raises OperatorError when that is the first job of the run again: the
        source takes `last` and ignores it.
        """
        last = self._start.key
        if last is None:
            self._first = self._encoded(job)
            doubt = self.source.doubt(job) if self.source.resumable else ''
            if doubt:
                log.info('%s', doubt)
            return False
        key = self.source.key(job)
        if same(key, last):
            return True
        # One that failed may well come again, by a source that asks for all
        # that is not done yet.
        if (self._start.begins(key)
                and not self.failures.has_key(safe_repr(key))):
            raise deaf(short(safe_repr(key)))
        return False

    @property
    def count(self) -> int:
        """Jobs that were finished before this start."""
        return self._start.count

    @property
    def failed(self) -> int:
        """Jobs that are in the failures file."""
        return self.failures.count

    def failing(self, more: int) -> int:
        """Return how many there are with those about to be recorded."""
        return self.failures.count + more

    @property
    def resumes(self) -> bool:
        """Whether the next start goes on where this one has ended."""
        return not self.source.resumable or self.source.takes_last

    @property
    def retried(self) -> Retried | None:
        """Where the run stands, if it is not what this start is about."""
        return None

    def kinds(self) -> tuple[str, list[dict[str, Any]]]:
        """Return the file, and its failures by kind; any thread may ask."""
        from ..console.kinds import Kinds       # few ask
        path = short(self.failures.path, TEXT)
        for _ in range(TRIES):
            try:
                return path, Kinds(self.failures.unread()).report(True)
            except (OSError, ValueError):   # it was just put in order
                pass
        return path, []

    def record(self, failed: Sequence[FailedJob]) -> None:
        """Write failed jobs down, durably; raises OSError."""
        failures = [self._failure(job) for job in failed]
        self.failures.append(failures)
        self.recorded(failures)

    def save(self, number: int, job: Any, complete: bool) -> None:
        """Save the watermark, if it or the failures are new.

        ``number`` counts the jobs of this start up to it.  Raises OSError,
        and OperatorError for a key that cannot be saved.
        """
        if not self.source.resumable:
            return
        count = self._start.count + number
        new = count, self.failed, complete, self.paused and not complete
        if new == self._saved:
            return
        key = self._key(number, job)
        before, key_before = self._watermark
        if (key is not None and count != before
                and same(key, key_before)):
            raise OperatorError(
                f'two jobs have the key {short(safe_repr(key))}; keys must '
                'be unique, or a run could not be resumed')
        # Until it has succeeded nobody knows what is on disk.
        self._saved, self._watermark = None, (count, key)
        self.state.save(Checkpoint(key, *new, time.time(), self._first))
        self._saved = new
        self.saved = f'saved up to key {short(safe_repr(key))}'
        log.debug('saved: %s up to key %s, %d failed', counted(count, 'job'),
                  short(safe_repr(key)), self.failed)

    def finish(self) -> None:
        """The run has ended, and all that is to be saved is."""

    def close(self) -> None:
        """Let go of files and lock."""
        self.failures.close()
        self.state.close()

    def shown_key(self, job: Any) -> str:
        """The key of a job for a person; any thread may ask."""
        try:
            return short(safe_repr(self.source.key(job)))
        except OperatorError:
            return short(safe_repr(job))

    # -- loading ----------------------------------------------------------

    def _load(self) -> None:
        path = self.state.path
        if self._reset:
            self._forget('--reset')
        found = self.state.load()
        if found is not None and found.complete and self._anew:
            self._forget('checked once more from the beginning')
            found = None
        self.state.check_writable()
        self.failures.open(found.count if found else 0)
        if found is None or found.key is None:
            log.info('state: none in %s; starting at the beginning', path)
        else:
            self.source.check_takes_last(path)
            log.info('state: %s, %s after key %s (%s, %d failed)', path,
                     'complete; looking for new jobs' if found.complete
                     else 'resuming', short(safe_repr(found.key)),
                     counted(found.count, 'job'), self.failed)
        if not self.source.takes_last:
            log.warning('get_jobs takes no `last`, so a run that has been '
                        'stopped cannot go on; it begins anew, with --reset')
        if found is not None:
            self._start = found
            self._saved = (found.count, found.failed, found.complete,
                           found.paused)
            self.paused = found.paused
            self._watermark = found.count, found.key
            self.saved = f'saved up to key {short(safe_repr(found.key))}'
            self._first = found.first

    def _forget(self, why: str) -> None:
        """Set state and failures aside, and say what is forgotten."""
        what = self.state.peek()
        # State first: failures without one are dropped.
        aside = [file.path for file in (self.state, self.failures)
                 if file.set_aside()]
        if aside:
            log.info('%s: %s forgotten; set aside as .old: %s', why,
                     what or 'failed jobs', ', '.join(aside))

    # -- saving -----------------------------------------------------------

    def _key(self, number: int, job: Any) -> Any:
        return self.source.key(job) if number else self._start.key

    def _encoded(self, job: Any) -> dict[str, str] | None:
        """Return the key of the run's first job, or None if it has none.

        What is wrong with it is said when it is to be saved.
        """
        try:
            return encode_key(self.source.key(job))
        except OperatorError:
            return None

    def _number(self, job: FailedJob) -> int:
        """The number of a job, counted over all starts."""
        return self._start.count + job.number

    def _failure(self, job: FailedJob) -> Failure:
        try:
            key = self.source.key(job.job)
        except OperatorError:
            key = job.job
        return Failure(self._number(job), safe_repr(key), job.error,
                       job.traceback, job.slave, job.attempts, job.job,
                       time.time(), job.cause)


class RetryRecorder(Recorder):
    """``--retry-failed``: its source is the failures file.

    The state is locked but never written.  What became of each job is
    appended, and the file compacted at the end, so that a crash in the
    middle loses nothing.  ``kind`` is of which failures (see `kinds.is_of`),
    or None: of all.
    """

    whole = False

    def __init__(self, source: Source, path: str, kind: str | None = None):
        super().__init__(source, path)
        self.state.when_locked = (
            'failed jobs are retried when that one has ended; tm-ctl stop '
            'ends it, resumably')
        self._kind = kind
        self._run = Retried(0, False)
        self._numbers: list[int] = []       # of the jobs fed, in order
        self._again: dict[int, None] = {}   # those that failed again
        self._resolved = 0                  # how many have an outcome

    def _load(self) -> None:
        found = self.state.load()
        # Without a state nothing says that any of them will run again.
        self.failures.open(found.count if found else NUMBER)
        if found is not None:
            self._run = Retried(found.count, found.complete)
        count, of = self.failed, ''
        if not count:
            raise NothingToDo('there is nothing to retry: no failed job is '
                              f'in {self.failures.path}')
        if self._kind is not None:
            from ..console.kinds import Kinds
            kinds = Kinds(self.failures.unread())
            count = sum(map(self._wanted, self.failures.unread()))
            if not count:
                there = ', '.join(kind.name for kind in kinds.frequent())
                raise UsageError(
                    f'no failed job is of the kind {short(self._kind)}; '
                    f'there are: {there}')
            of = f'{count} of the '
        log.info('retrying %s%s of %s%s', of,
                 counted(self.failed, 'failed job'), self.failures.path,
                 '' if self._kind is None else f': {short(self._kind)}')

    @property
    def retried(self) -> Retried | None:
        return self._run

    def failing(self, more: int) -> int:
        """Those that fail again are in the file already."""
        return self.failures.count

    def jobs(self) -> Iterator[Any]:
        from ..iterators.between import Range
        for failure in self.failures.outstanding():
            if not self._wanted(failure):
                continue
            if failure.job is MISSING:
                log.warning('job %d (key %s) cannot be retried from the file '
                            '(%s); it needs get_jobs again', failure.number,
                            failure.key, failure.missing)
                continue
            self._numbers.append(failure.number)
            if isinstance(failure.job, Range):
                self.singly()       # one statement would do what is between
            yield failure.job

    def _wanted(self, failure: Failure) -> bool:
        if self._kind is None:
            return True
        from ..console.kinds import is_of
        return is_of(self._kind, failure)

    def skip(self, job: Any) -> bool:
        return False

    def record(self, failed: Sequence[FailedJob]) -> None:
        super().record(failed)
        self._again.update(dict.fromkeys(self._number(job)
                                         for job in failed))

    def save(self, number: int, job: Any, complete: bool) -> None:
        """Record as resolved what is done up to the watermark."""
        done = self._numbers[self._resolved:number]
        self.failures.resolve(n for n in done if n not in self._again)
        self._resolved = number

    def finish(self) -> None:
        self.failures.compact()

    def _number(self, job: FailedJob) -> int:
        return self._numbers[job.number - 1]


def state_path(source: Source, settings: Settings) -> str:
    """Return where the state of a run is kept.

    Raises ConfigError where there is no current folder to keep it in.
    """
    path = os.path.join(settings.folder, settings.state or source.state_name)
    if not os.path.isabs(path):
        raise ConfigError('the current directory has been removed; go to '
                          'another, or give the state a place with --state')
    return os.path.normpath(path)


def make_recorder(source: Source, settings: Settings) -> Recorder:
    """What goes through the source, or through the failures of before.

    Raises ConfigError.
    """
    source.check_functions()
    path = state_path(source, settings)
    failed = settings.retry_failed
    return (RetryRecorder(source, path, None if failed is True else failed)
            if failed else Recorder(source, path, settings.reset,
                                    anew=settings.verify))


def _beside(state: str) -> str:
    """The failures file of a state file."""
    stem = state[:-len('.state')] if state.endswith('.state') else state
    return stem + '.failures'
