"""What `tm-ctl` prints of runs by their records: a list, and how one ended.

A run is a dict here, as `tm-ctl list --json` has it.
"""

from __future__ import annotations

import re
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
COMPLETE, STOPPED = 'complete', 'stopped'
CHECK = '.check'            # after the name of a run, of its `--verify`

_BY = re.compile('(?:stopped|ended) by ([^ ;]+)')


def listed(runs: Sequence[dict[str, Any]], named: bool = False,
           whole: bool = False) -> list[str]:
    """Return a table of the runs, a line each; of those that are over some.

    ``named`` is whether they are those of one name, that was asked for;
    ``whole``, whether all of them are to be there.
    """
    if not runs:
        return [f"no runs of {'that name' if named else 'yours'} on this "
                'machine, in the last week']
    over = [run for run in runs if not run['live']]
    most = len(over) if whole else OVER
    shown = [run for run in runs if run['live']] + over[:most]
    rows = [('run', 'address', 'pid', 'state', 'since', 'jobs', 'done',
             'failed', 'state file')]
    rows += [(short(run['run'], NAME), run['address'] if run['live'] else '-',
              str(run['pid']) if run['live'] else '-', state(run),
              since(run),
              jobs(run), percent(run), str(run['failed']),
              run['state_file'] or '-') for run in shown]
    widths = [max(map(len, column)) for column in zip(*rows)]
    said = [printable('  '.join(
        cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        for row in rows]
    if len(over) > most:
        said.append(f"and {counted(len(over) - most, 'run')} more that "
                    'ended before; --all has all')
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
    by = _BY.match(run['reason'])       # an option, or a signal
    if by and run['state'] == STOPPED:
        said += f' by {by[1]}'
    code = run['exit_code']
    return said if code is None else f'{said} ({code})'


def since(run: dict[str, Any]) -> str:
    """Return since when it is what it is, named where that is no start."""
    if run['live']:
        return str(run['started'])
    return (f"seen {run['seen']}" if run['ended'] is None
            else f"ended {run['ended']}")


def jobs(run: dict[str, Any]) -> str:
    """Return N/M, or N where nobody knows how many there are.

    N+ is what it had said when it crashed.
    """
    total = run['total']
    more = '+' if run.get('at_least') else ''       # of a run, not a status
    return f"{run['current']}{more}" + ('' if total is None else f'/{total}')


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
    state, why = run['state'], short(run['reason'], 200)
    # Which may begin with the state: "complete, but for ...".
    first, _, rest = why.partition(state)
    why = rest if not first and rest[:1] in (',', ' ') else f': {why}'
    return f"{state} at {run['ended']}{why}"


def go_on(run: dict[str, Any]) -> str:
    """Return what to type to go on with a run that is over, or ''."""
    if (run['state'] in (COMPLETE, ON_ANOTHER) or run['state_file'] is None
            or '--reset' in run['reason']):
        return ''
    name, check, end = run['run'].rpartition(CHECK)
    words = f'{name} --verify' if check and not end else run['run']
    return f'tm-run {short(words, 200)}, or as it was started'


def lines(run: dict[str, Any]) -> list[str]:
    """Return what `tm-ctl status` prints of a run that is over."""
    total = '' if run['total'] is None else f" of {run['total']}"
    said = [
        f"run:      {run['run']}",
        f'state:    {how(run)}',
        f"jobs:     {'at least ' if run.get('at_least') else ''}"
        f"{run['current']} finished{total}, "
        f"{run['failed']} failed",
        f"started:  {run['started']} (it took "
        f"{timedelta(seconds=int(run['elapsed']))})"]
    if run['exit_code'] is not None:
        said.append(f"exit:     {run['exit_code']}")
    if run['state_file'] is not None:
        said.append(f"state in: {run['state_file']}")
    if run['failed'] and run['failures_file'] is not None:
        said.append(f"failures: {run['failures_file']}")
    command = go_on(run)
    if command:
        said.append(f'go on:    {command}')
    return [printable(line) for line in said]
