"""The gate: whether jobs go out now, and how many."""

from __future__ import annotations

from ..records import TYPE_CHECKING
from .rate_limit import BATCH, Bucket

if TYPE_CHECKING:
    from typing import Callable

# Seconds at most until the rate is looked at again.
PACE = 60.0


class Gate:
    """Why nothing is leased, the rate, and what is to end.

    Used under the queue's lock, but for `held` and the flags, which anybody
    may read: by the GIL they are of this moment or of the last.
    """

    def __init__(self, clock: Callable[[], float]):
        self.draining = False       # no new jobs
        self.recalling = False      # nor what slaves have not begun
        self.over: str | None = None        # how the run has ended
        self.held = ''              # why nothing is leased now
        self._clock = clock
        self._reasons: dict[str, str] = {}
        self._bucket: Bucket | None = None

    def hold(self, who: str, reason: str) -> bool:
        """Hold for that reason, or no more for ''.  Return if it is news."""
        news = self._reasons.get(who, '') != reason
        self._reasons[who] = reason
        self.held = next(filter(None, self._reasons.values()), '')
        return news

    def set_rate(self, rate: float | None) -> None:
        self._bucket = Bucket(rate, self._clock()) if rate else None

    def pace(self) -> float | None:
        """Return in how many seconds to look at the rate again, if ever."""
        if self._bucket is None:
            return None
        return min(self._bucket.delay(self._clock()) or BATCH, PACE)

    @property
    def waiting(self) -> bool:
        """Whether the rate lets nothing go now."""
        return bool(self._bucket and self._bucket.delay(self._clock()))

    def allow(self, want: int) -> int:
        """Return how many of ``want`` jobs may go now.

        What a drain is to finish waits for no rate.
        """
        if self._bucket is None or self.draining:
            return want
        return self._bucket.allow(want, self._clock())

    def spend(self, jobs: int) -> None:
        """So many have gone."""
        if self._bucket is not None:
            self._bucket.spend(jobs)
