"""Our log: a tree of loggers of its own, beside the standard one.

The standard tree is the operator's: `dictConfig` disables the loggers that
exist, `basicConfig` is whoever's that comes first, a level on the root or
`logging.disable` is for all.  None of it reaches this tree.  Until a script
sets a handler for it, its records go to the standard loggers of their names,
as those of any library.
"""

from __future__ import annotations

import logging
import os
import time

from .records import TYPE_CHECKING
from .text import printable

if TYPE_CHECKING:
    from typing import Any, MutableMapping, TextIO

# In the environment of a child of ours: its lines need no time, as they come
# out where others have none.
ENV_PLAIN = 'TASKMASTER_PLAIN'
# How the line begins, in JSON, that a child prints for an error that ends it:
# its parent shows it, of all its children once.
ERROR = '\x1e{"error": '


class _ToStandard(logging.Handler):
    """Hands records to the standard loggers, which may want them or not."""

    def emit(self, record: logging.LogRecord) -> None:
        theirs = logging.getLogger(record.name)
        if theirs.isEnabledFor(record.levelno):
            theirs.handle(logging.makeLogRecord({
                **record.__dict__, 'args': None,
                'msg': printable(record.getMessage(), lines=True)}))


class Lines(logging.Formatter):
    """Plain lines: when, where nobody else says it, the level, and what."""

    def format(self, record: logging.LogRecord) -> str:
        text = printable(super().format(record), lines=True)
        if speaker and record.name.partition('.')[0] == __package__:
            text = f'{text} (slave {speaker})'
        if record.levelno != logging.INFO:
            text = f'{record.levelname.lower()}: {text}'
        return stamp(record.created) + text


_stamped = False        # whether a line begins with its time
# Of a slave among others, whose lines come out together: its host:pid.
speaker = ''


def stamp_lines(stream: TextIO, environ: MutableMapping[str, str]) -> None:
    """Begin lines with their time, if they go to a file, say.

    On a terminal they are read at once, and journald has times of its own:
    then `JOURNAL_STREAM` is device and inode of what it reads.
    """
    global _stamped
    _stamped = ENV_PLAIN not in environ
    environ.pop(ENV_PLAIN, None)
    try:
        there = os.fstat(stream.fileno())
        if (stream.isatty() or environ.get('JOURNAL_STREAM')
                == f'{there.st_dev}:{there.st_ino}'):
            _stamped = False
    except (OSError, ValueError, AttributeError):
        pass


def are_stamped() -> bool:
    return _stamped


def stamp(seconds: float | None = None) -> str:
    """Return how a line begins: ``2026-11-25T20:15:00+00:00 ``, or ''."""
    return time.strftime('%Y-%m-%dT%H:%M:%S+00:00 ',
                         time.gmtime(seconds)) if _stamped else ''


class _Logger(logging.Logger):
    """Makes records as the library does, whatever factory is set for all."""

    def makeRecord(self, name: str, level: int, fn: str, lno: int, msg: object,
                   args: Any, exc_info: Any, func: str | None = None,
                   extra: Any = None, sinfo: str | None = None
                   ) -> logging.LogRecord:
        return logging.LogRecord(name, level, fn, lno, msg, args, exc_info,
                                 func, sinfo)


_root = logging.RootLogger(logging.NOTSET)
_tree = logging.Manager(_root)
_tree.setLoggerClass(_Logger)
_root.manager = _tree
_root.addHandler(_ToStandard())


def logger(name: str) -> logging.Logger:
    """Return the logger of that name, in the place of logging.getLogger."""
    return _tree.getLogger(name)


def send_to(handler: logging.Handler) -> None:
    """Have one handler for all records, in the place of the last one."""
    _root.handlers[:] = [handler]


def set_level(level: int) -> None:
    """Leave out what is below a level."""
    _root.setLevel(level)


def at_least(level: int) -> None:
    """Leave out also what is below this level."""
    _root.setLevel(max(_root.level, level))


def are_standard() -> bool:
    """Whether records go to the standard loggers."""
    return isinstance(_root.handlers[0], _ToStandard)
