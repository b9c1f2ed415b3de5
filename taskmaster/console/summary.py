"""What is said at the end of a run: what was done, what failed, and why."""

from __future__ import annotations

import os
import signal
import time

from .. import logs
from ..errors import EX_FAILED_JOBS
from ..records import TYPE_CHECKING, NamedTuple
from ..text import counted, duration, quoted

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable

    from .kinds import Kind, Kinds, Recorded

log = logs.logger(__name__)

# Kinds of failures that are named at the end.
FREQUENT = 3
# A kind is said once more when so many jobs have failed that way.
AGAIN = {10 ** n for n in range(1, 19)}

COMPLETE = 'complete'

WHY = {
    os.EX_OK: COMPLETE,
    EX_FAILED_JOBS: 'complete, but for the failed jobs',
    os.EX_DATAERR: 'stopped by --max-failures',
    os.EX_UNAVAILABLE: 'no slave is left, and none of them found the master',
    os.EX_SOFTWARE: 'code outside of a job raised',
    os.EX_IOERR: 'the last save did not succeed'}


class Retried(NamedTuple):
    """Where the run itself stands, of which failed jobs were retried."""

    jobs: int                       # that it has finished
    complete: bool


class Outcome(NamedTuple):
    """How a start has ended."""

    code: int                       # its exit code
    finished: int                   # jobs, in this start
    failed: int                     # jobs in the failures file, of any start
    failures: str                   # the path of that
    twice: int = 0                  # jobs of this start done once more
    slaves: int | None = None       # that have come, if there were any
    stopped_by: int | None = None   # a signal
    option: str = ''                # '--limit', say, that ended it early
    fault: bool = False             # ours
    earlier: int = 0                # jobs finished by earlier starts
    retried: Retried | None = None
    resumes: bool = True            # its source can be told where to go on
    run: str = ''                   # its name, where its record is kept


class Summary:
    """Counts the errors of one start, and times it.

    ``clock`` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._kinds: Kinds | None = None    # until a job fails
        self._clock = clock
        self._began = clock()

    @property
    def failed(self) -> int:
        """How many jobs have failed in this start."""
        return 0 if self._kinds is None else self._kinds.count

    @property
    def seconds(self) -> float:
        """How long it has taken up to now."""
        return max(self._clock() - self._began, 1e-9)

    def add(self, failures: Iterable[Recorded]) -> None:
        """Count jobs that have failed; say the first of each kind.

        And how many there are, when those are ten, a hundred ...
        """
        if self._kinds is None:
            from .kinds import Kinds        # most runs have no use for it
            self._kinds = Kinds()
        for failure in failures:
            kind = self._kinds.add(failure)
            if kind.count == 1:
                cause = (f' (at first {failure.cause})' if failure.cause
                         else '')
                log.warning('failed: job %d: %s%s', failure.number,
                            failure.error, cause)
            elif kind.count in AGAIN:
                for line in kind.lines():
                    log.warning('failed: %s', line)

    @property
    def by_kind(self) -> list[dict[str, Any]]:
        """Return the failures by kind, as `Kinds.report`."""
        return [] if self._kinds is None else self._kinds.report()

    def kinds(self) -> list[tuple[str, int]]:
        """Return each kind of error and how many, the most frequent first."""
        return [(kind.name, kind.count) for kind in self._frequent()]

    def _frequent(self) -> list[Kind]:
        return [] if self._kinds is None else self._kinds.frequent()

    def document(self, run: str, outcome: Outcome) -> dict[str, Any]:
        """Return how the run of that name has ended: for `finished`."""
        return {
            'run': run, 'state': state_of(outcome),
            'exit_code': shown_code(outcome), 'reason': reason(outcome),
            'jobs': outcome.finished,
            'done': outcome.finished - self.failed, 'failed': self.failed,
            'twice': outcome.twice, 'seconds': self.seconds,
            'kinds': self.by_kind}

    def say(self, outcome: Outcome) -> None:
        """Log how the start went, and why it has ended."""
        finished = outcome.finished
        seconds = self.seconds
        by = '' if outcome.slaves is None else f'; slaves: {outcome.slaves}'
        if outcome.earlier:
            by += ('; with earlier starts '
                   + counted(outcome.earlier + finished, 'job'))
        if not finished and state_of(outcome) == COMPLETE:
            log.info('no jobs')
        else:
            log.info('%s in %s (%.2f/s): %d done, %d failed, %d done '
                     'twice%s', counted(finished, 'job'), duration(seconds),
                     finished / seconds, finished - self.failed, self.failed,
                     outcome.twice, by)
        kinds = self._frequent()
        for kind in kinds[:FREQUENT]:
            for line in kind.lines():
                log.info('failed: %s', line)
        if len(kinds) > FREQUENT:
            log.info('and %s more', counted(len(kinds) - FREQUENT, 'kind'))
        if outcome.failed:
            are, them = (('is', 'it') if outcome.failed == 1
                         else ('are', 'them'))
            log.info('%s %s in %s%s; see tm-ctl failures %s, and '
                     '--retry-failed to run %s again',
                     counted(outcome.failed, 'failed job'), are,
                     outcome.failures, ', with those of earlier starts'
                     if outcome.failed > self.failed
                     and outcome.retried is None else '',
                     f'--run={quoted(outcome.run)}' if outcome.run
                     else quoted(outcome.failures), them)
        log.info('%s', reason(outcome))
        if outcome.retried is not None:
            log.info('%s', _of_retry(outcome, self.failed))


def state_of(outcome: Outcome) -> str:
    """Return how a run has ended: complete, stopped or failed.

    It was complete when its source had no more jobs, whatever failed of them,
    and stopped when somebody wanted that, or an option did.
    """
    if outcome.code > EX_FAILED_JOBS:
        return 'failed'
    return ('stopped' if outcome.stopped_by is not None or outcome.option
            else COMPLETE)


def shown_code(outcome: Outcome) -> int:
    """Return the exit code as a shell shows it."""
    if outcome.stopped_by is None or outcome.code > EX_FAILED_JOBS:
        return outcome.code
    return 128 + outcome.stopped_by


def reason(outcome: Outcome) -> str:
    """Return why a run has ended, for a person."""
    then = ('start again to go on' if outcome.resumes
            else 'start with --reset, as get_jobs takes no `last`')
    # An error is graver: of it the code is.
    if outcome.stopped_by is not None and outcome.code <= EX_FAILED_JOBS:
        return (f'stopped by {signal.Signals(outcome.stopped_by).name}; '
                + then)
    said = (f'ended by {outcome.option}; {then}'
            if outcome.option and outcome.code <= EX_FAILED_JOBS
            else 'a fault of taskmaster itself' if outcome.fault
            else WHY.get(outcome.code, 'ended'))
    return f'{said} (exit code {outcome.code})'


def _of_retry(outcome: Outcome, failed: int) -> str:
    left = outcome.failed - failed
    rest = '' if left <= 0 else f'; {left} more in the file, not retried'
    return (f'retried {outcome.finished}: {outcome.finished - failed} done, '
            f'{failed} failed{rest}; {standing(outcome.retried)}')


def standing(retried: Retried | None) -> str:
    """Return where the run itself stands, of which jobs were retried."""
    count, complete = retried or (0, False)
    jobs = counted(count, 'job')
    return 'the run itself ' + (
        f'is complete, with {jobs}' if complete else
        f'stands at {jobs}; start again without --retry-failed to go on')
