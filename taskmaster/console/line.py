"""The text of the status line: what it tells, and what gives way to what.

Pure functions; `progress` decides when and where the line is shown.
"""

from __future__ import annotations

from collections import deque

from ..records import NamedTuple
from ..text import duration, printable

SHOWN_WINDOW = 5.0      # seconds that the rate on the line looks back
ETA_WINDOW = 30.0       # and for an ETA, where that were too few jobs:
FEW = 10                # fewer than so many, and it would dance
STATE = 20              # cells of a state that does not fit, at least
SHORT = 10              # cells of a reason that are worth an age beside it
DOTS = '...'            # where a reason is cut
LONGEST = 1e9           # seconds (30 years): an ETA beyond it is none


class Status(NamedTuple):
    """What the line tells about a run."""

    current: int = 0    # jobs finished since the very first start
    queued: int = 0     # jobs ready to be leased
    slaves: int = 0     # connected
    failed: int = 0
    state: str = ''     # '' when running, else a word or a reason
    total: int | None = None        # jobs of the whole source, if known
    since: str = ''     # what follows the state: for how long it has been so
    halted: bool = False        # nobody can say when it will be done
    more: str = ''      # what follows that, where there is room
    limit: float | None = None      # jobs a second, at most
    held: bool = False  # nothing is handed out now


class Rate:
    """Jobs per second over the last ``window`` seconds."""

    def __init__(self, window: float):
        self._window = window
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, now: float, count: int) -> None:
        """At ``now`` (seconds) ``count`` jobs were finished in all."""
        samples = self._samples
        samples.append((now, count))
        # One sample at the edge or beyond stays, so that the window is full.
        while len(samples) > 2 and samples[1][0] <= now - self._window:
            samples.popleft()

    def per_second(self) -> float:
        """0.0 while there is nothing to go by."""
        if not self._samples:
            return 0.0
        (began, before), (now, count) = self._samples[0], self._samples[-1]
        return (count - before) / (now - began) if now > began else 0.0


class Forecast:
    """How fast jobs are finished, as far as that tells when all will be.

    Neither the time of a pause counts nor what is finished in it.
    """

    def __init__(self) -> None:
        self._recent, self._steady = Rate(SHOWN_WINDOW), Rate(ETA_WINDOW)
        self._last: tuple[float, int] | None = None
        # Seconds, and jobs, of this process that count.
        self._seconds, self._jobs = 0.0, 0

    def add(self, now: float, status: Status) -> None:
        """That was so at ``now`` (seconds)."""
        last, self._last = self._last, (now, status.current)
        if last is None or not status.halted:
            began, before = last or self._last
            self._seconds += now - began
            self._jobs += status.current - before
            self._recent.add(self._seconds, self._jobs)
            self._steady.add(self._seconds, self._jobs)

    def eta(self, status: Status) -> float | None:
        """Return the seconds until all is done, if anybody can say.

        By the rate of the last seconds, never faster than the limit.
        """
        rate = self._recent.per_second()
        # For slow jobs a longer time, or all; unless they are slow as they
        # are held back, or have become it.
        if rate * SHOWN_WINDOW < FEW and not status.held:
            steady = self._steady.per_second()
            rate = min(rate or steady, steady)
            if not rate and self._seconds:
                rate = self._jobs / self._seconds
        if status.limit is not None:
            rate = min(rate, status.limit)
        return estimate(status, rate)


def estimate(status: Status, rate: float) -> float | None:
    """Seconds until the total is reached, None when nobody can say."""
    if (status.total is None or status.current > status.total
            or status.halted):
        return None
    left = status.total - status.current
    if not left:
        return 0.0
    return left / rate if left < rate * LONGEST else None


def format_status(status: Status, rate: float, elapsed: float,
                  eta: float | None = None, width: int | None = None) -> str:
    """The line's text, without control characters.

    ``rate`` is in jobs per second, ``elapsed`` and ``eta`` in seconds,
    ``width`` in terminal cells (None: as long as it gets).  Where it is too
    narrow what matters least is left out, as half a number misleads; only
    the state is cut.
    """
    state = state_text(status)
    # What is left out first has the highest number.
    parts = [(0, f'Current Job: {status.current}'),
             (5, f'Rate: {rate:7.2f}/s'),
             (6, f'Elapsed Time: {_hours(elapsed)}'),
             (9, f'Queue: {status.queued}'), (8, f'Slaves: {status.slaves}'),
             (1 if status.failed else 10, f'Failed: {status.failed}')]
    # Where there is more than was counted nobody knows how much there is.
    if status.total is not None and status.current <= status.total:
        # Rounded down: 100% is said when it is true.
        percent = 100 * status.current // status.total if status.total else 100
        parts += [(7, f'{status.current}/{status.total}'), (2, f'{percent}%')]
        if not status.halted:
            parts.append((3, f'ETA: {_hours(eta)}'))
    shown = [part for _, part in parts]
    if width is None:
        return ' | '.join([*shown, state] if state else shown)
    kept, room = set(), width + 3
    wanted = [*parts, (4, state)] if state else parts
    for rank, part in sorted(wanted):
        size = cells(part) + 3
        if part is state and size > room:       # it is to be cut, then
            size = STATE + 3
        if size > room and rank:
            break
        kept.add(part)
        room -= size
    line = ' | '.join(part for part in shown if part in kept)
    if state:
        line += ' | ' + cut_state(status, width - len(line) - 3)
    return _cut(line, width)


def state_text(status: Status) -> str:
    """The whole of the state, for how long included."""
    return printable(status.state + status.since + status.more,
                     instead=' ')       # their words


def cut_state(status: Status, width: int) -> str:
    """The state in so many cells: of a reason the end goes, not its age."""
    whole = state_text(status)
    if cells(whole) > width and status.more:
        return cut_state(status._replace(more=''), width)
    if cells(whole) <= width:
        return whole
    room = width - len(status.since) - len(DOTS)
    if room < SHORT:
        return _cut(whole, max(width, 0))
    return (_cut(printable(status.state, instead=' '), room) + DOTS
            + status.since)


def _hours(seconds: float | None) -> str:
    """0:00:40, as progressbar2 writes it."""
    if seconds is None:
        return '--:--:--'
    return duration(seconds)


def cells(text: str) -> int:
    """The columns that ``text`` takes: East Asian characters take two."""
    if text.isascii():
        return len(text)
    import unicodedata  # most lines need it not
    return len(text) + sum(unicodedata.east_asian_width(c) in 'WF'
                           for c in text)


def _cut(text: str, width: int) -> str:
    short = text[:width]
    while cells(short) > width:
        short = short[:-1]
    return text if short == text else short.rstrip(' |')
