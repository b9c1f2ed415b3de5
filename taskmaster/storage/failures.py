"""The failures file: the jobs that failed, kept so that they can run again.

JSON lines, only ever appended to, each about one job by its number:

    {"number": 17, "key": "17", "error": "ValueError: bad", …, "job": {…}}
    {"number": 17, "resolved": "2024-05-01T12:00:00+00:00"}

The last line of a number wins: failed, or resolved by a later run.  In memory
are only the numbers that are outstanding, and where their lines begin.

A job of plain values stands there as JSON; `coded` says so, and of a tuple
that it is one.  Without it, as in files of earlier versions, the job is an
object with a `literal` of Python, a `pickle`, or but the `repr` of what could
not be kept.
"""

from __future__ import annotations

import os
import time
from itertools import repeat
from json import dumps, loads
from math import isfinite

from .. import forks
from ..errors import ConfigError
from ..records import TYPE_CHECKING, NamedTuple
from ..text import safe_repr, short, summary
from . import codec, files

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator

MAX_TRACEBACK = 10_000      # characters; the end of it says most
MAX_TEXT = 1000             # characters of a key or an error
MAX_BITS = 10_000           # of a number; Python reads no longer ones
MAX_DEPTH = 100             # of lists and dicts; Python reads a thousand
MOST = 1 << 62              # above any job number


class _Missing:
    """The type of MISSING, which is itself again after a pickle."""

    def __repr__(self) -> str:
        return 'MISSING'

    def __reduce__(self) -> str:
        return 'MISSING'


MISSING = _Missing()


class Failure(NamedTuple):
    """One failed job."""

    number: int             # counted over all starts of the run
    key: str                # its repr
    error: str              # one line: 'ValueError: bad'
    traceback: str
    slave: str
    attempts: int
    job: Any                # MISSING where it could not be kept, or read
    time: float = 0.0       # unix seconds
    cause: str = ''         # its first error, if that was another one
    missing: str = ''       # why the job is MISSING; set by ``outstanding``


# Of every line.
BEGINNING = b'{"number": '

_STORED = set(Failure._fields) - {'missing'}
# Of those, what a record of an earlier version may lack.
_NEW = {'cause'}
# How a job that is JSON is `coded`: as it is, or a list in the place of a
# tuple.
JSON, TUPLE = 'json', 'tuple'


