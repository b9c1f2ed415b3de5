"""The command lines: what is typed, turned into the objects that do it."""

import io
import json
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from argparse import Namespace
from typing import (TYPE_CHECKING, Any, Callable, List, Mapping, NoReturn,
                    Optional, Sequence)

from . import targets
from .control import RATE, lines
from .errors import TaskmasterError, Unreachable, UsageError
from .options import (NOTHING, Parser, ctl_parser, master_parser, run_parser,
                      slave_parser, spawn_parser)
from .messages import Range
from .progress import Progress
from .secret import ENV_KEY, Address, address, key, name_of
from .signals import Signals, die_by
from .texts import summary

if TYPE_CHECKING:
    from .handlers import Handler
    from .source import Source

log = logging.getLogger(__package__)


# -- what they do ---------------------------------------------------------

def run_master(options: Namespace) -> int:
    from .local import make_master
    from .source import from_target
    source = from_target(options.target,
                         targets.parse_arguments(options.arguments))
    if options.dry_run:
        return _rehearse(source, options)
    secret, place = _key(options), _address(options)
    master = make_master(source, place, secret, progress(options), options)
    master.open()
    Signals(master.stop, master.tell,
            lambda: master.stopped_from_afar).install()
    try:
        code = master.run()
    finally:
        master.close()
    return _ended(code, master.stopped_by)


def run_slave(options: Namespace) -> int:
    import faulthandler

    from .handlers import from_target
    from .slave import Slave
    from .supervisor import (CONNECTED, ENV_AFTER, ENV_ID, ENV_QUOTA, OVER,
                             RETIRED, find_board, watch_parent)
    from .wire import connect
    # To a pipe too: what a handler prints is to be seen when it is printed.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    environ: Any = os.environ
    tell = watch_parent(environ)
    told: List[bytes] = []

    def connected() -> None:
        if not told:
            told.append(CONNECTED)
            tell(CONNECTED)
    board = find_board(environ)
    secret, place, tls = _key(options), _address(options), _trust(options)
    environ.pop(ENV_KEY, None)      # not for what the handler starts
    target, handler = from_target(options.target, options.retries,
                                  options.batch)
    quota = environ.pop(ENV_QUOTA, None)
    slave = Slave(
        lambda: connect(place, secret, tls), handler,
        environ.pop(ENV_ID, None) or secrets.token_hex(8),
        f'{socket.gethostname()}:{os.getpid()}',
        None if ':' in options.target else target.name,
        options.threads, timeout=options.timeout,
        after=environ.pop(ENV_AFTER, None),
        quota=None if quota is None else int(quota), board=board,
        connected=connected, over=lambda: tell(OVER))
    stopped: List[int] = []

    def stop(number: int) -> None:
        stopped.append(number)
        slave.leave()
        log.info('stopping: jobs that are begun are finished first; once '
                 'more to stop at once')

    Signals(stop, lambda: _say(slave.doing())).install()
    try:    # It shows the stacks even when a handler holds the GIL.
        faulthandler.register(signal.SIGUSR1, chain=True)
    except (RuntimeError, ValueError, OSError, AttributeError):
        pass                            # there is no stderr
    try:
        slave.run()
    finally:
        if slave.retired:
            tell(RETIRED)
    return _ended(0, stopped[0] if stopped else None)


def run_spawn(options: Namespace) -> int:
    from .local import bounds, slave_command
    from .supervisor import Supervisor
    secret, place, tls = _key(options), _address(options), _trust(options)

    def lost(slave: str, late: Sequence[Range]) -> None:
        # If it takes longer the successor will say it.
        telling = threading.Thread(target=tell, args=(slave, late),
                                   daemon=True)
        telling.start()
        telling.join(2.0)

    def tell(slave: str, late: Sequence[Range]) -> None:
        from .wire import connect
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
        print_line, _to_stderr, lost=lost, bounds=bounds(options))
    stopped: List[int] = []

    def stop(number: int) -> None:
        stopped.append(number)
        supervisor.stop()

    Signals(stop, lambda: _say(supervisor.doing())).install()
    supervisor.start()
    supervisor.join()
    supervisor.close()
    return _ended(max(supervisor.codes, default=0),
                  stopped[0] if stopped else None)


def run_run(options: Namespace) -> int:
    if ':' in options.target:
        raise UsageError('tm-run takes a module or a file; name the '
                         'functions with --get-jobs and --handle-job')
    from .handlers import from_target as handler_from
    from .local import Local
    from .source import from_target
    source = from_target(f'{options.target}:{options.get_jobs}',
                         targets.parse_arguments(options.arguments))
    handler = options.target
    if options.handle_job is not None:
        handler += f':{options.handle_job}'
    # Here already: a mistake in it is said once, before anything is served.
    _, handle = handler_from(handler, options.retries, options.batch)
    if options.dry_run:
        return _rehearse(source, options)
    if options.inline:
        return _inline(source, handle, options)
    shown = progress(options)
    local = Local(source, handler, _address(options), _key(options), shown,
                  printer(shown), options)
    Signals(local.stop, local.tell, local.stopped_from_afar).install()
    return _ended(local.run(), local.stopped_by)


def _inline(source: 'Source', handler: 'Handler', options: Namespace) -> int:
    from .inline import Inline
    from .local import make_recorder
    if options.rate is not None:
        raise UsageError('--inline is as fast as it is; leave --rate out')
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return Inline(make_recorder(source, options), handler, progress(options),
                  options.max_failures, options.limit, options.total).run()


