"""Which run is meant, and where its master is: for `tm-ctl`.

Where `--host` (or its variable) says it, there; else by the records that
masters of this user leave on this machine (see `storage.runs`).
"""

from __future__ import annotations

import time

from .. import logs
from ..address import Address, address, name_of
from ..console.runs import go_on, how
from ..errors import ConfigError, Unreachable, UsageError
from ..records import TYPE_CHECKING, NamedTuple
from ..settings import Settings
from ..storage.files import from_iso
from ..storage.runs import (CRASHED, FOLDER, Machine, Record, Runs, current,
                            document)
from ..text import quoted, short
from ..wire.key import beside_users_file
from ..wire.unix import places

if TYPE_CHECKING:
    from typing import Any, Sequence

log = logs.logger(__name__)


FAILURES = 'failures'       # the command that needs no live run


class Found(NamedTuple):
    """Where a master is to be looked for, or a run that is over."""

    places: Sequence[Address | str] = ()
    name: str = ''                  # of the place, for people
    over: dict[str, Any] | None = None      # a run, if it is
    last: str = ''          # of the last run, where none is known to be live
    only: dict[str, Any] | None = None      # that one, if there is no other


def runs(now: float | None = None) -> list[dict[str, Any]]:
    """Return the runs of this user on this machine, the live ones first.

    The newest of them stands first, and of the others that which ended last.
    """
    now = time.time() if now is None else now
    machine = Machine.here()
    found = [document(record, machine, now)
             for record in current(_records(), machine, now)]
    for run in latest(found):
        if run['state'] == CRASHED and run['state_file'] is not None:
            _as_saved(run)
    return found


def latest(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return of each run its live starts, or else the one that ended last.

    ``found`` are in the order of `runs`, and so are these.
    """
    kept, seen = [], set()
    for run in found:
        # One name in two folders is two runs.
        which = run['run'], run['host'], run['failures_file']
        if run['live'] or which not in seen:
            kept.append(run)
        seen.add(which)
    return kept


def _as_saved(run: dict[str, Any]) -> None:
    """Of a run that crashed the state file knows how far it came."""
    from ..storage.state import saved       # few crash
    found = saved(run['state_file'], run['run'])
    if found is not None and found.time >= from_iso(run['started']):
        run.update(current=found.jobs, failed=found.failed, at_least=False)


def find(settings: Settings) -> Found:
    """Return which master is meant, or the run that is over.

    Raises UsageError where it could be several, Unreachable for the name of
    a run that there is not.
    """
    tls = settings.tls_ca is not None
    default = Found(places(settings.host, tls),
                    name_of(address(settings.host)))
    if settings.host is not None:
        return default
    found = runs()
    wanted = settings.run
    if wanted is not None:
        found = [run for run in found if run['run'] == wanted]
        if not found:
            raise Unreachable(f'there is no run {short(wanted)} of yours on '
                              'this machine; tm-ctl list shows them, and '
                              '--host looks elsewhere')
    live = [run for run in found if run['live']]
    if len(live) > 1:
        raise UsageError(_several(live, wanted is not None))
    if live:
        run, = live
        place = (address(run['address']) if tls or run['socket'] is None
                 else run['socket'])
        return Found([place], place if isinstance(place, str)
                     else name_of(place))
    if wanted is not None:
        return Found(over=found[0])
    over = latest(found)
    return default._replace(last=_last(found, settings.command),
                            only=over[0] if len(over) == 1 else None)


def is_over(run: dict[str, Any]) -> Unreachable:
    """Return what to say where a run would have to be live."""
    command = go_on(run)
    return Unreachable(f"the run {short(run['run'])} is not live: {how(run)}"
                       + (f' (again: {command})' if command else ''))


def _several(live: Sequence[dict[str, Any]], named: bool) -> str:
    if named:
        where = ' and '.join(run['address'] for run in live)
        return (f"{len(live)} runs {short(live[0]['run'])} are live, at "
                f'{where}; give --host')
    names = ', '.join(sorted(short(run['run']) for run in live))
    return f'{len(live)} runs are live: {names}; give --run'


def _last(found: Sequence[dict[str, Any]], command: str) -> str:
    if not found:
        return ''
    name = found[0]['run']
    flag = f'--run={quoted(short(name))}'
    if command == FAILURES:
        return (f'no run of yours is live here; tm-ctl {FAILURES} {flag} is '
                'of the last, tm-ctl list shows the others')
    return (f'no run of yours is live here, and the last was {short(name)}: '
            f'{how(found[0])} (tm-ctl status {flag})')


def _records() -> list[Record]:
    try:
        return Runs(beside_users_file(FOLDER)).read()
    except ConfigError as error:        # of a user without a home
        log.debug('no records of runs: %s', error)
        return []
