"""Steering a running master: how fast, and what `tm-ctl` may ask for."""

from typing import Any, Dict, List, Optional, Protocol

BATCH = 0.05        # seconds of jobs that are worth a lease
BURST = 0.25        # seconds of jobs that may be made up for at once

PAUSE, RESUME, RATE, STOP = COMMANDS = 'pause', 'resume', 'rate', 'stop'


class Steered(Protocol):
    """What a key holder may ask of a master."""

    def report(self) -> Dict[str, Any]:
        """What `tm-ctl status --json` shows."""

    def control(self, command: str, rate: Optional[float]) -> str:
        """Do one of COMMANDS; gives the line to say."""


class Bucket:
    """A token bucket: so many jobs a second, without bursts.

    It fills while jobs are waited for, but never with more than a moment's
    worth, so that a pause is not made up for by a rush.
    """

    def __init__(self, rate: float, now: float):
        self.rate = rate
        self._tokens = 0.0
        self._filled = now

    def allow(self, want: int, now: float) -> int:
        """How many of ``want`` jobs may go now: a batch at least, or 0."""
        self._fill(now)
        allowed = min(want, int(self._tokens))
        return allowed if allowed >= min(want, self._batch) else 0

    def spend(self, jobs: int) -> None:
        self._tokens -= jobs

    def delay(self, now: float) -> float:
        """Seconds until a batch may go."""
        self._fill(now)
        return max(0.0, (self._batch - self._tokens) / self.rate)

    @property
    def _batch(self) -> int:
        return max(1, int(self.rate * BATCH))

    def _fill(self, now: float) -> None:
        # One must fit or nothing would go; one more, to be in time again.
        most = max(2.0, self.rate * BURST)
        self._tokens = min(most, self._tokens
                           + (now - self._filled) * self.rate)
        self._filled = now


# -- status for people ----------------------------------------------------

def lines(status: Dict[str, Any]) -> List[str]:
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
        f" (slower: {status['slower']})"]
    if status['eta'] is not None:
        said.append(f"ETA:     {status['eta']:.0f} s")
    oldest = status['oldest']
    if oldest is not None:
        said.append(f"oldest:  job {oldest['number']} (key {oldest['key']}), "
                    f"with {oldest['slave'] or 'nobody'} for "
                    f"{oldest['age']:.0f} s")
    said.append(f"slaves:  {len(status['slaves'])}")
    if status['slaves']:
        rows = [('slave', 'done', 'failed', 'rate', 'in hand', 'oldest')]
        rows += [(slave['name'], str(slave['done']), str(slave['failed']),
                  f"{slave['rate']:.1f}/s", str(slave['in_hand']),
                  '-' if slave['oldest'] is None
                  else f"{slave['oldest']:.1f} s")
                 for slave in status['slaves']]
        widths = [max(map(len, column)) for column in zip(*rows)]
        said += ['  ' + '  '.join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths)))
            for row in rows]
    return said
