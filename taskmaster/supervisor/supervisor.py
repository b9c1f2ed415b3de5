"""The supervisor: keeps slave processes alive until the run is over.

Each has a *slot*.  A child that is ended by something else than the end of
the run has a successor in its slot, and the master is told which slave was
lost; by the supervisor at once, and by the successor's `hello` in case the
supervisor was not heard.

Each child is in a session of its own, so that a Ctrl-C reaches only the
parent, which forwards it.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from .. import logs
from ..errors import (ConfigError, Fault, KeyRefused, OperatorError,
                      TaskmasterError, Unreachable, UsageError,
                      VersionMismatch)
from ..records import TYPE_CHECKING, NamedTuple
from ..service import Service
from ..slave.parent import CONNECTED, OVER, RETIRED
from ..timing import STANDARD, Timing
from ..wire.fields import Range
from .child import Ended
from .leftovers import Leftovers

if TYPE_CHECKING:
    from typing import Any, Callable, Sequence

    Lost = Callable[[str, Sequence[Range], bool], None]

log = logs.logger(__name__)

# How many children in a row may end without a connection, or with 70.
GIVE_UP = 5

# Exit codes that another start would only repeat.
FINAL = {kind.exit_code for kind in (
    UsageError, ConfigError, KeyRefused, Unreachable, VersionMismatch)}


class Next(NamedTuple):
    """What follows the end of a child in its slot."""

    delay: float = 0.0          # seconds until its successor starts
    code: int | None = None     # or no successor, and this exit code counts
    lost: bool = False          # whether the master lost a slave
    over: bool = False          # whether the run is over for all


class Slot:
    """The decisions on one slot; it starts nothing, and has no clock."""

    def __init__(self, number: int, timing: Timing = STANDARD):
        self.number = number
        self.after: str | None = None   # id of the dead one to be replaced
        self._restart = timing.restart
        self._deaths = 0
        self._code = 0      # of one that ended badly at its end

    def ended(self, id: str, end: Ended, stopping: bool) -> Next:
        """Return what follows the end of the child that went by ``id``."""
        ours = end.code == OperatorError.exit_code
        if ours and (OVER in end.told or RETIRED in end.told):
            self._code = end.code   # what follows the yield of setup raised
        if OVER in end.told or stopping:
            return Next(code=self._code, over=True)
        if RETIRED in end.told:
            self.after, self._deaths = None, 0
            return Next()
        lost = CONNECTED in end.told
        if end.code in FINAL:
            log.debug('slave %s ended with %d', self._called(end), end.code)
            return Next(code=end.code, lost=lost)
        if lost:        # or else the master has never heard of it
            self.after = id
        self._deaths = 0 if lost and not ours else self._deaths + 1
        if self._deaths == GIVE_UP:
            log.error('slave %s was ended by %s, %d times in a row%s; given '
                      'up', self._called(end), end.why, self._deaths,
                      '' if lost else ' and before it could connect')
            return Next(code=OperatorError.exit_code, lost=lost)
        delay = self._restart * 2 ** (self._deaths - 1) if self._deaths else 0
        log.warning('slave %s was ended by %s; starting another%s',
                    self._called(end), end.why,
                    f' in {delay:g} s' if delay else '')
        return Next(delay, lost=lost)

    def _called(self, end: Ended) -> str:
        """Return the slot, and which process was in it, for a person."""
        return f'{self.number} ({end.name})' if end.name else str(self.number)

    @property
    def code(self) -> int:
        """The exit code that counts when no child follows."""
        return self._code


class Supervisor:
    """``count`` children, as ``starter`` starts them (see `child.Starter`).

    ``changed()`` is called when one has ended for good, or a fault of ours
    has ended all (then `error` says which); ``lost(id, jobs, awaited)`` when
    one with leases has died, or was ended as these jobs took too long, and
    whether a successor is to come; once more when none comes after all.
    """

    def __init__(self, starter: Any, count: int,
                 changed: Callable[[], None] = lambda: None,
                 lost: Lost = lambda id, jobs, awaited: None,
                 timing: Timing = STANDARD):
        self.codes: list[int] = []      # of the children that ended for good
        self.told: set[int] = set()     # what they have told of the end
        self.error: TaskmasterError | None = None
        self._starter = starter
        self._changed = changed
        self._lost = lost
        self._timing = timing
        self._stopping = threading.Event()
        self._killed = False            # all of them, at once
        self._leftovers = Leftovers(timing)
        self._lock = threading.Lock()
        self._children: dict[int, Any] = {}
        self._slots = [Service(f'slot-{number}', self._keeper(number),
                               self.fail) for number in range(count)]

    def start(self) -> None:
        for slot in self._slots:
            slot.start()

    @property
    def alive(self) -> bool:
        """Whether any slot may still have a child."""
        return any(slot.is_alive() for slot in self._slots)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to the children, and start no more of them.

        Never SIGINT: a child that is starting would show a traceback.
        """
        self._stopping.set()
        with self._lock:
            for child in self._children.values():
                child.send_signal(number)

    def fail(self, error: TaskmasterError) -> None:
        """A fault of ours is the end: all children are ended, and soon."""
        self.error = self.error or error
        self.stop()
        killing = threading.Timer(self._timing.fault, self.kill)
        killing.daemon = True
        killing.start()
        self._changed()

    def kill(self) -> None:
        """End the children, and theirs, at once; also in a signal handler."""
        self._killed = True     # an Event's lock may be held by who waits
        for child in [*self._children.values()]:
            child.kill()
        self._leftovers.kill()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for all children to end; return whether they did."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for slot in self._slots:
            slot.join(None if deadline is None
                      else max(0, deadline - time.monotonic()))
        return not self.alive

    def close(self) -> None:
        """The run is over: end what is left of the children, and of theirs.

        Those that have connected know it, and end by themselves.
        """
        self._stopping.set()
        with self._lock:
            for child in self._children.values():
                if not child.told():
                    child.kill()
        if not self._joined():
            self._end(lambda child: child.send_signal(signal.SIGTERM))
            if not self._joined():
                count = self._end(lambda child: child.kill())
                log.warning('slaves did not end and were killed: %d', count)
                self.join(self._timing.close)
        self._starter.close()
        self._leftovers.close()

    def _joined(self) -> bool:
        """Wait for the children; those that know of the end as they like."""
        while not self.join(self._timing.close):
            if self._end(lambda child: None):
                return False
            log.info('waiting for slaves to end what follows the yield '
                     'of setup')
        return True

    def _end(self, act: Callable[[Any], None]) -> int:
        """Do that to those that do not know of the end; return how many."""
        with self._lock:
            busy = [child for child in self._children.values()
                    if OVER not in child.told()]
            for child in busy:
                act(child)
        return len(busy)

    def doing(self) -> list[str]:
        """Return the children, a line each, for a person."""
        with self._lock:
            return [f'slave {slot}: pid {child.pid}'
                    for slot, child in sorted(self._children.items())]

    @property
    def _no_more(self) -> bool:
        """Whether no child is started any more."""
        return self._killed or self._stopping.is_set()

    # -- one slot, on a thread of its own ---------------------------------

    def _keeper(self, number: int) -> Callable[[], None]:
        return lambda: self._keep(Slot(number, self._timing))

    def _keep(self, slot: Slot) -> None:
        """Run one child after another until one ends for good."""
        try:
            code = self._keep_one(slot)
        except BaseException:       # goes to `fail`, which says so first
            self.codes.append(Fault.exit_code)
            raise
        self.codes.append(code)
        self._changed()

    def _keep_one(self, slot: Slot) -> int:
        """Return the exit code that counts for this slot."""
        while not self._no_more:
            id = os.urandom(8).hex()
            end = self._run(slot, id)
            self.told.update(end.told)
            step = slot.ended(id, end, self._no_more)
            none = step.code is not None
            if step.lost:
                self._lost(id, end.late or (), not none)
            if none and slot.after is not None and not step.over:
                self._lost(slot.after, (), False)
            if step.over and not self._stopping.is_set():
                self.stop()     # others may be looking for the master
            if step.code is not None:
                return step.code
            self._stopping.wait(step.delay)
        return slot.code

    def _run(self, slot: Slot, id: str) -> Ended:
        """Run one child to its end."""
        with self._lock:
            if self._no_more:
                return Ended(0)
            try:
                child = self._starter.start(id, slot.after, self.fail)
            except OSError as error:        # no more files, or processes
                log.warning('slave %d cannot be started: %s', slot.number,
                            error)
                return Ended(os.EX_OSERR, why=f'exit code {os.EX_OSERR}')
            self._children[slot.number] = child
        try:
            end: Ended = child.wait()
            if end.left is not None:
                self._leftovers.add(end.left)
            return end
        except BaseException:
            child.kill()
            raise
        finally:
            with self._lock:
                del self._children[slot.number]
