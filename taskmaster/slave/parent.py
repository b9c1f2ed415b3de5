"""A slave's parent, the supervisor: told the news; its end is noticed."""

import os
import signal
import threading
from typing import Callable, Dict

ENV_ID = 'TASKMASTER_SLAVE'         # the id that a child is to go by
ENV_AFTER = 'TASKMASTER_AFTER'      # the id of the dead one it replaces
ENV_PARENT = 'TASKMASTER_PARENT'    # the pipe that ends with the parent
ENV_NEWS = 'TASKMASTER_NEWS'        # the pipe for what the parent should know
ENV_QUOTA = 'TASKMASTER_QUOTA'      # after how many jobs to retire
ENV_PATH = 'TASKMASTER_PATH'        # the program's sys.path, as JSON

# What a child may tell; one that exits without is not believed.
CONNECTED, OVER, RETIRED = b'+', b'.', b'-'


def watch_parent(environ: Dict[str, str]) -> Callable[[bytes], None]:
    """In a child: end at once when the parent has ended, however it did.

    Gives what to call to tell the parent CONNECTED, RETIRED or OVER.
    """
    if ENV_PARENT not in environ:
        return lambda news: None
    parent, news = int(environ.pop(ENV_PARENT)), int(environ.pop(ENV_NEWS))
    for fd in (parent, news):           # not for what the handler starts
        os.set_inheritable(fd, False)

    def wait() -> None:
        os.read(parent, 1)
        os._exit(128 + signal.SIGTERM)

    def tell(what: bytes) -> None:
        os.write(news, what)
    threading.Thread(target=wait, name='parent', daemon=True).start()
    return tell
