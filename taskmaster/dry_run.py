"""`--dry-run`: what a run would do, without serving or writing anything."""

from __future__ import annotations

import pickle
import time
from itertools import islice
from typing import Any, Iterator

from .console.output import print_line
from .errors import OperatorError, UsageError
from .master.lease_size import Weight
from .master.making import state_path
from .settings import Settings
from .storage.codec import same
from .storage.state import Checkpoint, StateFile
from .text import safe_repr, short, summary, traceback_of
from .usercode.source import Source, deaf
from .wire.messages import PICKLE

FIRST = 10              # jobs that are shown
# Which of them a resume is tried after.
LAST = 5
ENOUGH = 100_000, 2.0   # jobs, or seconds, to know how fast get_jobs is


def rehearse(source: Source, settings: Settings) -> int:
    """Print what a run with these settings would do; return 0.

    Raises as `said` does, and UsageError.
    """
    if settings.retry_failed:
        raise UsageError('--dry-run goes with get_jobs, not --retry-failed')
    for line in said(source, settings):
        print_line(line)
    return 0


def said(source: Source, settings: Settings) -> Iterator[str]:
    """Yield the lines to print.

    Raises ConfigError for a state that cannot be used and OperatorError
    when `get_jobs` or `get_key` raises.
    """
    yield f'run:    {source.name}'
    yield f'source: {source.path}'
    path = state_path(source, settings)
    found = _found(source, path, settings.reset)
    last = None if found is None else found.key
    if last is None:
        yield f'state:  {path}; would start at the beginning'
    else:
        yield f'state:  {path}; would go on after key {_shown(last)}'
    begin = time.monotonic()
    keys: list[Any] = []
    weight = Weight()
    try:
        jobs = iter(source.open() if last is None else source.open(last=last))
        for job in islice(jobs, FIRST):
            keys.append(source.key(job))
            yield (f'job:    key {_shown(keys[-1])}, {_size(job, weight)}, '
                   f'{short(safe_repr(job), 60)}')
        if weight.each:
            full = min(settings.size, weight.held())
            yield (f'memory: a full queue would be {full} jobs, about '
                   f'{full * weight.each / 1e6:.1f} MB of them pickled')
        count = len(keys)
        most, seconds = ENOUGH
        for _ in jobs:
            count += 1
            if count == most or time.monotonic() - begin > seconds:
                break
        took = max(time.monotonic() - begin, 1e-6)
        if len(keys) >= LAST and source.takes_last:
            yield _goes_on(source, keys, found)
    except OperatorError:
        raise
    except BaseException as error:
        raise OperatorError(f'get_jobs raised {summary(error)}',
                            traceback_of(error)) from error
    yield (f'speed:  {count} jobs from get_jobs in {took:.2f} s '
           f'({count / took:.0f}/s); none was handled, nothing written')


def _found(source: Source, path: str, reset: bool) -> Checkpoint | None:
    found = None if reset else StateFile(path, source.name,
                                         source.path).load()
    if found is not None and found.key is not None:
        source.check_takes_last(path)
    return found


def _goes_on(source: Source, keys: list[Any],
             found: Checkpoint | None) -> str:
    """Try a resume, and return the line about it.

    Raises OperatorError when it begins anew: with the first of these keys,
    or that of the run.
    """
    last = keys[LAST - 1]
    for job in source.open(last=last):
        key = source.key(job)
        if not same(key, last) and (
                same(key, keys[0]) or found is not None and found.begins(key)):
            raise deaf(_shown(key))
        return (f'last:   get_jobs(last={_shown(last)}) begins with '
                f'{_shown(key)}')
    return f'last:   get_jobs(last={_shown(last)}) yields nothing'


def _shown(key: Any) -> str:
    return short(safe_repr(key), 60)


def _size(job: Any, weight: Weight) -> str:
    try:
        size = len(pickle.dumps(job, PICKLE))
        weight.observe(1, size)
    except BaseException as error:
        return (f'CANNOT BE PICKLED ({short(summary(error), 60)}); yield '
                'plain values, as tuple(row) or dict(row)')
    return f'{size} bytes'