def _rehearse(source: 'Source', options: Namespace) -> int:
    if options.retry_failed:
        raise UsageError('--dry-run goes with get_jobs, not --retry-failed')
    from .rehearsal import rehearse
    path = os.path.abspath(options.state or source.state_name)
    for line in rehearse(source, path, options.reset):
        print_line(line)
    return 0


def run_ctl(options: Namespace) -> int:
    if (options.command == RATE) != (options.value is not NOTHING):
        raise UsageError('give a number, or off, to rate and nothing else')
    from .messages import REFUSED
    secret, place, tls = _key(options), _address(options), _trust(options)
    link = _look_for(place, secret, tls, options.timeout)
    try:
        if options.command == 'status':
            reply = link.call('status', options.run)
        else:
            reply = link.call('control', options.run, options.command,
                              options.value if options.command == RATE
                              else None)
    except (OSError, EOFError) as error:
        raise Unreachable(f'no answer from the master ({error})') from error
    finally:
        link.close()
    if reply[0] == REFUSED:
        refused = TaskmasterError(reply[2])
        refused.exit_code = reply[1]
        raise refused
    if options.command != 'status':
        print_line(reply[1])
    elif options.json:
        print_line(json.dumps(reply[1], indent=2))
    else:
        for line in lines(reply[1]):
            print_line(line)
    return 0


def _look_for(place: Address, secret: bytes, tls: Any, timeout: float) -> Any:
    """A link to the master; raises Unreachable when there is none."""
    from .wire import connect
    deadline = time.monotonic() + timeout
    while True:
        try:
            return connect(place, secret, tls)
        except (OSError, EOFError) as error:
            if time.monotonic() >= deadline:
                raise Unreachable(
                    f'no master at {name_of(place)} ({summary(error)}); '
                    'check --host') from error
        time.sleep(0.1)


def _ended(code: int, signalled: Optional[int]) -> int:
    if signalled is not None:
        _flush()
        die_by(signalled)
    return code


# -- shared ---------------------------------------------------------------

def _address(options: Namespace) -> Address:
    return address(options.host)


def _trust(options: Namespace) -> Any:
    """What a connection over TLS needs, or None."""
    if not options.tls_ca:
        return None
    from .tls import trusting
    return trusting(options.tls_ca)


def _key(options: Namespace) -> bytes:
    return key(options.key, options.key_file)


def progress(options: Namespace) -> Progress:
    """The status line, with the log beside it where that is ours."""
    line = Progress(sys.stderr, not options.no_progress)
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler.formatter, _Lines):
            root.removeHandler(handler)
            beside = line.handler()
            beside.setFormatter(_Lines())
            root.addHandler(beside)
    return line


def printer(shown: Progress) -> Callable[[str], None]:
    """Prints what handlers print, above the status line if that is there.

    Elsewhere it must not wait, and have the line wait, for who reads it.
    """
    try:
        same = os.path.samestat(os.fstat(sys.stdout.fileno()),
                                os.fstat(sys.stderr.fileno()))
    except (OSError, ValueError, AttributeError):
        same = False
    return shown.beside(print_line) if same else print_line


def set_up_logging(level: str) -> None:
    """Log plain lines to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines())
    logging.basicConfig(level=level.upper(), handlers=[handler])


class _Lines(logging.Formatter):
    """Plain lines; the level is named where it is above info."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.levelno > logging.INFO:
            return f'{record.levelname.lower()}: {text}'
        return text


def print_line(line: str) -> None:
    try:
        print(line, flush=True)
    except (OSError, ValueError):       # `| head -1` has closed it
        pass


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        log.info('%s', line)


def _to_stderr(line: str) -> None:
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:         # or Python tries again, and exits with 120
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except (ValueError, AttributeError):
            pass


def _main(parser: Callable[[], Parser],
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
                _to_stderr(theirs.rstrip('\n'))
            _to_stderr(f'{parser().prog}: {error}')
        code = error.exit_code
    except KeyboardInterrupt:           # while the signals are not ours
        _flush()
        die_by(signal.SIGINT)
        code = 130
    _flush()
    sys.exit(code)


def master(arguments: Optional[Sequence[str]] = None) -> NoReturn:
    _main(master_parser, run_master, arguments)


def slave(arguments: Optional[Sequence[str]] = None) -> NoReturn:
    _main(slave_parser, run_slave, arguments)


def spawn(arguments: Optional[Sequence[str]] = None) -> NoReturn:
    _main(spawn_parser, run_spawn, arguments)


def run(arguments: Optional[Sequence[str]] = None) -> NoReturn:
    _main(run_parser, run_run, arguments)


def ctl(arguments: Optional[Sequence[str]] = None) -> NoReturn:
    _main(ctl_parser, run_ctl, arguments)


SCRIPTS: Mapping[str, Callable[[Optional[Sequence[str]]], NoReturn]] = {
    'master': master, 'slave': slave, 'spawn': spawn, 'run': run, 'ctl': ctl}


def main() -> NoReturn:
    """``python -m taskmaster master ...``"""
    name = sys.argv[1] if len(sys.argv) > 1 else ''
    if name not in SCRIPTS:
        _to_stderr(f'usage: python -m taskmaster {{{",".join(SCRIPTS)}}} ...')
        sys.exit(UsageError.exit_code)
    SCRIPTS[name](sys.argv[2:])
