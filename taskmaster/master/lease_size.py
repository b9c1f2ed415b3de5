"""How long a lease should be: arithmetic alone.

A lease should take its slave about a *span* of time: long enough that a
round trip costs nothing beside it, short enough that a slave which is lost
or asked to stop has little in its hands.
"""
from ..wire.messages import LEASE_BYTES

SPAN = 0.1                  # seconds
CALLS = 2000                # a second, that a master should have to answer
LATE = 4                    # spans, after which a lease is behind its time
CRUMBS = 20                 # of a lease: smaller shares are not worth a trip


def span(slaves: int) -> float:
    """Seconds that a lease should take when so many slaves are served."""
    return max(SPAN, slaves / CALLS)


def share(ready: int, want: int, workers: int, prefetch: bool) -> int:
    """How many of the last ``ready`` jobs a slave that wants so many gets.

    Half of an equal share, so that the slaves end together, but what takes
    it a part of a span at least; and none in advance once there are fewer
    jobs than workers to do them.
    """
    if prefetch and ready < workers:
        return 0
    return min(want, max(-(-ready // (2 * max(workers, 1))), want // CRUMBS))


class Weight:
    """How heavy jobs are when pickled, and so how many go in a lease."""

    def __init__(self) -> None:
        self._each = 0.0            # bytes, a running mean

    def observe(self, jobs: int, size: int) -> None:
        """So many jobs were ``size`` bytes pickled."""
        each = size / jobs
        # Up at once, down slowly: too small a lease costs little.
        self._each = max(each, 0.75 * self._each + 0.25 * each)

    def most(self) -> int:
        """How many jobs are likely to fit into a lease."""
        if not self._each:
            return 1 << 30
        return max(1, int(LEASE_BYTES / self._each))

    @staticmethod
    def cut(jobs: int, size: int) -> int:
        """How many of these jobs to send, given their size together."""
        if size <= 2 * LEASE_BYTES:
            return jobs
        return max(1, jobs * LEASE_BYTES // size)
