"""Walking a table in the order of a key, page by page, for `get_jobs`.

Each name is loaded when it is asked for.  No room is called as what is in
it: importing it would put the module in the place of the function.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .django import RangeQuerySetWrapper
    from .query import keyset

__all__ = ['RangeQuerySetWrapper', 'keyset']

_ROOMS = {'RangeQuerySetWrapper': '.django', 'keyset': '.query'}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(
            f'module {__name__!r} has no attribute {name!r}')
    value = getattr(importlib.import_module(_ROOMS[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, '__doc__']
