"""The state file: where a run is to go on from.

One small JSON document.  It is replaced as a whole, so that after a crash at
any instant there is the old one or the new one; and it is believed only when
every byte is as it was written, since a wrong key skips jobs.

    {
     "format": 2,
     "run": "migrate",                  the target and its arguments
     "source": "/srv/migrate.py",       so that no namesake takes it over
     "key": {"literal": "30421"},       the watermark; null before the first
     "count": 30421,
     "failed": 2,
     "complete": false,
     "paused": false,
     "time": "2024-05-01T12:00:00+00:00",
     "first": {"literal": "1"},         the key of the run's first job, or null
     "checksum": "…"                    SHA-256 of all the rest
    }

Format 1 had no "first"; it is read as one with null.
"""

from __future__ import annotations

import hashlib
import os
import socket
from json import dumps, loads

from .. import forks
from ..errors import ConfigError, Locked, TaskmasterError
from ..records import TYPE_CHECKING, NamedTuple
from ..text import counted, safe_repr, short, summary
from . import files
from .codec import decode, decode_key, encode_key, same

if TYPE_CHECKING:
    from typing import Any

FORMAT = 2
READ = 1, FORMAT

# (pid, real path) of each lock held: lockf would let one process in twice.
_held: set[tuple[int, str]] = set()


class Checkpoint(NamedTuple):
    """A watermark to be saved, and what is known at it."""

    key: Any                # of the watermark; None: no job is finished yet
    # Jobs at or below it since the very start (hides tuple.count).
    count: int              # type: ignore[assignment]
    failed: int             # of these, the ones in the failures file
    complete: bool          # the source ended, and every job is finished
    paused: bool = False
    time: float = 0.0       # unix seconds
    first: dict[str, str] | None = None     # key, encoded; None: unknown

    def begins(self, key: Any) -> bool:
        """Whether the run began with that key."""
        try:
            return self.first is not None and same(decode(self.first), key)
        except BaseException:       # of the operator's own types
            return False


