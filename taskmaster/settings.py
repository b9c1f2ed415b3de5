"""What can be set: each setting once, with all that is to be known of it.

A field of `Settings` gives a setting its name, its type and its default; the
`Setting` beside it gives the rest.  The parsers of the scripts and their help
are made from this table.  The keywords of `Taskmaster(...)` and the table of
options in `docs/reference.md` are held against it by tests.
"""

# No `from __future__ import annotations`: the table is read from them.
import os
from typing import (Annotated, Any, Callable, Dict, List, Mapping, NamedTuple,
                    Optional, Tuple, Union)

from .address import ENV_HOST, HOST, PORT
from .converters import (ENOUGH_JOBS, LEVELS, NUMBERS, MaxFailures,
                         as_job_seconds, as_kind, as_level, as_max_failures,
                         as_natural, as_positive, as_rate, as_seconds,
                         as_threads, kind_of, typed)

ENV_KEY = 'TASKMASTER_KEY'
# In the environment of a supervisor's child: the pipe that ends with it.
ENV_PARENT = 'TASKMASTER_PARENT'


class Setting(NamedTuple):
    """One setting, beside the name, type and default that its field has."""

    of: str             # the scripts that take it, apart by spaces
    help: str
    convert: Optional[Callable[[str], Any]] = str    # None: it is a switch
    metavar: str = 'N'
    unit: str = ''      # of the number
    unset: str = ''     # what holds while it is None, for the help
    python: bool = True     # whether `Taskmaster(...)` takes it
    word: str = ''      # it has no flag: '1' of it, '?' one or none, '*'
    bare: Optional[str] = None      # what it means alone, if it may be
    rather: str = ''        # the setting that it cannot be combined with
    elsewhere: Mapping[str, Any] = {}       # defaults, by script

    @property
    def scripts(self) -> Tuple[str, ...]:
        return tuple(self.of.split())


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

    target: Annotated[str, Setting(
        'master slave spawn run', 'the module, or path/file.py; but for '
        'tm-run it may name the function too, as in module:function',
        metavar='TARGET', word='1', python=False)] = ''
    slaves: Annotated[int, Setting(
        KEEPS, 'how many slaves, if that is digits alone: as many as there '
        'are cores, where it is not given', as_positive, word='?',
        python=False, elsewhere=dict.fromkeys(KEEPS.split(), cores()))] = 2
    arguments: Annotated[Tuple[str, ...], Setting(
        RUNS, 'keyword arguments for get_jobs', metavar='NAME=VALUE',
        word='*', python=False)] = ()

    # -- where, and with which key ----------------------------------------

    host: Annotated[Optional[str], Setting(
        ALL, 'where the master is', metavar='HOST[:PORT]',
        unset=f'${ENV_HOST}, or {HOST}:{PORT}')] = None
    key: Annotated[Optional[str], Setting(
        ALL, 'the secret that master and slaves share', metavar='KEY',
        unset=f'${ENV_KEY}, or one made for you on this machine')] = None
    key_file: Annotated[Optional[str], Setting(
        ALL, 'a file with the key in it', metavar=FILE,
        rather='key')] = None
    tls_cert: Annotated[Optional[str], Setting(
        RUNS, 'serve over TLS, with this certificate',
        metavar=FILE)] = None
    tls_key: Annotated[Optional[str], Setting(
        RUNS, 'the private key to it', metavar=FILE,
        unset='in the same file')] = None
    tls_ca: Annotated[Optional[str], Setting(
        'slave spawn run ctl', 'speak TLS, with a master whose certificate '
        'is signed by one in this file, or is in it', metavar=FILE)] = None

    # -- what to do, and how it is remembered -----------------------------

    reset: Annotated[bool, Setting(
        RUNS, 'forget what is finished: set state and failures aside as '
        '.old and start over', None)] = False
    state: Annotated[Optional[str], Setting(
        RUNS, 'where the state is kept', metavar=FILE,
        unset='NAME.state in the current directory')] = None
    size: Annotated[int, Setting(
        RUNS, 'how many jobs the queue holds', as_positive,
        unit='jobs')] = 10_000
    max_failures: Annotated[MaxFailures, Setting(
        RUNS, 'stop after so many failed jobs in this start; N% counts '
        f'after the first {ENOUGH_JOBS} jobs', as_max_failures,
        unit='jobs')] = MaxFailures(100)
    retry_failed: Annotated[Union[bool, str], Setting(
        RUNS, 'run the jobs of the failures file again, instead of '
        'get_jobs; of one kind, as tm-ctl failures prints it, or of one type '
        'of exception', as_kind, metavar='KIND', bare='')] = False
    dry_run: Annotated[bool, Setting(
        RUNS, 'only say what would be done, and try whether the run could be '
        'resumed; 70 if something is not right', None)] = False
    verify: Annotated[bool, Setting(
        RUNS, 'call check_job (or check_jobs) instead of the handler, to see '
        'whether every job is right; with a state of its own', None)] = False
    twice: Annotated[bool, Setting(
        'run', 'handle each job two times in a row, as after a crash, to see '
        'whether it can be (not whether that adds up, as += does); with '
        '--limit or --inline', None)] = False
    limit: Annotated[Optional[int], Setting(
        RUNS, 'end, resumably, after N jobs', as_positive, unit='jobs')] = None
    max_runtime: Annotated[Optional[float], Setting(
        RUNS, 'end, resumably, after so many seconds; jobs in hand are '
        'finished first', as_seconds, metavar='S', unit='seconds')] = None
    total: Annotated[Optional[int], Setting(
        RUNS, 'how many jobs get_jobs would yield from the beginning, for '
        'per cent and ETA', as_natural, unit='jobs',
        unset='what count_jobs says, if there is one')] = None
    rate: Annotated[Optional[float], Setting(
        RUNS, f'so many {FLOOD} at most, over all slaves', as_rate, unit=FLOOD,
        unset='as many as can be')] = None

    # -- how it is done ---------------------------------------------------

    threads: Annotated[int, Setting(
        WORKS, 'jobs (or lists of them) at a time in each slave',
        as_threads)] = 1
    batch: Annotated[Optional[int], Setting(
        WORKS, 'jobs in a list for handle_jobs', as_positive, unit='jobs',
        unset='as many as take about a tenth of a second')] = None
    retries: Annotated[int, Setting(
        WORKS, 'further attempts before a job counts as failed',
        as_natural)] = 0
    timeout: Annotated[float, Setting(
        'slave spawn run ctl', 'how long to look for the master', as_seconds,
        metavar='S', unit='seconds', elsewhere={'ctl': 5.0})] = 60.0
    job_timeout: Annotated[Optional[float], Setting(
        KEEPS, 'end a slave of which a job takes longer, in seconds; the '
        'job has failed', as_job_seconds, metavar='S', unit='seconds')] = None
    max_jobs_per_slave: Annotated[Optional[int], Setting(
        KEEPS, 'start another slave in the place of one that has done so '
        'many jobs', as_positive, unit='jobs')] = None
    get_jobs: Annotated[str, Setting(
        'run', 'the function that yields jobs', metavar='NAME',
        python=False)] = 'get_jobs'
    handle_job: Annotated[Optional[str], Setting(
        'run', 'the function that handles a job, or with --batch a list of '
        'them', metavar='NAME', unset='handle_jobs, or handle_job',
        python=False)] = None
    inline: Annotated[bool, Setting(
        'run', 'no slaves: all in this process and thread, for a debugger',
        None)] = False

    # -- what is said of it -----------------------------------------------

    no_progress: Annotated[bool, Setting(
        RUNS, 'no status line', None)] = False
    log_level: Annotated[str, Setting(
        ALL, ', '.join(LEVELS), as_level, metavar='LEVEL')] = 'info'

    # -- of tm-ctl --------------------------------------------------------

    command: Annotated[str, Setting(
        'ctl', 'list, status, top, failures, pause, resume, rate or stop',
        metavar='COMMAND', word='1', python=False)] = ''
    value: Annotated[Optional[str], Setting(
        'ctl', f'of rate: {FLOOD}, or off; of failures: the file', word='?',
        python=False)] = None
    json: Annotated[bool, Setting(
        'ctl', 'what is asked for, for a script', None, python=False)] = False
    prometheus: Annotated[bool, Setting(
        'ctl', 'the status as metrics, in the text format', None,
        python=False, rather='json')] = False
    once: Annotated[bool, Setting(
        'ctl', 'of top: print one screen', None, python=False)] = False
    run: Annotated[Optional[str], Setting(
        'ctl', 'the run of that name, live or over; nothing is done if '
        'another is served at --host', metavar='NAME', python=False)] = None


TABLE: Dict[str, Setting] = {
    name: hint.__metadata__[0]
    for name, hint in Settings.__annotations__.items()
    if hasattr(hint, '__metadata__')}


def of_script(script: str) -> Dict[str, Setting]:
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


def flags(settings: Settings, script: str) -> List[str]:
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
