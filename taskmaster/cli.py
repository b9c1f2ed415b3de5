"""The command lines: what is typed, turned into the objects that do it."""

import argparse
import json
import logging
import os
import secrets
import signal
import socket
import sys
import time
from typing import (TYPE_CHECKING, Any, Callable, List, Mapping, NoReturn,
                    Optional, Sequence)

from . import __version__, targets
from .control import COMMANDS, RATE, lines
from .errors import TaskmasterError, Unreachable, UsageError
from .progress import Progress
from .secret import ENV_HOST, ENV_KEY, HOST, PORT, Address, address, key
from .signals import Signals, die_by
from .texts import summary

if TYPE_CHECKING:
    from .source import Source

log = logging.getLogger(__package__)

Parser = argparse.ArgumentParser
NOTHING: Any = object()     # an argument that was not given


# -- the parsers ----------------------------------------------------------

def _parser(name: str, about: str, examples: str) -> Parser:
    parser = Parser(
        prog=f'tm-{name}', description=about, epilog='examples:\n' + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False)
    parser.add_argument('--version', action='version',
                        version=f'taskmaster {__version__}')
    parser.add_argument(
        '--log-level', default='info', metavar='LEVEL',
        choices=('debug', 'info', 'warning', 'error'),
        help='debug, info, warning or error (default: info)')
    parser.add_argument(
        '--host', metavar='HOST[:PORT]', default=os.environ.get(ENV_HOST),
        help=f'where the master is (default: ${ENV_HOST}, or {HOST}:{PORT})')
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        '--key', help='the secret that master and slaves share (default: '
        f'${ENV_KEY}, or one made for you on this machine)')
    group.add_argument('--key-file', metavar='FILE',
                       help='a file with the key in it')
    return parser


def _source_options(parser: Parser) -> None:
    parser.add_argument('arguments', nargs='*', metavar='NAME=VALUE',
                        help='keyword arguments for get_jobs')
    parser.add_argument('--reset', action='store_true',
                        help='forget what is finished: set state and '
                        'failures aside as .old and start over')
    parser.add_argument('--state', metavar='FILE',
                        help='where the state is kept (default: NAME.state '
                        'in the current directory)')
    parser.add_argument('--size', type=_positive, default=10_000, metavar='N',
                        help='how many jobs the queue holds (default: 10000)')
    parser.add_argument('--max-failures', type=_too_many, default='100',
                        metavar='N', help='stop after so many failed jobs in '
                        'this start; N%% counts after the first 100 jobs '
                        '(default: 100)')
    parser.add_argument('--retry-failed', action='store_true',
                        help='run the jobs of the failures file again, '
                        'instead of get_jobs')
    parser.add_argument('--dry-run', action='store_true',
                        help='only say what would be done: where to go on, '
                        'the first jobs, how fast get_jobs is')
    parser.add_argument('--limit', type=_positive, metavar='N',
                        help='end, resumably, after N jobs')
    parser.add_argument('--total', type=_natural, metavar='N',
                        help='how many jobs get_jobs would yield from the '
                        'beginning, for per cent and ETA (default: what '
                        'count_jobs says, if there is one)')
    parser.add_argument('--rate', type=_rate, metavar='N',
                        help='so many jobs a second at most, over all slaves '
                        '(default: as many as can be)')
    parser.add_argument('--no-progress', action='store_true',
                        help='no status line')
    parser.add_argument('--tls-cert', metavar='FILE',
                        help='serve over TLS, with this certificate')
    parser.add_argument('--tls-key', metavar='FILE',
                        help='the private key to it (default: in the same '
                        'file)')


def _slave_options(parser: Parser) -> None:
    parser.add_argument('--threads', type=_positive, default=1, metavar='N',
                        help='jobs at a time in each slave (default: 1)')
    parser.add_argument('--retries', type=_natural, default=0, metavar='N',
                        help='further attempts before a job counts as failed '
                        '(default: 0)')
    parser.add_argument('--timeout', type=_seconds, default=60.0,
                        metavar='S', help='how long to look for the master, '
                        'in seconds (default: 60)')
    _trust_option(parser)


