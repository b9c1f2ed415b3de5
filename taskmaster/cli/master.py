"""`tm-master`: serve the jobs that get_jobs yields."""

from __future__ import annotations

from ..records import TYPE_CHECKING
from ..settings import Settings
from ..timing import STANDARD, Timing
from .script import Script, loading, main_of, served

if TYPE_CHECKING:
    from typing import NoReturn, Sequence


def run(settings: Settings, timing: Timing) -> int:
    with loading():
        from ..address import address
        from ..console.output import new_progress
        from ..console.signals import Signals
        from ..usercode.naming import parse_arguments
        from ..wire.key import key_of

    # First, as it may load a module that the current folder has too.
    shown = None if settings.dry_run else new_progress(settings)
    # And before the module may change the folder.
    secret = b'' if settings.dry_run else key_of(settings)
    with loading():
        from ..master.making import make_master
        from ..usercode.source import from_target
    source = from_target(settings.target, parse_arguments(settings.arguments),
                         settings.folder)
    if settings.verify:
        source.to_check()
    if shown is None:
        from ..dry_run import rehearse
        return rehearse(source, settings)
    master = make_master(source, address(settings.host), secret, shown,
                         settings, timing=timing)
    master.open()
    Signals(master.stop, master.tell,
            lambda: master.stopped_from_afar, master.fail,
            saved=master.saved).install()
    return served(master)


SCRIPT = Script(
    'master', 'Serve the jobs that get_jobs yields; go on where the last '
    'run was, and save how far it came.', '''\
  tm-master migrate                       get_jobs of migrate.py, right here
  tm-master migrate --reset               from the beginning
  tm-master migrate shard=3 shards=8      get_jobs(shard='3', shards='8')
  tm-master app.jobs:users --host=0.0.0.0:3050 --key-file=key
''', run)


def main(arguments: Sequence[str] | None = None,
         timing: Timing = STANDARD) -> NoReturn:
    main_of(SCRIPT, arguments, timing)
