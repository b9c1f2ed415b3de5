"""`--dry-run`: what a run would do, without serving or writing anything."""

from __future__ import annotations

import pickle
import time
from itertools import islice
from typing import Any, Iterator

from .console.output import print_line
from .errors import OperatorError, UsageError
from .master.making import state_path
from .settings import Settings
from .storage.state import StateFile
from .text import safe_repr, short, summary, traceback_of
from .usercode.source import Source
from .wire.messages import PICKLE

FIRST = 10              # jobs that are shown
ENOUGH = 100_000, 2.0   # jobs, or seconds, to know how fast get_jobs is


def rehearse(source: Source, settings: Settings) -> int:
    """Print what a run with these settings would do; return 0.

    Raises as `said` does, and UsageError.
    """
    if settings.retry_failed:
        raise UsageError('--dry-run goes with get_jobs, not --retry-failed')
    for line in said(source, state_path(source, settings), settings.reset):
        print_line(line)
    return 0


def said(source: Source, path: str, reset: bool) -> Iterator[str]:
    """Yield the lines to print.

    Raises ConfigError for a state that cannot be used and OperatorError
    when `get_jobs` or `get_key` raises.
    """
    yield f'run:    {source.name}'
    yield f'source: {source.path}'
    last = _last(source, path, reset)
    if last is None:
        yield f'state:  {path}; would start at the beginning'
    else:
        yield f'state:  {path}; would go on after key {_shown(last)}'
    begin = time.monotonic()
    count = 0
    try:
        jobs = iter(source.open() if last is None else source.open(last=last))
        for job in islice(jobs, FIRST):
            count += 1
            yield (f'job:    key {_shown(source.key(job))}, {_size(job)}, '
                   f'{short(safe_repr(job), 60)}')
        most, seconds = ENOUGH
        for _ in jobs:
            count += 1
            if count == most or time.monotonic() - begin > seconds:
                break
    except OperatorError:
        raise
    except BaseException as error:
        raise OperatorError(f'get_jobs raised {summary(error)}',
                            traceback_of(error)) from error
    took = max(time.monotonic() - begin, 1e-6)
    yield (f'speed:  {count} jobs from get_jobs in {took:.2f} s '
           f'({count / took:.0f}/s); none was handled, nothing written')


def _last(source: Source, path: str, reset: bool) -> Any:
    found = None if reset else StateFile(path, source.name,
                                         source.path).load()
    if found is None or found.key is None:
        return None
    source.check_takes_last(path)
    return found.key


def _shown(key: Any) -> str:
    return short(safe_repr(key), 60)


def _size(job: Any) -> str:
    try:
        size = len(pickle.dumps(job, PICKLE))
    except BaseException as error:
        return f'CANNOT BE PICKLED ({short(summary(error), 60)})'
    return f'{size} bytes'