def _trust_option(parser: Parser) -> None:
    parser.add_argument('--tls-ca', metavar='FILE',
                        help='speak TLS, with a master whose certificate is '
                        'signed by one in this file, or is in it')


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError('must be at least 1')
    return value


def _natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError('must not be negative')
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError('must be a number of seconds')
    return value


def _rate(text: str) -> Optional[float]:
    if text == 'off':
        return None
    value = float(text)
    if not 0 < value <= 1e9:
        raise argparse.ArgumentTypeError('must be above 0, or "off"')
    return value


def _too_many(text: str) -> Callable[[int, int], bool]:
    """``N`` or ``N%``: whether so many failed of so many are too many."""
    if text.endswith('%'):
        share = float(text[:-1]) / 100
        return lambda failed, finished: (finished >= 100
                                         and failed > share * finished)
    most = _positive(text)
    return lambda failed, finished: failed >= most


def master_parser() -> Parser:
    parser = _parser(
        'master', 'Serve the jobs that get_jobs yields; go on where the last '
        'run was, and save how far it came.', '''\
  tm-master migrate                       get_jobs of migrate.py, right here
  tm-master migrate --reset               from the beginning
  tm-master migrate shard=3 shards=8      get_jobs(shard='3', shards='8')
  tm-master app.jobs:users --host=0.0.0.0:3050 --key-file=key
''')
    parser.add_argument('target', metavar='TARGET',
                        help='module, module:function, path/file.py or '
                        'path/file.py:function (default function: get_jobs)')
    _source_options(parser)
    return parser


def slave_parser() -> Parser:
    parser = _parser(
        'slave', 'Take jobs from a master and call handle_job for each.', '''\
  tm-slave migrate                        handle_job of migrate.py
  tm-slave migrate --threads=8            eight at a time
  tm-slave migrate:repair --host=db1 --key-file=key
''')
    parser.add_argument('target', metavar='TARGET',
                        help='as for tm-master (default function: '
                        'handle_job)')
    _slave_options(parser)
    return parser


def spawn_parser() -> Parser:
    parser = _parser(
        'spawn', 'Keep N slave processes alive until the run is over.', '''\
  tm-spawn migrate 8                      eight slaves of a master right here
  tm-spawn migrate 8 --host=db1 --key-file=key
''')
    parser.add_argument('target', metavar='TARGET',
                        help='as for tm-slave')
    parser.add_argument('count', metavar='N', type=_positive,
                        help='how many slaves')
    _slave_options(parser)
    return parser


def run_parser() -> Parser:
    parser = _parser(
        'run', 'A master and N slaves on this machine, in one command.', '''\
  tm-run migrate 4                        get_jobs and handle_job of migrate.py
  tm-run path/migrate.py 4 shard=3 shards=8
  tm-run taskmaster.example 2             see it work
''')
    parser.add_argument('target', metavar='TARGET',
                        help='module or path/file.py')
    parser.add_argument('count', metavar='N', type=_positive,
                        help='how many slaves')
    _source_options(parser)
    _slave_options(parser)
    parser.add_argument('--get-jobs', metavar='NAME', default='get_jobs',
                        help='the function that yields jobs')
    parser.add_argument('--handle-job', metavar='NAME', default='handle_job',
                        help='the function that handles one')
    return parser


def ctl_parser() -> Parser:
    parser = _parser(
        'ctl', 'Look at and steer a running master, from anywhere.', '''\
  tm-ctl status                           of the master right here
  tm-ctl status --json --host=db1 --key-file=key
  tm-ctl pause                            hand out no more jobs; survives a
                                          restart of the master
  tm-ctl resume
  tm-ctl rate 500                         at most 500 jobs a second
  tm-ctl rate off
  tm-ctl stop --run=migrate               drain, save, end; if it is that run
''')
    parser.add_argument('command', metavar='COMMAND',
                        choices=('status', *COMMANDS),
                        help='status, pause, resume, rate or stop')
    parser.add_argument('value', nargs='?', type=_rate, metavar='N',
                        default=NOTHING,
                        help='of rate: jobs a second, or off')
    parser.add_argument('--json', action='store_true',
                        help='the status for a script')
    parser.add_argument('--run', metavar='NAME', help='do nothing if the '
                        'master serves another run than this')
    parser.add_argument('--timeout', type=_seconds, default=5.0, metavar='S',
                        help='how long to look for the master, in seconds '
                        '(default: 5)')
    _trust_option(parser)
    return parser


