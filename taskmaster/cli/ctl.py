"""`tm-ctl`: look at and steer a running master."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, NoReturn, Sequence

from ..address import address, name_of
from ..console.output import print_line
from ..console.status import lines
from ..converters import as_rate
from ..errors import TaskmasterError, Unreachable, UsageError
from ..settings import Settings
from ..text import summary
from ..timing import STANDARD, Timing
from ..wire.key import key_of
from ..wire.messages import COMMANDS, RATE
from .script import Script, main_of, trust_of

if TYPE_CHECKING:
    from ..wire.client import Link
    from ..wire.tls import Context

STATUS = 'status'


def run(settings: Settings, timing: Timing) -> int:
    command, value = settings.command, settings.value
    if command not in (STATUS, *COMMANDS):
        raise UsageError(f'there is no command {command!r}; give '
                         + ', '.join((STATUS, *COMMANDS)))
    if (command == RATE) != (value is not None):
        raise UsageError('give a number, or off, to rate and nothing else')
    try:
        rate = None if value is None else as_rate(value)
    except ValueError as error:
        raise UsageError(f'rate: {error}') from None
    from ..wire.messages import Overview, Refused
    link = _look_for(settings.host,
                     key_of(settings, warn=False),
                     trust_of(settings), settings.timeout)
    try:
        if command == STATUS:
            reply = link.call('status', settings.run)
        else:
            reply = link.call('control', settings.run, command, rate)
    except (OSError, EOFError) as error:
        raise Unreachable(f'no answer from the master ({error})') from error
    finally:
        link.close()
    if isinstance(reply, Refused):
        raise TaskmasterError(reply.line, reply.code)
    if not isinstance(reply, Overview):
        print_line(reply.line)
    elif settings.json:
        print_line(json.dumps(reply.status, indent=2))
    else:
        for line in lines(reply.status):
            print_line(line)
    return 0


def _look_for(host: str | None, secret: bytes, tls: Context | None,
              timeout: float) -> Link:
    """Return a link to the master; raises Unreachable when there is none."""
    from ..wire.client import Connector
    from ..wire.unix import places
    connect = Connector(places(host, tls is not None), secret, tls, timeout)
    deadline = time.monotonic() + timeout
    while True:
        try:
            return connect()
        except (OSError, EOFError) as error:
            if time.monotonic() >= deadline:
                raise Unreachable(
                    f'no master at {name_of(address(host))} ('
                    f'{summary(error)}); '
                    'check --host') from error
        time.sleep(0.1)


SCRIPT = Script(
    'ctl', 'Look at and steer a running master, from anywhere.', '''\
  tm-ctl status                           of the master right here
  tm-ctl status --json --host=db1 --key-file=key
  tm-ctl pause                            hand out no more jobs; survives a
                                          restart of the master
  tm-ctl resume
  tm-ctl rate 500                         at most 500 jobs a second
  tm-ctl rate off
  tm-ctl stop --run=migrate               drain, save, end; if it is that run
''', run)


def main(arguments: Sequence[str] | None = None,
         timing: Timing = STANDARD) -> NoReturn:
    main_of(SCRIPT, arguments, timing)
