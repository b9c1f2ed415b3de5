"""What the five scripts share: from the command line to the exit code."""

import logging
import os
import signal
import sys
from argparse import Namespace
from typing import TYPE_CHECKING, Any, Callable, NoReturn, Optional, Sequence

from ..address import Address, address
from ..console.signals import die_by
from ..errors import TaskmasterError, UsageError
from ..wire.key import key
from .options import Parser

if TYPE_CHECKING:
    from ..usercode.source import Source

from ..console.output import flush, print_line, set_up_logging, to_stderr

log = logging.getLogger(__name__)


def address_of(options: Namespace) -> Address:
    return address(options.host)


def trust_of(options: Namespace) -> Any:
    """What a connection over TLS needs, or None."""
    if not options.tls_ca:
        return None
    from ..wire.tls import trusting
    return trusting(options.tls_ca)


def key_of(options: Namespace) -> bytes:
    return key(options.key, options.key_file)


def ended(code: int, signalled: Optional[int]) -> int:
    if signalled is not None:
        flush()
        die_by(signalled)
    return code


def rehearsed(source: 'Source', options: Namespace) -> int:
    if options.retry_failed:
        raise UsageError('--dry-run goes with get_jobs, not --retry-failed')
    from ..dry_run import rehearse
    path = os.path.abspath(options.state or source.state_name)
    for line in rehearse(source, path, options.reset):
        print_line(line)
    return 0


def say(lines: Sequence[str]) -> None:
    for line in lines:
        log.info('%s', line)


def main_of(parser: Callable[[], Parser],
            run: Callable[[Namespace], int],
            arguments: Optional[Sequence[str]]) -> NoReturn:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)    # until it is ours
    options = parser().parse_intermixed_args(arguments)
    set_up_logging(options.log_level)
    try:
        code = run(options)
    except TaskmasterError as error:
        if not error.said:
            theirs = getattr(error, 'traceback', '')
            if theirs:
                to_stderr(theirs.rstrip('\n'))
            to_stderr(f'{parser().prog}: {error}')
        code = error.exit_code
    except KeyboardInterrupt:           # while the signals are not ours
        flush()
        die_by(signal.SIGINT)
        code = 130
    flush()
    sys.exit(code)
