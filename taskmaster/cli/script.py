"""What the five scripts share: from the command line to the exit code.

What a person who asks for help need not wait for is imported after that.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from contextlib import closing, contextmanager, nullcontext

from ..errors import Fault, TaskmasterError, need_the_gil
from ..records import TYPE_CHECKING, NamedTuple, Protocol
from ..settings import ENV_KEY, ENV_PARENT, Settings, made
from ..timing import Timing
from .plain import plain

if TYPE_CHECKING:
    from typing import Callable, Iterator, NoReturn, Sequence

    from ..wire.tls import Context


class Closing(Protocol):
    """What is to be closed when a script has done its work."""

    def close(self) -> None:
        """Let go of all."""


class Script(NamedTuple):
    """One of the scripts, `tm-NAME`: what it says of itself, and does."""

    name: str
    about: str
    examples: str       # commands to copy
    run: Callable[..., int]     # with settings, timing; returns the exit code
    # Called first of all; what it returns is for `run` too, then closed.
    fork: Callable[[Settings, Timing], Closing | None] | None = None


class Runner(Protocol):
    """What serves a run: a Master, alone or with slaves."""

    said: TaskmasterError | None    # ended the run, and is logged already

    @property
    def stopped_by(self) -> int | None:
        """The signal that stopped it."""

    def run(self) -> int:
        """Return the exit code, or raise what ended the run."""

    def close(self) -> None:
        """Let go of files and lock."""


@contextmanager
def loading() -> Iterator[None]:
    """Load modules of ours, and of the library, that stay to the end.

    There is no garbage among them, and looking for it takes a fifth of a
    start: so the collector rests, and never looks at them later.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def trust_of(settings: Settings) -> Context | None:
    """Return what a connection over TLS needs, or None."""
    if not settings.tls_ca:
        return None
    from ..wire.tls import trusting
    return trusting(settings.tls_ca)


def served(runner: Runner) -> int:
    """Run to the end; return the exit code, or die by the signal."""
    try:
        code = runner.run()
    except TaskmasterError as error:
        if error is not runner.said:
            raise
        return error.exit_code
    finally:
        runner.close()
    return ended(code, runner.stopped_by)


def ended(code: int, signalled: int | None) -> int:
    """Return the code; raises Stopped where a signal has stopped the run."""
    if signalled is not None:
        from ..console.ending import Stopped
        raise Stopped(signalled)
    return code


def say(lines: Sequence[str]) -> None:
    from .. import logs
    log = logs.logger(__name__)
    for line in lines:
        log.info('%s', line)


def main_of(script: Script, arguments: Sequence[str] | None,
            timing: Timing) -> NoReturn:
    """Parse, run, and exit with the code of what came of it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)    # until it is ours
    if arguments is None:
        arguments = sys.argv[1:]
    values = plain(script.name, arguments)
    if values is None:
        from .options import parser_of      # with argparse
        values = vars(parser_of(script.name, script.about, script.examples)
                      .parse_intermixed_args(arguments))
    with loading():
        from ..console.ending import Ending, Stopped
        from ..console.output import fill_descriptors, set_up_logging
        from ..console.signals import guard
    fill_descriptors()
    guard()
    settings = made(values)
    first = script.fork and script.fork(settings, timing)
    # Before what the operator's code registers.
    ending = Ending(supervised=ENV_PARENT in os.environ)
    who = f'tm-{script.name}'
    os.environ.pop(ENV_KEY, None)       # not for what the operator starts
    set_up_logging(settings.log_level)
    try:
        with closing(first) if first else nullcontext():
            need_the_gil()
            code = script.run(settings, timing,
                              *[first] if script.fork else [])
    except TaskmasterError as error:
        code = show(error, who)
    except Stopped as stopped:
        ending.leave(0, stopped.number)
    except KeyboardInterrupt:           # while the signals are not ours
        ending.leave(0, signal.SIGINT)
    except BaseException as error:      # never exit code 1: jobs failed
        code = show(Fault.of(error, who), who)
    ending.leave(code)


def show(error: TaskmasterError, who: str) -> int:
    """Tell the person of an error, come what may; return its exit code."""
    try:
        _show(error, who)
    except BaseException:       # what the operator has in the library's place
        os.write(2, f'{who}: {error}\n'.encode(errors='backslashreplace'))
    return error.exit_code


def _show(error: TaskmasterError, who: str) -> None:
    from .. import logs
    from ..console.output import pass_on_error, to_stderr
    traceback = getattr(error, 'traceback', '')
    if logs.speaker:        # its brothers may have the same to say
        import json
        told = json.dumps(f'{traceback}{who}: {error}')
        pass_on_error(f'{logs.ERROR}{told}}}')
        return
    if traceback:
        to_stderr(traceback.rstrip('\n'))
    to_stderr(f'{who}: {error}')
