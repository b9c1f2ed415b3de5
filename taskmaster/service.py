"""Service threads: what works beside the main thread, for as long as a run.

Whatever unforeseen comes out of one of them is a fault of ours, and the end
of the run (70, with the traceback): a thread that alone has died would leave
a run that saves nothing, or hangs.
"""

from __future__ import annotations

import threading

from .errors import Fault, TaskmasterError
from .records import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable


class Service(threading.Thread):
    """A thread ``name`` that runs ``loop()``, which returns at the end.

    ``failed`` is called on this thread with the error if the loop raises: a
    TaskmasterError as it is, anything else (SystemExit too) as a Fault.  It
    sees to it that the run ends; and it must not raise.
    """

    def __init__(self, name: str, loop: Callable[[], None],
                 failed: Callable[[TaskmasterError], None]):
        super().__init__(name=name, daemon=True)
        self._loop = loop
        self._failed = failed

    def run(self) -> None:
        try:
            self._loop()
        except TaskmasterError as error:
            self._failed(error)
        except BaseException as error:
            self._failed(Fault.of(error, f'the {self.name} thread'))
