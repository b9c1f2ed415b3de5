"""What master and slaves say to each other, and the checks of it.

A slave calls methods of its session on the master.  Every argument and
every reply is JSON of bounded size, checked here field by field by whoever
gets it, before it is believed.

    hello(introduction)         -> Welcome | Refused
    exchange(report, want, prefetch, wait)
                                -> Jobs | Wait | Recall | Over | Stranger
    give_back(start, ranges)    -> Wait | Stranger
    lost(slave, ranges, awaited)
                                -> Said
    status(run name, most slaves)
                                -> Overview | Refused
    failures(run name)          -> Failures | Refused
    control(run name, command, rate)
                                -> Said | Refused

The last four need no `hello`.  `lost` comes from a supervisor: that slave
is dead, and if there are ranges it was ended since these jobs took too long;
a successor of it is to come, if that is awaited.
The run name may be null: whichever it is; so may be how many slaves to tell
of: all of them.

A reply is a list: its kind, then its fields.  Ranges are lists of
[first, last] job numbers, both included.
"""

from __future__ import annotations

from functools import partial

from ..errors import ConfigError, KeyRefused, VersionMismatch
from ..records import TYPE_CHECKING, NamedTuple
from .fields import (NAME, RANGES, RUN_NAME, TRACEBACK, BadMessage, Range,
                     disjoint, flag, items, line, number, optional,
                     ranges, real, record, text)

if TYPE_CHECKING:
    from typing import Any, Union

    from .fields import Check

PROTOCOL = 5                # raised by every change of what is said here

COMPLETE, STOPPED, FAILED, LIMITED = ENDS = (
    'complete', 'stopped', 'failed', 'limited')
PAUSE, RESUME, RATE, STOP = COMMANDS = 'pause', 'resume', 'rate', 'stop'

PICKLE = 5          # the protocol that every Python from 3.8 on reads
LEASE_BYTES = 1 << 20       # pickled; a larger job travels alone
QUEUE = 'queue'     # the name of the one object that is served

REQUEST_BYTES = 4 << 20     # the longest thing that a slave may say
WAIT_SECONDS = 10.0         # the longest that a call may wait for jobs
SPAN_SECONDS = 3600.0       # above any span of a lease
AGE_SECONDS = 1e10          # above any age
MOST_RATE = 1e9             # jobs a second, above any
WORKERS = 10_000            # of one slave
ID = 100                    # characters; ours have 16
TIMES = 20                  # samples of job times in a report
SLAVES = 100_000            # more than any master has
RATES = 1000                # of the last minutes
KINDS = 10_000              # of failures, or what one of them said
SLOWEST = 100               # jobs that are named


class Payload(list['Any']):
    """Bytes in parts, as a pickler writes them and a socket sends them.

    Joined they would have to be copied, which for a large lease takes as
    long as pickling it does.
    """

    write = list.append

    @property
    def size(self) -> int:
        """How many bytes."""
        return sum(memoryview(part).nbytes for part in self)

    def __bytes__(self) -> bytes:
        return b''.join(self)


# -- what a slave says ----------------------------------------------------

class FailureReport(NamedTuple):
    number: int
    error: str              # one line
    traceback: str
    attempts: int
    cause: str = ''         # what it raised at first, if that was another


class Refusal(NamedTuple):
    """Jobs ``first`` .. ``last`` cannot be unpickled by this slave."""

    first: int
    last: int
    error: str


class JobTime(NamedTuple):
    """How long one worker took for jobs that it did in a row."""

    first: int              # the number of the first of them
    jobs: int
    seconds: float          # for all of them


class Report(NamedTuple):
    """What a slave finished since its last report."""

    start: str              # the id of the start that it is of
    done: list[Range]
    failed: list[FailureReport]
    refused: list[Refusal]
    times: list[JobTime] = []       # of the newest of these, a few


class Introduction(NamedTuple):
    """What a slave says of itself in `hello`."""

    slave: str              # its random id
    name: str               # host:pid, for people
    workers: int
    module: str | None      # whose run it wants, or None: any
    start: str | None       # the id of the start it was in, or None
    run: str | None         # the name of that run
    holds: list[Range]      # what it believes to hold of that run
    after: str | None       # the id of the dead slave that it replaces


def id(value: Any) -> str:
    """A random id, of a slave or of a start."""
    return text(value, ID)


