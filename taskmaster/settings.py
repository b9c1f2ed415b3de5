"""What can be set: each setting once, with all that is to be known of it.

A field of `Settings` gives a setting its name, its type and its default; the
`Setting` that is made beside has the rest.  The parsers of the scripts and
their help are made from this table.  The keywords of `Taskmaster(...)` and the
table of options in `docs/reference.md` are held against it by tests.
"""

from __future__ import annotations

import os

from .address import ENV_HOST, HOST, PORT
from .converters import (ENOUGH_JOBS, LEVELS, NUMBERS, MaxFailures,
                         as_job_seconds, as_kind, as_level, as_max_failures,
                         as_natural, as_positive, as_rate, as_seconds,
                         as_threads, kind_of, typed)
from .records import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any, Callable, Mapping, TypeVar

    T = TypeVar('T')

ENV_KEY = 'TASKMASTER_KEY'
# In the environment of a supervisor's child: the pipe that ends with it.
ENV_PARENT = 'TASKMASTER_PARENT'


class Setting(NamedTuple):
    """One setting, beside the name, type and default that its field has."""

    of: str             # the scripts that take it, apart by spaces
    help: str
    convert: Callable[[str], Any] | None = str    # None: it is a switch
    metavar: str = 'N'
    unit: str = ''      # of the number
    unset: str = ''     # what holds while it is None, for the help
    python: bool = True     # whether `Taskmaster(...)` takes it
    word: str = ''      # it has no flag: '1' of it, '?' one or none, '*'
    bare: str | None = None     # what it means alone, if it may be
    rather: str = ''        # the setting that it cannot be combined with
    elsewhere: Mapping[str, Any] = {}       # defaults, by script

    @property
    def scripts(self) -> tuple[str, ...]:
        return tuple(self.of.split())


_settings: list[Setting] = []       # in the order of their fields


def setting(default: T, of: str, help: str,
            convert: Callable[[str], Any] | None = str, **more: Any) -> T:
    """Return the default of a field, which is a setting (see `Setting`)."""
    _settings.append(Setting(of, help, convert, **more))
    return default


ALL = 'master slave spawn run ctl'
RUNS = 'master run'                     # what has a source
WORKS = 'slave spawn run'               # what has handlers
KEEPS = 'spawn run'                     # what keeps slaves alive

FLOOD = 'jobs a second'


def cores() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:          # macOS
        return os.cpu_count() or 1


FILE = 'FILE'


