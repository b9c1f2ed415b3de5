"""How long a lease should be: arithmetic alone.

A lease should take its slave about a *span* of time (`Timing.span_of`): long
enough that a round trip costs nothing beside it, short enough that a slave
which is lost or asked to stop has little in its hands.
"""

from __future__ import annotations

from ..wire.messages import LEASE_BYTES

# A share smaller than this part of a lease is not worth a round trip.
CRUMBS = 20
# Bytes of jobs, pickled, that a queue may hold, those in hand with them.
QUEUE_BYTES = 128 << 20


def share(ready: int, want: int, workers: int, prefetch: bool) -> int:
    """Return how many of the last ``ready`` jobs a slave gets.

    It wants ``want`` of them; all slaves together have ``workers``.

    Half of an equal share, so that the slaves end together, but what takes
    it a part of a span at least; and none in advance once there are fewer
    jobs than workers to do them.
    """
    if prefetch and ready < workers:
        return 0
    return min(want, max(-(-ready // (2 * max(workers, 1))), want // CRUMBS))


class Weight:
    """How heavy jobs are when pickled, and so how many go in a lease.

    And how many may be in the queue, which holds them in memory.  Any
    thread may call: what two do at once makes the means a little worse.
    """

    def __init__(self) -> None:
        self.each = 0.0             # bytes, a running mean
        self._heavy = 0.0           # bytes, of the heavier ones
        self._single = False

    def observe(self, jobs: int, size: int) -> None:
        """So many jobs were ``size`` bytes pickled."""
        each = size / jobs
        # Up at once, down slowly: too small a lease costs little.
        self._heavy = max(each, 0.75 * self._heavy + 0.25 * each)
        mean = self.each or each
        self.each = mean + (each - mean) / (2 if each > mean else 8)

    def held(self) -> int:
        """Return how many jobs a queue may hold, by their weight."""
        return int(QUEUE_BYTES / self.each) if self.each else 1 << 30

    def go_singly(self) -> None:
        """From now on each job is a lease of its own."""
        self._single = True

    def most(self) -> int:
        """Return how many jobs are likely to fit into a lease."""
        if self._single:
            return 1
        if not self._heavy:
            return 1 << 30
        return max(1, int(LEASE_BYTES / self._heavy))

    @staticmethod
    def cut(jobs: int, size: int) -> int:
        """Return how many of these jobs to send; ``size`` is of all."""
        if size <= 2 * LEASE_BYTES:
            return jobs
        return max(1, jobs * LEASE_BYTES // size)
