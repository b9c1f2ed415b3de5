"""A file of lines, and the places in it from which a walk can go on.

Places are in bytes, and those of a gz file in bytes of what is unpacked.
"""

from __future__ import annotations

import codecs
import io
import os
import stat
import sys
from itertools import accumulate
from typing import Any, Iterator, List, Sequence, Tuple, Union

from ..errors import OperatorError
from ..text import safe_repr, short, summary

HEAD = 1024         # bytes that the mark is of, or as many as there are
BLOCK = 1 << 18     # bytes that are read at a time, up to the next line end
SKIP = 1 << 20      # bytes of a gz file that are unpacked to be passed over

# Of wide characters, and how many bytes one unit of them has.
WIDE = {'utf-16-le': 2, 'utf-16-be': 2, 'utf-32-le': 4, 'utf-32-be': 4}
# These decode a line otherwise after others: no walk could begin in between.
STATEFUL = 'iso2022', 'hz', 'utf-7'

Key = Tuple[int, str]       # the place after a job, and the file's mark
Path = Union[str, bytes, 'os.PathLike[Any]']


class Text:
    """A file, open at its beginning, or where `go_on` went."""

    def __init__(self, path: Path, encoding: str,
                 errors: str, last: Key | None):
        self._path = os.fsdecode(path)      # which may be bytes
        self._errors = errors
        self._packed = self._path.endswith('.gz')
        self._place, mark = _split(last)
        self.resumed = mark != ''
        self.whole = True       # what was read last ends with a line end
        self._file = self._open()
        try:
            head = self._read(HEAD)
            if _mark(head[:_length(mark)]) != mark and self.resumed:
                raise self.refused(
                    'it is another file than before, as it '
                    + ('is shorter' if len(head) < _length(mark) else
                       'does not begin as that did')
                    + '; put that one back, or start over with --reset')
            # One object, which a pickle of many jobs has once.
            self.mark = mark or _mark(head)
            self._encoding, self._start = self._codec(encoding, head)
            self._unit = WIDE.get(self._encoding, 1)
            self._newline = '\n'.encode(self._encoding)
            self._file.seek(self._start)
            self._at = self._start
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Text:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def go_on(self, least: int = 0) -> None:
        """Go to the place of ``last``; to ``least`` or behind it.

        Raises OperatorError where the file ends before that; `blocks` does
        where no line can begin there.
        """
        self._at = max(self._place, self._start, least)
        before = max(self._at - self._unit, 0)
        if self._packed:
            self._file.seek(0)
            while before > 0:
                skipped = len(self._read(min(before, SKIP)))
                before -= skipped
                if not skipped:
                    break
        else:
            self._file.seek(before)
        end = self._read(min(self._unit, self._at))
        if len(end) < min(self._unit, self._at):
            raise self.refused(
                f'it is shorter than before: {self._at} bytes of it are '
                'done; put the one of before back, or start over with '
                '--reset')
        self.whole = self._at <= self._start or end == self._newline

    def blocks(self) -> Iterator[Tuple[str, List[int]]]:
        """Yield some whole lines, and the places before, between and after.

        Raises OperatorError for what cannot be read or decoded.
        """
        while True:
            block = self._block()
            if not block:
                break
            # A job was made of the line's beginning: what was written since
            # would be another.
            if not self.whole:
                raise self._written_on()
            self.whole = block.endswith(self._newline)
            try:
                text = block.decode(self._encoding, self._errors)
            except UnicodeDecodeError as error:
                raise self.refused(
                    f'byte {self._at + error.start} is not of the encoding '
                    f'{self._encoding}; give the right one') from error
            ends = list(accumulate(self._sizes(block), initial=self._at))
            self._at = ends[-1]
            yield text, ends
        if not self._packed and os.fstat(self._file.fileno()
                                         ).st_size < self._at:
            raise self.refused('it became shorter while it was read; start '
                               'over with --reset')

    def check(self, count: int, ends: Sequence[int]) -> None:
        """Raise OperatorError unless so many lines end at these places."""
        if count != len(ends) - 1:
            raise self._no_places()

    def refused(self, why: str) -> OperatorError:
        return OperatorError(f'{short(self._path)}: {why}')

    def _open(self) -> Any:
        """Return the file, in bytes."""
        try:
            if not stat.S_ISREG(os.stat(self._path).st_mode):
                raise self.refused('it is no regular file, so nobody can go '
                                   'back in it; save it as one')
            if not self._packed:
                return open(self._path, 'rb')
            import gzip
            return gzip.open(self._path, 'rb')
        except OSError as error:
            raise self._unreadable(error) from error

    def _read(self, size: int) -> bytes:
        """Return so many bytes, or what is left."""
        try:
            read: bytes = self._file.read(size)
        except Exception as error:      # a gz file that is cut off, or damaged
            raise self._unreadable(error) from error
        return read

    def _block(self) -> bytes:
        """Return whole lines, BLOCK bytes of them or a line more."""
        block = self._read(BLOCK)
        while len(block) >= BLOCK and not block.endswith(self._newline):
            try:
                rest = self._file.readline()
            except Exception as error:
                raise self._unreadable(error) from error
            if not rest:
                break
            block += rest
            # A byte of a wide character may look like an end.
            block += self._read(-len(block) % self._unit)
        return block

    def _sizes(self, block: bytes) -> Iterator[int]:
        """Return how many bytes each line has.

        As they are in the file: with other ``errors`` than strict the text
        may have as many characters, and other ones.
        """
        if self._unit == 1:
            return map(len, io.BytesIO(block))
        return self._wide_sizes(block)

    def _wide_sizes(self, block: bytes) -> Iterator[int]:
        begin = at = 0
        while begin < len(block):
            at = block.find(self._newline, at)
            if at < 0:
                yield len(block) - begin
                return
            if at % self._unit:         # it is of two characters
                at += 1
            else:
                at += self._unit
                yield at - begin
                begin = at

    def _codec(self, encoding: str, head: bytes) -> Tuple[str, int]:
        """Return the encoding behind a byte-order mark, and its length."""
        try:
            name = codecs.lookup(encoding).name
            newline = '\n'.encode(name)
            codecs.lookup_error(self._errors)
        except LookupError as error:
            raise self.refused(f'{error}; give one that Python has'
                               ) from error
        if name == 'utf-8-sig':
            return 'utf-8', 3 * head.startswith(codecs.BOM_UTF8)
        if name in ('utf-16', 'utf-32'):
            for order in 'le', 'be':
                mark = '\ufeff'.encode(f'{name}-{order}')
                if head.startswith(mark):
                    return f'{name}-{order}', len(mark)
            return f'{name}-{sys.byteorder[0]}e', 0
        if newline != b'\n' and name not in WIDE or name.startswith(STATEFUL):
            raise self._no_places(name)
        return name, 0

    def _written_on(self) -> OperatorError:
        return self.refused(
            f'no line ends at byte {self._at}, where it was gone through '
            'to: its last line had no end and has been written on, or it '
            'is another file; put the one of before back, or start over '
            'with --reset')

    def _no_places(self, encoding: str = '') -> OperatorError:
        return self.refused(
            'nobody can tell where in it the lines end, in the encoding '
            f'{encoding or self._encoding}; convert it to UTF-8')

    def _unreadable(self, error: Exception) -> OperatorError:
        why = getattr(error, 'strerror', None) or summary(error)
        return self.refused(f'it cannot be read ({why})')


# -- keys -----------------------------------------------------------------

def _mark(head: bytes) -> str:
    import hashlib
    return f'{hashlib.sha256(head).hexdigest()[:32]}/{len(head)}'


def _length(mark: str) -> int:
    """Return of how many bytes a mark is."""
    return int(mark.rpartition('/')[2] or 0)


def _split(last: Any) -> Key:
    """Return place and mark of a key; of the beginning 0 and ''.

    Raises OperatorError for what is no key of a file.
    """
    if not last:                # None, and what get_jobs may have as default
        return 0, ''
    try:
        place, mark = last
        if type(place) is int and place > 0 and 0 <= _length(mark) <= HEAD:
            return place, mark
    except (TypeError, ValueError, AttributeError):
        pass
    raise OperatorError(
        f'last={short(safe_repr(last))} is no key of a file, which is a place '
        'and a mark; let the module have no get_key, or one that returns '
        'job.pk')
