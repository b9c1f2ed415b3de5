"""What is said at the end of a run: what was done, what failed, and why."""

import os
import signal
import time
from collections import Counter
from datetime import timedelta
from typing import Callable, Iterable, Optional

from .. import logs
from ..errors import EX_FAILED_JOBS
from ..master.recorder import Recorder
from ..text import short

log = logs.logger(__name__)

FREQUENT = 3        # errors that are named
KINDS = 1000        # errors told apart; of more only the class is counted

WHY = {
    os.EX_OK: 'complete',
    EX_FAILED_JOBS: 'complete, but for the failed jobs',
    os.EX_DATAERR: 'stopped by --max-failures',
    os.EX_UNAVAILABLE: 'no slave is left, and none of them found the master',
    os.EX_SOFTWARE: 'code outside of a job raised',
    os.EX_IOERR: 'the last save did not succeed'}


class Summary:
    """Counts the errors of one start, and times it.

    ``clock`` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.failed = 0
        self._clock = clock
        self._began = clock()
        self._kinds: 'Counter[str]' = Counter()

    def add(self, errors: Iterable[str]) -> None:
        """A line for each job that has failed: ``ValueError: bad``."""
        for error in errors:
            self.failed += 1
            kind = short(error)
            if kind not in self._kinds and len(self._kinds) >= KINDS:
                kind = short(error.partition(':')[0])
            self._kinds[kind] += 1

    def say(self, finished: int, recorder: Recorder, code: int, twice: int = 0,
            slaves: Optional[int] = None, stopped_by: Optional[int] = None,
            limited: bool = False) -> None:
        """Log how the start went, and why it has ended.

        ``finished`` jobs were finished in it, ``twice`` of them more than
        once, by ``slaves``.
        """
        seconds = max(self._clock() - self._began, 1e-9)
        by = '' if slaves is None else f'; slaves: {slaves}'
        if not finished and not code and stopped_by is None:
            log.info('no jobs')
        else:
            log.info('%d jobs in %s (%.2f/s): %d done, %d failed, %d done '
                     'twice%s', finished, timedelta(seconds=int(seconds)),
                     finished / seconds, finished - self.failed, self.failed,
                     twice, by)
        for kind, count in self._kinds.most_common(FREQUENT):
            log.info('failed: %d x %s', count, kind)
        if recorder.failed:
            log.info('%d failed jobs are in %s', recorder.failed,
                     recorder.failures.path)
        log.info('%s', reason(code, stopped_by, limited))


def reason(code: int, stopped_by: Optional[int] = None,
           limited: bool = False) -> str:
    """Why a run has ended, for a person."""
    if stopped_by is not None:
        return (f'stopped by {signal.Signals(stopped_by).name}; start again '
                'to go on')
    said = ('ended by --limit; start again to go on' if limited
            else WHY.get(code, 'ended'))
    return f'{said} (exit code {code})'
