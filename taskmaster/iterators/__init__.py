"""Where jobs come from: the rows of a table, ranges of them, files.

Each name is loaded when it is asked for.  No room is called as what is in
it: importing it would put the module in the place of the function.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .between import Range, ranges
    from .django import RangeQuerySetWrapper
    from .files import Line, Row, csv_rows, lines
    from .query import keyset

__all__ = ['Line', 'Range', 'RangeQuerySetWrapper', 'Row', 'csv_rows',
           'keyset', 'lines', 'ranges']

_ROOMS = {'RangeQuerySetWrapper': '.django', 'keyset': '.query',
          'Range': '.between', 'ranges': '.between', 'Line': '.files',
          'Row': '.files', 'csv_rows': '.files', 'lines': '.files'}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(
            f'module {__name__!r} has no attribute {name!r}')
    value = getattr(importlib.import_module(_ROOMS[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, '__doc__']
