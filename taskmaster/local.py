"""A master and slaves on this machine: `tm-run`, and `Taskmaster`."""

from __future__ import annotations

from . import logs
from .address import Address
from .console.progress import Progress
from .errors import (Fault, OperatorError, TaskmasterError, TooManyFailures,
                     UsageError)
from .master.making import make_master
from .records import TYPE_CHECKING
from .settings import Settings
from .supervisor.child import Starter, slave_arguments
from .supervisor.supervisor import Supervisor
from .timing import STANDARD, Timing
from .usercode.source import Source

if TYPE_CHECKING:
    from typing import Callable, Sequence

    from .supervisor.prefork import First

log = logs.logger(__name__)


class Local:
    """One master in this process, and slaves that it keeps alive.

    The settings are those of `tm-run`; ``path`` and ``first`` are as
    `Starter` has them.
    """

    def __init__(self, source: Source, handler: str, address: Address,
                 key: bytes, progress: Progress, out: Callable[[str], None],
                 settings: Settings, path: Sequence[str] | None = None,
                 timing: Timing = STANDARD, first: First | None = None):
        if settings.tls_cert and not settings.tls_ca:
            raise UsageError('--tls-cert is for the master; give --tls-ca '
                             'too, for the slaves that it starts')
        if settings.twice and settings.limit is None:
            raise UsageError('--twice is for a first try; give --limit or '
                             '--inline too')
        self.said: TaskmasterError | None = None    # as of Master
        self._count = settings.slaves
        self._master = make_master(source, address, key, progress, settings,
                                   settings.host is None, timing)
        self.saved = self._master.saved
        self._master.speaks_last = False    # what slaves end with counts too
        bound = self._master.open()
        self._supervisor = Supervisor(
            Starter(slave_arguments(handler, bound, settings), key, settings,
                    out, progress.write_line, local=True, path=path,
                    timing=timing, socket=self._master.socket,
                    first=first),
            settings.slaves, self._ended, self._master.queue.lost, timing)

    @property
    def stopped_by(self) -> int | None:
        return self._master.stopped_by

    def stopped_from_afar(self) -> bool:
        return self._master.stopped_from_afar

    def run(self) -> int:
        """As `Master.run`."""
        code = 0
        try:
            code = self._with_theirs()
            return code
        except TaskmasterError as error:
            code = error.exit_code
            raise
        finally:
            self._master.finished(code)

    def _with_theirs(self) -> int:
        """As `_run`, but how the slaves have ended counts too."""
        try:
            code = self._run()
        except TooManyFailures as error:
            self.said = TooManyFailures(str(error), max(
                error.exit_code, self._at_the_end()))
            raise self.said from None
        theirs = self._at_the_end()
        if theirs:
            log.error('what follows the yield of setup raised in a slave '
                      '(exit code %d)', theirs)
        return max(code, theirs)

    def close(self) -> None:
        """As `Master.close`; `run` has done it."""
        self._master.close()

    def _run(self) -> int:
        try:
            self._supervisor.start()
            return self._master.run()
        finally:
            error = self._master.said
            if isinstance(error, Fault):
                self._supervisor.fail(error)
            elif self._master.stopped:          # or they wait for the next
                self._supervisor.stop()
            self._supervisor.close()
            self._master.close()
            self.said = self._master.said

    def _at_the_end(self) -> int:
        """Return the exit code for a slave that ended badly, or 0."""
        return max((code for code in self._supervisor.codes
                    if code == OperatorError.exit_code), default=0)

    def fail(self, error: TaskmasterError) -> None:
        """Drain because of an error, which `run` will raise."""
        self._master.fail(error)

    def kill(self) -> None:
        """End the slaves, and what they started, at once."""
        self._supervisor.kill()

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
        if self._supervisor.error is not None:
            self._master.fail(self._supervisor.error)
        if len(self._supervisor.codes) == self._count:
            self._master.abandon(max(self._supervisor.codes))