def report(value: Any) -> Report:
    """Check what a slave says it finished."""
    if not isinstance(value, list) or len(value) not in (4, 5):
        raise BadMessage('a report has four fields, and perhaps samples')
    start, done, failed, refused, *rest = value
    return Report(
        id(start), ranges(done),
        [FailureReport(number(n, 1), line(error), text(trace, TRACEBACK),
                       number(attempts, 0, 1_000_000), line(cause))
         for n, error, trace, attempts, cause in items(failed, RANGES, 5)],
        _refusals(refused),
        [JobTime(number(first, 1), number(jobs, 1), _seconds(seconds))
         for times in rest
         for first, jobs, seconds in items(times, TIMES, 3)])


def _refusals(value: Any) -> list[Refusal]:
    """In order, without those that overlap another."""
    found: list[Refusal] = []
    for refusal in sorted(
            Refusal(number(first, 1), number(last, first), line(error))
            for first, last, error in items(value, RANGES, 3)):
        if not found or refusal.first > found[-1].last:
            found.append(refusal)
    return found


def introduction(value: Any) -> Introduction:
    """Check how a slave introduces itself."""
    if (not isinstance(value, list)
            or len(value) != len(Introduction._fields)):
        raise BadMessage('an introduction has other fields')
    slave, name, workers, module, start, run, holds, after = value
    return Introduction(
        id(slave), line(name, NAME),
        number(workers, 1, WORKERS), optional(text, module),
        optional(id, start), run_name(run), ranges(holds),
        optional(id, after))


def seconds_to_wait(value: Any) -> float:
    return real(value, WAIT_SECONDS)


def run_name(value: Any) -> str | None:
    return optional(partial(text, limit=RUN_NAME), value)


def command(value: Any) -> str:
    if text(value) not in COMMANDS:
        raise BadMessage('an unknown command')
    return text(value)


def rate(value: Any) -> float | None:
    return optional(partial(real, most=MOST_RATE), value)


# By the name of a method: the checks of its arguments.
REQUESTS: dict[str, tuple[Check, ...]] = {
    'hello': (introduction,),
    'exchange': (report, number, flag, seconds_to_wait),
    'give_back': (id, ranges),
    'lost': (id, disjoint, flag),
    'status': (run_name, partial(optional, number)),
    'failures': (run_name,),
    'control': (run_name, command, rate)}


def request(method: Any, arguments: Any) -> list[Any]:
    """Check a call, and return its arguments as they are to be used."""
    checks = REQUESTS.get(method) if isinstance(method, str) else None
    if (checks is None or not isinstance(arguments, (list, tuple))
            or len(checks) != len(arguments)):
        raise BadMessage('a call of what is not served')
    return [check(argument) for check, argument in zip(checks, arguments)]


# -- what the master replies ----------------------------------------------

class Welcome(NamedTuple):
    """The slave is known from now on."""

    start: str              # the id of this start of the master
    run: str                # the name of its run
    span: float             # seconds that a lease should take
    holds: list[Range]      # what the slave still holds
    verifies: bool          # whether jobs are to be checked, not handled


class Refused(NamedTuple):
    """Not this slave, or not this run."""

    code: int               # that its process is to exit with
    line: str               # for the person


class Jobs(NamedTuple):
    """A lease.  ``pickled`` is a list of so many jobs; the only bytes."""

    span: float
    first: int              # its number
    size: int               # how many
    pickled: Any            # a Payload, and where it arrives a memoryview


class Wait(NamedTuple):
    """No jobs now."""

    span: float
    reason: str             # or ''


class Recall(NamedTuple):
    """Give back what is not begun."""

    span: float
    reason: str


class Over(NamedTuple):
    """The run is over: ``how`` is one of ENDS."""

    how: str


class Stranger(NamedTuple):
    """Say hello first."""


class Said(NamedTuple):
    """A line for the person who asked."""

    line: str


class Overview(NamedTuple):
    """What `tm-ctl status --json` prints."""

    status: dict[str, Any]


class Failures(NamedTuple):
    """What `tm-ctl failures --json` prints: the failed jobs by kind."""

    file: str
    kinds: list[dict[str, Any]]


if TYPE_CHECKING:
    Reply = Union[Welcome, Refused, Jobs, Wait, Recall, Over, Stranger, Said,
                  Overview, Failures]

_count = number
_seconds = partial(real, most=AGE_SECONDS)
_rate = partial(real, most=AGE_SECONDS)
_run = partial(line, limit=RUN_NAME)
_SLAVE: dict[str, Check] = {
    'name': line, 'workers': _count, 'connected': flag, 'done': _count,
    'failed': _count, 'rate': _rate, 'in_hand': _count,
    'oldest': partial(optional, _seconds)}
