"""The status line: redrawn on a terminal, a plain line now and then elsewhere.

Pure functions make the text; `Progress` decides when and where it is shown,
and keeps log records and other people's lines from running into it.  The only
importer of progressbar2, and only once a bar is really drawn.
"""

import logging
import os
import time
from collections import deque
from typing import Any, Callable, Deque, Optional, TextIO, Tuple

from ..records import NamedTuple
from ..text import duration, printable

SHOWN_WINDOW = 5.0      # seconds that the rate on the line looks back
ETA_WINDOW = 30.0       # longer, or the ETA would dance
STATE = 30              # columns for the state before anything else
LONGEST = 1e9           # seconds (30 years): an ETA beyond it is none


class Status(NamedTuple):
    """What the line tells about a run."""

    current: int = 0    # jobs finished since the very first start
    queued: int = 0     # jobs ready to be leased
    slaves: int = 0     # connected
    failed: int = 0
    state: str = ''     # '' when running, else a word or a reason
    total: Optional[int] = None     # jobs of the whole source, if known


class Rate:
    """Jobs per second over the last ``window`` seconds."""

    def __init__(self, window: float):
        self._window = window
        self._samples: Deque[Tuple[float, int]] = deque()

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


def estimate(status: Status, rate: float) -> Optional[float]:
    """Seconds until the total is reached, None when nobody can say."""
    if status.total is None or status.current > status.total:
        return None
    left = status.total - status.current
    if not left:
        return 0.0
    return left / rate if left < rate * LONGEST else None


def format_status(status: Status, rate: float, elapsed: float,
                  eta: Optional[float] = None,
                  width: Optional[int] = None) -> str:
    """The line's text, without control characters.

    ``rate`` is in jobs per second, ``elapsed`` and ``eta`` in seconds,
    ``width`` in terminal cells (None: as long as it gets).  Where it is too
    narrow what matters least is left out, as half a number misleads; only
    the state is cut in the middle.
    """
    line = f'Current Job: {status.current}'
    for part in (f'Rate: {rate:7.2f}/s', f'Elapsed Time: {_hours(elapsed)}'):
        if width is not None and len(line) + 3 + len(part) > width:
            return _cut(line, width)
        line += ' | ' + part
    state = printable(status.state, instead=' ')    # their words
    parts = [(4, f'Queue: {status.queued}'), (3, f'Slaves: {status.slaves}'),
             (0 if status.failed else 5, f'Failed: {status.failed}')]
    # Where there is more than was counted nobody knows how much there is.
    if status.total is not None and status.current <= status.total:
        # Rounded down: 100% is said when it is true.
        percent = 100 * status.current // status.total if status.total else 100
        parts += [(1, f'{percent}%'), (2, f'ETA: {_hours(eta)}')]
    if width is not None:
        room = width - len(line) - (min(_cells(state), STATE) + 3
                                    if state else 0)
        for _, part in sorted(parts):
            if room >= len(part) + 3:
                room -= len(part) + 3
            else:
                parts = [kept for kept in parts if kept[1] != part]
    line = ' | '.join([line, *(part for _, part in parts),
                       *([state] if state else [])])
    return line if width is None else _cut(line, width)


def _hours(seconds: Optional[float]) -> str:
    """0:00:40, as progressbar2 writes it."""
    if seconds is None:
        return '--:--:--'
    return duration(seconds)


def _cells(text: str) -> int:
    """The columns that ``text`` takes: East Asian characters take two."""
    if text.isascii():
        return len(text)
    import unicodedata  # most lines need it not
    return len(text) + sum(unicodedata.east_asian_width(c) in 'WF'
                           for c in text)


def _cut(text: str, width: int) -> str:
    short = text[:width]
    while _cells(short) > width:
        short = short[:-1]
    return text if short == text else short.rstrip(' |')


class _Sink:
    """A text stream that never raises: once it is broken it is silent.

    A run must not end because the terminal was closed or ``| tee`` died.
    """

    def __init__(self, stream: Optional[TextIO]):
        self._stream = stream       # None also when Python has no stderr

    def isatty(self) -> bool:
        return bool(self._call('isatty'))

    def write(self, text: str) -> None:
        encoding = getattr(self._stream, 'encoding', None) or 'utf-8'
        data = text.encode(encoding, 'backslashreplace')
        self._call('write', data.decode(encoding))

    def flush(self) -> None:
        self._call('flush')

    def width(self) -> int:
        """Columns of the terminal as it is now, 80 when it does not say."""
        try:
            fd = self._stream.fileno() if self._stream else -1
            return os.get_terminal_size(fd).columns or 80
        except (AttributeError, OSError, ValueError):
            return 80

    def _call(self, name: str, *args: str) -> Any:
        if self._stream is None:
            return None
        try:
            return getattr(self._stream, name)(*args)
        except BlockingIOError:     # full, not broken
            return None
        except (OSError, ValueError):
            self._stream = None
            return None


