"""Taskmaster: run a function once over a billion rows, on many machines.

From Python: `Taskmaster(callback, source, ...).start()`; what it raises is
a `TaskmasterError`.
"""

from typing import TYPE_CHECKING, Any

from .errors import TaskmasterError

if TYPE_CHECKING:
    from .api import Taskmaster

__version__ = '1.0.0'
__all__ = ['Taskmaster', 'TaskmasterError']


def __getattr__(name: str) -> Any:
    if name == 'Taskmaster':    # imported when used: commands start quickly
        from .api import Taskmaster
        return Taskmaster
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
