"""Chunks: the jobs that one worker takes at a time, and how far it is.

What rests on the GIL: an iterator of a list is asked for its length, and
emptied, by one thread while another takes jobs from it, each in one step.
"""

from __future__ import annotations

from typing import Any, Iterator, Sequence

from ..wire.fields import Range


class Chunk:
    """Jobs ``first`` .. ``last``, taken by one worker."""

    def __init__(self, first: int, jobs: list[Any]):
        self.first = first
        self.jobs = jobs
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
        return Chunk(self.first + start, self.jobs[start:stop])
