"""What master and slaves say to each other, and the checks of it.

A slave calls methods of its `Session` on the master; every argument is JSON
of bounded size and is checked here, field by field, before it is believed.

    hello(introduction)         -> [WELCOME, {start, run, span, holds}]
                                 | [REFUSED, exit code, one line]
    exchange(report, want, prefetch, wait)
                                -> [LEASE, span, first number, count, jobs]
                                 | [WAIT, span, reason]
                                 | [GIVE_BACK, span, reason]
                                 | [OVER, 'complete' or 'stopped']
                                 | [STRANGER]    (say hello first)
    give_back(start, ranges)    -> [WAIT, span, reason] | [STRANGER]
    lost(slave, ranges)         -> [STATUS, '']
    status(run name)            -> [STATUS, {...}] | [REFUSED, code, line]
    control(run name, command, rate)
                                -> [STATUS, line] | [REFUSED, code, line]

The last three need no `hello`.  `lost` comes from a supervisor: that slave
is dead, and if there are ranges it was ended since these jobs took too long.
The run name may be null: whichever it is.

`jobs` is a pickled list, the only bytes there are.  Ranges are lists of
[first, last] job numbers, both included.
"""

from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

PROTOCOL = 1                # raised by every change of what is said here
PREAMBLE = b'taskmaster'    # a slave speaks first: strangers hear nothing

WELCOME, REFUSED = 'welcome', 'refused'
LEASE, WAIT, GIVE_BACK = 'lease', 'wait', 'give back'
OVER, STRANGER = 'over', 'stranger'
STATUS = 'status'
COMPLETE, STOPPED = 'complete', 'stopped'

PICKLE = 5          # the protocol that every Python from 3.8 on reads
LEASE_BYTES = 1 << 20       # pickled; a larger job travels alone
QUEUE = 'queue'     # the name of the one object that is served
PAUSE, RESUME, RATE, STOP = COMMANDS = 'pause', 'resume', 'rate', 'stop'

REQUEST_BYTES = 4 << 20     # the longest thing that a slave may say
WAIT_SECONDS = 10.0         # the longest that a call may wait for jobs
TEXT = 1000                 # characters of a name or an error
RUN_NAME = 100_000          # characters; it has the arguments in it
TRACEBACK = 10_000          # characters of a traceback
RANGES = 10_000             # in a report
NUMBER = 1 << 62            # above any job number
MOST_RATE = 1e9             # jobs a second, above any
WORKERS = 10_000            # of one slave

Range = Tuple[int, int]


class BadMessage(ValueError):
    """A message is not what it must be; its connection ends."""


class Payload(List[Any]):
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


class FailureReport(NamedTuple):
    number: int
    error: str              # one line
    traceback: str
    attempts: int


class Refusal(NamedTuple):
    """Jobs ``first`` .. ``last`` cannot be unpickled by this slave."""

    first: int
    last: int
    error: str


class Report(NamedTuple):
    """What a slave finished since its last report."""

    start: str              # the id of the start that it is of
    done: List[Range]
    failed: List[FailureReport]
    refused: List[Refusal]


class Introduction(NamedTuple):
    """What a slave says of itself in `hello`."""

    protocol: int
    version: str            # of the package, for people
    slave: str              # its random id
    name: str               # host:pid, for people
    workers: int
    module: Optional[str]   # whose run it wants, or None: any
    start: Optional[str]    # the id of the start it was in, or None
    run: Optional[str]      # the name of that run
    holds: List[Range]      # what it believes to hold of that run
    after: Optional[str]    # the id of the dead slave that it replaces


def text(value: Any, limit: int = TEXT) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise BadMessage('a text is missing or too long')
    return value


def line(value: Any) -> str:
    """A text that may go to a terminal: nothing in it can steer one."""
    return ''.join(char if char.isprintable() else '?'
                   for char in text(value))


def number(value: Any, least: int = 0, most: int = NUMBER) -> int:
    if type(value) is not int or not least <= value <= most:
        raise BadMessage('a number is missing or out of bounds')
    return value


def seconds(value: Any, most: float) -> float:
    if type(value) not in (int, float) or not 0 <= value <= most:
        raise BadMessage('a time is missing or out of bounds')
    return float(value)


def items(value: Any, most: int, length: int = 0) -> List[Any]:
    """A list of at most ``most`` items, each a list of ``length``."""
    if not isinstance(value, list) or len(value) > most:
        raise BadMessage('a list is missing or too long')
    if length and any(not isinstance(item, list) or len(item) != length
                      for item in value):
        raise BadMessage('a list has items of another form')
    return value


def ranges(value: Any) -> List[Range]:
    """In order, and none touches another: so each job is looked at once."""
    return merged([(number(first, 1), number(last, first))
                   for first, last in items(value, RANGES, 2)])


def disjoint(value: Any) -> List[Range]:
    """As they are, in order; BadMessage if two of them overlap."""
    found = sorted((number(first, 1), number(last, first))
                   for first, last in items(value, WORKERS, 2))
    if any(a[1] >= b[0] for a, b in zip(found, found[1:])):
        raise BadMessage('ranges overlap')
    return found


def merged(ranges: Sequence[Range]) -> List[Range]:
    """The same numbers in order; no two of the ranges touch."""
    found: List[Range] = []
    for a, b in sorted(ranges):
        if found and a <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(b, found[-1][1])
        else:
            found.append((a, b))
    return found


def optional(value: Any, limit: int = TEXT) -> Optional[str]:
    return None if value is None else text(value, limit)


def report(value: Any) -> Report:
    """Check what a slave says it finished."""
    if not isinstance(value, list) or len(value) != 4:
        raise BadMessage('a report has four fields')
    start, done, failed, refused = value
    return Report(
        text(start), ranges(done),
        [FailureReport(number(n, 1), line(error), text(trace, TRACEBACK),
                       number(attempts, 0, 1_000_000))
         for n, error, trace, attempts in items(failed, RANGES, 4)],
        _refusals(refused))


def _refusals(value: Any) -> List[Refusal]:
    """In order, without those that overlap another."""
    found: List[Refusal] = []
    for refusal in sorted(
            Refusal(number(first, 1), number(last, first), line(error))
            for first, last, error in items(value, RANGES, 3)):
        if not found or refusal.first > found[-1].last:
            found.append(refusal)
    return found


def introduction(value: Any) -> Introduction:
    """Check how a slave introduces itself.

    Of another protocol only its number and version are looked at.
    """
    if not isinstance(value, list) or len(value) < 2:
        raise BadMessage('an introduction begins with two fields')
    protocol, version = number(value[0]), line(value[1])
    if protocol != PROTOCOL:
        return Introduction(protocol, version, '', '', 1, None, None, None,
                            [], None)
    if len(value) != len(Introduction._fields):
        raise BadMessage('an introduction has other fields')
    _, _, slave, name, workers, module, start, run, holds, after = value
    return Introduction(
        protocol, version, text(slave), line(name),
        number(workers, 1, WORKERS), optional(module), optional(start),
        optional(run, RUN_NAME),
        ranges(holds), optional(after))


Reply = List[Any]
