"""`tm-run`: a master and its slaves on this machine."""

from __future__ import annotations

import signal

from ..errors import UsageError
from ..records import TYPE_CHECKING
from ..settings import Settings
from ..timing import STANDARD, Timing
from .script import Script, loading, main_of, served

if TYPE_CHECKING:
    from typing import NoReturn, Sequence

    from ..supervisor.prefork import First


def fork(settings: Settings, timing: Timing) -> First | None:
    """Fork the first slaves, where there are any."""
    if settings.dry_run or settings.inline:
        return None
    with loading():
        from .first import first_slaves
    return first_slaves(settings, timing)


def run(settings: Settings, timing: Timing, first: First | None) -> int:
    with loading():
        from ..address import address
        from ..console.output import new_progress, printer
        from ..console.signals import Signals
        from ..usercode.naming import parse_arguments
        from ..wire.key import key_of

    if ':' in settings.target:
        raise UsageError('tm-run takes a module or a file; name the '
                         'functions with --get-jobs and --handle-job')
    # First, as it may load a module that the current folder has too.
    shown = None if settings.dry_run else new_progress(settings)
    # And before the module may change the folder.
    alone = settings.dry_run or settings.inline
    secret = b'' if alone else key_of(settings)
    with loading():
        from ..usercode.handler import Handler
        from ..usercode.handler import from_target as handler_from
        from ..usercode.source import from_target
        from ..usercode.targets import Target
        if not alone:
            from ..local import Local   # whatever the module does to imports
    source = from_target(f'{settings.target}:{settings.get_jobs}',
                         parse_arguments(settings.arguments),
                         settings.folder)
    handler = settings.target
    if settings.handle_job is not None:
        handler += f':{settings.handle_job}'

    if settings.verify:
        source.to_check()

    def load() -> tuple[Target, Handler]:
        return handler_from(handler, settings.retries, settings.batch,
                            settings.folder, timing, settings.twice,
                            settings.verify)
    if shown is None:
        from ..dry_run import rehearse
        return rehearse(source, settings, lambda: load()[1])
    # Here already: a mistake in it is said once, before anything is served.
    target, handle = load()
    if settings.verify:
        handler = f'{settings.target}:{target.function}'
    if settings.inline:
        from ..inline import run_inline
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return run_inline(source, handle, shown, settings)
    local = Local(source, handler, address(settings.host),
                  secret, shown, printer(shown), settings, timing=timing,
                  first=first)
    Signals(local.stop, local.tell, local.stopped_from_afar, local.fail,
            local.kill, saved=local.saved).install()
    return served(local)


SCRIPT = Script(
    'run', 'A master and N slaves on this machine, in one command.', '''\
  tm-run migrate 4                        get_jobs and handle_job of migrate.py
  tm-run path/migrate.py 4 shard=3 shards=8
  tm-run migrate 1 --dry-run              what it would do; nothing is done
  tm-run migrate 1 --twice --limit 100    would a crash matter? each job twice
  tm-run migrate 4 --limit 100            a hundred jobs; again to go on
  tm-run migrate 4 --reset                from the beginning
  tm-run migrate 4 --retry-failed         those that failed, once more
  tm-run migrate 4 --verify               check_job: is every row right?
  tm-run migrate 4 --job-timeout 60       a job that hangs has failed
  tm-run migrate 1 --inline               in a debugger
  tm-run taskmaster.example 2             see it work
''', run, fork)


def main(arguments: Sequence[str] | None = None,
         timing: Timing = STANDARD) -> NoReturn:
    main_of(SCRIPT, arguments, timing)
