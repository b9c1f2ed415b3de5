"""`tm-run`: a master and its slaves on this machine."""

import signal
from argparse import Namespace
from typing import TYPE_CHECKING, NoReturn, Optional, Sequence

from ..console.signals import Signals
from ..errors import UsageError
from ..usercode import targets
from .options import run_parser

if TYPE_CHECKING:
    from ..usercode.handler import Handler
    from ..usercode.source import Source

from ..console.output import new_progress, printer
from .script import address_of, ended, key_of, main_of, rehearsed


def run(options: Namespace) -> int:
    if ':' in options.target:
        raise UsageError('tm-run takes a module or a file; name the '
                         'functions with --get-jobs and --handle-job')
    from ..local import Local
    from ..usercode.handler import from_target as handler_from
    from ..usercode.source import from_target
    source = from_target(f'{options.target}:{options.get_jobs}',
                         targets.parse_arguments(options.arguments))
    handler = options.target
    if options.handle_job is not None:
        handler += f':{options.handle_job}'
    # Here already: a mistake in it is said once, before anything is served.
    _, handle = handler_from(handler, options.retries, options.batch)
    if options.dry_run:
        return rehearsed(source, options)
    if options.inline:
        return _inline(source, handle, options)
    shown = new_progress(options)
    local = Local(source, handler, address_of(options), key_of(options), shown,
                  printer(shown), options)
    Signals(local.stop, local.tell, local.stopped_from_afar).install()
    return ended(local.run(), local.stopped_by)


def _inline(source: 'Source', handler: 'Handler', options: Namespace) -> int:
    from ..inline import Inline
    from ..local import make_recorder
    if options.rate is not None:
        raise UsageError('--inline is as fast as it is; leave --rate out')
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return Inline(make_recorder(source, options), handler,
                  new_progress(options),
                  options.max_failures, options.limit, options.total).run()


def main(arguments: Optional[Sequence[str]] = None) -> NoReturn:
    main_of(run_parser, run, arguments)
