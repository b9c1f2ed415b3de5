"""The screen of `tm-ctl top`: from a status and a size to lines.

Pure: what is shown when, and where, `cli/top.py` decides.  What matters most
stands first; slaves and kinds of failures get what is left of the screen.
"""

from __future__ import annotations

import textwrap

from ..records import TYPE_CHECKING, NamedTuple
from ..text import NAME, counted, duration, printable, short
from . import runs
from .line import cells

if TYPE_CHECKING:
    from typing import Any, Sequence

# The smallest screen that is laid out; a smaller one shows a part of it.
COLUMNS, LINES = 80, 24
# Lines of a reason, at most; of kinds of failures, at least and at most a
# share of what is left.
REASON = 3
KINDS, SHARE = 3, 3
# Cells of a bar, at most, and of a job's key.
BAR, KEY = 30, 40

BLOCKS = ' ▁▂▃▄▅▆▇█'
ASCII = ' .:-=+*#@'

KEYS = 'p pause   r resume   s stop   q quit'


class View(NamedTuple):
    """What is to be seen: a run that is live, or one that is over."""

    status: dict[str, Any] | None = None    # as `status --json` has it
    over: dict[str, Any] | None = None      # as `list --json` has it
    note: str = ''          # of the last thing that was asked for or happened
    keys: str = KEYS
    blocks: str = BLOCKS    # from nothing to all


