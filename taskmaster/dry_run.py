"""`--dry-run`: what a run would do, and whether it could be gone on with.

Nothing is served or written, and no handler called.  The source is called
from its beginning, and once more as at a resume; of its first jobs all is
tried that the run would rest on: their keys, and what pickles make of them.
"""

from __future__ import annotations

import os
import pickle
import time
from datetime import timedelta
from functools import partial
from queue import Empty, SimpleQueue
from threading import Semaphore

from .console.output import print_line
from .errors import ConfigError, OperatorError, UsageError
from .logs import logger
from .master.lease_size import Weight
from .master.recorder import state_path
from .records import TYPE_CHECKING
from .service import Service
from .settings import Settings
from .storage.codec import encode_key, identity, same
from .storage.state import Checkpoint, StateFile
from .text import counted, safe_repr, short, summary, traceback_of
from .usercode import signature
from .usercode.handler import Handler
from .usercode.source import Source, may_change, opened, same_again
from .wire.messages import PICKLE

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

SHOWN = 10              # jobs that are shown
# Which of them a resume is tried after.
LAST = 5
CLOSELY = 1000, 2.0     # jobs, or seconds, that are looked at one by one
ENOUGH = 100_000, 2.0   # jobs, or seconds, to know how fast get_jobs is
PATIENCE = 10.0         # seconds without a line, until that is said


def rehearse(source: Source, settings: Settings,
             load: Callable[[], Handler] | None = None) -> int:
    """Print what a run with these settings would do; return 0.

    ``load`` returns the handler, where the run has that too.  Raises
    OperatorError when something is not right, ConfigError for a state that
    cannot be used, and UsageError.
    """
    if settings.retry_failed:
        raise UsageError('--dry-run goes with get_jobs, not --retry-failed')
    faults = []
    for line in _Rehearsal(source, settings).lines(load):
        print_line(f'{line.label + ":":<7} {"ok, " * (line.good is True)}'
                   f'{line.text}')
        if line.good is False:
            faults.append(line)
    if len(faults) > 1:
        raise OperatorError('not right: ' + ', '.join(
            line.label for line in faults) + '; the lines say what to do')
    if faults:
        raise OperatorError(faults[0].text)
    return 0


class Line:
    """What is said: whether it is ``good`` or not; None: it just is so."""

    def __init__(self, label: str, text: str, good: bool | None = None):
        self.label, self.text, self.good = label, text, good


def _aside(called: str, lines: Iterator[Line]) -> Iterator[Line]:
    """Go through them on a thread of its own, by which a run calls that.

    What belongs to the main thread is missed here as it would be there: a
    connection of sqlite3 that the module made, a signal's handler.
    """
    found: SimpleQueue[Line | BaseException | None] = SimpleQueue()
    printed = Semaphore(0)      # or what get_jobs prints comes in between

    def go_through() -> None:
        for line in lines:
            found.put(line)
            printed.acquire()
        found.put(None)
    Service(called, go_through, found.put).start()
    waited = 0.0
    while True:
        try:
            line = found.get(timeout=PATIENCE)
        except Empty:
            waited += PATIENCE
            logger(__name__).info('waiting for %s, %.0f s', called, waited)
            continue
        if line is None:
            return
        if isinstance(line, BaseException):
            raise line
        waited = 0.0
        yield line
        printed.release()


