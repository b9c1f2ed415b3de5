"""Records of runs: what each master leaves for whoever looks later.

A small JSON file for each start of a master, in a folder beside the user's
key: where it serves while it lives, and at the end how it ended.  So runs
side by side are found by name, and one that has ended is told from one that
has crashed.  Nothing else rests on them, and no run fails for their sake.

The folder may be in a home that several machines share.  Whether a master
lives is known only on its own machine: its process is there, has begun when
the record says, and the machine has not been started since.
"""

from __future__ import annotations

import os
import re
import socket
from json import dumps, loads

from .. import logs
from ..records import TYPE_CHECKING, NamedTuple
from . import files

if TYPE_CHECKING:
    from typing import Any, Iterable

log = logs.logger(__name__)

FORMAT = 1
FOLDER = 'runs'             # beside the user's key
SUFFIX = '.json'
NAME = r'[0-9a-f]{1,64}\.json'

# Seconds that the record of a master that is gone is kept.
KEPT = 7 * 86400.0
# Records of masters that are gone, at most: the newest.
MOST = 500
# Bytes of a record, at most; a larger file is none.
RECORD_BYTES = 1 << 20

# How a run ended, as its master said; what else there is to be said.
COMPLETE, STOPPED, FAILED = HOW = 'complete', 'stopped', 'failed'
CRASHED = 'crashed'         # it ended without a word
ELSEWHERE = 'elsewhere'     # its master is, or was, on another machine
LIVE = 'live'


class Record(NamedTuple):
    """One start of a master; times are unix seconds."""

    run: str
    start: str              # its id, which is the name of the file too
    address: str            # HOST:PORT, to be called on this machine
    socket: str | None      # the path of its Unix socket
    pid: int
    born: str               # when that process began, as the system says it
    boot: str               # which time this machine was started
    host: str
    state_file: str | None
    failures_file: str | None
    started: float
    seen: float             # when this was written, while it lives
    state: str              # 'running', or why no job is handed out
    current: int            # jobs finished since the very first start
    total: int | None
    failed: int
    ended: float | None = None
    how: str = ''           # COMPLETE ..., or '' while it runs
    stopping: str = ''      # the signal that it drains because of
    exit_code: int | None = None
    reason: str = ''        # of its end, a line

    @property
    def last(self) -> float:
        """When it was last heard of."""
        return self.seen if self.ended is None else self.ended


_TEXTS = {'run', 'start', 'address', 'born', 'boot', 'host', 'state', 'how',
          'stopping', 'reason'}
_COUNTS = {'pid', 'current', 'failed'}
_TIMES = {'started', 'seen', 'ended'}
_OPTIONAL = {'socket', 'state_file', 'failures_file', 'total', 'ended',
             'exit_code'}


class Machine(NamedTuple):
    """This machine, as records know it."""

    host: str
    boot: str

    @classmethod
    def here(cls) -> Machine:
        return cls(socket.gethostname(), boot_id())

    def state(self, record: Record) -> str:
        """Return LIVE, one of HOW, CRASHED or ELSEWHERE."""
        if record.how:
            return record.how
        if record.host != self.host:
            return ELSEWHERE
        if record.boot == self.boot and born(record.pid) == record.born:
            return LIVE
        # Of a drain that a second signal ended nobody is left to tell.
        return STOPPED if record.stopping else CRASHED


