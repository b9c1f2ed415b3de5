"""Values and errors as text for a person; nothing here ever raises.

What it gives has no character that a terminal obeys: keys, reprs and errors
are written by others, in the database or on another machine.
"""

from __future__ import annotations

import importlib
import os
import types

from .records import TYPE_CHECKING

if TYPE_CHECKING:
    import traceback    # it takes a while, and few errors are shown
    from typing import Any

_OURS = os.path.dirname(os.path.realpath(__file__)) + os.sep


# Characters of a name that others gave, in a line of ours.
NAME = 100
# The name of a class, whatever its own class has in the place of that.
_NAME: Any = type.__dict__['__name__'].__get__


def printable(text: str, lines: bool = False,
              instead: str | None = None) -> str:
    """Return text in which what steers a terminal, or hides, is written out.

    So that an escape reads ``\\x1b``, a change of direction ``\\u202e``.
    With ``lines`` newlines and tabs stay.  ``instead`` is a character to be
    there in its place, where the text must not grow.
    """
    if text.isprintable():
        return text
    return ''.join(char if char.isprintable() or _is_space(char)
                   or lines and char in '\n\t'
                   else char.encode('unicode_escape').decode('ascii')
                   if instead is None else instead
                   for char in text)


def _is_space(char: str) -> bool:
    """Return whether it is a space that Python calls unprintable."""
    return char.isspace() and char > '\x9f' and char not in '\u2028\u2029'


def safe_repr(value: Any, limit: int = 1000) -> str:
    """Return ``repr``, cut to ``limit`` characters."""
    try:
        text = repr(value)
    except BaseException:       # whatever their own __repr__ raises
        text = f'<{_NAME(type(value))} without a repr>'
    return _cut(printable(text), limit)


def short(text: str, limit: int = 100) -> str:
    """Return ``text`` on one line, to go into the line of an error."""
    return _cut(printable(' '.join(text.split())), limit)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit - 3] + '...'


def counted(number: int | str, thing: str) -> str:
    """Return ``1 job``, or ``2 jobs``, of ``job``."""
    return f'{number} {thing}{"s"[:str(number) != "1"]}'


def quoted(word: str) -> str:
    """Return a word as it is to be typed in a shell."""
    if word.isalnum() and word.isascii():
        return word
    import shlex        # few need it
    return shlex.quote(word)


def duration(seconds: float) -> str:
    """Return ``0:00:40``, or ``1 day, 0:00:40``, as of a `timedelta`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    text = f'{hours}:{minutes:02}:{seconds:02}'
    return f'{counted(days, "day")}, {text}' if days else text


def summary(error: BaseException, limit: int = 200) -> str:
    """Return ``ValueError: bad``, on one line."""
    try:
        text = str(error)
    except BaseException:
        text = ''
    name = _NAME(type(error))
    return short(f'{name}: {text}' if text else name, limit)


def operators_part(error: BaseException) -> types.TracebackType | None:
    """Return the traceback from the operator's first frame on, or None."""
    trace = error.__traceback__
    while trace is not None and _is_machinery(trace):
        trace = trace.tb_next
    return trace


def traceback_of(error: BaseException) -> str:
    """Return their traceback as Python prints it, without our frames."""
    try:
        import traceback
        shown = traceback.TracebackException(type(error), error,
                                             operators_part(error))
        _leave_out_ours(shown)
        return printable(''.join(shown.format()), lines=True)
    except BaseException:           # its own __str__ or __cause__, or theirs
        return summary(error) + '\n'


def _leave_out_ours(shown: traceback.TracebackException | None) -> None:
    """As of the iterators, which are between their code and their driver."""
    while shown is not None:
        shown.stack[:] = [frame for frame in shown.stack
                          if not frame.filename.startswith(_OURS)]
        shown = shown.__cause__ or shown.__context__


def _is_machinery(trace: types.TracebackType) -> bool:
    """Return whether a frame is of this package or of the import system."""
    code = trace.tb_frame.f_code
    return (code.co_filename.startswith((_OURS, '<frozen importlib'))
            or code.co_filename == importlib.__file__)
