"""Calls that wait, under the queue's lock, and who is woken when."""

from __future__ import annotations

import threading
from collections import OrderedDict

from ..records import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

# In the order in which they came; who goes is found without a search, as a
# thousand may wait.
Line = OrderedDict[threading.Condition, None]


class Waiters:
    """Those that wait for a job (`hungry`), and those for anything else.

    Only one of the hungry is woken at a time; when it has taken its lease
    the next is, if there is something left.  A thousand that wait would
    otherwise get one job each, from a feeder that does nothing else.

    ``stock()`` is how many jobs there are; ``vain()`` says, under the lock,
    whether whoever is woken now would get none of them.

    On the GIL rests that the feeder looks at `hungry` and `waking` without
    the lock: it may see them a moment late, but first adds its job; whoever
    begins to wait first joins `hungry`, then looks for that job.
    """

    def __init__(self, stock: Callable[[], int], vain: Callable[[], bool]):
        self.lock = Lock(self._look)
        self.hungry: Line = OrderedDict()
        self.waking = False         # one of them, which has not run yet
        self._others: Line = OrderedDict()
        self._stock = stock
        self._vain = vain

    def __len__(self) -> int:
        """How many wait for a job."""
        return len(self.hungry)

    @property
    def others(self) -> int:
        """How many wait, but not for a job."""
        return len(self._others)

    def wait(self, seconds: float, hungry: bool, stock: int) -> None:
        """Wait until woken; ``stock`` is how many jobs there were, in vain."""
        turn = self.lock.condition()
        queue = self.hungry if hungry else self._others
        queue[turn] = None
        # Only now: the feeder adds a job first, then looks for the hungry.
        if not hungry or self._stock() == stock:
            turn.wait(seconds)
        if turn in queue:
            del queue[turn]
        else:
            self.waking = False

    def feed_one(self) -> None:
        """There is a job for one of the hungry; without the lock.

        Nor does this wait for the lock: whoever has it looks, after letting
        go of it, whether there is somebody to wake.
        """
        self.lock.unless_taken(self.wake_one)

    def wake_one(self) -> None:
        """Under the lock: wake one of the hungry, if that is any use."""
        # In vain it would wake the next one in vain, and so on for ever.
        if self.hungry and not self.waking and not self._vain():
            self.waking = True
            _first(self.hungry).notify()

    def wake_all(self) -> None:
        """Under the lock: things have changed for all that wait."""
        for queue in self.hungry, self._others:
            while queue:
                _first(queue).notify()

    def _look(self) -> None:
        if self.hungry and not self.waking and self._stock():
            self.lock.unless_taken(self.wake_one)


def _first(line: Line) -> threading.Condition:
    """Take out whoever has waited longest."""
    return line.popitem(last=False)[0]


class Lock:
    """A lock; ``after`` is called whenever it has been let go of."""

    def __init__(self, after: Callable[[], None]):
        self._lock = threading.Lock()
        self._after = after
        self.acquire = self._lock.acquire
        self.locked = self._lock.locked

    def release(self) -> None:
        self._lock.release()
        self._after()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def condition(self) -> threading.Condition:
        return threading.Condition(self)        # type: ignore[arg-type]

    def unless_taken(self, act: Callable[[], None]) -> None:
        """Do it with the lock, or not at all if another thread has it."""
        if self._lock.acquire(blocking=False):
            try:
                act()
            finally:
                self._lock.release()