_OLDEST: dict[str, Check] = {
    'number': _count, 'key': line, 'slave': line, 'age': _seconds}
_KIND: dict[str, Check] = {'kind': line, 'count': _count}
_SLOW: dict[str, Check] = {'key': line, 'seconds': _seconds}
_TIMES: dict[str, Check] = {
    'median': _seconds, 'p99': _seconds,
    'slowest': lambda value: [record(_SLOW, slow)
                              for slow in items(value, SLOWEST)]}
STATUS: dict[str, Check] = {
    'run': _run, 'version': line, 'state': line, 'paused': flag,
    'current': _count, 'total': partial(optional, _count), 'failed': _count,
    'rate': _rate, 'limit': partial(optional, _rate),
    'eta': partial(optional, _seconds), 'queued': _count, 'size': _count,
    'slower': partial(optional, line), 'rates': lambda value: [
        _rate(rate) for rate in items(value, RATES)],
    'started': line, 'elapsed': _seconds, 'pid': _count, 'host': line,
    'kinds': lambda value: [record(_KIND, kind)
                            for kind in items(value, KINDS)],
    'times': partial(optional, partial(record, _TIMES)),
    'oldest': partial(optional, partial(record, _OLDEST)),
    'slave_count': _count, 'in_hand': _count,
    'slaves': lambda value: [record(_SLAVE, slave)
                             for slave in items(value, SLAVES)]}
_MESSAGE: dict[str, Check] = {
    'message': line, 'count': _count, 'key': line, 'varies': flag}
_FAILURES: dict[str, Check] = {
    'kind': line, 'count': _count, 'first_key': line, 'last_key': line,
    'traceback': partial(text, limit=TRACEBACK),
    'messages': lambda value: [record(_MESSAGE, message)
                               for message in items(value, KINDS)]}
# What a refusal may end a process with: a 0 would be a success.
REFUSALS = {kind.exit_code for kind in (
    VersionMismatch, KeyRefused, ConfigError)}


def _code(value: Any) -> int:
    if number(value) not in REFUSALS:
        raise BadMessage('a refusal with another exit code')
    return number(value)


def _span(value: Any) -> float:
    if real(value, SPAN_SECONDS) <= 0:
        raise BadMessage('a span of no time')
    return real(value, SPAN_SECONDS)


def _end(value: Any) -> str:
    if text(value) not in ENDS:
        raise BadMessage('an unknown end')
    return text(value)


def _pickled(value: Any) -> Any:
    if not isinstance(value, (bytes, memoryview, Payload)):
        raise BadMessage('a lease without bytes')
    return value


# By kind: what it is here, and the checks of its fields.
_KINDS: dict[str, tuple[Any, tuple[Check, ...]]] = {
    'welcome': (Welcome, (text, _run, _span, disjoint, flag)),
    'refused': (Refused, (_code, _run)),
    'lease': (Jobs, (_span, partial(number, least=1),
                     partial(number, least=1), _pickled)),
    'wait': (Wait, (_span, line)),
    'give back': (Recall, (_span, line)),
    'over': (Over, (_end,)),
    'stranger': (Stranger, ()),
    'said': (Said, (line,)),
    'status': (Overview, (partial(record, STATUS),)),
    'failures': (Failures, (line, lambda value: [
        record(_FAILURES, kind) for kind in items(value, KINDS)]))}
_KIND_OF = {type: kind for kind, (type, _) in _KINDS.items()}
_EXPECTED: dict[str, tuple[Any, ...]] = {
    'hello': (Welcome, Refused),
    'exchange': (Jobs, Wait, Recall, Over, Stranger),
    'give_back': (Wait, Stranger), 'lost': (Said,),
    'status': (Overview, Refused), 'failures': (Failures, Refused),
    'control': (Said, Refused)}


def encoded(reply: Reply) -> list[Any]:
    """A reply as it is sent: its kind, then its fields."""
    return [_KIND_OF[type(reply)], *reply]


def reply(method: str, value: Any) -> Reply:
    """Check the reply to a call of ``method``.  Raises BadMessage."""
    if not isinstance(value, list) or not value:
        raise BadMessage('a reply that is none')
    form: Any = (_KINDS.get(value[0]) if isinstance(value[0], str) else None)
    if form is None or form[0] not in _EXPECTED[method]:
        raise BadMessage('a reply of another kind')
    kind, checks = form
    if len(value) != len(checks) + 1:
        raise BadMessage('a reply of other fields')
    checked: Reply = kind(*(check(field) for check, field
                            in zip(checks, value[1:])))
    return checked
