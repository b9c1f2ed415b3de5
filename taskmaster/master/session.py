"""The door: what a slave may say to the master over one connection.

Every argument was checked, field by field, before it gets here (see
`wire.messages.request`).
"""

from __future__ import annotations

import logging

from .. import logs
from ..errors import ConfigError
from ..records import TYPE_CHECKING, Protocol
from ..text import counted, short
from ..usercode.naming import checked, module_of
from ..wire.fields import BadMessage, Range
from ..wire.messages import (Failures, Introduction, Jobs, Over, Overview,
                             Recall, Refused, Report, Said, Stranger, Wait,
                             Welcome)
from .dispatcher import Ended, Leased, Nothing, Recalled
from .jobqueue import JobQueue

if TYPE_CHECKING:
    from typing import Any, Sequence

    from ..wire.messages import Reply
    from .dispatcher import Answer

log = logs.logger(__name__)


class Steered(Protocol):
    """What a key holder may ask of a master."""

    def report(self, most: int | None) -> dict[str, Any]:
        """What `tm-ctl status --json` shows, of ``most`` slaves."""

    def failures(self) -> Failures:
        """What `tm-ctl failures` shows."""

    def control(self, command: str, rate: float | None) -> str:
        """Do one of COMMANDS; returns the line to say."""


class Session:
    """One slave's connection to the queue."""

    def __init__(self, queue: JobQueue, master: Steered | None = None,
                 verifies: bool = False):
        self._queue = queue
        self._dispatcher = queue.dispatcher
        self._master = master
        self._verifies = verifies
        self._slave: str | None = None
        self._name = ''         # host:pid, for people

    def hello(self, who: Introduction) -> Reply:
        if self._slave not in (None, who.slave):
            raise BadMessage('two slaves on one connection')
        refusal = self._refusal(who)
        if refusal:
            return refusal
        self._slave, self._name = who.slave, who.name
        log.debug('slave %s is here, for %s at a time', short(who.name),
                  counted(who.workers, 'job'))
        holds = self._dispatcher.hello(who, self)
        return Welcome(self._queue.start_id, self._queue.name,
                       self._dispatcher.span, holds, self._verifies)

    def exchange(self, report: Report, want: int, prefetch: bool,
                 wait: float) -> Reply:
        if self._slave is None:
            return Stranger()
        reply = self._reply(self._dispatcher.exchange(
            self._slave, report, want, prefetch, wait, self))
        if log.isEnabledFor(logging.DEBUG):
            self._say(report, reply)
        return reply

    def give_back(self, start: str, ranges: Sequence[Range]) -> Reply:
        if self._slave is None:
            return Stranger()
        return self._reply(self._dispatcher.give_back(
            self._slave, start, ranges, self))

    def lost(self, slave: str, late: Sequence[Range],
             awaited: bool) -> Reply:
        self._dispatcher.lost(slave, late, awaited)
        return Said('')

    def status(self, run_name: str | None,
               most: int | None) -> Reply:
        return self._other_run(run_name) or Overview(
            self._steered.report(most))

    def failures(self, run_name: str | None) -> Reply:
        return self._other_run(run_name) or self._steered.failures()

    def control(self, run_name: str | None, command: str,
                rate: float | None) -> Reply:
        return self._other_run(run_name) or Said(
            self._steered.control(command, rate))

    @property
    def _steered(self) -> Steered:
        if self._master is None:
            raise BadMessage('nothing to steer')
        return self._master

    def _other_run(self, wanted: str | None) -> Refused | None:
        if wanted is None or wanted == self._queue.name:
            return None
        return Refused(
            ConfigError.exit_code,
            f'the master serves the run {short(self._queue.name)}, not '
            f'{short(wanted)}; give the right --host or --run')

    def _reply(self, answer: Answer) -> Reply:
        """What the dispatcher answers, as the wire has it."""
        span = self._dispatcher.span
        if isinstance(answer, Leased):
            return Jobs(span, *answer)
        if isinstance(answer, Nothing):
            return Wait(span, answer.reason)
        if isinstance(answer, Recalled):
            return Recall(span, answer.reason)
        if isinstance(answer, Ended):
            return Over(answer.how)
        return Stranger()

    def heard(self) -> None:
        """The slave takes what is sent to it, so it lives."""
        if self._slave is not None:
            self._dispatcher.heard(self._slave)

    def close(self) -> None:
        """The connection has ended."""
        if self._slave is not None:
            log.debug('slave %s has gone', short(self._name))
            self._dispatcher.goodbye(self._slave, self)

    def _say(self, report: Report, reply: Reply) -> None:
        done = sum(last - first + 1 for first, last in report.done)
        log.debug(
            'slave %s: %d done, %d failed; %s', short(self._name), done,
            len(report.failed) + len(report.refused),
            f'leased: jobs {reply.first} to {reply.first + reply.size - 1} '
            'of this start' if isinstance(reply, Jobs)
            else f'nothing leased ({type(reply).__name__.lower()})')

    def _refusal(self, who: Introduction) -> Refused | None:
        name = short(self._queue.name)
        if who.run is not None and who.run != self._queue.name:
            return Refused(
                ConfigError.exit_code,
                f'the master now serves another run ({name}), this '
                f'slave is of {short(who.run)}; start a new slave for it')
        run = self._queue.name
        module = module_of(checked(run) if self._verifies else run)
        if who.module is not None and who.module != module:
            return Refused(
                ConfigError.exit_code,
                f'the master serves {name}, not {who.module}; give the '
                'right --host, or name the function too: '
                f'{who.module}:FUNCTION')
        return None
