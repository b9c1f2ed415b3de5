"""`tm-slave`: take jobs, call the handler."""

from __future__ import annotations

from ..records import TYPE_CHECKING
from ..settings import Settings
from ..timing import STANDARD, Timing
from .script import Script, loading, main_of

if TYPE_CHECKING:
    from typing import NoReturn, Sequence


def run(settings: Settings, timing: Timing) -> int:
    with loading():
        from . import slave_process
    return slave_process.run(settings, timing)


SCRIPT = Script(
    'slave', 'Take jobs from a master and call handle_job for each.', '''\
  tm-slave migrate                        handle_job of migrate.py
  tm-slave migrate --threads=8            eight at a time
  tm-slave migrate:repair --host=db1 --key-file=key
''', run)


def main(arguments: Sequence[str] | None = None,
         timing: Timing = STANDARD) -> NoReturn:
    main_of(SCRIPT, arguments, timing)
