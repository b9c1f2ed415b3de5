"""Which run is meant, and where its master is: for `tm-ctl`.

Where `--host` (or its variable) says it, there; else by the records that
masters of this user leave on this machine (see `storage.runs`).
"""

from __future__ import annotations

import time

from .. import logs
from ..address import Address, address, name_of
from ..console.runs import how
from ..errors import ConfigError, Unreachable, UsageError
from ..records import TYPE_CHECKING, NamedTuple
from ..settings import Settings
from ..storage.runs import (FOLDER, Machine, Record, Runs, current,
                            document)
from ..text import quoted, short
from ..wire.key import beside_users_file
from ..wire.unix import places

if TYPE_CHECKING:
    from typing import Any, Sequence

log = logs.logger(__name__)


class Found(NamedTuple):
    """Where a master is to be looked for, or a run that is over."""

    places: Sequence[Address | str] = ()
    name: str = ''                  # of the place, for people
    over: dict[str, Any] | None = None      # a run, if it is
    last: str = ''          # of the last run, where none is known to be live


def runs(now: float | None = None) -> list[dict[str, Any]]:
    """Return the runs of this user on this machine, the live ones first.

    The newest of them stands first, and of the others that which ended last.
    """
    now = time.time() if now is None else now
    machine = Machine.here()
    return [document(record, machine, now)
            for record in current(_records(), machine, now)]


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
    return default._replace(last=_last(found))


def is_over(run: dict[str, Any]) -> Unreachable:
    """Return what to say where a run would have to be live."""
    return Unreachable(f"the run {short(run['run'])} is not live: "
                       f'{how(run)}')


def _several(live: Sequence[dict[str, Any]], named: bool) -> str:
    if named:
        where = ' and '.join(run['address'] for run in live)
        return (f"{len(live)} runs {short(live[0]['run'])} are live, at "
                f'{where}; give --host')
    names = ', '.join(sorted(short(run['run']) for run in live))
    return f'{len(live)} runs are live: {names}; give --run'


def _last(found: Sequence[dict[str, Any]]) -> str:
    if not found:
        return ''
    name = found[0]['run']
    return (f'no run of yours is live here, and the last was {short(name)}: '
            f'{how(found[0])} (tm-ctl status --run={quoted(short(name))})')


def _records() -> list[Record]:
    try:
        return Runs(beside_users_file(FOLDER)).read()
    except ConfigError as error:        # of a user without a home
        log.debug('no records of runs: %s', error)
        return []