class FailuresFile:
    """The failures of one run in ``path``, for the holder of its state.

    ``system`` is where every file operation goes (see ``files``).  One
    thread at a time.
    """

    def __init__(self, path: str, system: files.System = os):
        self.path = os.fspath(path)
        self.system = system
        self._real = files.real_path(self.path)
        # Open only while all that was written to it is synced.
        self._fd: int | None = None
        self._offsets: dict[int, int] = {}      # number: where its line is
        self._size = 0      # bytes known to be whole lines, and synced

    @property
    def count(self) -> int:
        """How many failures are outstanding."""
        return len(self._offsets)

    def open(self, upto: int) -> None:
        """Read the file; forget the jobs above ``upto``, which run again.

        Raises ConfigError when it cannot be read or a line is damaged (but
        for one torn by a crash), SaveError when it cannot be cleaned.
        """
        self.close()
        self._forget()
        try:
            clean = self._load(upto)
        except FileNotFoundError:
            return
        except OSError as error:
            raise files.unreadable(self.path, error) from error
        try:
            files.remove_leftovers(self.system, self._real)
            if not clean:
                self.compact()
        except OSError as error:
            raise files.unwritable(self.path, error) from error

    def append(self, failures: list[Failure]) -> None:
        """Record ``failures``, all of them, durably.

        Raises OSError, and then none of them counts: append them again.
        """
        lines = [_line(_record(failure)) for failure in failures]
        offset = self._size
        self._write(b''.join(lines))
        for failure, line in zip(failures, lines):
            self._offsets[failure.number] = offset
            offset += len(line)

    def resolve(self, numbers: Iterable[int]) -> None:
        """Record durably that these jobs have been handled after all.

        Raises OSError, and then none of them counts: resolve them again.
        """
        done = [number for number in numbers if number in self._offsets]
        now = files.to_iso(time.time())
        self._write(b''.join(
            _line({'number': number, 'resolved': now}) for number in done))
        for number in done:
            self._offsets.pop(number, None)

    def outstanding(self) -> Iterator[Failure]:
        """The failures outstanding now, by number, read one at a time.

        Appending, resolving and compacting meanwhile do not disturb it.
        Raises OSError.
        """
        for _, line in self._records():
            yield _failure(loads(line))

    def unread(self) -> Iterator[Failure]:
        """The same, but that no job is decoded: each is MISSING.

        For any thread.  Raises OSError, and ValueError where the file was
        put in order meanwhile.
        """
        for _, line in self._records():
            yield _failure(loads(line), decode=False)

    def peek(self, damaged: Callable[[int], None]) -> Iterator[Failure]:
        """What `unread` gives of a file that is another's to write.

        It is read at once; ``damaged`` is told of each line that is no
        record.  Raises FileNotFoundError, or ConfigError where it cannot be
        read.
        """
        self._forget()
        try:
            self._load(MOST, damaged)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise files.unreadable(self.path, error) from error
        return self.unread()

    def has_key(self, key: str) -> bool:
        """Whether a job of that key (its repr) has failed.  Raises OSError."""
        return any(loads(line)['key'] == key[:MAX_TEXT]
                   for _, line in self._records())

    def compact(self) -> None:
        """Leave only the outstanding records, or no file if there are none.

        Raises OSError, and then the file is the old one or the new one.
        """
        self.close()
        offsets: dict[int, int] = {}
        size = 0

        def lines() -> Iterator[bytes]:
            nonlocal size
            for number, line in self._records():
                offsets[number] = size
                size += len(line)
                yield line

        if self._offsets:
            files.replace_file(self.system, self._real, lines())
        else:
            self._unlink()
        # Before anything else can fail: these are true of the new file only.
        self._offsets, self._size = offsets, size
        files.sync_folder(self.system, self._real)

    def set_aside(self) -> bool:
        """Rename the file to PATH.old (``--reset``), as `StateFile` does."""
        self.close()
        self._forget()
        return files.set_aside(self.system, self._real)

    def close(self) -> None:
        """Close the file.  May be called twice; appending opens it again."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            self.system.close(fd)

    def fileno(self) -> int:
        """Return the descriptor of the file, or -1."""
        return -1 if self._fd is None else self._fd

    def _forget(self) -> None:
        self._offsets = {}
        self._size = 0

    def _load(self, upto: int,
              damaged: Callable[[int], None] | None = None) -> bool:
        """Read all lines; False if something in the file has to go.

        Raises ConfigError for a line that is damaged, unless somebody is
        told of it.
        """
        clean = True
        with files.open_to_read(self.system, self._real) as file:
            for row, line in enumerate(file, 1):
                try:
                    number, resolved = _parse(line)
                except (ValueError, RecursionError) as error:
                    if _is_torn(line, row == 1):
                        return False        # by a crash: not recorded
                    if damaged is not None:
                        damaged(row)
                        self._size += len(line)
                        continue
                    raise ConfigError(
                        f'{self.path} is damaged in line {row}: mend that '
                        'line, or start over with --reset') from error
                if resolved or number > upto:
                    self._offsets.pop(number, None)
                else:
                    self._offsets[number] = self._size
                clean &= number <= upto and line.endswith(b'\n')
                self._size += len(line)
        return clean

    def _records(self) -> Iterator[tuple[int, bytes]]:
        """Number and line of each outstanding failure, by number."""
        places = sorted(self._offsets.items())
        if not places:
            return
        with files.open_to_read(self.system, self._real) as file:
            for number, offset in places:
                file.seek(offset)
                yield number, file.readline().rstrip(b'\n') + b'\n'

    def _write(self, data: bytes) -> None:
        if not data:
            return
        if self._fd is None:
            self._fd = self._open_to_append()
            forks.close_in_child(self)
        try:
            files.write_all(self.system, self._fd, data)
            self.system.fsync(self._fd)
        except BaseException:
            self.close()    # the next write cuts off what this one left
            raise
        self._size += len(data)

    def _open_to_append(self) -> int:
        fd = files.open_ours(self.system, self._real,
                             os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            if self.system.fstat(fd).st_size > self._size:
                self.system.ftruncate(fd, self._size)
            files.sync_folder(self.system, self._real)
        except BaseException:
            self.system.close(fd)
            raise
        return fd

    def _unlink(self) -> None:
        files.check_ours(self._real)
        try:
            self.system.unlink(self._real)
        except FileNotFoundError:
            pass


def _record(failure: Failure) -> dict[str, Any]:
    return {
        'number': failure.number,
        'key': failure.key[:MAX_TEXT],
        'error': short(failure.error, MAX_TEXT),
        'traceback': failure.traceback[-MAX_TRACEBACK:],
        'slave': failure.slave,
        'attempts': failure.attempts,
        'time': files.to_iso(failure.time),
        'cause': short(failure.cause, MAX_TEXT),
        **_encode_job(failure.job),
    }


def _encode_job(job: Any) -> dict[str, Any]:
    try:
        if type(job) is tuple and _is_json(list(job)):
            return {'coded': TUPLE, 'job': list(job)}
        if _is_json(job):
            return {'coded': JSON, 'job': job}
        return {'job': codec.encode(job)}
    except BaseException:   # whatever the operator's own __reduce__ raises
        return {'job': {'repr': safe_repr(job)}}


def _is_json(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Whether it comes out of JSON as it went in, with the same types."""
    kind = type(value)
    if kind is str:     # of two lone surrogates JSON makes one character
        return bool(value.isascii() or value == value.encode(
            errors='ignore').decode())
    if kind in (list, dict) and not depth:      # it may hold itself
        return False
    below = repeat(depth - 1)
    if kind is list:
        return all(map(_is_json, value, below))
    if kind is dict:
        return (all(type(key) is str and _is_json(key) for key in value)
                and all(map(_is_json, value.values(), below)))
    if kind is float:
        return isfinite(value)
    if kind is int:
        return bool(value.bit_length() <= MAX_BITS)
    return kind in (bool, type(None))