class StateFile:
    """The state of one run in ``path``, and the lock that makes it ours.

    ``run`` names the run, ``source`` is the real path of its source file;
    ``system`` is where every file operation goes (see ``files``).
    """

    def __init__(self, path: str, run: str, source: str,
                 system: files.System = os):
        self.path = os.fspath(path)
        self.run = run
        self.source = source
        self.system = system
        # What to do while another master has it.
        self.when_locked = ('this run is going on (tm-ctl list); stop it '
                            'first, or give a run of other jobs a file of '
                            'its own, with --state')
        # A link of ours stays a link, and both its names have one lock.
        self._real = files.real_path(self.path)
        self._lock: int | None = None

    def lock(self) -> None:
        """Keep every other master off this state until ``close``.

        Raises Locked, naming the one that has it, or SaveError.
        """
        held = (os.getpid(), self._real)
        if held in _held:
            raise self._locked('this very process')
        try:
            fd = files.open_ours(self.system, self._real + '.lock',
                                 os.O_RDWR | os.O_CREAT)
            try:
                self._take(fd)
            except BaseException:
                self.system.close(fd)
                raise
            self._lock = fd
            forks.close_in_child(self)
            _held.add(held)
            files.remove_leftovers(self.system, self._real)
        except OSError as error:
            self.close()
            raise files.unwritable(self.path, error) from error

    def fileno(self) -> int:
        """Return the descriptor of the lock, or -1."""
        return -1 if self._lock is None else self._lock

    def load(self) -> Checkpoint | None:
        """What was saved last, or None when there is no file.

        Raises ConfigError when the file is damaged, or another run's, or its
        key cannot be read here.
        """
        try:
            with files.open_to_read(self.system, self._real) as file:
                data = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise files.unreadable(self.path, error) from error
        try:
            return self._parse(data)
        except TaskmasterError:
            raise
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise ConfigError(
                f'{self.path} is damaged ({summary(error)}): put a good copy '
                'in its place, or start over with --reset') from error

    def save(self, checkpoint: Checkpoint) -> None:
        """Make ``checkpoint`` what ``load`` gives, whatever happens next.

        Raises OSError when it could not be made sure (old or new is there;
        save again), OperatorError for a key that cannot be saved.
        """
        data = _render(self._document(checkpoint))
        files.replace_file(self.system, self._real, [data])
        files.sync_folder(self.system, self._real)

    def set_aside(self) -> bool:
        """Rename the file, whatever is in it, to PATH.old (``--reset``).

        Return whether there was one.  Raises ConfigError or SaveError.
        """
        return files.set_aside(self.system, self._real)

    def peek(self) -> str:
        """Return what is in the file, for a person; nothing is believed.

        It is '' where there is no file.  No key is decoded.
        """
        try:
            with files.open_to_read(self.system, self._real) as file:
                document = loads(file.read())
            return counted(int(document['count']), 'finished job')
        except FileNotFoundError:
            return ''
        except OSError as error:
            return f'a state that cannot be read ({error.strerror})'
        except (ValueError, TypeError, LookupError, RecursionError):
            return 'a state that is damaged'

    def check_writable(self) -> None:
        """Raise SaveError if a save would not work now, by trying."""
        try:
            files.probe(self.system, self._real)
        except OSError as error:
            raise files.unwritable(self.path, error) from error

    def close(self) -> None:
        """Let go of the lock.  May be called twice.

        The lock file stays: one that we unlink may just have been opened by
        another master, and a third would then lock a new file beside it.
        """
        if self._lock is not None:
            fd, self._lock = self._lock, None
            _held.discard((os.getpid(), self._real))
            self.system.close(fd)

    def _take(self, fd: int) -> None:
        # Only this descriptor is ever read: the lock is lost as soon as any
        # descriptor of that file is closed in this process.
        try:
            self.system.lockf(fd, os.F_TLOCK, 0)
        except (BlockingIOError, PermissionError):
            holder = self.system.pread(fd, 200, 0).decode('utf-8', 'replace')
            raise self._locked(short(holder)) from None
        if os.fstat(fd).st_nlink > 1:
            return          # a link that others made to some file of ours
        mine = f'pid {os.getpid()} on {socket.gethostname()}\n'.encode()
        self.system.pwrite(fd, mine, 0)
        self.system.ftruncate(fd, len(mine))

    def _locked(self, holder: str) -> Locked:
        return Locked(
            f'{self.path} is in use by {holder or "another master"}: '
            + self.when_locked)

    def _document(self, checkpoint: Checkpoint) -> dict[str, Any]:
        key = checkpoint.key
        document = {
            'format': FORMAT, 'run': self.run, 'source': self.source,
            **checkpoint._asdict(),
            'key': encode_key(key) if key is not None or checkpoint.count
            else None,
            'time': files.to_iso(checkpoint.time)}
        return {**document, 'checksum': _checksum(document)}

    def _parse(self, data: bytes) -> Checkpoint:
        document = loads(data)
        if document['format'] not in READ:
            raise ConfigError(
                f'{self.path} has the unknown format '
                f'{safe_repr(document["format"], 20)}: use the Taskmaster '
                'that wrote it, or start over with --reset')
        rest = {k: v for k, v in document.items() if k != 'checksum'}
        # The bytes too: the checksum does not see white space.
        if (document['checksum'] != _checksum(rest)
                or data != _render(document)):
            raise ValueError('its checksum does not fit')
        if (document['run'], document['source']) != (self.run, self.source):
            raise ConfigError(
                f'{self.path} belongs to the run {document["run"]!r} of '
                f'{document["source"]!r}: give this run another file, with '
                '--state')
        return self._checkpoint(document)

    def _checkpoint(self, document: dict[str, Any]) -> Checkpoint:
        if document['format'] == 1:
            document['first'] = None
        values = {name: document[name] for name in Checkpoint._fields}
        values['time'] = files.from_iso(values['time'])
        if values['key'] is not None:
            try:
                values['key'] = decode_key(values['key'])
            except ConfigError as error:
                raise ConfigError(f'{self.path}: {error}') from error
        return Checkpoint(**values)


class Saved(NamedTuple):
    """What a state file says to whoever does not own it."""

    jobs: int
    failed: int
    time: float             # unix seconds


def saved(path: str, run: str) -> Saved | None:
    """Return what is saved of that run; None where nothing is to be read.

    No key is decoded.
    """
    try:
        with files.open_to_read(os, files.real_path(path)) as file:
            document = loads(file.read())
        if (document.pop('checksum') != _checksum(document)
                or document['run'] != run):
            return None
        return Saved(int(document['count']), int(document['failed']),
                     files.from_iso(document['time']))
    except (OSError, ValueError, TypeError, LookupError, AttributeError,
            RecursionError):
        return None


def _render(document: dict[str, Any]) -> bytes:
    return (dumps(document, indent=1) + '\n').encode('ascii')


def _checksum(document: dict[str, Any]) -> str:
    text = dumps(document, sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode('ascii')).hexdigest()
