"""The jobs that nobody has had yet."""

from __future__ import annotations

from collections import deque
from operator import is_

from ..records import TYPE_CHECKING
from ..usercode.source import may_change

if TYPE_CHECKING:
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
        # From there on nobody has looked at the newest list, whether it has
        # one changing object again and again; above 0, or None.
        self.unsure: int | None = None

    def __len__(self) -> int:
        return self._older + len(self._newest) - self._taken

    def extend(self, jobs: list[Any]) -> None:
        """Add a list, which may grow until the next one is added."""
        self.close()
        self._lists.append(jobs)
        self._newest = jobs

    def close(self) -> None:
        """The newest list grows no more: a lease may have it as it is."""
        self._older += len(self._newest)
        self._newest = []

    def take(self, count: int) -> list[Any]:
        """Return the first ``count`` of the jobs; there are as many.

        They are numbered from 1 as they are taken.  Fewer, or none, where
        the next is the very object of the one before: the feeder says so.
        """
        jobs = self._slice(count)
        while len(jobs) < count:
            more = self._slice(count - len(jobs))
            if not more and self._lists[0] is self._newest:
                break
            if jobs:
                jobs += more
            else:
                jobs = more
        if jobs:
            self.leased += len(jobs)
            self.before = jobs[-1]
        return jobs

    def _slice(self, count: int) -> list[Any]:
        """As many, or what is left of the first list, which then goes."""
        first, start = self._lists[0], self._taken
        if not start and count >= len(first) and first is not self._newest:
            self._lists.popleft()       # nobody else has it
            self._older -= len(first)
            return first
        stop, unsure = start + count, self.unsure
        if unsure is not None and first is self._newest and stop > unsure:
            # In one step: it grows meanwhile, and the feeder cuts it off
            # where it finds what is looked for here.
            part = first[unsure - 1:stop]
            again = repeated(part, 1, len(part))
            stop = unsure - 1 + (len(part) if again is None else again)
        jobs = first[start:stop]
        self._taken += len(jobs)
        if first is not self._newest and self._taken == len(first):
            self._lists.popleft()
            self._older -= self._taken
            self._taken = 0
        return jobs


def repeated(jobs: list[Any], start: int, stop: int) -> int | None:
    """Return where the same changing object comes twice running, or None.

    From ``start``, which is above 0, to ``stop``.
    """
    if type(jobs[start - 1]) is int and are_ints(jobs[start:stop]):
        return None
    part = jobs[start - 1:stop]
    if any(map(is_, part, part[1:])):       # at the speed of C
        for at, job in enumerate(part[1:], start):
            if job is part[at - start] and may_change(job):
                return at
    return None


def are_ints(jobs: list[Any]) -> bool:
    """Return whether all are ints, or as good: no objects that may change."""
    try:
        return type(sum(jobs)) is int
    except Exception:
        return False
