"""An event loop that no task of the operator's can end.

`asyncio.run` ends, and cancels every task, when one task raises SystemExit or
KeyboardInterrupt: a part of one job would take all the others with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from .. import forks

# Tasks that are left over are cancelled, and have so many seconds to end.
PATIENCE = 2.0

T = TypeVar('T')
Ending = tuple[type[BaseException], ...]


class Guarded(Coroutine[Any, Any, T]):
    """A coroutine of ours that no GeneratorExit of another task can close.

    What a task raises is thrown into whatever awaits it.  A GeneratorExit
    would be taken for the wish to close all that is on the way.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T]):
        self._coroutine = coroutine

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        if isinstance(error[0], GeneratorExit) or error[0] is GeneratorExit:
            error = RuntimeError('GeneratorExit, raised in a task'),
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Any:
        return self._coroutine.__await__()


class Loop:
    """An event loop of its own; ``ending`` are errors that do end it."""

    def __init__(self, ending: Ending = ()):
        self._ending = ending
        self._loop = asyncio.new_event_loop()
        forks.call_in_child(self._in_child)

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run ``main`` to its end; raises what it raises.

        Then what else goes on in the loop is cancelled, and the loop closed.
        """
        try:
            asyncio.set_event_loop(self._loop)
            self._complete(main)
        finally:
            try:
                self._complete(self._end())
            finally:
                asyncio.set_event_loop(None)
                self._loop.close()

    def _complete(self, main: Coroutine[Any, Any, None]) -> None:
        loop = self._loop
        task = loop.create_task(Guarded(main))
        task.add_done_callback(lambda task: loop.stop())
        while not task.done():
            try:
                loop.run_forever()
            except BaseException as error:
                if forks.is_child():
                    forks.end_child(error)
                if isinstance(error, self._ending):
                    raise
                # It is also the result of the task that has raised it, for
                # whoever waits for that; all others go on.
                if not isinstance(error, (SystemExit, KeyboardInterrupt)):
                    raise
            if forks.is_child():
                forks.end_child()
        task.result()

    async def _end(self) -> None:
        """End the tasks that are left over, and generators not finished."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=PATIENCE)
        generators = asyncio.ensure_future(self._loop.shutdown_asyncgens())
        await asyncio.wait([generators], timeout=PATIENCE)

    def _in_child(self) -> None:
        """A forked child goes on with the coroutine that forked, no other."""
        ready: Any = getattr(self._loop, '_ready', None)
        if ready is not None:
            ready.clear()
        self._loop.stop()