class Settings(NamedTuple):
    """What was asked for; what was not has its default.

    Scripts make it of what was typed, `Taskmaster` of its keywords.
    """

    # The current folder, as it was before anything of the operator's ran; or
    # '' where that has been removed.  Files are already found from it.
    folder: str = ''

    # -- words, in their order --------------------------------------------

    target: str = setting(
        '', 'master slave spawn run', 'the module, or path/file.py; but for '
        'tm-run it may name the function too, as in module:function',
        metavar='TARGET', word='1', python=False)
    slaves: int = setting(
        2, KEEPS, 'how many slaves, if that is digits alone: as many as there '
        'are cores, where it is not given', as_positive, word='?',
        python=False, elsewhere=dict.fromkeys(KEEPS.split(), cores()))
    arguments: tuple[str, ...] = setting(
        (), RUNS, 'keyword arguments for get_jobs', metavar='NAME=VALUE',
        word='*', python=False)

    # -- where, and with which key ----------------------------------------

    host: str | None = setting(
        None, ALL, 'where the master is', metavar='HOST[:PORT]',
        unset=f'${ENV_HOST}, or {HOST}:{PORT}')
    key: str | None = setting(
        None, ALL, 'the secret that master and slaves share', metavar='KEY',
        unset=f'${ENV_KEY}, or one made for you on this machine')
    key_file: str | None = setting(
        None, ALL, 'a file with the key in it', metavar=FILE,
        rather='key')
    tls_cert: str | None = setting(
        None, RUNS, 'serve over TLS, with this certificate',
        metavar=FILE)
    tls_key: str | None = setting(
        None, RUNS, 'the private key to it', metavar=FILE,
        unset='in the same file')
    tls_ca: str | None = setting(
        None, 'slave spawn run ctl',
        'speak TLS, with a master whose certificate '
        'is signed by one in this file, or is in it', metavar=FILE)

    # -- what to do, and how it is remembered -----------------------------

    reset: bool = setting(
        False, RUNS,
        'forget what is finished: set state and failures aside as '
        '.old and start over', None)
    state: str | None = setting(
        None, RUNS, 'where the state is kept', metavar=FILE,
        unset='NAME.state in the current directory')
    size: int = setting(
        10_000, RUNS, 'how many jobs the queue holds', as_positive,
        unit='jobs')
    max_failures: MaxFailures = setting(
        MaxFailures(100), RUNS,
        'stop after so many failed jobs in this start; N% counts '
        f'after the first {ENOUGH_JOBS} jobs', as_max_failures,
        unit='jobs')
    retry_failed: bool | str = setting(
        False, RUNS, 'run the jobs of the failures file again, instead of '
        'get_jobs; of one kind, as tm-ctl failures prints it, or of one type '
        'of exception', as_kind, metavar='KIND', bare='')
    dry_run: bool = setting(
        False, RUNS,
        'only say what would be done, and try whether the run could be '
        'resumed; 70 if something is not right', None)
    verify: bool = setting(
        False, RUNS,
        'call check_job (or check_jobs) instead of the handler, to see '
        'whether every job is right; with a state of its own', None)
    twice: bool = setting(
        False, 'run',
        'handle each job two times in a row, as after a crash, to see '
        'whether it can be (not whether that adds up, as += does); with '
        '--limit or --inline', None)
    limit: int | None = setting(
        None, RUNS, 'end, resumably, after N jobs', as_positive, unit='jobs')
    max_runtime: float | None = setting(
        None, RUNS, 'end, resumably, after so many seconds; jobs in hand are '
        'finished first', as_seconds, metavar='S', unit='seconds')
    total: int | None = setting(
        None, RUNS,
        'how many jobs get_jobs would yield from the beginning, for '
        'per cent and ETA', as_natural, unit='jobs',
        unset='what count_jobs says, if there is one')
    rate: float | None = setting(
        None, RUNS,
        f'so many {FLOOD} at most, over all slaves', as_rate, unit=FLOOD,
        unset='as many as can be')

    # -- how it is done ---------------------------------------------------

    threads: int = setting(
        1, WORKS, 'jobs (or lists of them) at a time in each slave',
        as_threads)
    batch: int | None = setting(
        None, WORKS,
        'jobs in a list for handle_jobs', as_positive, unit='jobs',
        unset='as many as take about a tenth of a second')
    retries: int = setting(
        0, WORKS, 'further attempts before a job counts as failed',
        as_natural)
    timeout: float = setting(
        60.0, 'slave spawn run ctl',
        'how long to look for the master', as_seconds,
        metavar='S', unit='seconds', elsewhere={'ctl': 5.0})
    job_timeout: float | None = setting(
        None, KEEPS,
        'end a slave of which a job takes longer, in seconds; the '
        'job has failed', as_job_seconds, metavar='S', unit='seconds')
    max_jobs_per_slave: int | None = setting(
        None, KEEPS,
        'start another slave in the place of one that has done so '
        'many jobs', as_positive, unit='jobs')
    get_jobs: str = setting(
        'get_jobs', 'run', 'the function that yields jobs', metavar='NAME',
        python=False)
    handle_job: str | None = setting(
        None, 'run',
        'the function that handles a job, or with --batch a list of '
        'them', metavar='NAME', unset='handle_jobs, or handle_job',
        python=False)
    inline: bool = setting(
        False, 'run',
        'no slaves: all in this process and thread, for a debugger',
        None)

    # -- what is said of it -----------------------------------------------

    no_progress: bool = setting(
        False, RUNS, 'no status line', None)
    log_level: str = setting(
        'info', ALL, ', '.join(LEVELS), as_level, metavar='LEVEL')

    # -- of tm-ctl --------------------------------------------------------

    command: str = setting(
        '', 'ctl', 'list, status, top, failures, pause, resume, rate or stop',
        metavar='COMMAND', word='1', python=False)
    value: str | None = setting(
        None, 'ctl',
        f'of rate: {FLOOD}, or off; of failures: the file', word='?',
        python=False)
    json: bool = setting(
        False, 'ctl', 'what is asked for, for a script', None, python=False)
    prometheus: bool = setting(
        False, 'ctl', 'the status as metrics, in the text format', None,
        python=False, rather='json')
    once: bool = setting(
        False, 'ctl', 'of top: print one screen', None, python=False)
    all: bool = setting(
        False, 'ctl', 'of list: every start of a run, not the last alone',
        None, python=False)
    run: str | None = setting(
        None, 'ctl', 'the run of that name, live or over; nothing is done if '
        'another is served at --host', metavar='NAME', python=False)


