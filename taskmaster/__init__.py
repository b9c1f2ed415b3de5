"""Run a function once over a billion rows, on many machines.

    from taskmaster import Taskmaster
    Taskmaster(handle_job, get_jobs, slaves=4).start()

See `help(taskmaster.Taskmaster)`; what it raises is a `TaskmasterError`.
`taskmaster.iterators` has walks of a table for `get_jobs`.
"""

from __future__ import annotations

from .errors import TaskmasterError
from .records import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from .api import Taskmaster

__version__ = '1.0.0'
__all__ = ['Taskmaster', 'TaskmasterError']


def __getattr__(name: str) -> Any:
    if name == 'Taskmaster':    # imported when used: commands start quickly
        from .api import Taskmaster
        return Taskmaster
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return [*__all__, 'iterators', 'example', '__version__', '__doc__']