# -- what they do ---------------------------------------------------------

def run_master(options: argparse.Namespace) -> int:
    from .local import make_master
    from .source import from_target
    source = from_target(options.target,
                         targets.parse_arguments(options.arguments))
    if options.dry_run:
        return _rehearse(source, options)
    secret, place = _key(options), _address(options)
    master = make_master(source, place, secret, progress(options), options)
    master.open()
    signals = Signals(master.stop)
    signals.install()
    try:
        code = master.run()
    finally:
        master.close()
    return _ended(code, master.stopped_by)


def run_slave(options: argparse.Namespace) -> int:
    from .handlers import from_target
    from .slave import Slave
    from .supervisor import (CONNECTED, ENV_AFTER, ENV_ID, OVER,
                             watch_parent)
    from .wire import connect
    environ: Any = os.environ
    tell = watch_parent(environ)
    secret, place, tls = _key(options), _address(options), _trust(options)
    environ.pop(ENV_KEY, None)      # not for what the handler starts
    target, handler = from_target(options.target, options.retries)
    slave = Slave(
        lambda: connect(place, secret, tls), handler,
        environ.pop(ENV_ID, None) or secrets.token_hex(8),
        f'{socket.gethostname()}:{os.getpid()}',
        None if ':' in options.target else target.name,
        options.threads, timeout=options.timeout,
        after=environ.pop(ENV_AFTER, None),
        connected=lambda: tell(CONNECTED))
    stopped: List[int] = []

    def stop(number: int) -> None:
        stopped.append(number)
        slave.leave()
        log.info('stopping: jobs that are begun are finished first; once '
                 'more to stop at once')
    signals = Signals(stop)
    signals.install()
    slave.run()
    if not stopped:
        tell(OVER)
    return _ended(0, stopped[0] if stopped else None)


def run_spawn(options: argparse.Namespace) -> int:
    from .local import slave_command
    from .supervisor import Supervisor
    supervisor = Supervisor(
        slave_command(options.target, _address(options), options),
        options.count, _key(options), print_line, _to_stderr)
    stopped: List[int] = []

    def stop(number: int) -> None:
        stopped.append(number)
        supervisor.stop()
    Signals(stop).install()
    supervisor.start()
    supervisor.join()
    supervisor.close()
    return _ended(max(supervisor.codes, default=0),
                  stopped[0] if stopped else None)


def run_run(options: argparse.Namespace) -> int:
    if ':' in options.target:
        raise UsageError('tm-run takes a module or a file; name the '
                         'functions with --get-jobs and --handle-job')
    from .local import Local
    from .source import from_target
    source = from_target(f'{options.target}:{options.get_jobs}',
                         targets.parse_arguments(options.arguments))
    handler = f'{options.target}:{options.handle_job}'
    targets.load(handler, '').callable()
    if options.dry_run:
        return _rehearse(source, options)
    local = Local(source, handler, _address(options), _key(options),
                  progress(options), print_line, options)
    signals = Signals(local.stop)
    signals.install()
    return _ended(local.run(), local.stopped_by)


def _rehearse(source: 'Source', options: argparse.Namespace) -> int:
    if options.retry_failed:
        raise UsageError('--dry-run goes with get_jobs, not --retry-failed')
    from .rehearsal import rehearse
    path = os.path.abspath(options.state or source.state_name)
    for line in rehearse(source, path, options.reset):
        print_line(line)
    return 0


def run_ctl(options: argparse.Namespace) -> int:
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
    from .wire import connect, name_of
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

def _address(options: argparse.Namespace) -> Address:
    return address(options.host)


def _trust(options: argparse.Namespace) -> Any:
    """What a connection over TLS needs, or None."""
    if not options.tls_ca:
        return None
    from .tls import trusting
    return trusting(options.tls_ca)


def _key(options: argparse.Namespace) -> bytes:
    return key(options.key, options.key_file)


def progress(options: argparse.Namespace) -> Progress:
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
          run: Callable[[argparse.Namespace], int],
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
    except KeyboardInterrupt:           # before the signals were ours
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
