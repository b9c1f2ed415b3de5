"""What the five scripts share: from the command line to the exit code."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Callable, NamedTuple, NoReturn, Sequence

from .. import logs
from ..console.output import flush, set_up_logging, to_stderr
from ..console.signals import die_by
from ..errors import TaskmasterError
from ..settings import Settings, made
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


def main_of(script: Script, arguments: Sequence[str] | None) -> NoReturn:
    """Parse, run, and exit with the code of what came of it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)    # until it is ours
    parser = parser_of(script.name, script.about, script.examples)
    settings = made(vars(parser.parse_intermixed_args(arguments)))
    set_up_logging(settings.log_level)
    try:
        code = script.run(settings)
    except TaskmasterError as error:
        if not error.said:
            theirs = getattr(error, 'traceback', '')
            if theirs:
                to_stderr(theirs.rstrip('\n'))
            to_stderr(f'{parser.prog}: {error}')
        code = error.exit_code
    except KeyboardInterrupt:           # while the signals are not ours
        flush()
        die_by(signal.SIGINT)
        code = 130
    flush()
    sys.exit(code)
