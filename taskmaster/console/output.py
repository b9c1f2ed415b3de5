"""What goes to stdout and stderr beside the status line: lines, logs."""

from __future__ import annotations

import io
import logging
import os
import sys

from .. import logs
from ..errors import SaveError
from ..records import TYPE_CHECKING
from ..settings import Settings
from ..text import printable, summary

if TYPE_CHECKING:
    from typing import Any, Callable, TextIO

    from .progress import Progress      # slaves have none


def new_progress(settings: Settings) -> Progress:
    """The status line, with the log beside it where that is ours."""
    from .progress import Progress
    line = Progress(sys.stderr, not settings.no_progress)
    if logs.are_standard():
        logs.stamp_lines(sys.stderr, os.environ)
    else:
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
    return shown.beside(pass_on) if same else pass_on


def fill_descriptors() -> None:
    """Have stdin, stdout and stderr open, and able to write anything.

    Where one was closed (`<&-`) the next file or socket would take its place
    and be written to, or handed to a child.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:             # what is opened gets the lowest number
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == 'strict':
            stream.reconfigure(errors='backslashreplace')


def set_up_logging(level: str) -> None:
    """Log plain lines to stderr: ours, and those that nobody configured.

    The operator's records come to us as the standard tree's last resort, so
    whatever they set up there takes the place of this, then or later.
    """
    logs.stamp_lines(sys.stderr, os.environ)
    _show_by(logging.StreamHandler())
    _leave_root_alone()
    number: int = getattr(logging, level.upper())
    logs.set_level(number)
    root = logging.getLogger()
    if root.level == logging.WARNING and not root.handlers:     # untouched
        root.setLevel(number)


def _leave_root_alone() -> None:
    """Have `logging.info(...)` set nothing up, as it does unasked.

    What they set up themselves, by a `basicConfig()` too, they have.
    """
    configure = logging.basicConfig

    def basic_config(**options: Any) -> None:
        if options or sys._getframe(1).f_globals is not vars(logging):
            configure(**options)
    logging.basicConfig = basic_config


def _show_by(handler: logging.Handler) -> None:
    handler.setFormatter(logs.Lines())
    logs.send_to(handler)
    logging.lastResort = handler


def print_line(line: str) -> None:
    """Print what was asked for.

    Raises SaveError where there is no room for it: half a file is not to
    pass for a whole one.
    """
    try:
        print(printable(line, lines=True), flush=True)
    except BrokenPipeError:     # `| head -1` has closed it
        pass
    except OSError as error:
        raise SaveError('cannot print what was asked for '
                        f'({summary(error)})') from error
    except ValueError:          # it is closed
        pass


def to_stderr(line: str) -> None:
    """Print what went wrong."""
    pass_on_error(logs.stamp() + printable(line, lines=True))


def pass_on(line: str) -> None:
    """Print on stdout as it is, what the operator's own code printed."""
    _print(line, sys.stdout)


def pass_on_error(line: str) -> None:
    """Print on stderr as it is, what a child printed there."""
    _print(line, sys.stderr)


def _print(line: str, stream: TextIO) -> None:
    try:
        print(line, file=stream, flush=True)
    except Exception:       # `| head -1` has closed it, or it is theirs
        pass


def flush() -> None:
    """Have nothing left for Python to write, which exits with 120 if it fails.

    Whatever the operator's code has put in the place of a stream.
    """
    for name in ('stdout', 'stderr'):
        stream = getattr(sys, name)
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except Exception:
            setattr(sys, name, None)
