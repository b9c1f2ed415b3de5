"""`tm-ctl`: look at and steer a running master."""

from __future__ import annotations

import json
import os
import time
from functools import partial

from ..address import ENV_HOST
from ..console import runs
from ..console.output import print_line
from ..console.status import lines
from ..converters import as_rate
from ..errors import KeyRefused, TaskmasterError, Unreachable, UsageError
from ..records import TYPE_CHECKING
from ..settings import Settings
from ..text import quoted, summary
from ..timing import STANDARD, Timing
from ..wire.client import Connector, Link
from ..wire.key import key_of
from ..wire.messages import COMMANDS, RATE, Overview, Refused
from . import finding
from .finding import FAILURES, Found, find, is_over, latest
from .script import Script, main_of, trust_of

if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn, Sequence, TypeVar

    T = TypeVar('T')

STATUS, LIST, TOP = 'status', 'list', 'top'
ALL = LIST, STATUS, TOP, FAILURES, *COMMANDS


def run(settings: Settings, timing: Timing) -> int:
    """Do what `tm-ctl` was asked for; return the exit code."""
    command, rate = settings.command, _checked(settings)
    if command == LIST:
        _list(settings)
        return 0
    if command == FAILURES:
        from . import failures
        return failures.run(settings, _ask)
    if command == TOP:
        from . import top
        top.check(settings)
    found = find(settings)
    if found.over is not None:
        if command == TOP:
            return top.run(settings, found)
        if command != STATUS:
            raise is_over(found.over)
        _print(found.over, settings, runs.lines)
        return 0
    if command == TOP:
        return _with_link(settings, found, partial(top.run, settings, found))
    reply = (_ask(settings, found, 'status', None) if command == STATUS
             else _ask(settings, found, 'control', command, rate))
    if isinstance(reply, Refused):
        raise TaskmasterError(reply.line, reply.code)
    if isinstance(reply, Overview):
        _print(reply.status, settings, lines)
    else:
        print_line(reply.line)
    return 0


def _ask(settings: Settings, found: Found, method: str, *given: Any) -> Any:
    """Return what the master says; raises Unreachable when it does not."""
    return _with_link(settings, found, lambda connect, link: link.call(
        method, settings.run, *given))


def _with_link(settings: Settings, found: Found,
               act: Callable[[Connector, Any], T]) -> T:
    """Return what ``act`` does with a link; Unreachable when it breaks."""
    connect = Connector(found.places, key_of(settings, warn=False),
                        trust_of(settings), settings.timeout)
    link = _look_for(found, connect, settings.timeout)
    try:
        return act(connect, link)
    except (OSError, EOFError) as error:
        raise Unreachable(f'no answer from the master ({error})') from error
    finally:
        link.close()


def _checked(settings: Settings) -> float | None:
    """Return the rate, if there is one.  Raises UsageError."""
    command, value = settings.command, settings.value
    if command not in ALL:
        raise UsageError(f'there is no command {command!r}; give '
                         + ', '.join(ALL))
    if settings.prometheus and command != STATUS:
        raise UsageError('--prometheus is for status')
    if settings.once and command != TOP:
        raise UsageError('--once is for top')
    if settings.all and command != LIST:
        raise UsageError('--all is for list')
    if settings.json and command not in (STATUS, LIST, FAILURES):
        raise UsageError('--json is for status, list and failures')
    if settings.host not in (None, os.environ.get(ENV_HOST)):   # it is typed
        if command == LIST:
            raise UsageError('list is of the runs of this machine; leave '
                             '--host out')
        if command == FAILURES and value is not None:
            raise UsageError('give a file of failures or --host, not both')
    if command == FAILURES:
        return None
    if command == RATE:
        if value is None:
            raise UsageError('give a number of jobs a second, or off, to rate')
        try:
            return as_rate(value)
        except ValueError as error:
            raise UsageError(f'rate: {error}; a run is named with --run='
                             + quoted(value)) from None
    if value is not None:
        raise UsageError(f'{command} takes no other word; a run is named '
                         f'with --run={quoted(value)}')
    return None


def _list(settings: Settings) -> None:
    wanted = settings.run
    found = [run for run in finding.runs()
             if wanted is None or run['run'] == wanted]
    if not settings.all:
        found = latest(found)
    if settings.json:
        print_line(json.dumps(found, indent=2))
    else:
        for line in runs.listed(found, wanted is not None, settings.all):
            print_line(line)


def _print(status: dict[str, Any], settings: Settings,
           lines: Callable[[dict[str, Any]], list[str]]) -> None:
    if settings.json:
        print_line(json.dumps(status, indent=2))
        return
    if settings.prometheus:
        from ..console.prometheus import lines
    for line in lines(status):
        print_line(line)


def _look_for(found: Found, connect: Callable[[], Link],
              timeout: float) -> Link:
    """Return a link to the master; raises Unreachable when there is none."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return connect()
        except KeyRefused as error:     # somebody else's, perhaps
            raise KeyRefused('; '.join(filter(None, (
                str(error), found.last)))) from error
        except (OSError, EOFError) as error:
            if time.monotonic() >= deadline:
                raise Unreachable(
                    f'no master at {found.name} ({summary(error)}); '
                    + (found.last or 'check --host, or see tm-ctl list')
                ) from error
        time.sleep(0.1)


SCRIPT = Script(
    'ctl', 'Look at and steer a running master, from anywhere.', '''\
  tm-ctl list                             your runs on this machine
  tm-ctl list --all                       each start of them
  tm-ctl status                           of the one that is live there
  tm-ctl status --run=migrate             of that one; over, how it ended
  tm-ctl top                              the whole screen, live
  tm-ctl top --once                       one screen of it, printed
  tm-ctl status --json --host=db1 --key-file=key
  tm-ctl status --prometheus              for node_exporter's text files
  tm-ctl pause                            hand out no more jobs; survives a
                                          restart of the master
  tm-ctl resume
  tm-ctl rate 500                         at most 500 jobs a second
  tm-ctl rate off
  tm-ctl failures --run=migrate           by kind, with a traceback each;
                                          also when that run is over
  tm-ctl failures --json migrate.failures
  tm-ctl stop --run=migrate               drain, save, end
''', run)


def main(arguments: Sequence[str] | None = None,
         timing: Timing = STANDARD) -> NoReturn:
    main_of(SCRIPT, arguments, timing)