def screen(view: View, width: int, height: int) -> list[str]:
    """Return the lines of a screen, each of ``width`` cells at most.

    They are ``height``, or fewer where there is no more to be said.
    """
    foot = [view.note, view.keys] if view.note else [view.keys]
    room = max(height - len(foot), 1)
    if view.over is not None:
        body = ['']
        for line in runs.lines(view.over):
            body += textwrap.wrap(line, max(width, COLUMNS // 2),
                                  subsequent_indent=' ' * 10) or ['']
        if view.status is not None:
            body += _failures(view.status, room - len(body))
        body.insert(0, short(view.over['run'], NAME))
    elif view.status is not None:
        body = _live(view, width, room)
    else:
        body = []
    body = body[:room]
    body += [''] * (room - len(body))
    return [_fitting(line, width) for line in (body + foot)[-height:]]


def _live(view: View, width: int, room: int) -> list[str]:
    """Return at most ``room`` lines of a run that is live."""
    status = view.status
    assert status is not None
    right = (f"{short(status['host'], NAME)}:{status['pid']}  up "
             f"{duration(status['elapsed'])}")
    head = [_apart(short(status['run'], NAME), right, width)]
    # The whole reason, but where it would take the screen.
    head += textwrap.wrap(printable(status['state']), max(width, 20),
                          max_lines=REASON, placeholder=' ...')
    head += ['', _progress(status, width), _rates(status, view.blocks, width),
             (f"bottleneck: {status['slower']}   " if status['slower'] else '')
             + f"queue {status['queued']}/{status['size']}   in hand "
             f"{status['in_hand']}"]
    head += _times(status, width)
    oldest = status['oldest']
    if oldest is not None:
        head.append(f"oldest: job {oldest['number']} (key "
                    f"{short(oldest['key'], KEY)}), with "
                    f"{short(oldest['slave'] or 'nobody', NAME)} for "
                    f"{_seconds(oldest['age'])}")
    left = room - len(head)
    # Or more of them, where the slaves do not need it.
    of_slaves = len(_slaves(status, left))
    kinds = _failures(status, max(left // SHARE, KINDS, left - of_slaves))
    return head + kinds + _slaves(status, left - len(kinds))


def _progress(status: dict[str, Any], width: int) -> str:
    jobs, percent = runs.jobs(status), runs.percent(status)
    failed = f"failed {status['failed']}"
    if percent == '-':
        return f'jobs: {jobs}   {failed}'
    eta = status['eta']
    ends = f'jobs: {jobs}   ', (
        f"{percent}   ETA {'--:--:--' if eta is None else duration(eta)}   "
        f'{failed}')
    bar = min(BAR, width - sum(map(cells, ends)) - 3)
    if bar <= 0:
        return ''.join(ends)
    total = status['total']
    full = bar * min(status['current'], total) // total if total else bar
    return f"[{'#' * full}{'.' * (bar - full)}] ".join(ends)


def _rates(status: dict[str, Any], blocks: str, width: int) -> str:
    limit = status['limit']
    said = f"rate: {status['rate']:.2f}/s" + (
        f' (at most {limit:g}/s)' if limit is not None else '')
    line = graph(status['rates'], max(width - cells(said) - 3, 0), blocks)
    return f'{said}   {line}' if line else said


def graph(rates: Sequence[float], width: int, blocks: str = BLOCKS) -> str:
    """Return the last of these numbers as a line, as high as the highest."""
    shown = list(rates)[-width:] if width > 0 else []
    most = max(shown, default=0.0)
    if not most:
        return blocks[1] * len(shown)
    top = len(blocks) - 1
    # What is not nothing is seen.
    return ''.join(blocks[max(round(top * rate / most), 1 if rate else 0)]
                   for rate in shown)


def _times(status: dict[str, Any], width: int) -> list[str]:
    times = status['times']
    if times is None:
        return []
    said = (f"time of a job: median {_seconds(times['median'])}, 99th "
            f"{_seconds(times['p99'])}")
    for n, slow in enumerate(times['slowest']):
        more = (f"{', slowest ' if n == 0 else ', '}"
                f"{short(slow['key'], KEY)} {_seconds(slow['seconds'])}")
        if cells(said + more) > width:
            break
        said += more
    return [said]


def _failures(status: dict[str, Any], room: int) -> list[str]:
    """Return at most ``room`` lines, or none where nothing has failed."""
    kinds = status['kinds']
    if not kinds or room < 2:
        return []
    failed = sum(kind['count'] for kind in kinds)
    said = ['', f'{failed} failed in this start']
    room -= len(said)
    most = kinds if len(kinds) <= room else kinds[:max(room - 1, 0)]
    said += [f"  {kind['count']:6d} x {printable(kind['kind'])}"
             for kind in most]
    if len(most) < len(kinds) and room > 0:
        left = counted(len(kinds) - len(most), 'kind')
        said.append(f'         and {left} more')
    return said


def _slaves(status: dict[str, Any], room: int) -> list[str]:
    slaves = status['slaves']
    count = max(status['slave_count'], len(slaves))
    said = ['', counted(count, 'slave')]
    room -= len(said) + 1           # the heads of the columns
    if not slaves or room < 1:
        return said
    most = slaves if count <= room else slaves[:max(room - 1, 0)]
    rows = [('slave', 'done', 'failed', 'rate', 'in hand', 'oldest')]
    rows += [(short(slave['name'], NAME)
              + ('' if slave['connected'] else ' (away)'),
              str(slave['done']), str(slave['failed']),
              f"{slave['rate']:.1f}/s", str(slave['in_hand']),
              '-' if slave['oldest'] is None else _seconds(slave['oldest']))
             for slave in most]
    widths = [max(map(cells, column)) for column in zip(*rows)]
    said += ['  ' + '  '.join(
        cell + ' ' * (width - cells(cell)) if n == 0
        else cell.rjust(width)
        for n, (cell, width) in enumerate(zip(row, widths))) for row in rows]
    if len(most) < count:
        said.append(f"  and {counted(count - len(most), 'slave')} more")
    return said


def _seconds(seconds: float) -> str:
    """Return 1.5 ms, 20 ms, 3.2 s, 0:02:30."""
    if seconds < 0.01:
        return f'{1000 * seconds:.2g} ms'
    if seconds < 1:
        return f'{1000 * seconds:.0f} ms'
    return f'{seconds:.1f} s' if seconds < 60 else duration(seconds)


def _apart(left: str, right: str, width: int) -> str:
    space = width - cells(left) - cells(right)
    return left + ' ' * space + right if space > 0 else f'{left}  {right}'


def _fitting(line: str, width: int) -> str:
    """Return the line in so many cells; nothing in it steers a terminal."""
    line = printable(line, instead=' ')
    while cells(line) > width:
        line = line[:width] if len(line) > width else line[:-1]
    return line.rstrip()