class _Handler(logging.Handler):
    """Writes each record as a line above the bar."""

    def __init__(self, write_line: Callable[[str], None]):
        super().__init__()
        self._write_line = write_line

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write_line(self.format(record))
        except Exception:       # as in the stock handlers
            self.handleError(record)


class Progress:
    """Shows a run's `Status` on ``stream``, and other lines beside it.

    ``clock`` gives seconds.  Any thread may call any method.  With
    ``enabled`` false only `write_line` and `handler` write.
    """

    def __init__(self, stream: Optional[TextIO], enabled: bool = True,
                 clock: Callable[[], float] = time.monotonic):
        self._sink = _Sink(stream)
        self._enabled = enabled
        self._clock = clock
        self._terminal = enabled and self._sink.isatty()
        if self._terminal:
            # Now: later another may be found, in the current folder.
            import progressbar
            self._bars = progressbar
        self._handler = _Handler(self.write_line)
        # Its reentrant lock guards all: logging takes it before any of ours
        # could be taken, and makes it anew in a forked child.
        self._lock: Any = self._handler.lock
        self._running = False
        self._bar: Any = None
        self._text: Any = None

    def start(self, current: int) -> None:
        """The run begins, ``current`` jobs having finished before it."""
        with self._lock:
            self._began = self._clock()
            self._rate, self._steady = Rate(SHOWN_WINDOW), Rate(ETA_WINDOW)
            self._before = current
            self._due = 1.0     # seconds since the start; the next plain line
            self._take(Status(current))
            self._running = self._enabled

    def update(self, status: Status) -> None:
        """Show ``status``; for calling about four times a second."""
        with self._lock:
            if not self._running:
                return
            self._take(status)
            if self._terminal:
                self._draw()
            elif self._elapsed >= self._due:
                self._write(self._line() + '\n')
                # Ever less often, on a grid unless an update comes late.
                interval = min(max(1.0, self._elapsed / 10), 30.0)
                self._due = max(self._due, self._elapsed - 1) + interval

    def finish(self, status: Status) -> None:
        """Leave ``status`` as the last line, whatever it says."""
        with self._lock:
            if not self._running:
                return
            self._running = False
            self._take(status)
            if self._terminal:
                self._draw()
                self._bar.finish(dirty=True)    # ends the line, adds nothing
                self._bar = None
            else:
                self._write(self._line() + '\n')

    def handler(self) -> logging.Handler:
        """The logging handler (always the same) that spares the bar."""
        return self._handler

    def write_line(self, text: str) -> None:
        """Write ``text`` (one line or more) whole, above the bar."""
        if not text.endswith('\n'):
            text += '\n'
        self.beside(self._write)(text)

    def beside(self, write: Callable[[str], None]) -> Callable[[str], None]:
        """``write``, for what goes to the same terminal, without the bar."""
        def write_above(text: str) -> None:
            with self._lock:
                if self._bar is None:
                    write(text)
                else:
                    self._write(f"\r{' ' * (self._sink.width() - 1)}\r")
                    write(text)
                    self._draw()
        return write_above

    def _take(self, status: Status) -> None:
        now = self._clock()
        self._status = status
        self._elapsed = now - self._began
        self._rate.add(now, status.current)
        self._steady.add(now, status.current)

    def _line(self, width: Optional[int] = None) -> str:
        # For jobs slower than the window the mean, of this process alone.
        rate = self._steady.per_second()
        if not rate and self._elapsed > 0:
            rate = (self._status.current - self._before) / self._elapsed
        return format_status(self._status, self._rate.per_second(),
                             self._elapsed, estimate(self._status, rate),
                             width)

    def _draw(self) -> None:
        # The last column stays free: some terminals wrap when it is written.
        width = max(self._sink.width() - 1, 1)
        line = self._line(width)
        line += ' ' * (width - _cells(line))    # over what was there before
        if self._bar is None:
            self._bar = self._new_bar(line)
            self._bar.start()       # draws
        else:
            self._text.update_mapping(line=line)
            self._bar.term_width = len(line)    # it knows no wide characters
            self._bar.update(self._status.current, force=True)

    def _new_bar(self, line: str) -> Any:
        self._text = self._bars.FormatCustomText('%(line)s', {'line': line})
        # With term_width given it leaves SIGWINCH alone; the width is asked
        # for at each drawing instead, of this stream and not of stdout.
        sink: Any = self._sink
        return self._bars.ProgressBar(
            max_value=self._bars.UnknownLength, max_error=False,
            widgets=[self._text], term_width=len(line), fd=sink,
            is_terminal=True, line_breaks=False, enable_colors=False)

    def _write(self, text: str) -> None:
        self._sink.write(text)
        self._sink.flush()