def _failure(record: dict[str, Any], decode: bool = True) -> Failure:
    values = {name: record[name] for name in _STORED if name in record}
    values['time'] = files.from_iso(values['time'])
    job, missing = values['job'], ''
    if not decode:
        job = MISSING
    elif 'coded' not in record:
        job, missing = _decode_job(job)
    elif record['coded'] == TUPLE and isinstance(job, list):
        job = tuple(job)
    return Failure(missing=missing, **{**values, 'job': job})


def _decode_job(encoded: dict[str, str]) -> tuple[Any, str]:
    """The job and '', or MISSING and why."""
    if encoded.keys() == {'repr'}:
        return MISSING, 'it could not be pickled'
    try:
        return codec.decode(encoded), ''
    except BaseException as error:
        return MISSING, f'it cannot be unpickled: {summary(error)}'


def _line(record: dict[str, Any]) -> bytes:
    return dumps(record).encode('ascii') + b'\n'


def _is_torn(line: bytes, alone: bool) -> bool:
    """Return whether a crash left this: a line without its newline.

    One that stands alone must look like a record, or the file is none of
    ours.  Of what was not yet on the disk zeros may be left.
    """
    if line.endswith(b'\n'):
        return False
    text = line.rstrip(b'\0')
    return (not alone or text.startswith(BEGINNING)
            or BEGINNING.startswith(text))


def _parse(line: bytes) -> tuple[int, bool]:
    """Number of a line's job, and whether it is resolved; or ValueError."""
    record = loads(line)
    if not isinstance(record, dict) or type(record.get('number')) is not int:
        raise ValueError('not a record')
    resolved = 'resolved' in record
    if not resolved and not record.keys() >= _STORED - _NEW:
        raise ValueError('not a whole record')
    return record['number'], resolved
