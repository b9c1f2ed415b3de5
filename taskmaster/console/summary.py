"""What is said at the end of a run: what was done, what failed, and why."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from typing import Callable, Iterable

from .. import logs
from ..errors import EX_FAILED_JOBS
from ..records import NamedTuple
from ..text import duration, short

log = logs.logger(__name__)

# Errors that are named.
FREQUENT = 3
# Errors told apart; of more only the class is counted.
KINDS = 1000

WHY = {
    os.EX_OK: 'complete',
    EX_FAILED_JOBS: 'complete, but for the failed jobs',
    os.EX_DATAERR: 'stopped by --max-failures',
    os.EX_UNAVAILABLE: 'no slave is left, and none of them found the master',
    os.EX_SOFTWARE: 'code outside of a job raised',
    os.EX_IOERR: 'the last save did not succeed'}


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


class Summary:
    """Counts the errors of one start, and times it.

    ``clock`` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.failed = 0
        self._clock = clock
        self._began = clock()
        self._kinds: Counter[str] = Counter()

    def add(self, errors: Iterable[str]) -> None:
        """Count a line for each job that has failed: ``ValueError: bad``."""
        for error in errors:
            self.failed += 1
            kind = short(error)
            if kind not in self._kinds and len(self._kinds) >= KINDS:
                kind = short(error.partition(':')[0])
            self._kinds[kind] += 1

    def kinds(self) -> list[tuple[str, int]]:
        """Return each kind of error and how many, the most frequent first."""
        return self._kinds.most_common()

    def say(self, outcome: Outcome) -> None:
        """Log how the start went, and why it has ended."""
        finished = outcome.finished
        seconds = max(self._clock() - self._began, 1e-9)
        by = '' if outcome.slaves is None else f'; slaves: {outcome.slaves}'
        if not finished and not outcome.code and outcome.stopped_by is None:
            log.info('no jobs')
        else:
            log.info('%d jobs in %s (%.2f/s): %d done, %d failed, %d done '
                     'twice%s', finished, duration(seconds),
                     finished / seconds, finished - self.failed, self.failed,
                     outcome.twice, by)
        for kind, count in self._kinds.most_common(FREQUENT):
            log.info('failed: %d x %s', count, kind)
        if outcome.failed:
            log.info('%d failed jobs are in %s', outcome.failed,
                     outcome.failures)
        log.info('%s', reason(outcome))


def state_of(outcome: Outcome) -> str:
    """Return how a run has ended: complete, stopped or failed.

    It was complete when its source had no more jobs, whatever failed of them,
    and stopped when somebody wanted that, or an option did.
    """
    if outcome.code > EX_FAILED_JOBS:
        return 'failed'
    return ('stopped' if outcome.stopped_by is not None or outcome.option
            else 'complete')


def shown_code(outcome: Outcome) -> int:
    """Return the exit code as a shell shows it."""
    if outcome.stopped_by is None or outcome.code > EX_FAILED_JOBS:
        return outcome.code
    return 128 + outcome.stopped_by


def reason(outcome: Outcome) -> str:
    """Return why a run has ended, for a person."""
    if outcome.stopped_by is not None:
        return (f'stopped by {signal.Signals(outcome.stopped_by).name}; '
                'start again to go on')
    said = (f'ended by {outcome.option}; start again to go on'
            if outcome.option and outcome.code <= EX_FAILED_JOBS
            else 'a fault of taskmaster itself' if outcome.fault
            else WHY.get(outcome.code, 'ended'))
    return f'{said} (exit code {outcome.code})'
