"""How long a lease should be: arithmetic alone.

A lease should take its slave about a *span* of time: long enough that a
round trip costs nothing beside it, short enough that a slave which is lost
or asked to stop has little in its hands.
"""

SPAN = 0.1                  # seconds
CALLS = 2000                # a second, that a master should have to answer
GROWTH = 8                  # how much faster a slave may be than last known
MEMORY = 3                  # spans that a slave looks back
LATE = 4                    # spans, after which a lease is behind its time
CRUMBS = 20                 # of a lease: smaller shares are not worth a trip
LEASE_BYTES = 1 << 20       # pickled; a larger job travels alone


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

    def observe(self, jobs: int, seconds: float, span: float) -> None:
        """One worker took ``seconds`` for so many jobs."""
        if not jobs:
            return
        seen_jobs, seen_seconds = self._seen
        seen_jobs, seen_seconds = seen_jobs + jobs, seen_seconds + seconds
        each = max(seconds / jobs, seen_seconds / seen_jobs, 1e-9)
        self._jobs = max(1, round(min(span / each, self._jobs * GROWTH)))
        if seen_seconds > MEMORY * span:
            seen_jobs, seen_seconds = seen_jobs / 2, seen_seconds / 2
        self._seen = seen_jobs, seen_seconds

    def want(self) -> int:
        """How many jobs to ask for: a span of work for every worker."""
        return -(-self._jobs // self.batch) * self.batch * self.workers


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