TABLE = dict(zip(Settings._fields[1:], _settings))     # all but `folder`


def of_script(script: str) -> dict[str, Setting]:
    """Return the settings that a script takes: 'master', 'slave' ..."""
    return {name: setting for name, setting in TABLE.items()
            if script in setting.scripts}


def is_for(setting: Setting, word: str) -> bool:
    """Return whether a word on the command line is of this setting.

    One that may lack and is a number takes digits alone.
    """
    return (setting.word != '?' or setting.convert not in NUMBERS
            or word.isdecimal())


def default_of(name: str, script: str) -> Any:
    return TABLE[name].elsewhere.get(script, Settings._field_defaults[name])


def flag_of(name: str) -> str:
    return '--' + name.replace('_', '-')


def flags(settings: Settings, script: str) -> list[str]:
    """Return what to type for a script to have these settings.

    Words are left out, and what is the default.
    """
    typed = []
    for name, setting in of_script(script).items():
        value = getattr(settings, name)
        if not setting.word and value != default_of(name, script):
            flag = flag_of(name)
            typed.append(flag if setting.convert is None
                         else f'{flag}={value}')
    return typed


def current_folder() -> str:
    """Return the current folder, or '' where it has been removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ''


def made(values: Mapping[str, Any],
         environ: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings of values that are converted already.

    What is not given is taken from the environment, where that has it; an
    empty ``host`` is none.  Files are found from the current folder; that of
    the key, which is read before any module is loaded, is shown as typed.
    """
    given = {name: value for name, value in values.items() if name in TABLE}
    folder = current_folder()
    for name, value in given.items():
        if TABLE[name].metavar == FILE and value and name != 'key_file':
            given[name] = os.path.join(folder, value)
    settings = Settings(folder=folder, **given)
    key = settings.key
    if key is None and settings.key_file is None:
        key = environ.get(ENV_KEY)
    return settings._replace(
        key=key, host=settings.host or environ.get(ENV_HOST) or None)


def from_python(values: Mapping[str, Any]) -> Settings:
    """Return the settings of keywords, converted as what is typed is.

    Raises TypeError or ValueError that names the keyword.
    """
    for name, setting in TABLE.items():
        if (values.get(name) is not None
                and values.get(setting.rather) is not None):
            raise TypeError(f'{name}: give it or {setting.rather}')
    return made({name: converted(name, value)
                 for name, value in values.items()})


def converted(name: str, value: Any) -> Any:
    """Return what a flag with this value would give.

    Raises TypeError or ValueError that names the setting.
    """
    setting = TABLE[name]
    default = Settings._field_defaults[name]
    if value is None and default is None or value is default:
        return value
    if setting.convert is None:
        if not isinstance(value, bool):
            raise TypeError(f'{name} is True or False, not {kind_of(value)}')
        return value
    if setting.bare is not None and isinstance(value, bool):
        return value
    text = typed(value, setting.convert in NUMBERS)
    if text is None:
        wanted = 'a number' if setting.convert in NUMBERS else 'text'
        raise TypeError(f'{name} takes {wanted}, not {kind_of(value)}')
    try:
        return setting.convert(text)
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from None
