"""The status line: redrawn on a terminal, a plain line now and then elsewhere.

`line` makes the text; `Progress` decides when and where it is shown, and
keeps log records and other people's lines from running into it.  The only
importer of progressbar2, and only once a bar is really drawn.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time

from .. import forks, logs
from ..records import TYPE_CHECKING
from .line import (SHOWN_WINDOW, Forecast, Rate, Status, cells, format_status,
                   state_text)

if TYPE_CHECKING:
    from typing import Any, Callable, TextIO

# Seconds until a reason that is too long for the line is said again, when
# but a number in it has changed.
AGAIN = 30.0


class _Sink:
    """A text stream that never raises: once it is broken it is silent.

    A run must not end because the terminal was closed or ``| tee`` died.
    """

    def __init__(self, stream: TextIO | None):
        self._stream = stream       # None also when Python has no stderr
        # As it is before `write` is ours.
        self._plain: Any = getattr(stream, 'write', None)

    def isatty(self) -> bool:
        return bool(self._call('isatty'))

    def write(self, text: str) -> None:
        encoding = getattr(self._stream, 'encoding', None) or 'utf-8'
        data = text.encode(encoding, 'backslashreplace')
        self._call('write', data.decode(encoding))

    def shows(self, other: TextIO) -> bool:
        """Return whether what is written there is seen here."""
        try:
            return self._stream is other or os.path.samestat(
                os.fstat(other.fileno()), os.fstat(self._fd()))
        except (AttributeError, OSError, ValueError):
            return False

    def flush(self) -> None:
        self._call('flush')

    def width(self) -> int:
        """Columns of the terminal as it is now, 80 when it does not say."""
        try:
            return os.get_terminal_size(self._fd()).columns or 80
        except (AttributeError, OSError, ValueError):
            return 80

    def _fd(self) -> int:
        return self._stream.fileno() if self._stream else -1

    def _call(self, name: str, *args: str) -> Any:
        if self._stream is None:
            return None
        try:
            return (self._plain if name == 'write'
                    else getattr(self._stream, name))(*args)
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

    def __init__(self, stream: TextIO | None, enabled: bool = True,
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
        self._drawn = False     # the bar stands on the last line
        self._said = '', 0.0    # the last state that was too long, and when
        self._aside: list[TextIO] = []      # whose `write` is ours
        forks.call_in_child(self._in_child)

    def start(self, current: int) -> None:
        """The run begins, ``current`` jobs having finished before it."""
        with self._lock:
            self._began = self._clock()
            self._rate, self._forecast = Rate(SHOWN_WINDOW), Forecast()
            self._due = 1.0     # seconds since the start; the next plain line
            self._take(Status(current))
            self._running = self._enabled
            if self._terminal:
                self._stand_aside()

    def update(self, status: Status) -> None:
        """Show ``status``; for calling about four times a second."""
        with self._lock:
            if not self._running:
                return
            self._take(status)
            if self._terminal:
                self._draw()
            elif self._elapsed >= self._due:
                self._write(logs.stamp() + self._line() + '\n')
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
                self._bar, self._drawn = None, False
                self._in_nobodys_way()
            else:
                self._write(logs.stamp() + self._line() + '\n')

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
                self._make_way()
                write(text)
                if self._bar is not None:
                    self._draw()
        return write_above

    def _make_way(self, debugged: bool = False) -> None:
        """Leave the line to others; for a debugger what it says stays."""
        if self._drawn:
            self._drawn = False
            self._write('\n' if debugged else
                        f"\r{' ' * (self._sink.width() - 1)}\r")

    def _stand_aside(self) -> None:
        """Have what the operator's code prints here begin a line of its own.

        The bar is drawn again at the next update, which under `--inline`
        comes after a debugger's prompt.
        """
        def aside(write: Callable[[str], int]) -> Callable[[str], int]:
            def write_aside(text: str) -> int:
                with self._lock:
                    self._make_way('pdb' in sys.modules)
                    return write(text)
            return write_aside

        for stream in (sys.stdout, sys.stderr):
            if self._sink.shows(stream):
                try:
                    setattr(stream, 'write', aside(stream.write))
                    self._aside.append(stream)
                except AttributeError:
                    pass

    def _in_nobodys_way(self) -> None:
        while self._aside:
            vars(self._aside.pop()).pop('write', None)

    def _in_child(self) -> None:
        self._running = self._drawn = False
        self._bar = None
        self._in_nobodys_way()

    def _take(self, status: Status) -> None:
        now = self._clock()
        self._status = status
        self._elapsed = now - self._began
        self._rate.add(now, status.current)
        self._forecast.add(now, status)

    def _line(self, width: int | None = None) -> str:
        return format_status(self._status, self._rate.per_second(),
                             self._elapsed, self._forecast.eta(self._status),
                             width)

    def _draw(self) -> None:
        # The last column stays free: some terminals wrap when it is written.
        width = max(self._sink.width() - 1, 1)
        line = self._line(width)
        self._say_what_was_cut(line)
        line += ' ' * (width - cells(line))    # over what was there before
        if self._bar is None:
            self._bar = self._new_bar(line)
            self._bar.start()       # draws
        else:
            self._text.update_mapping(line=line)
            self._bar.term_width = len(line)    # it knows no wide characters
            self._bar.update(self._status.current, force=True)
        self._drawn = True

    def _say_what_was_cut(self, line: str) -> None:
        """A reason that is too long for the line stands above it, once."""
        state = self._status.state
        said, when = self._said
        if state == said or line.endswith(state_text(self._status)):
            return
        now = self._clock()
        if _wording(state) != _wording(said) or now - when >= AGAIN:
            self._said = state, now     # first, as this draws again
            self.write_line(state_text(self._status))

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


def _wording(state: str) -> str:
    """The state but for its numbers: replicas lag 9 s, and then 10 s."""
    return re.sub(r'\d+', '', state)
