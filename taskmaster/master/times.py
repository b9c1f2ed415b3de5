"""How long jobs take, by the samples that slaves report.

Pure; whoever calls it holds the queue's lock.  Slaves measure what a worker
takes at a time: jobs of a tenth of a second or more one by one, quicker ones
together, of which only the mean is known.
"""

from __future__ import annotations

from collections import deque

from ..records import TYPE_CHECKING, NamedTuple
from ..wire.messages import JobTime
from .pieces import Pieces

if TYPE_CHECKING:
    from typing import Any, Sequence

# Samples that are looked back on, and jobs that are named.
SAMPLES = 1000
SLOWEST = 3


class JobTimes(NamedTuple):
    """In seconds."""

    median: float
    p99: float
    slowest: list[tuple[float, Any]]        # and the jobs, the slowest first


class Times:
    """Keeps the newest samples, and the slowest jobs of this start."""

    def __init__(self) -> None:
        self._samples: deque[JobTime] = deque(maxlen=SAMPLES)
        self._slowest: list[tuple[float, int, Any]] = []

    def note(self, times: Sequence[JobTime], pieces: Pieces) -> None:
        """Take samples; ``pieces`` still has the jobs that they are of."""
        self._samples.extend(times)
        for time in times:
            if time.jobs == 1 and (
                    len(self._slowest) < SLOWEST
                    or time.seconds > self._slowest[-1][0]):
                self._name(time, pieces)

    def report(self) -> JobTimes | None:
        """Return how long jobs take, or None where there are no samples."""
        if not self._samples:
            return None
        ordered = sorted((time.seconds / time.jobs, time.jobs)
                         for time in self._samples)
        jobs = sum(count for _, count in ordered)
        return JobTimes(_at(ordered, 0.5 * jobs), _at(ordered, 0.99 * jobs), [
            (seconds, job) for seconds, _, job in self._slowest])

    def _name(self, time: JobTime, pieces: Pieces) -> None:
        for piece in pieces.within(time.first, time.first):
            self._slowest.append((time.seconds, time.first,
                                  piece.jobs[time.first - piece.first]))
            self._slowest.sort(key=lambda slow: -slow[0])
            del self._slowest[SLOWEST:]


def _at(ordered: Sequence[tuple[float, int]], rank: float) -> float:
    """Return the time of the job of that rank."""
    seconds = 0.0
    for seconds, jobs in ordered:
        rank -= jobs
        if rank <= 0:
            break
    return seconds
