"""What can be typed: the parsers of the five scripts."""

import argparse
import os
from typing import Any, Callable, NoReturn, Optional, Type

from .. import __version__
from ..address import ENV_HOST, HOST, PORT
from ..wire.key import ENV_KEY
from ..wire.messages import COMMANDS, WORKERS

NOTHING: Any = object()     # an argument that was not given


# -- the parsers ----------------------------------------------------------

class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # It is not required, though the library says so of intermixed ones.
        super().error(message.replace(', NAME=VALUE', ''))


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
    parser.add_argument('--threads', type=_threads, default=1, metavar='N',
                        help='jobs (or lists of them) at a time in each '
                        'slave (default: 1)')
    parser.add_argument('--batch', type=_positive, metavar='N',
                        help='jobs in a list for handle_jobs (default: as '
                        'many as take about a tenth of a second)')
    parser.add_argument('--retries', type=_natural, default=0, metavar='N',
                        help='further attempts before a job counts as failed '
                        '(default: 0)')
    parser.add_argument('--timeout', type=_seconds, default=60.0,
                        metavar='S', help='how long to look for the master, '
                        'in seconds (default: 60)')
    _trust_option(parser)


def _spawn_options(parser: Parser) -> None:
    parser.add_argument('--job-timeout', type=_time, metavar='S',
                        help='end a slave of which a job takes longer, in '
                        'seconds; the job has failed (default: none)')
    parser.add_argument('--max-jobs-per-slave', type=_positive, metavar='N',
                        help='start another slave in the place of one that '
                        'has done so many jobs (default: none)')


def _trust_option(parser: Parser) -> None:
    parser.add_argument('--tls-ca', metavar='FILE',
                        help='speak TLS, with a master whose certificate is '
                        'signed by one in this file, or is in it')


def _number(kind: Type[Any], text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no {"whole " if kind is int else ""}'
            'number') from None


def _positive(text: str) -> int:
    value: int = _number(int, text)
    if value < 1:
        raise argparse.ArgumentTypeError('must be at least 1')
    return value


def _threads(text: str) -> int:
    value = _positive(text)
    if value > WORKERS:
        raise argparse.ArgumentTypeError(f'must be at most {WORKERS}')
    return value


def _natural(text: str) -> int:
    value: int = _number(int, text)
    if value < 0:
        raise argparse.ArgumentTypeError('must not be negative')
    return value


def _seconds(text: str) -> float:
    value: float = _number(float, text)
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError('must be a number of seconds')
    return value


def _time(text: str) -> float:
    value = _seconds(text)
    if value < 0.01:
        raise argparse.ArgumentTypeError('must be at least 0.01')
    return value


def _rate(text: str) -> Optional[float]:
    if text == 'off':
        return None
    value: float = _number(float, text)
    if not 0 < value <= 1e9:
        raise argparse.ArgumentTypeError('must be above 0, or "off"')
    return value


def _too_many(text: str) -> Callable[[int, int], bool]:
    """``N`` or ``N%``: whether so many failed of so many are too many."""
    if text.endswith('%'):
        share = _number(float, text[:-1]) / 100
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
                        'handle_jobs, or handle_job)')
    _slave_options(parser)
    return parser


def spawn_parser() -> Parser:
    parser = _parser(
        'spawn', 'Keep N slave processes alive until the run is over.', '''\
  tm-spawn migrate 8                      eight slaves of a master right here
  tm-spawn migrate 8 --host=db1 --key-file=key
  tm-spawn migrate 8 --max-jobs-per-slave 100000   if handlers leak memory
''')
    parser.add_argument('target', metavar='TARGET',
                        help='as for tm-slave')
    parser.add_argument('count', metavar='N', type=_positive,
                        help='how many slaves')
    _slave_options(parser)
    _spawn_options(parser)
    return parser


def run_parser() -> Parser:
    parser = _parser(
        'run', 'A master and N slaves on this machine, in one command.', '''\
  tm-run migrate 4                        get_jobs and handle_job of migrate.py
  tm-run path/migrate.py 4 shard=3 shards=8
  tm-run migrate 1 --dry-run              what it would do; nothing is done
  tm-run migrate 4 --limit 100            a hundred jobs; again to go on
  tm-run migrate 4 --reset                from the beginning
  tm-run migrate 4 --retry-failed         those that failed, once more
  tm-run migrate 4 --job-timeout 60       a job that hangs has failed
  tm-run migrate 1 --inline               in a debugger
  tm-run taskmaster.example 2             see it work
''')
    parser.add_argument('target', metavar='TARGET',
                        help='module or path/file.py')
    parser.add_argument('count', metavar='N', type=_positive,
                        help='how many slaves')
    _source_options(parser)
    _slave_options(parser)
    _spawn_options(parser)
    parser.add_argument('--get-jobs', metavar='NAME', default='get_jobs',
                        help='the function that yields jobs')
    parser.add_argument('--handle-job', metavar='NAME',
                        help='the function that handles a job, or with '
                        '--batch a list of them (default: handle_jobs, or '
                        'handle_job)')
    parser.add_argument('--inline', action='store_true',
                        help='no slaves: all in this process and thread, '
                        'for a debugger')
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
