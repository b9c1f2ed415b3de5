"""Values and errors as text for a person; nothing here ever raises."""

import importlib
import os
import types
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:       # it takes a while, and few errors are shown
    import traceback

_OURS = os.path.dirname(os.path.realpath(__file__)) + os.sep


def safe_repr(value: Any, limit: int = 1000) -> str:
    """``repr``, cut to ``limit`` characters."""
    try:
        text = repr(value)
    except BaseException:       # whatever their own __repr__ raises
        text = f'<{type(value).__name__} without a repr>'
    return text if len(text) <= limit else text[:limit - 3] + '...'


def short(text: str, limit: int = 100) -> str:
    """``text`` on one line, to go into the line of an error."""
    line = ' '.join(text.split())
    return line if len(line) <= limit else line[:limit - 3] + '...'


def summary(error: BaseException, limit: int = 200) -> str:
    """``ValueError: bad``, on one line."""
    try:
        text = str(error)
    except BaseException:
        text = ''
    name = type(error).__name__
    return short(f'{name}: {text}' if text else name, limit)


def operators_part(error: BaseException) -> Optional[types.TracebackType]:
    """The error's traceback from the operator's first frame on, or None."""
    trace = error.__traceback__
    while trace is not None and _is_machinery(trace):
        trace = trace.tb_next
    return trace


def traceback_of(error: BaseException) -> str:
    """The operator's traceback as Python prints it, without our frames."""
    import traceback
    try:
        shown = traceback.TracebackException(type(error), error,
                                             operators_part(error))
        _leave_out_ours(shown)
        return ''.join(shown.format())
    except BaseException:           # its own __str__ or __cause__ is at fault
        return summary(error) + '\n'


def _leave_out_ours(shown: 'Optional[traceback.TracebackException]') -> None:
    """As of the iterators, which are between their code and their driver."""
    while shown is not None:
        shown.stack[:] = [frame for frame in shown.stack
                          if not frame.filename.startswith(_OURS)]
        shown = shown.__cause__ or shown.__context__


def _is_machinery(trace: types.TracebackType) -> bool:
    """Whether a frame is of this package or of the import system."""
    code = trace.tb_frame.f_code
    return (code.co_filename.startswith((_OURS, '<frozen importlib'))
            or code.co_filename == importlib.__file__)