class _Rehearsal:
    """One of one source, and what it has found."""

    def __init__(self, source: Source, settings: Settings):
        self._source = source
        self._settings = settings
        self._keys: list[Any] = []      # of the first jobs, for a resume
        self._known: dict[bytes, Any] = {}      # keys, by what is saved
        self._wrong_key = ''
        self._longest = 0               # bytes of a key as it is saved
        self._wrong_job = ''
        self._bad = 0                   # jobs
        self._heaviest = 0              # bytes of a job
        self._bytes = 0                 # of those that were looked at
        self._closely = 0               # how many these are
        self._weight = Weight()
        self._count = 0
        self._took = 0.0                # seconds in get_jobs alone
        self._first = 0.0               # of these until the first job
        self._ended = False             # it has no more jobs
        self._total: int | None = None  # jobs, as somebody says

    def lines(self, load: Callable[[], Handler] | None) -> Iterator[Line]:
        """Yield the lines to print; raises as `rehearse` does."""
        source = self._source
        yield Line('run', source.name)
        yield Line('source', source.path)
        path = state_path(source, self._settings)
        found = self._found(path)
        last = None if found is None else found.key
        writable = os.access(os.path.dirname(path), os.W_OK)
        where = ('whose folder cannot be written; choose another with --state'
                 if not writable else 'would start at the beginning'
                 if last is None else f'would go on after key {_shown(last)}')
        yield Line('state', f'{path}; {where}', None if writable else False)
        lines = self._of_source()
        yield from lines if self._settings.inline else _aside('get_jobs',
                                                              lines)
        if load is not None:
            yield from self._of_functions(load)
        self._total = self._settings.total
        if self._total is not None:
            yield Line('total', f"{counted(self._total, 'job')}, by --total")
        elif source.count is not None:
            yield from _aside('count_jobs', self._of_count(source.count))
        yield Line('speed', f"{counted(self._count, 'job')} from get_jobs in "
                   f'{self._took:.2f} s ({self._rate():.0f}/s); none was '
                   'handled, nothing written')
        yield self._of_time(self._total, found)

    def _found(self, path: str) -> Checkpoint | None:
        source = self._source
        found = None if self._settings.reset else StateFile(
            path, source.name, source.path).load()
        if found is not None and found.complete and self._settings.verify:
            return None
        if found is not None and found.key is not None:
            source.check_takes_last(path)
        return found

    # -- going through it -------------------------------------------------

    def _of_source(self) -> Iterator[Line]:
        try:
            yield from self._go_through()
        except OperatorError:
            raise
        except BaseException as error:
            raise OperatorError(f'get_jobs raised {summary(error)}',
                                traceback_of(error)) from error
        yield self._of_keys()
        yield self._of_jobs()
        if self._weight.each:
            full = min(self._settings.size, self._weight.held())
            yield Line('memory', 'a full queue would be '
                       f"{counted(full, 'job')}, about "
                       f'{full * self._weight.each / 1e6:.1f} MB of them '
                       'pickled')
        yield self._of_last()

    def _go_through(self) -> Iterator[Line]:
        """Look at the first jobs closely, and at some more how fast."""
        jobs = opened(self._source.open)
        try:
            most, seconds = CLOSELY
            previous = None
            begin = 0.0
            # However slow it is, a resume is tried.
            while self._count < most and (
                    self._count <= LAST
                    or time.monotonic() - begin < seconds):
                asked = time.perf_counter()
                job = next(jobs, self)      # which is no job
                self._took += time.perf_counter() - asked
                if job is self:
                    self._ended = True
                    return
                if not self._count:
                    begin, self._first = time.monotonic(), self._took
                if job is previous and may_change(job):
                    raise same_again(job)
                previous = job
                self._count += 1
                shown = self._look_at(job)
                if self._count <= SHOWN:
                    yield Line('job', shown)
            self._measure(jobs)
        finally:
            close = getattr(jobs, 'close', None)
            if close is not None:
                close()

    def _measure(self, jobs: Iterator[Any]) -> None:
        most, seconds = ENOUGH
        spent = self._took - self._first
        if spent > seconds:
            return
        begin = now = time.perf_counter()
        until = begin + seconds - spent
        self._ended = True
        for _ in jobs:
            now = time.perf_counter()
            self._count += 1
            if self._count >= most or now > until:
                self._ended = False
                break
        self._took += now - begin

    def _look_at(self, job: Any) -> str:
        """Take note of all about a job; return what to show of it."""
        key = self._source.key(job)
        if len(self._keys) <= LAST:
            self._keys.append(key)
        if self._source.resumable and not self._wrong_key:
            self._wrong_key = self._of_key(key)
        wrong, size = _fault(job)
        self._closely += 1
        self._bytes += size
        self._heaviest = max(self._heaviest, size)
        if size:
            self._weight.observe(1, size)
        if wrong:
            self._bad += 1
            self._wrong_job = self._wrong_job or f'{wrong} (key {_shown(key)})'
        what = counted(size, 'byte') if size else wrong
        return f'key {_shown(key)}, {what}, {short(safe_repr(job), 60)}'

    def _of_key(self, key: Any) -> str:
        """What is wrong with a key, or ''."""
        try:
            saved = encode_key(key)
        except OperatorError as error:
            return str(error)
        self._longest = max(self._longest, sum(map(len, saved.values())))
        if self._known.setdefault(identity(key), self._count) != self._count:
            return (f'two jobs have the key {_shown(key)}; keys must be '
                    'unique, or a run could not be resumed: give the module '
                    'a get_key(job) that returns an id')
        return ''

    # -- what is said -----------------------------------------------------

    def _of_keys(self) -> Line:
        if not self._source.resumable:
            return Line('keys', 'not needed, as no state is kept')
        if self._wrong_key or not self._count:
            return Line('keys', self._wrong_key or 'there is no job',
                        False if self._wrong_key else None)
        several = (f'the first {self._closely} are unique and come back as '
                   'they are saved' if self._closely > 1 else
                   'the only one comes back as it is saved')
        return Line('keys', f"{several}, in {counted(self._longest, 'byte')} "
                    'at most', True)

    def _of_jobs(self) -> Line:
        if self._bad:
            return Line('jobs', f'{self._bad} of the first {self._closely} '
                        f'would fail: one {self._wrong_job}', False)
        if not self._count:
            return Line('jobs', 'none')
        several = (f'the first {self._closely} come back from a pickle as '
                   'they are' if self._closely > 1 else
                   'the only one comes back from a pickle as it is')
        return Line('jobs', f'{several}, of '
                    f'{self._bytes / self._closely:.0f} bytes in the mean '
                    f'and {self._heaviest} at most', True)

    def _of_last(self) -> Line:
        """Try a resume: after the fifth job, if there is a sixth."""
        source, keys = self._source, self._keys
        if not source.takes_last:
            return Line('last', 'get_jobs takes no `last`, so a run that was '
                        'stopped begins anew, with --reset')
        if len(keys) < 2:
            return Line('last', 'not checked, as that takes two jobs')
        last, following = keys[-2:]
        asked = f'get_jobs(last={_shown(last)})'
        try:
            jobs = opened(partial(source.open, last=last))
            job = next(jobs, self)
            getattr(jobs, 'close', int)()
        except OperatorError as error:
            return Line('last', f'{asked}: {error}', False)
        except BaseException as error:
            return Line('last', f'{asked} raised {summary(error)}', False)
        if job is self:
            return Line('last', f'{asked} yields nothing, and '
                        f'{_shown(following)} should come; yield what comes '
                        'after `last`', False)
        key = source.key(job)
        if same(key, following) or same(key, last):
            return Line('last', f'{asked} begins with {_shown(key)}', True)
        if same(key, keys[0]):
            return Line('last', f'get_jobs began with {_shown(key)} again, '
                        f'called as {asked}, so it does not go on from '
                        '`last`; yield only what comes after `last`', False)
        return Line('last', f'{asked} begins with {_shown(key)}, and '
                    f'{_shown(following)} should come; yield what comes after '
                    '`last`, in the same order each time', False)

    def _of_functions(self, load: Callable[[], Handler]) -> Iterator[Line]:
        try:
            handler = load()
        except ConfigError as error:
            yield Line('handler', str(error), False)
        else:
            yield _fits('handler', handler.function, 1 + handler.takes_tool)
            yield _fits('setup', handler.setup, 0)
        yield _fits('throttle', self._source.throttle, 0)

    def _of_count(self, count: Callable[[], Any]) -> Iterator[Line]:
        begin = time.monotonic()
        try:
            said = count()
            self._total = None if said is None else int(said)
        except BaseException as error:
            yield Line('total', f'count_jobs raised {summary(error)}; '
                       'correct it, or there will be no ETA', False)
            return
        took = time.monotonic() - begin
        yield Line('total', f'count_jobs says {self._total}, after '
                   f'{took:.2f} s', True)

    def _of_time(self, total: int | None, found: Checkpoint | None) -> Line:
        if self._ended:
            total = self._count
        if total is None:
            return Line('time', 'unknown, as nobody says how many jobs there '
                        'are; give --total, or a count_jobs()')
        left = max(0, total - (found.count if found else 0))
        if self._settings.limit is not None:
            left = min(left, self._settings.limit)
        seconds = round(self._first + left / self._rate()) if left else 0
        return Line('time', f'get_jobs alone would take '
                    f"{timedelta(seconds=seconds)} for {counted(left, 'job')}")

    def _rate(self) -> float:
        """Jobs a second after the first, whose query may take its time."""
        if self._count < 2:
            return self._count / max(self._took, 1e-6)
        return (self._count - 1) / max(self._took - self._first, 1e-6)


def _fits(label: str, function: Any, arguments: int) -> Line:
    """Say whether a function can be called with so many arguments."""
    if function is None:
        return Line(label, 'none')
    name = getattr(function, '__name__', type(function).__name__)
    good = signature.fits(function, arguments)
    return Line(label, f"{name} takes {counted(arguments, 'argument')}"
                if good else str(signature.misfit(name, arguments)), good)


def _fault(job: Any) -> tuple[str, int]:
    """What is wrong with a job, or '', and how many bytes it is pickled."""
    try:
        pickled = pickle.dumps(job, PICKLE)
    except BaseException as error:
        return (f'CANNOT BE PICKLED ({short(summary(error), 60)}); yield '
                'plain values, as tuple(row) or dict(row)'), 0
    try:
        if same(pickle.loads(pickled), job):
            return '', len(pickled)
        why = 'comes back as another from its pickle'
    except BaseException as error:
        why = f'cannot be unpickled ({short(summary(error), 60)})'
    return why + '; yield plain values, as tuple(row) or dict(row)', len(
        pickled)


def _shown(key: Any) -> str:
    return short(safe_repr(key), 60)
