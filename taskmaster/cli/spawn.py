"""`tm-spawn`: keep slaves alive until the run is over."""

import logging
import threading
from argparse import Namespace
from typing import List, NoReturn, Optional, Sequence

from ..console.output import print_line, to_stderr
from ..console.signals import Signals
from ..errors import TaskmasterError
from ..wire.messages import Range
from .options import spawn_parser
from .script import address_of, ended, key_of, main_of, say, trust_of

log = logging.getLogger(__name__)


def run(options: Namespace) -> int:
    from ..supervisor.child import bounds, slave_command
    from ..supervisor.supervisor import Supervisor
    secret, place = key_of(options), address_of(options)
    tls = trust_of(options)

    def lost(slave: str, late: Sequence[Range]) -> None:
        # If it takes longer the successor will say it.
        telling = threading.Thread(target=tell, args=(slave, late),
                                   daemon=True)
        telling.start()
        telling.join(2.0)

    def tell(slave: str, late: Sequence[Range]) -> None:
        from ..wire.client import connect
        try:
            link = connect(place, secret, tls)
            try:
                link.call('lost', slave, late)
            finally:
                link.close()
        except (OSError, EOFError, TaskmasterError) as error:
            log.debug('the master was not told: %s', error)

    supervisor = Supervisor(
        slave_command(options.target, place, options), options.count, secret,
        print_line, to_stderr, lost=lost, bounds=bounds(options))
    stopped: List[int] = []

    def stop(number: int) -> None:
        stopped.append(number)
        supervisor.stop()

    Signals(stop, lambda: say(supervisor.doing())).install()
    supervisor.start()
    supervisor.join()
    supervisor.close()
    return ended(max(supervisor.codes, default=0),
                 stopped[0] if stopped else None)


def main(arguments: Optional[Sequence[str]] = None) -> NoReturn:
    main_of(spawn_parser, run, arguments)
