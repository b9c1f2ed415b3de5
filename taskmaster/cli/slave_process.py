"""A slave process, from its settings to its end.

Loaded by what is to be one, also before it is forked into several.
"""

from __future__ import annotations

import faulthandler
import io
import json
import logging
import os
import signal
import socket
import sys
from contextlib import suppress

from .. import logs
from ..console.output import flush
from ..console.signals import Signals
from ..errors import ConfigError, NoFunction, TaskmasterError
from ..records import TYPE_CHECKING
from ..settings import Settings
from ..slave.link import Identity, OtherWork
from ..slave.parent import (ENV_AFTER, ENV_CHECK, ENV_ID, ENV_LOCAL, ENV_PATH,
                            ENV_QUOTA, ENV_SOCKET, ENV_TWICE, ENV_WATCHDOG,
                            watch_parent)
from ..slave.slave import Slave
from ..timing import Timing
from ..usercode.handler import from_target
from ..wire.client import Connector
from ..wire.key import key_of
from ..wire.unix import places
from .script import ended, say, show, trust_of

if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn

    from ..usercode.handler import Handler
    from ..usercode.targets import Target

log = logs.logger(__name__)


def end_at_once(error: TaskmasterError) -> NoReturn:
    """On any thread: show a fault of ours, and wait for nobody."""
    show(error, 'tm-slave')
    flush()
    os._exit(error.exit_code)


def first_of(load: Callable[[bool], tuple[Target, Handler]], check: bool
             ) -> tuple[Target, Handler]:
    """Return the handler to begin with; ``check`` is for `--verify`.

    A module that has but a check is for that.
    """
    try:
        return load(check)
    except NoFunction:
        if not check:
            with suppress(ConfigError):
                return load(True)
        raise


def run(settings: Settings, timing: Timing) -> int:
    """Take jobs until the run is over; return the exit code."""
    # To a pipe too: what a handler prints is to be seen when it is printed.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    environ: Any = os.environ
    name = f'{socket.gethostname()}:{os.getpid()}'
    local = environ.pop(ENV_LOCAL, None) is not None
    # The master's own lines say it all.
    if local and settings.log_level != 'debug':
        logs.at_least(logging.WARNING)
    if ENV_ID in environ:
        logs.speaker = name
    tell = watch_parent(environ, end_at_once)
    watchdog = None
    if ENV_WATCHDOG in environ:     # few have one
        from ..slave.watchdog import find_watchdog
        watchdog = find_watchdog(environ)
    secret, tls = key_of(settings), trust_of(settings)
    socket_path = environ.pop(ENV_SOCKET, None)
    where = ([socket_path] if socket_path
             else places(settings.host, tls is not None))
    folder, path = settings.folder, environ.pop(ENV_PATH, None)
    if path is not None:            # a program's, and nothing else is
        folder, sys.path[:] = '', json.loads(path)
    twice = environ.pop(ENV_TWICE, None) is not None

    def load(check: bool) -> tuple[Target, Handler]:
        return from_target(settings.target, settings.retries, settings.batch,
                           folder, timing, twice, check)
    target, handler = first_of(load, environ.pop(ENV_CHECK, None) is not None)
    quota = environ.pop(ENV_QUOTA, None)
    identity = Identity(
        environ.pop(ENV_ID, None) or os.urandom(8).hex(),
        name, None if ':' in settings.target else target.name,
        environ.pop(ENV_AFTER, None), None if quota is None else int(quota),
        local)

    def new(handler: Handler) -> Slave:
        return Slave(Connector(where, secret, tls, settings.timeout, timing),
                     handler, identity._replace(checks=handler.checks),
                     settings, tell, watchdog, timing, give_up=end_at_once)
    slave = new(handler)
    stopped: list[int] = []

    def stop(number: int) -> None:
        stopped.append(number)
        slave.leave()
        (log.debug if logs.speaker else log.info)(      # its parent says it
            'stopping: jobs that are begun are finished first; once more to '
            'stop at once')

    # Of the slave that there is by then.
    Signals(stop, lambda: say(slave.doing()),
            failed=lambda error: slave.fail(error)).install()
    try:    # It shows the stacks even when a handler holds the GIL.
        faulthandler.register(signal.SIGUSR1, chain=True)
    except (RuntimeError, ValueError, OSError, AttributeError):
        pass                            # there is no stderr
    try:
        slave.run()
    except OtherWork:       # before any job: the module may have that too
        if stopped or identity.module is None:
            raise
        slave = new(load(not handler.checks)[1])
        if stopped:         # meanwhile: it was the other one that left
            slave.leave()
        slave.run()
    return ended(0, stopped[0] if stopped else None)
