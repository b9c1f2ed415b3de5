"""Walking a table in the order of a key, page by page, for `get_jobs`.

Each name is loaded when it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .keyset import RangeQuerySetWrapper, keyset

__all__ = ['RangeQuerySetWrapper', 'keyset']


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import keyset as module
        value = getattr(module, name)
        globals()[name] = value
        return value
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
