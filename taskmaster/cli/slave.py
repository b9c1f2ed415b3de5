"""`tm-slave`: take jobs, call the handler."""

import io
import logging
import os
import secrets
import signal
import socket
import sys
from argparse import Namespace
from typing import Any, List, NoReturn, Optional, Sequence

from ..console.signals import Signals
from ..wire.key import ENV_KEY
from .options import slave_parser
from .script import address_of, ended, key_of, main_of, say, trust_of

log = logging.getLogger(__name__)


def run(options: Namespace) -> int:
    import faulthandler

    from ..slave.parent import (CONNECTED, ENV_AFTER, ENV_ID, ENV_QUOTA, OVER,
                                RETIRED, watch_parent)
    from ..slave.slave import Slave
    from ..slave.watchdog import find_watchdog
    from ..usercode.handler import from_target
    from ..wire.client import connect

    # To a pipe too: what a handler prints is to be seen when it is printed.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    environ: Any = os.environ
    tell = watch_parent(environ)
    told: List[bytes] = []

    def connected() -> None:
        if not told:
            told.append(CONNECTED)
            tell(CONNECTED)
    watchdog = find_watchdog(environ)
    secret, place = key_of(options), address_of(options)
    tls = trust_of(options)
    environ.pop(ENV_KEY, None)      # not for what the handler starts
    target, handler = from_target(options.target, options.retries,
                                  options.batch)
    quota = environ.pop(ENV_QUOTA, None)
    slave = Slave(
        lambda: connect(place, secret, tls), handler,
        environ.pop(ENV_ID, None) or secrets.token_hex(8),
        f'{socket.gethostname()}:{os.getpid()}',
        None if ':' in options.target else target.name,
        options.threads, timeout=options.timeout,
        after=environ.pop(ENV_AFTER, None),
        quota=None if quota is None else int(quota), watchdog=watchdog,
        connected=connected, over=lambda: tell(OVER))
    stopped: List[int] = []

    def stop(number: int) -> None:
        stopped.append(number)
        slave.leave()
        log.info('stopping: jobs that are begun are finished first; once '
                 'more to stop at once')

    Signals(stop, lambda: say(slave.doing())).install()
    try:    # It shows the stacks even when a handler holds the GIL.
        faulthandler.register(signal.SIGUSR1, chain=True)
    except (RuntimeError, ValueError, OSError, AttributeError):
        pass                            # there is no stderr
    try:
        slave.run()
    finally:
        if slave.retired:
            tell(RETIRED)
    return ended(0, stopped[0] if stopped else None)


def main(arguments: Optional[Sequence[str]] = None) -> NoReturn:
    main_of(slave_parser, run, arguments)
