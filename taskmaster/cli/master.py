"""`tm-master`: serve the jobs that get_jobs yields."""

from argparse import Namespace
from typing import NoReturn, Optional, Sequence

from ..console.output import new_progress
from ..console.signals import Signals
from ..usercode import targets
from .options import master_parser
from .script import address_of, ended, key_of, main_of, rehearsed


def run(options: Namespace) -> int:
    from ..local import make_master
    from ..usercode.source import from_target
    source = from_target(options.target,
                         targets.parse_arguments(options.arguments))
    if options.dry_run:
        return rehearsed(source, options)
    secret, place = key_of(options), address_of(options)
    master = make_master(source, place, secret, new_progress(options), options)
    master.open()
    Signals(master.stop, master.tell,
            lambda: master.stopped_from_afar).install()
    try:
        code = master.run()
    finally:
        master.close()
    return ended(code, master.stopped_by)


def main(arguments: Optional[Sequence[str]] = None) -> NoReturn:
    main_of(master_parser, run, arguments)
