"""What `tm-ctl status` prints for a person."""

from __future__ import annotations

from ..records import TYPE_CHECKING
from ..text import NAME, printable, short

if TYPE_CHECKING:
    from typing import Any


def lines(status: dict[str, Any]) -> list[str]:
    """What `tm-ctl status` prints."""
    rate = status['rate']
    limit = status['limit']
    said = [
        f"run:     {status['run']}",
        f"state:   {status['state']}",
        f"jobs:    {status['current']} finished"
        + (f" of {status['total']}" if status['total'] is not None else '')
        + f", {status['failed']} failed",
        f'rate:    {rate:.2f}/s'
        + (f' (at most {limit:g}/s)' if limit is not None else ''),
        f"queue:   {status['queued']} of {status['size']}"
        + (f" (bottleneck: {status['slower']})" if status['slower'] else '')]
    if status['eta'] is not None:
        said.append(f"ETA:     {status['eta']:.0f} s")
    oldest = status['oldest']
    if oldest is not None:
        said.append(f"oldest:  job {oldest['number']} (key {oldest['key']}), "
                    f"with {short(oldest['slave'] or 'nobody', NAME)} for "
                    f"{oldest['age']:.0f} s")
    said.append(f"slaves:  {len(status['slaves'])}")
    if status['slaves']:
        rows = [('slave', 'done', 'failed', 'rate', 'in hand', 'oldest')]
        rows += [(short(slave['name'], NAME), str(slave['done']),
                  str(slave['failed']), f"{slave['rate']:.1f}/s",
                  str(slave['in_hand']),
                  '-' if slave['oldest'] is None
                  else f"{slave['oldest']:.1f} s")
                 for slave in status['slaves']]
        widths = [max(map(len, column)) for column in zip(*rows)]
        said += ['  ' + '  '.join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths)))
            for row in rows]
    return [printable(line) for line in said]
