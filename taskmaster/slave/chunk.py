"""Chunks: the jobs that one worker takes at a time, and how far it is.

What rests on the GIL: an iterator of a list is asked for its length, and
emptied, by one thread while another takes jobs from it, each in one step.
"""

from __future__ import annotations

import pickle

from ..records import TYPE_CHECKING
from ..wire.fields import Range
from ..wire.messages import PICKLE

if TYPE_CHECKING:
    from typing import Any, Iterator, Sequence


class Lease:
    """Jobs as they came, numbered from ``first`` on, to be had again.

    ``pickled`` is a list of them.  Nothing is done until one is wanted again;
    then each is pickled for itself, so that however many are wanted, and how
    often, takes no longer than all of them together.
    """

    def __init__(self, first: int, pickled: Any):
        self._first = first
        self._pickled = pickled
        self._each: list[bytes | None] = []     # None: it cannot be

    def job(self, number: int) -> Any:
        """Return a new one of that job; raises what unpickling it raises."""
        if not self._each:      # workers that share a lease may do it at once
            self._each = [*map(_pickled, pickle.loads(self._pickled))]
        pickled = self._each[number - self._first]
        if pickled is None:
            return pickle.loads(self._pickled)[number - self._first]
        return pickle.loads(pickled)


def _pickled(job: Any) -> bytes | None:
    try:
        return pickle.dumps(job, PICKLE)
    except BaseException:       # it was made by a function that cannot say so
        return None


class Chunk:
    """Jobs ``first`` .. ``last`` of a lease, taken by one worker."""

    def __init__(self, first: int, jobs: list[Any], lease: Lease):
        self.first = first
        self.jobs = jobs
        self.lease = lease
        self.changed = 0                # so many were in a list that failed
        self.cause = ''                 # with this error
        self.handled = 0                # and in one that had gone well
        self.iterator: Iterator[Any] = iter(jobs)
        self.done: int | None = None        # by a handler of lists
        self.interrupt: list[bool] = []     # not empty: bring it back
        self.keep: Sequence[Range] | None = None    # None: all of it
        self.forgotten = False          # it is of a start that is over
        self.reported = 0               # jobs of it already reported
        self.failed: list[int] = []     # numbers
        self.started = 0.0

    @property
    def last(self) -> int:
        return self.first + len(self.jobs) - 1

    def begun(self) -> int:
        """Return how many jobs the worker has taken; any thread may ask.

        All of them but the last are finished.  Of lists: how many are.
        """
        if self.done is not None:
            return self.done
        left: int = self.iterator.__length_hint__()     # type: ignore
        return len(self.jobs) - left

    def cut_short(self) -> list[Range]:
        """Take away what the worker has not begun; return which jobs."""
        if self.done is not None:       # lists: it comes back between two
            return []
        rest = len([*self.iterator])
        if not rest:
            return []
        last = self.last
        self.jobs = self.jobs[:-rest]
        return [(self.last + 1, last)]

    def finished(self) -> int:
        """Return how many jobs are finished while the worker is at it."""
        return self.begun() if self.done is not None else self.begun() - 1

    def current(self) -> int:
        """Return the number of the job (of a list's first) it is at."""
        return self.first + self.finished()

    def at(self, call: Any) -> Range:
        """Return which jobs a call with this argument is for; its worker may.

        Of a handler of lists that is a list, which it may have emptied since.
        """
        first = self.current()
        return first, first if self.done is None else first + len(call) - 1

    def again(self, start: int, stop: int) -> list[Any]:
        """Return new ones of these of its jobs, as they were yielded.

        Raises whatever unpickling them raises.
        """
        return [self.lease.job(number)
                for number in range(self.first + start, self.first + stop)]

    def take_done(self, finished: int) -> list[Range]:
        """Return what is done of the first ``finished`` jobs, for once."""
        found = []
        first, stop = self.first + self.reported, self.first + finished
        if stop <= first:
            return []
        self.reported = finished
        for number in self.failed:
            if first <= number < stop:
                if first < number:
                    found.append((first, number - 1))
                first = number + 1
        if first < stop:
            found.append((first, stop - 1))
        return found

    def unreported(self) -> list[Range]:
        """Return which jobs of it have not been reported, as a range."""
        first = self.first + self.reported
        return [(first, self.last)] if first <= self.last else []

    def split(self, count: int) -> tuple[Chunk, Chunk]:
        """Return its first ``count`` jobs and the others, not begun."""
        return self._part(0, count), self._part(count, len(self.jobs))

    def rest(self, begun: int) -> list[Chunk]:
        """Return what is left to do after ``begun`` jobs, in parts."""
        rest = self._part(begun, len(self.jobs))
        return [rest] if self.keep is None else rest.within(self.keep)

    def within(self, ranges: Sequence[Range]) -> list[Chunk]:
        """Return the parts of it that are in these ranges."""
        return [self._part(max(first - self.first, 0),
                           min(last, self.last) - self.first + 1)
                for first, last in ranges
                if first <= self.last and last >= self.first]

    def _part(self, start: int, stop: int) -> Chunk:
        part = Chunk(self.first + start, self.jobs[start:stop], self.lease)
        part.changed = max(0, min(self.changed, stop) - start)
        part.cause = self.cause if part.changed else ''
        part.handled = max(0, min(self.handled, stop) - start)
        return part
