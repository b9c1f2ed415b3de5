"""The door: what a slave may say to the master over one connection.

Every field of every message is checked here, then handed to the job queue.
"""

from typing import Any, Dict, Optional, Protocol

from .. import __version__
from ..errors import ConfigError, VersionMismatch
from ..usercode.naming import module_of
from ..wire import messages
from ..wire.messages import (COMMANDS, PROTOCOL, REFUSED, STATUS, STRANGER,
                             BadMessage, Introduction, Reply)
from .jobqueue import JobQueue


class Steered(Protocol):
    """What a key holder may ask of a master."""

    def report(self) -> Dict[str, Any]:
        """What `tm-ctl status --json` shows."""

    def control(self, command: str, rate: Optional[float]) -> str:
        """Do one of COMMANDS; gives the line to say."""


class Session:
    """One slave's connection to the queue."""

    exposed = {'hello': 1, 'exchange': 4, 'give_back': 2, 'lost': 2,
               'status': 1, 'control': 3}       # how many arguments

    def __init__(self, queue: JobQueue, master: Optional[Steered] = None):
        self._queue = queue
        self._master = master
        self._slave: Optional[str] = None

    def hello(self, introduction: Any) -> Reply:
        who = messages.introduction(introduction)
        if self._slave not in (None, who.slave):
            raise BadMessage('two slaves on one connection')
        refusal = self._refusal(who)
        if refusal:
            return refusal
        self._slave = who.slave
        return self._queue.hello(who, self)

    def exchange(self, report: Any, want: Any, prefetch: Any,
                 wait: Any) -> Reply:
        checked = (messages.report(report), messages.number(want),
                   bool(prefetch),
                   messages.seconds(wait, messages.WAIT_SECONDS))
        if self._slave is None:
            return [STRANGER]
        return self._queue.exchange(self._slave, *checked, self)

    def give_back(self, start: Any, ranges: Any) -> Reply:
        checked = messages.text(start), messages.ranges(ranges)
        if self._slave is None:
            return [STRANGER]
        return self._queue.give_back(self._slave, *checked)

    def lost(self, slave: Any, late: Any) -> Reply:
        self._queue.lost(messages.text(slave), messages.disjoint(late))
        return [STATUS, '']

    def status(self, run_name: Any) -> Reply:
        return self._other_run(run_name) or [STATUS, self._steered.report()]

    def control(self, run_name: Any, command: Any, rate: Any) -> Reply:
        if messages.text(command) not in COMMANDS:
            raise BadMessage('an unknown command')
        if rate is not None:
            rate = messages.seconds(rate, messages.MOST_RATE)
        return self._other_run(run_name) or [
            STATUS, self._steered.control(command, rate)]

    @property
    def _steered(self) -> Steered:
        if self._master is None:
            raise BadMessage('nothing to steer')
        return self._master

    def _other_run(self, run_name: Any) -> Optional[Reply]:
        wanted = messages.optional(run_name, messages.RUN_NAME)
        if wanted is None or wanted == self._queue.name:
            return None
        return [REFUSED, ConfigError.exit_code,
                f'the master serves the run {self._queue.name}, not {wanted}; '
                'give the right --host or --run']

    def heard(self) -> None:
        """The slave takes what is sent to it, so it lives."""
        if self._slave is not None:
            self._queue.heard(self._slave)

    def close(self) -> None:
        """The connection has ended."""
        if self._slave is not None:
            self._queue.goodbye(self._slave, self)

    def _refusal(self, who: Introduction) -> Optional[Reply]:
        name = self._queue.name
        if who.protocol != PROTOCOL:
            return [REFUSED, VersionMismatch.exit_code,
                    f'the master is taskmaster {__version__} (protocol '
                    f'{PROTOCOL}), this slave {who.version} (protocol '
                    f'{who.protocol}); install the same version on both']
        if who.run is not None and who.run != name:
            return [REFUSED, ConfigError.exit_code,
                    f'the master now serves another run ({name}), this '
                    f'slave is of {who.run}; start a new slave for it']
        if who.module is not None and who.module != module_of(name):
            return [REFUSED, ConfigError.exit_code,
                    f'the master serves {name}, not {who.module}; give the '
                    'right --host, or name the function too: '
                    f'{who.module}:FUNCTION']
        return None
