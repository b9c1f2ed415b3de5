"""What goes to stdout and stderr beside the status line: lines, logs."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Callable

from .. import logs
from ..settings import Settings

if TYPE_CHECKING:       # slaves have none
    from .progress import Progress


def new_progress(settings: Settings) -> Progress:
    """The status line, with the log beside it where that is ours."""
    from .progress import Progress
    line = Progress(sys.stderr, not settings.no_progress)
    if not logs.are_standard():
        _show_by(line.handler())
    return line


def printer(shown: Progress) -> Callable[[str], None]:
    """Prints what handlers print, above the status line if that is there.

    Elsewhere it must not wait, and have the line wait, for who reads it.
    """
    try:
        same = os.path.samestat(os.fstat(sys.stdout.fileno()),
                                os.fstat(sys.stderr.fileno()))
    except (OSError, ValueError, AttributeError):
        same = False
    return shown.beside(print_line) if same else print_line


def set_up_logging(level: str) -> None:
    """Log plain lines to stderr: ours, and those that nobody configured.

    The operator's records come to us as the standard tree's last resort, so
    whatever they set up there takes the place of this, then or later.
    """
    _show_by(logging.StreamHandler())
    number: int = getattr(logging, level.upper())
    logs.set_level(number)
    root = logging.getLogger()
    if root.level == logging.WARNING and not root.handlers:     # untouched
        root.setLevel(number)


def _show_by(handler: logging.Handler) -> None:
    handler.setFormatter(_Lines())
    logs.send_to(handler)
    logging.lastResort = handler


class _Lines(logging.Formatter):
    """Plain lines; the level is named where it is above info."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.levelno > logging.INFO:
            return f'{record.levelname.lower()}: {text}'
        return text


def print_line(line: str) -> None:
    try:
        print(line, flush=True)
    except (OSError, ValueError):       # `| head -1` has closed it
        pass


def to_stderr(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:         # or Python tries again, and exits with 120
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except (ValueError, AttributeError):
            pass
