"""`tm-ctl`: look at and steer a running master."""

import json
import time
from argparse import Namespace
from typing import Any, NoReturn, Optional, Sequence

from ..address import Address, name_of
from ..console.output import print_line
from ..console.status import lines
from ..errors import TaskmasterError, Unreachable, UsageError
from ..text import summary
from ..wire.messages import RATE
from .options import NOTHING, ctl_parser
from .script import address_of, key_of, main_of, trust_of


def run(options: Namespace) -> int:
    if (options.command == RATE) != (options.value is not NOTHING):
        raise UsageError('give a number, or off, to rate and nothing else')
    from ..wire.messages import REFUSED
    secret, place = key_of(options), address_of(options)
    tls = trust_of(options)
    link = _look_for(place, secret, tls, options.timeout)
    try:
        if options.command == 'status':
            reply = link.call('status', options.run)
        else:
            reply = link.call('control', options.run, options.command,
                              options.value if options.command == RATE
                              else None)
    except (OSError, EOFError) as error:
        raise Unreachable(f'no answer from the master ({error})') from error
    finally:
        link.close()
    if reply[0] == REFUSED:
        refused = TaskmasterError(reply[2])
        refused.exit_code = reply[1]
        raise refused
    if options.command != 'status':
        print_line(reply[1])
    elif options.json:
        print_line(json.dumps(reply[1], indent=2))
    else:
        for line in lines(reply[1]):
            print_line(line)
    return 0


def _look_for(place: Address, secret: bytes, tls: Any, timeout: float) -> Any:
    """A link to the master; raises Unreachable when there is none."""
    from ..wire.client import connect
    deadline = time.monotonic() + timeout
    while True:
        try:
            return connect(place, secret, tls)
        except (OSError, EOFError) as error:
            if time.monotonic() >= deadline:
                raise Unreachable(
                    f'no master at {name_of(place)} ({summary(error)}); '
                    'check --host') from error
        time.sleep(0.1)


def main(arguments: Optional[Sequence[str]] = None) -> NoReturn:
    main_of(ctl_parser, run, arguments)
