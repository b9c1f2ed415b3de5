"""A slave's own speed: how many jobs it should ask for."""

from __future__ import annotations

from collections import deque

from ..wire.messages import TIMES, JobTime

# How many times as fast as it last was a slave is taken to be, at most.
GROWTH = 8
# Of quick jobs one in so many reports has samples.
SELDOM = 5
# So many spans a slave looks back.
MEMORY = 3


class Pace:
    """A slave's own speed, and so how many jobs it should ask for.

    It looks back some spans, as jobs of one kind may come in a row; but a
    lease that was slower than that counts for the next one.  ``batch`` is
    how many jobs go together: it asks for multiples of that.
    """

    def __init__(self, workers: int = 1, batch: int = 1):
        self.workers = workers
        self.batch = batch
        self._jobs = 1              # in a span, for one worker
        self._seen = (0.0, 0.0)     # jobs, and the seconds they took
        self._asked = 0             # for samples
        self._times: deque[JobTime] = deque(maxlen=TIMES)

    def observe(self, jobs: int, seconds: float, span: float,
                first: int = 1) -> None:
        """One worker took ``seconds`` for so many jobs, from ``first`` on."""
        if not jobs:
            return
        self._times.append(JobTime(first, jobs, max(seconds, 0.0)))
        seen_jobs, seen_seconds = self._seen
        seen_jobs, seen_seconds = seen_jobs + jobs, seen_seconds + seconds
        each = max(seconds / jobs, seen_seconds / seen_jobs, 1e-9)
        self._jobs = max(1, round(min(span / each, self._jobs * GROWTH)))
        if seen_seconds > MEMORY * span:
            seen_jobs, seen_seconds = seen_jobs / 2, seen_seconds / 2
        self._seen = seen_jobs, seen_seconds

    def times(self) -> list[JobTime]:
        """Return the newest samples since the last call, for the master.

        Of quick jobs now and then: with a thousand slaves it gets two
        thousand reports a second, and the samples of each would cost a
        hundredth of its time.
        """
        self._asked += 1
        if self._jobs > 1 and self._asked % SELDOM:
            return []
        taken = [*self._times]
        self._times.clear()
        return taken

    def want(self) -> int:
        """Return how many jobs to ask for: a span of work for every worker."""
        return -(-self._jobs // self.batch) * self.batch * self.workers
