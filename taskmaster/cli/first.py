"""The first slaves of `tm-run` and `tm-spawn`, which become `tm-slave`."""

from __future__ import annotations

from ..settings import Settings
from ..supervisor.prefork import First
from ..timing import Timing
# What is loaded here is loaded once for all of them.
from . import slave, slave_process      # noqa: F401
from .script import main_of


def first_slaves(settings: Settings, timing: Timing) -> First:
    """Fork them; in each, once it is told what to be, do not return."""
    first = First()
    arguments = first.fork(settings)
    if arguments is not None:
        main_of(slave.SCRIPT, arguments, timing)
    return first
