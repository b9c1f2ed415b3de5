"""Calling the operator's function, job by job.

A handler is given a run of jobs and works through it until its end or until
it is interrupted.  Whatever the function raises (SystemExit too) fails that
job alone, after as many further attempts as the operator allows.
"""

import random
from functools import partial
from typing import Any, Callable, Iterator, List, NamedTuple, Tuple

from . import targets
from .targets import Function, Target

BACKOFF = (0.1, 10.0)       # seconds, first and last, before a new attempt


class Ways(NamedTuple):
    """How a handler speaks with its slave."""

    # What a job raised last, and in how many attempts; before the next job.
    fail: Callable[[BaseException, int], None]
    # Wait so many seconds before a new attempt, or less if in a hurry.
    pause: Callable[[float], Any]
    # Not empty: take no more jobs.
    interrupt: List[bool]


Handler = Callable[[Iterator[Any], Ways], None]


def run_each(handle: Function, retries: int, jobs: Iterator[Any],
             ways: Ways) -> None:
    """Call ``handle`` for each job, until its end or an interrupt.

    Nothing more happens once per job: this loop is the hot path.
    """
    interrupt = ways.interrupt
    for job in jobs:
        try:
            handle(job)
        except BaseException as error:
            _again(handle, job, error, retries, ways)
        if interrupt:
            break


def _again(handle: Function, job: Any, error: BaseException, retries: int,
           ways: Ways) -> None:
    """Try a job that has failed once ``retries`` times more."""
    first, last = BACKOFF
    for attempt in range(retries):
        ways.pause(random.uniform(0, min(last, first * 2 ** attempt)))
        try:
            handle(job)
            return
        except BaseException as again:
            error = again
    ways.fail(error, 1 + retries)


def from_target(text: str, retries: int = 0) -> Tuple[Target, Handler]:
    """The module that a TARGET names, and its handler.

    Raises ConfigError or UsageError.
    """
    target = targets.load(text, 'handle_job')
    return target, partial(run_each, target.callable(), retries)
