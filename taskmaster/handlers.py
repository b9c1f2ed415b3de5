"""Calling the operator's function, job by job.

A handler is given a run of jobs and works through it until its end or until
it is interrupted.  Whatever the function raises (SystemExit too) fails that
job alone.
"""

from functools import partial
from typing import Any, Callable, Iterator, List, Tuple

from . import targets
from .targets import Target

Fail = Callable[[BaseException], None]
Handler = Callable[[Iterator[Any], Fail, List[bool]], None]


def run_each(handle: Callable[[Any], Any], jobs: Iterator[Any],
             fail: Fail, interrupt: List[bool]) -> None:
    """Call ``handle`` for each job, until ``interrupt`` is not empty.

    ``fail`` is called with what a job raised, before the next is taken.
    Nothing more happens once per job: this loop is the hot path.
    """
    for job in jobs:
        try:
            handle(job)
        except BaseException as error:
            fail(error)
        if interrupt:
            break


def from_target(text: str) -> Tuple[Target, Handler]:
    """The module that a TARGET names, and its handler.

    Raises ConfigError or UsageError.
    """
    target = targets.load(text, 'handle_job')
    return target, partial(run_each, target.callable())
