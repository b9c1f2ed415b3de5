"""`tm-spawn`: keep slaves alive until the run is over."""

from __future__ import annotations

from .. import logs
from ..address import address
from ..console.output import pass_on, pass_on_error
from ..console.signals import Signals
from ..errors import TaskmasterError
from ..records import TYPE_CHECKING
from ..service import Service
from ..settings import Settings
from ..timing import STANDARD, Timing
from ..wire.fields import Range
from ..wire.key import key_of
from .script import Script, ended, loading, main_of, say, trust_of

if TYPE_CHECKING:
    from typing import Collection, NoReturn, Sequence

    from ..supervisor.prefork import First

log = logs.logger(__name__)


def fork(settings: Settings, timing: Timing) -> First:
    """Fork the first slaves."""
    with loading():
        from .first import first_slaves
    return first_slaves(settings, timing)


def run(settings: Settings, timing: Timing, first: First | None) -> int:
    with loading():
        from ..supervisor.child import Starter, slave_arguments
        from ..supervisor.supervisor import Supervisor
        from ..wire.unix import places
    secret, tls = key_of(settings), trust_of(settings)
    where = places(settings.host, tls is not None)

    def lost(slave: str, late: Sequence[Range], awaited: bool) -> None:
        # If it takes longer the successor will say it.
        telling = Service('telling', lambda: tell(slave, late, awaited),
                          supervisor.fail)
        telling.start()
        telling.join(2.0)

    def tell(slave: str, late: Sequence[Range], awaited: bool) -> None:
        from ..wire.client import connect
        try:
            link = connect(where, secret, tls, timing)
            try:
                link.call('lost', slave, late, awaited)
            finally:
                link.close()
        except (OSError, EOFError, TaskmasterError) as error:
            log.debug('the master was not told: %s', error)

    there = None if settings.host is None else address(settings.host)
    supervisor = Supervisor(
        Starter(slave_arguments(settings.target, there, settings), secret,
                settings, pass_on, pass_on_error, timing=timing, first=first),
        settings.slaves, lost=lost, timing=timing)
    stopped: list[int] = []

    def stop(number: int) -> None:
        stopped.append(number)
        log.info('stopping: jobs that are begun are finished first; once '
                 'more to stop at once')
        supervisor.stop()

    Signals(stop, lambda: say(supervisor.doing()), failed=supervisor.fail,
            last=supervisor.kill).install()
    supervisor.start()
    supervisor.join()
    supervisor.close()
    if supervisor.error is not None:
        raise supervisor.error
    log.info('%s', how(supervisor.told))
    return ended(max(supervisor.codes, default=0),
                 stopped[0] if stopped else None)


def how(told: Collection[int]) -> str:
    """Return how the run has ended, by what slaves have been told."""
    from ..slave.parent import FAILED, LIMITED, OVER
    if OVER[0] not in told:
        return 'the slaves have ended before the run'
    if FAILED[0] in told:
        return 'the run has failed; its master says why'
    if LIMITED[0] in told:
        return 'the run has ended before its source; start it again to go on'
    return 'the run is complete'


SCRIPT = Script(
    'spawn', 'Keep N slave processes alive until the run is over.', '''\
  tm-spawn migrate 8                      eight slaves of a master right here
  tm-spawn migrate 8 --host=db1 --key-file=key
  tm-spawn migrate 8 --max-jobs-per-slave 100000   if handlers leak memory
''', run, fork)


def main(arguments: Sequence[str] | None = None,
         timing: Timing = STANDARD) -> NoReturn:
    main_of(SCRIPT, arguments, timing)
