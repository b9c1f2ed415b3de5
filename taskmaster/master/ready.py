"""The jobs that nobody has had yet."""

from __future__ import annotations

from collections import deque
from typing import Any


class Ready:
    """Jobs in the order of the source.

    They are kept in the lists that they came in, as popping them one by
    one takes longer than all else about a lease.  The newest list may grow
    while it is here, and whoever fills it need not ask: this rests on the
    GIL, by which another thread's `append` has happened or has not, and
    neither `len` nor a slice sees half of it.
    """

    def __init__(self) -> None:
        self._lists: deque[list[Any]] = deque()
        self._newest: list[Any] = []    # the last of them
        self._older = 0                 # jobs of the others
        self._taken = 0                 # jobs of the first
        self.leased = 0                 # number of the last job taken
        self.before: Any = None         # and that job

    def __len__(self) -> int:
        return self._older + len(self._newest) - self._taken

    def extend(self, jobs: list[Any]) -> None:
        """Add a list, which may grow until the next one is added."""
        if self._lists:
            self._older += len(self._newest)
        self._lists.append(jobs)
        self._newest = jobs

    def take(self, count: int) -> list[Any]:
        """Return the first ``count`` of the jobs; there are as many.

        They are numbered from 1 as they are taken.
        """
        jobs = self._slice(count)
        while len(jobs) < count:
            jobs += self._slice(count - len(jobs))
        if jobs:
            self.leased += count
            self.before = jobs[-1]
        return jobs

    def _slice(self, count: int) -> list[Any]:
        """As many, or what is left of the first list, which then goes."""
        first, start = self._lists[0], self._taken
        jobs = first[start:start + count]
        self._taken += len(jobs)
        if first is not self._newest and self._taken == len(first):
            self._lists.popleft()
            self._older -= self._taken
            self._taken = 0
        return jobs