class Runs:
    """The records in a folder; ``system`` as in `files`."""

    def __init__(self, folder: str, system: files.System = os):
        self.folder = folder
        self._system = system

    def write(self, record: Record, durable: bool = True) -> None:
        """Put a record in the place of that start's.  Raises OSError."""
        files.make_private(self.folder)
        document = {'format': FORMAT, **record._asdict()}
        for name in _TIMES:
            if document[name] is not None:
                document[name] = files.to_iso(document[name])
        path = os.path.join(self.folder, record.start + SUFFIX)
        files.replace_file(self._system, path, [
            (dumps(document, indent=1) + '\n').encode('ascii')], durable)

    def read(self, but: str = '') -> list[Record]:
        """Return all records, the newest first, without that of a start.

        What is none, or cannot be read, is left out.
        """
        found = []
        for name in self._names(but):
            try:
                found.append(self._read(name))
            except (OSError, ValueError, TypeError, LookupError,
                    RecursionError, OverflowError) as error:
                log.debug('%s is no record of a run: %s', name, error)
        return sorted(found, key=lambda record: -record.started)

    def prune(self, machine: Machine, now: float,
              own: str = '') -> list[Record]:
        """Remove what is of no use any more, and what crashes left.

        That of the start ``own`` is of use, and not looked at.  Return the
        others that are.
        """
        records = self.read(but=own)
        kept = current(records, machine, now)
        for record in {*records} - {*kept}:
            self._remove(record.start + SUFFIX)
        for name in self._all():
            if name.endswith('.tmp') and self._age(name, now) > KEPT:
                self._remove(name)
        return kept

    def _names(self, but: str) -> list[str]:
        return [name for name in self._all()
                if name != but + SUFFIX and re.fullmatch(NAME, name)]

    def _all(self) -> list[str]:
        try:
            names: list[str] = self._system.listdir(self.folder)
        except OSError as error:
            log.debug('no records of runs: %s', error)
            return []
        return names

    def _read(self, name: str) -> Record:
        path = os.path.join(self.folder, name)
        with files.open_to_read(self._system, path) as file:
            data = file.read(RECORD_BYTES)
        record = _parsed(loads(data))
        if record.start + SUFFIX != name:
            raise ValueError('it names another start')
        return record

    def _age(self, name: str, now: float) -> float:
        try:
            path = os.path.join(self.folder, name)
            return now - float(self._system.stat(path).st_mtime)
        except OSError:
            return 0.0

    def _remove(self, name: str) -> None:
        try:
            self._system.unlink(os.path.join(self.folder, name))
        except OSError as error:        # another master was first
            log.debug('%s stays: %s', name, error)


def current(records: Iterable[Record], machine: Machine,
            now: float) -> list[Record]:
    """Return those to look at: what lives, and what ended not long ago.

    ``records`` are the newest first.  Of what is returned, those that live
    stand first, then what ended last.
    """
    live: list[Record] = []
    ended: list[Record] = []
    for record in records:
        if machine.state(record) == LIVE:
            live.append(record)
        elif now - record.last <= KEPT:
            ended.append(record)
    ended.sort(key=lambda record: -record.last)
    return live + ended[:MOST]


def document(record: Record, machine: Machine, now: float) -> dict[str, Any]:
    """Return what `tm-ctl list --json` says of a run.

    A crashed one has ended when it was last heard of, and may have finished
    more than it had said by then, which is what `at_least` tells.
    """
    state = machine.state(record)
    live = state == LIVE
    return {
        'run': record.run, 'state': record.state if live else state,
        'live': live, 'exit_code': record.exit_code,
        'current': record.current, 'total': record.total,
        'failed': record.failed, 'at_least': state in (CRASHED, ELSEWHERE),
        'started': _shown(record.started),
        'ended': None if live or state == ELSEWHERE
        else _shown(record.last),
        'elapsed': max((now if live else record.last) - record.started, 0.0),
        'seen': _shown(record.last), 'silent': max(now - record.last, 0.0),
        'reason': record.reason, 'address': record.address,
        'socket': record.socket, 'pid': record.pid, 'host': record.host,
        'state_file': record.state_file,
        'failures_file': record.failures_file}


def _shown(seconds: float) -> str:
    return files.to_iso(int(seconds))


def boot_id() -> str:
    """Return which time this machine was started, or '' if it is unknown."""
    try:
        with open('/proc/sys/kernel/random/boot_id') as file:
            return file.read().strip()
    except OSError:             # not Linux
        return ''


def born(pid: int) -> str:
    """Return when a process began, or '' if there is none of that id.

    That tells it from a later one of the same id.
    """
    try:
        with open(f'/proc/{pid}/stat', 'rb') as file:
            # Its second field is a name, which may have anything in it.
            rest = file.read().rpartition(b')')[2].split()
        return '' if rest[0] in (b'Z', b'X') else rest[19].decode()
    except FileNotFoundError:
        if os.path.exists('/proc/self/stat'):
            return ''
    except (OSError, LookupError):
        return ''
    try:
        os.kill(pid, 0)         # not Linux
    except ProcessLookupError:
        return ''
    except OSError:             # of another user
        pass
    return 'unknown'


def _parsed(document: Any) -> Record:
    """Return the record; raises ValueError, TypeError or KeyError."""
    if document['format'] != FORMAT:
        raise ValueError('it has another format')
    values = {name: document[name] for name in Record._fields}
    for name, value in values.items():
        if value is None and name in _OPTIONAL:
            continue
        if name in _TIMES:
            values[name] = files.from_iso(value)
        elif name in _TEXTS or name in ('socket', 'state_file',
                                        'failures_file'):
            if not isinstance(value, str):
                raise TypeError(f'{name} is no text')
        elif type(value) is not int or value < 0 and name in _COUNTS:
            raise TypeError(f'{name} is no number')
    record = Record(**values)
    if record.how not in ('', *HOW):
        raise ValueError('an unknown end')
    return record
