"""What the five scripts share: from the command line to the exit code."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Callable, NamedTuple, NoReturn, Sequence

from .. import logs
from ..console.output import flush, set_up_logging, to_stderr
from ..console.signals import die_by
from ..errors import Fault, TaskmasterError
from ..settings import ENV_KEY, Settings, made
from .options import parser_of

if TYPE_CHECKING:
    from ..wire.tls import Context

log = logs.logger(__name__)


class Script(NamedTuple):
    """One of the scripts, `tm-NAME`: what it says of itself, and does."""

    name: str
    about: str
    examples: str       # commands to copy
    run: Callable[[Settings], int]      # gives the exit code


def trust_of(settings: Settings) -> Context | None:
    """Return what a connection over TLS needs, or None."""
    if not settings.tls_ca:
        return None
    from ..wire.tls import trusting
    return trusting(settings.tls_ca)


def ended(code: int, signalled: int | None) -> int:
    if signalled is not None:
        flush()
        die_by(signalled)
    return code


def say(lines: Sequence[str]) -> None:
    for line in lines:
        log.info('%s', line)


def _say(name: str, error: TaskmasterError) -> None:
    """One line, after the traceback that belongs to it, if one does."""
    traceback = getattr(error, 'traceback', '')
    if traceback:
        to_stderr(traceback.rstrip('\n'))
    to_stderr(f'{name}: {error}')


def main_of(script: Script, arguments: Sequence[str] | None) -> NoReturn:
    """Parse, run, and exit with the code of what came of it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)    # until it is ours
    parser = parser_of(script.name, script.about, script.examples)
    settings = made(vars(parser.parse_intermixed_args(arguments)))
    os.environ.pop(ENV_KEY, None)       # not for what the operator starts
    set_up_logging(settings.log_level)
    try:
        code = script.run(settings)
    except TaskmasterError as error:
        if not error.said:
            _say(parser.prog, error)
        code = error.exit_code
    except KeyboardInterrupt:           # while the signals are not ours
        flush()
        die_by(signal.SIGINT)
        code = 130
    except Exception as unforeseen:
        fault = Fault.of(unforeseen, parser.prog)
        _say(parser.prog, fault)
        code = fault.exit_code
    flush()
    sys.exit(code)
