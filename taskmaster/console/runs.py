"""What `tm-ctl` prints of runs by their records: a list, and how one ended.

A run is a dict here, as `tm-ctl list --json` has it.
"""

from __future__ import annotations

from datetime import timedelta

from ..records import TYPE_CHECKING
from ..text import NAME, counted, printable, short

if TYPE_CHECKING:
    from typing import Any, Sequence

# Seconds without a word of a master whose process is there, until that is
# said: it writes every other second.
SILENT = 15.0
# Runs that are over, in a table: those that ended last.
OVER = 10

ON_ANOTHER = 'elsewhere'


def listed(runs: Sequence[dict[str, Any]], named: bool = False) -> list[str]:
    """Return a table of the runs, a line each; of those that are over some.

    ``named`` is whether they are those of one name, that was asked for.
    """
    if not runs:
        return [f"no runs of {'that name' if named else 'yours'} on this "
                'machine, in the last week']
    over = [run for run in runs if not run['live']]
    shown = [run for run in runs if run['live']] + over[:OVER]
    rows = [('run', 'address', 'pid', 'state', 'since', 'jobs', 'done',
             'failed', 'state file')]
    rows += [(short(run['run'], NAME), run['address'] if run['live'] else '-',
              str(run['pid']) if run['live'] else '-', state(run),
              run['started'] if run['live'] else run['ended'] or run['seen'],
              jobs(run), percent(run), str(run['failed']),
              run['state_file'] or '-') for run in shown]
    widths = [max(map(len, column)) for column in zip(*rows)]
    said = [printable('  '.join(
        cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        for row in rows]
    if len(over) > OVER:
        said.append(f"and {counted(len(over) - OVER, 'run')} more that "
                    'ended before; --json has all')
    return said


def state(run: dict[str, Any]) -> str:
    """Return the state of a run, in a few words."""
    said = short(run['state'], NAME)
    if run['live']:
        silent = run['silent']
        return (f'{said}; silent for {silent:.0f} s' if silent > SILENT
                else said)
    if said == ON_ANOTHER:
        return f"on {short(run['host'], NAME)}"
    code = run['exit_code']
    return said if code is None else f'{said} ({code})'


def jobs(run: dict[str, Any]) -> str:
    """Return N/M, or N where nobody knows how many there are."""
    total = run['total']
    return (str(run['current']) if total is None
            else f"{run['current']}/{total}")


def percent(run: dict[str, Any]) -> str:
    """Return per cent, rounded down, or '-'."""
    current, total = run['current'], run['total']
    if total is None or current > total:
        return '-'
    return f'{100 * current // total if total else 100}%'


def how(run: dict[str, Any]) -> str:
    """Return how and when a run ended, in a few words."""
    if run['state'] == ON_ANOTHER:
        return (f"it is on {short(run['host'], NAME)}, or was; last heard of "
                f"{run['seen']}")
    if not run['reason']:       # it did not say
        middle = (', in the middle of its drain'
                  if run['state'] == 'stopped' else '')
        return (f"{run['state']}{middle}, last heard of {run['seen']}; start "
                'it again to go on')
    return (f"{run['state']} at {run['ended']}: "
            + short(run['reason'], 200))


def lines(run: dict[str, Any]) -> list[str]:
    """Return what `tm-ctl status` prints of a run that is over."""
    total = '' if run['total'] is None else f" of {run['total']}"
    said = [
        f"run:      {run['run']}",
        f'state:    {how(run)}',
        f"jobs:     {run['current']} finished{total}, "
        f"{run['failed']} failed",
        f"started:  {run['started']} (it took "
        f"{timedelta(seconds=int(run['elapsed']))})"]
    if run['exit_code'] is not None:
        said.append(f"exit:     {run['exit_code']}")
    if run['state_file'] is not None:
        said.append(f"state in: {run['state_file']}")
    if run['failed'] and run['failures_file'] is not None:
        said.append(f"failures: {run['failures_file']}")
    return [printable(line) for line in said]
