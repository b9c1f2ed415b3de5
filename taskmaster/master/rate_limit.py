"""The rate limit of a run: so many jobs a second, over all slaves."""

from __future__ import annotations

# As many jobs as in these seconds are worth a lease.
BATCH = 0.05
# As many jobs as in these seconds may be made up for at once.
BURST = 0.25


class Bucket:
    """A token bucket: so many jobs a second, without bursts.

    It fills while jobs are waited for, but never with more than a moment's
    worth, so that a pause is not made up for by a rush.
    """

    def __init__(self, rate: float, now: float):
        self.rate = rate
        self._tokens = 0.0
        self._filled = now

    def allow(self, want: int, now: float) -> int:
        """Return how many of ``want`` jobs may go: a batch at least, or 0."""
        self._fill(now)
        allowed = min(want, int(self._tokens))
        return allowed if allowed >= min(want, self._batch) else 0

    def spend(self, jobs: int) -> None:
        self._tokens -= jobs

    def delay(self, now: float) -> float:
        """Return the seconds until a batch may go."""
        self._fill(now)
        return max(0.0, (self._batch - self._tokens) / self.rate)

    @property
    def _batch(self) -> int:
        return max(1, int(self.rate * BATCH))

    def _fill(self, now: float) -> None:
        # One must fit or nothing would go; one more, to be in time again.
        most = max(2.0, self.rate * BURST)
        self._tokens = min(most, self._tokens
                           + (now - self._filled) * self.rate)
        self._filled = now
