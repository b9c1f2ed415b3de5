"""The monitor: how a run is going, for a person and for `tm-ctl`."""

from __future__ import annotations

import os
import socket
import time
from collections import deque

from .. import __version__, logs
from ..console.line import SHOWN_WINDOW, Forecast, Rate, Status, state_text
from ..console.summary import Summary
from ..console.status import lines
from ..records import TYPE_CHECKING
from ..storage.files import to_iso
from ..text import NAME, counted, short, summary
from ..timing import Timing
from .jobqueue import JobQueue
from .overview import Oldest
from .recorder import Recorder
from .saver import Saver
from .throttle import Throttle

if TYPE_CHECKING:
    from typing import Any, Callable

log = logs.logger(__name__)

# Looks at the queue, after which the older ones count half.
LOOKS = 40
# Seconds that a drain may take before it is said what it waits for.
SOON = 1.0
# Seconds, and how many of them, that the rates of the last minutes are of.
STEP = 5.0
STEPS = 60
# Seconds that a report will do for whoever looks again and again: each `top`
# does so once a second.
FRESH = 0.9
# Slaves that are named when nothing has finished for long.
NAMED = 3

# A word or a reason, for how long that has been so, and what may be left out.
State = tuple[str, str, str]


class Monitor:
    """Tells what goes on in ``queue``, and counts what helps to tell.

    ``total`` is how many jobs there are in the whole source, if known.
    `look` is for one thread, the others for any.
    """

    def __init__(self, queue: JobQueue, recorder: Recorder,
                 throttle: Throttle, total: int | None, timing: Timing,
                 errors: Summary, saver: Saver,
                 clock: Callable[[], float] = time.monotonic):
        self._queue = queue
        self._recorder = recorder
        self._throttle = throttle
        self._total = total
        self._timing = timing
        self._errors = errors
        self._saver = saver
        self._last: tuple[float, int, dict[str, Any]] = 0.0, -1, {}
        self._clock = clock
        self._started = to_iso(int(time.time()))
        self._began = clock()
        # Jobs a second of each STEP; and when the present one began, with
        # how many jobs finished.
        self._rates: deque[float] = deque(maxlen=STEPS)
        self._step: tuple[float, int] | None = None
        self._speed, self._forecast = Rate(SHOWN_WINDOW), Forecast()
        self._starved = 0, 0        # looks at the queue: empty, and all
        self._source_seen = 0, 0.0  # jobs fed, and when that changed
        # Jobs finished, since when they are as many, when that was said.
        self._finished, self._still, self._said = 0, clock(), clock()

    @property
    def countable(self) -> bool:
        """Whether to ask the operator how many jobs there are."""
        return (self._total is None and self._recorder.whole
                and self._recorder.source.count is not None)

    def count(self) -> None:
        """Ask the operator how many jobs there are in all."""
        ask = self._recorder.source.count
        assert ask is not None
        try:
            total = ask()
            self._total = None if total is None else int(total)
        except BaseException as error:
            log.warning('count_jobs raised %s; there will be no ETA',
                        summary(error))

    def look(self) -> Status:
        """Take note of how it goes, now and then; return that."""
        status, now = self.status(), self._clock()
        self._speed.add(now, status.current)
        self._forecast.add(now, status)
        began, before = self._step = self._step or (now, status.current)
        if now - began >= STEP:
            self._rates.append((status.current - before) / (now - began))
            self._step = now, status.current
        empty, looks = self._starved
        if looks >= LOOKS:
            empty, looks = empty // 2, looks // 2
        self._starved = (empty + (status.queued < self._queue.maxsize // 2),
                         looks + 1)
        self._say_when_still(status)
        return status

    def status(self) -> Status:
        """Return what the line tells."""
        return self._status(*(self._draining() or self._troubled()
                              or self._reason() or self._hoarded()
                              or self._stuck() or ()))

    def _status(self, state: str = '', since: str = '',
                more: str = '') -> Status:
        counts = self._queue.counts()
        return Status(self._recorder.count + counts.finished, counts.queued,
                      counts.slaves, self._recorder.failing(counts.unrecorded),
                      state, self._total, since,
                      self._recorder.paused or self._queue.draining, more,
                      self._throttle.rate, bool(self._queue.held))

    def tell(self) -> None:
        """Say what is going on, on SIGUSR1; any thread may call this."""
        for line in lines(self.report()):
            log.info('%s', line)

    def report(self, most: int | None = None) -> dict[str, Any]:
        """Return what `tm-ctl status --json` shows, of ``most`` slaves.

        For those who look again and again, each second and each of them a
        screenful of slaves, it is made but now and then.
        """
        made, of, report = self._last
        now = self._clock()
        if most is None or most != of or now - made > FRESH:
            report = self._report(most)
            if most is not None:
                self._last = now, most, report
        return report

    def _report(self, most: int | None) -> dict[str, Any]:
        queue = self._queue
        status = self._status(*(
            self._draining() or (('draining',) if queue.draining else None)
            or self._troubled() or self._hoarded() or self._reason()
            or ('running',)))
        oldest = queue.oldest()
        rate = self._speed.per_second()
        return {
            'run': queue.name, 'version': __version__,
            'state': state_text(status),
            'paused': self._recorder.paused, 'current': status.current,
            'total': status.total, 'failed': status.failed, 'rate': rate,
            'limit': self._throttle.rate, 'eta': self._forecast.eta(status),
            'queued': status.queued, 'size': queue.maxsize,
            'slower': self._slower(), 'rates': [*self._rates],
            'started': self._started, 'elapsed': self._clock() - self._began,
            'pid': os.getpid(), 'host': socket.gethostname(),
            'kinds': [{'kind': kind, 'count': count}
                      for kind, count in self._errors.kinds()],
            'times': self._times(),
            'oldest': None if oldest is None else {
                'number': self._recorder.count + oldest.number,
                'key': self._recorder.shown_key(oldest.job),
                'slave': oldest.slave, 'age': oldest.age},
            'slave_count': status.slaves, 'in_hand': queue.in_hand,
            'slaves': [slave._asdict() for slave in queue.slaves(most)]}

    def _times(self) -> dict[str, Any] | None:
        times = self._queue.times()
        return None if times is None else {
            'median': times.median, 'p99': times.p99, 'slowest': [
                {'key': self._recorder.shown_key(job), 'seconds': seconds}
                for seconds, job in times.slowest]}

    def _slower(self) -> str | None:
        """Return who of source, slaves and the rate is waited for.

        While nothing is to be handed out, or saved, it is none of them.
        """
        if (self._queue.draining or self._queue.held or self._queue.behind
                or self._saver.reason[0]):
            return None
        empty, looks = self._starved
        if 2 * empty > looks and not self._queue.ended:
            return 'source'
        return ('rate' if self._throttle.rate and not self._queue.ended
                else 'slaves')

    def _draining(self) -> State | None:
        """Return what a drain waits for, once that takes a while."""
        if not self._queue.draining:
            return None
        holders = self._queue.holders()
        if not holders or holders[0].age < SOON:
            return None
        state, since, more = self._held(holders[0])
        others = len(holders) - 1
        if others:
            more += f", and {counted(others, 'slave')} more"
        return f'draining: {state}', since, more

    def _troubled(self) -> State | None:
        """Return why nothing is saved, if so, and why nothing is leased."""
        reason, since = self._saver.reason
        if not reason:
            return None
        held = self._queue.held
        return f'{reason}; {held}' if held else reason, since, ''

    def _reason(self) -> State | None:
        """Return why nothing is leased, or what is waited for, if so."""
        queue = self._queue
        if queue.held:
            return queue.held, '', ''
        if queue.behind:
            return 'failed jobs wait to be recorded', '', ''
        fed, since = self._source_seen
        now = self._clock()
        if queue.fed != fed or queue.qsize() or not since:
            self._source_seen = queue.fed, now
        elif now - since > self._timing.quiet and not queue.exhausted:
            return 'waiting for get_jobs', f', {now - since:.0f} s', ''
        return None

    def _hoarded(self) -> State | None:
        """Return who has most in hand while nothing finishes."""
        still = self._clock() - self._still
        if still <= (self._timing.quiet if self._queue.full
                     else self._timing.stuck):
            return None
        most = max((holder for holder in self._queue.holders()
                    if holder.age > self._timing.quiet),
                   key=lambda holder: holder.in_hand, default=None)
        if most is None:
            return None
        held, since, more = self._held(most)
        why = self._queue.held
        return f'{why}: {held}' if why else held, since, more

    def _stuck(self) -> State | None:
        """Return which job is held up while the others go on, if one is."""
        oldest = self._queue.oldest()
        if (oldest is not None and oldest.slave
                and oldest.age > self._timing.stuck):
            return self._held(oldest)
        return None

    def _say_when_still(self, status: Status) -> None:
        """A line when nothing has finished for a minute, and each minute."""
        now = self._clock()
        if status.current != self._finished:
            self._finished, self._still, self._said = status.current, now, now
        elif now - self._said >= self._timing.still:
            self._said = now
            holders = self._queue.holders()
            if holders:
                log.warning('nothing has finished for a minute: %s%s',
                            '; '.join(''.join(self._held(holder))
                                      for holder in holders[:NAMED]),
                            f"; and {counted(len(holders) - NAMED, 'slave')} "
                            'more'
                            if len(holders) > NAMED else '')

    def _held(self, oldest: Oldest) -> State:
        return (f'job {self._recorder.count + oldest.number} '
                f'(key {self._recorder.shown_key(oldest.job)}) is with '
                f'{short(oldest.slave, NAME)}', f' for {oldest.age:.0f} s',
                f', as one of {oldest.in_hand}' if oldest.in_hand > 1 else '')
