"""Taskmaster: run a function once over a billion rows, on many machines.

The way of a job:

    get_jobs --feeder--> ready --lease--> server == TCP, a manager ==> slave
                        (capped)            ^                            |
                            pieces ---------+--< done / failed /     handle_job
                              |                  given back
                          watermark --> state file --> get_jobs(last=...)

and the files in which to follow it, from where a job comes from to where
it is called:

    iterators.py            walks a table by its key, for get_jobs
    source.py, targets.py   the operator's module, its functions, arguments
    feeder.py               iterates get_jobs on a background thread
    jobqueue.py             the capped queue: one lock round the ledger
    ledger.py, sizing.py    every transition of a job; how long a lease is
    session.py, messages.py what a slave may say, and the checks of it
    wire.py, tls.py         manager, server, proof of the key
    connection.py           what they speak over: a socket with deadlines
    slave.py, hand.py       the slave: its link, and what it has in hand
    workers.py, handlers.py its workers, and how they call the function
    checkpoint.py, failures.py (keys.py, files.py)   what is kept on disk
    control.py              how fast jobs go, and what `tm-ctl` may ask for
    master.py               puts the master together; saves, reports, ends
    supervisor.py, board.py child slaves, and what they are at
    local.py                master and slaves in one
    rehearsal.py, inline.py --dry-run, --inline
    progress.py, tally.py   what is shown while it runs, and at the end
    signals.py, secret.py, texts.py, errors.py
    options.py, cli.py      what the operator types; api.py: or calls

From Python: `Taskmaster(callback, source, ...).start()`; what it raises is
a `TaskmasterError`.
"""

from typing import TYPE_CHECKING, Any

from .errors import TaskmasterError

if TYPE_CHECKING:
    from .api import Taskmaster

__version__ = '1.0.0'
__all__ = ['Taskmaster', 'TaskmasterError']


def __getattr__(name: str) -> Any:
    if name == 'Taskmaster':    # imported when used: commands start quickly
        from .api import Taskmaster
        return Taskmaster
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
