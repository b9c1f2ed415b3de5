"""A master and slaves on this machine: `tm-run`, and `Taskmaster`."""

import argparse
import logging
import os
from typing import TYPE_CHECKING, Callable, Optional

from .address import Address
from .console.progress import Progress
from .errors import OperatorError, TooManyFailures, UsageError
from .master.master import Master
from .master.recorder import Recorder, RetryRecorder
from .supervisor.supervisor import Supervisor
from .usercode.source import Source
from .wire.key import exposure
from .wire.messages import RUN_NAME

if TYPE_CHECKING:
    from .wire.tls import Context

from .supervisor.child import bounds, slave_command

log = logging.getLogger(__name__)


class Local:
    """One master in this process, and slaves that it keeps alive.

    ``options`` are those of `tm-run`, by the names of its flags.
    """

    def __init__(self, source: Source, handler: str, address: Address,
                 key: bytes, progress: Progress, out: Callable[[str], None],
                 options: argparse.Namespace):
        if options.tls_cert and not options.tls_ca:
            raise UsageError('--tls-cert is for the master; give --tls-ca '
                             'too, for the slaves that it starts')
        self._count: int = options.count
        self._master = make_master(source, address, key, progress, options,
                                   any_port=options.host is None)
        bound = self._master.open()
        self._supervisor = Supervisor(
            slave_command(handler, bound, options, quiet=True),
            options.count, key, out, progress.write_line, self._ended,
            self._master.queue.lost, bounds(options))

    @property
    def stopped_by(self) -> Optional[int]:
        return self._master.stopped_by

    def stopped_from_afar(self) -> bool:
        return self._master.stopped_from_afar

    def run(self) -> int:
        """As `Master.run`."""
        try:
            code = self._run()
        except TooManyFailures as error:
            error.exit_code = max(error.exit_code, self._at_the_end())
            raise
        theirs = self._at_the_end()
        if theirs:
            log.error('what follows the yield of setup raised in a slave '
                      '(exit code %d)', theirs)
        return max(code, theirs)

    def _run(self) -> int:
        try:
            self._supervisor.start()
            return self._master.run()
        finally:
            if self._master.stopped:            # or they wait for the next
                self._supervisor.stop()
            self._supervisor.close()
            self._master.close()

    def _at_the_end(self) -> int:
        """The exit code for a slave that ended badly, or 0."""
        return max((code for code in self._supervisor.codes
                    if code == OperatorError.exit_code), default=0)

    def tell(self) -> None:
        """Say what is going on, on SIGUSR1."""
        self._master.tell()
        for line in self._supervisor.doing():
            log.info('%s', line)

    def stop(self, number: int) -> None:
        """Drain because of a signal; any thread may call this.

        The slaves finish what they have in hand first: what they gave
        back would hold the watermark below jobs that are done.
        """
        self._master.stop(number)

    def _ended(self) -> None:
        """A slave has ended for good; with none left there is no run."""
        if len(self._supervisor.codes) == self._count:
            self._master.abandon(max(self._supervisor.codes))


def make_master(source: Source, address: Address, key: bytes,
                progress: Progress, options: argparse.Namespace,
                any_port: bool = False) -> Master:
    """A master as the options of `tm-master` want it.

    Raises UsageError or ConfigError.
    """
    if len(source.name) > RUN_NAME:
        raise UsageError('the arguments for get_jobs are too long; put them '
                         'in a file, and give its name')
    tls = _tls(options)
    for warning in exposure(address, key, tls is not None):
        log.warning('%s', warning)
    return Master(make_recorder(source, options), address, key, progress,
                  options.size, options.max_failures, any_port, tls,
                  options.rate, options.total, options.limit)


def make_recorder(source: Source, options: argparse.Namespace) -> Recorder:
    """What goes through the source, or through the failures of before."""
    path = os.path.abspath(options.state or source.state_name)
    return (RetryRecorder(source, path) if options.retry_failed
            else Recorder(source, path, options.reset))


def _tls(options: argparse.Namespace) -> Optional['Context']:
    if options.tls_cert is None:
        if options.tls_key is not None:
            raise UsageError('--tls-key is the key to a certificate; give '
                             '--tls-cert too')
        return None
    from .wire.tls import serving
    return serving(options.tls_cert, options.tls_key)
