"""Our log: a tree of loggers of its own, beside the standard one.

The standard tree is the operator's: `dictConfig` disables the loggers that
exist, `basicConfig` is whoever's that comes first, a level on the root or
`logging.disable` is for all.  None of it reaches this tree.  Until a script
sets a handler for it, its records go to the standard loggers of their names,
as those of any library.
"""

from __future__ import annotations

import logging

from .text import printable


class _ToStandard(logging.Handler):
    """Hands records to the standard loggers, which may want them or not."""

    def emit(self, record: logging.LogRecord) -> None:
        theirs = logging.getLogger(record.name)
        if theirs.isEnabledFor(record.levelno):
            theirs.handle(logging.makeLogRecord({
                **record.__dict__, 'args': None,
                'msg': printable(record.getMessage(), lines=True)}))


_root = logging.RootLogger(logging.NOTSET)
_tree = logging.Manager(_root)
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
