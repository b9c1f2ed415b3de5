"""From what is typed to a value: the converters of the settings.

Each returns a value, or raises ValueError that says why not.
"""

from __future__ import annotations

import operator
import os

from .records import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any

# Coroutines or threads of one slave, at most.
MOST_THREADS = 10_000
# Jobs a second, above any rate.
MOST_RATE = 1e9
# Seconds, above any time: thirty years, which every call can wait.
MOST_SECONDS = 1e9
# Finished jobs before a share of failed ones means something.
ENOUGH_JOBS = 100

LEVELS = 'debug', 'info', 'warning', 'error'


class MaxFailures(NamedTuple):
    """When to stop a run: after so many failed jobs, or such a share."""

    jobs: int | None = None
    share: float | None = None          # of the finished ones, 0.05 for 5%

    def reached(self, failed: int, finished: int) -> bool:
        """Return whether ``failed`` of ``finished`` jobs stop the run."""
        if self.share is not None:
            return finished >= ENOUGH_JOBS and failed > self.share * finished
        return self.jobs is not None and failed >= self.jobs

    def __str__(self) -> str:
        return str(self.jobs if self.share is None
                   else f'{100 * self.share:g}%')


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f'{text!r} is no number') from None


def whole(text: str, least: int, most: int | None = None) -> int:
    try:
        value = int(text)
    except ValueError:
        raise ValueError(f'{text!r} is no whole number') from None
    if value < least:
        raise ValueError(f'must be at least {least}' if least
                         else 'must not be negative')
    if most is not None and value > most:
        raise ValueError(f'must be at most {most}')
    return value


def as_positive(text: str) -> int:
    return whole(text, 1)


def as_natural(text: str) -> int:
    return whole(text, 0)


def as_threads(text: str) -> int:
    return whole(text, 1, MOST_THREADS)


def as_seconds(text: str) -> float:
    value = number(text)
    if not 0 <= value < MOST_SECONDS:
        raise ValueError('must be a number of seconds')
    return value


def as_job_seconds(text: str) -> float:
    value = as_seconds(text)
    if value < 0.01:
        raise ValueError('must be at least 0.01')
    return value


def as_rate(text: str) -> float | None:
    """Return jobs a second; None for ``off``."""
    if text == 'off':
        return None
    value = number(text)
    if not 0 < value <= MOST_RATE:
        raise ValueError('must be above 0, or "off"')
    return value


def as_max_failures(text: str) -> MaxFailures:
    """Return what ``N`` or ``N%`` means."""
    if not text.endswith('%'):
        return MaxFailures(jobs=as_positive(text))
    value = number(text[:-1])
    if not 0 <= value <= 100:
        raise ValueError('must be between 0% and 100%')
    return MaxFailures(share=value / 100)


def as_kind(text: str) -> bool | str:
    """Return a kind of failures; True for ``''``: of all kinds."""
    return text or True


def as_level(text: str) -> str:
    if text not in LEVELS:
        raise ValueError(f'must be one of {", ".join(LEVELS)}')
    return text


NUMBERS = (as_positive, as_natural, as_threads, as_seconds, as_job_seconds,
           as_rate, as_max_failures)


def typed(value: Any, is_number: bool) -> str | None:
    """Return a value as one would type it, or None for one of a wrong kind."""
    if isinstance(value, str):
        return str(value)
    if not is_number:
        path = os.fspath(value) if isinstance(value, os.PathLike) else None
        return path if isinstance(path, str) else None
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return str(float(value))
    try:
        return str(operator.index(value))
    except TypeError:
        return None


def kind_of(value: Any) -> str:
    return 'None' if value is None else f'a {type(value).__name__}'
