"""A slave's parent, the supervisor: told the news; its end is noticed."""

from __future__ import annotations

import os
import signal

from .. import forks, sessions
from ..errors import TaskmasterError, descriptor_closed
from ..records import TYPE_CHECKING
from ..service import Service
from ..settings import ENV_PARENT

if TYPE_CHECKING:
    from typing import Callable, MutableMapping

# In a child's environment: the id that it is to go by,
ENV_ID = 'TASKMASTER_SLAVE'
# the id of the dead one in whose place it comes,
ENV_AFTER = 'TASKMASTER_AFTER'
# (beside ENV_PARENT) the pipe for what the parent should know,
ENV_NEWS = 'TASKMASTER_NEWS'
# after how many jobs to retire, whether the master is in the parent,
ENV_QUOTA = 'TASKMASTER_QUOTA'
ENV_LOCAL = 'TASKMASTER_LOCAL'
# the Unix socket of that one, and a program's sys.path, as JSON.
ENV_SOCKET = 'TASKMASTER_SOCKET'
ENV_PATH = 'TASKMASTER_PATH'
# Whether to handle each job twice, or to check it.
ENV_TWICE = 'TASKMASTER_TWICE'
ENV_CHECK = 'TASKMASTER_CHECK'
# The watchdog, where there is one.
ENV_WATCHDOG = 'TASKMASTER_WATCHDOG'

# What a child may tell; one that exits without is not believed.
CONNECTED, OVER, RETIRED = b'+', b'.', b'-'
# How the run has ended, where it is not complete.
FAILED, LIMITED = b'!', b':'


def watch_parent(environ: MutableMapping[str, str],
                 failed: Callable[[TaskmasterError], None]
                 ) -> Callable[[bytes], None]:
    """In a child: end at once when the parent has ended, however it did.

    With it ends what the handlers started: the session, which a child
    leads.  Return what to call to tell the parent CONNECTED, RETIRED or OVER.
    ``failed`` is told of a fault of ours, and is to let the parent see our
    end: nobody would see the parent's.
    """
    if ENV_PARENT not in environ:
        return lambda news: None
    parent, news = int(environ.pop(ENV_PARENT)), int(environ.pop(ENV_NEWS))
    for fd in (parent, news):           # not for what the handler starts
        os.set_inheritable(fd, False)
        forks.close_fd_in_child(fd)

    def wait() -> None:
        try:
            os.read(parent, 1)
        except OSError as error:
            raise descriptor_closed(error) from error
        if os.getpgrp() == os.getpid():
            sessions.end_own()
        os._exit(128 + signal.SIGTERM)

    def tell(what: bytes) -> None:
        os.write(news, what)
    Service('parent', wait, failed).start()
    return tell
