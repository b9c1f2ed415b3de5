"""The last word: the operator's `finished`, told how the run has ended."""

from __future__ import annotations

import threading

from .. import forks, logs
from ..records import TYPE_CHECKING
from ..text import summary, traceback_of

if TYPE_CHECKING:
    from typing import Any, Callable

log = logs.logger(__name__)


def tell(finished: Callable[[dict[str, Any]], Any], how: dict[str, Any],
         seconds: float) -> None:
    """Call ``finished(how)``, and wait so long for it.

    What it raises is said, and changes nothing: all is saved by now.
    """
    def call() -> None:
        try:
            finished(how)
        except BaseException as error:
            if forks.is_child():
                forks.end_child(error)
            log.warning('%sfinished raised %s; the run has ended as it is '
                        'said above', traceback_of(error), summary(error))
        if forks.is_child():
            forks.end_child()

    thread = threading.Thread(target=call, name='finished', daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        log.warning('finished has not returned in %g s, and is not waited for '
                    'any longer', seconds)
