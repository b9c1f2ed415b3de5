"""The lines of a file, or the rows of a CSV, for `get_jobs`.

    def get_jobs(last=None):
        yield from csv_rows('people.csv', last)

A job knows the place in bytes after it, so a resume goes there at once; in
a gz file, whose places are those of what is unpacked, it reads up to there.
A key also has the *mark* of the file, the hash of how it begins.  So a file
that is another one at the resume is refused, or has become shorter, or goes
on in the midst of what was a line.
"""

# Slaves load this for the jobs alone, so `csv` is imported late.
from __future__ import annotations

import io
from functools import partial
from itertools import chain, repeat
from typing import Any, Iterator, List, NamedTuple, Sequence

from ..errors import OperatorError
from ..text import safe_repr, summary
from .textfile import Key, Path, Text

ENCODING = 'utf-8-sig'      # UTF-8, with a byte-order mark or without


class Line(NamedTuple):
    """A line of a file, without its end (LF or CRLF)."""

    offset: int         # of the byte after it, its end included
    text: str
    mark: str           # of the file

    @property
    def pk(self) -> Key:
        return self.offset, self.mark


class Row(NamedTuple):
    """A row of a CSV, by the names of its columns."""

    offset: int
    # As csv.DictReader has it: None where values are missing, those that
    # are too many under the key None.
    row: dict[Any, Any]
    mark: str

    @property
    def pk(self) -> Key:
        return self.offset, self.mark


# At once, as 3 million of them take a while.
_line = partial(tuple.__new__, Line)
_row = partial(tuple.__new__, Row)


def lines(path: Path, last: Key | None = None, *,
          encoding: str = ENCODING, errors: str = 'strict'
          ) -> Iterator[Line]:
    """Yield the lines of a file, those after the key ``last``.

    The file is a regular one, unpacked where its name ends in ``.gz``.
    Lines end with LF or CRLF, the last one perhaps with neither; a CR alone
    is a character.  ``encoding`` and ``errors`` are as those of `open`.

    Raises OperatorError for a file that cannot be read or is not what it was
    when ``last`` came from it, and for bytes that are not of the encoding.
    """
    with Text(path, encoding, errors, last) as text:
        text.go_on()
        for block, ends in text.blocks():
            found = block.split('\n')
            if '\r' in block:
                found[:-1] = [line[:-1] if line.endswith('\r') else line
                              for line in found[:-1]]
            # Bytes that errors='ignore' made nothing of are a line too.
            if not found[-1] and text.whole:
                del found[-1]
            text.check(len(found), ends)
            yield from map(_line, zip(ends[1:], found,
                                      repeat(text.mark)))


def csv_rows(path: Path, last: Key | None = None, *,
             fieldnames: Sequence[str] | None = None,
             encoding: str = ENCODING, errors: str = 'strict',
             dialect: Any = 'excel', **options: Any) -> Iterator[Row]:
    """Yield the rows of a CSV, those after the key ``last``.

    The first row names the columns, or ``fieldnames`` do.  The ``dialect``
    and other ``options`` (``delimiter=';'``) are as those of `csv.reader`.
    Rows without any field, empty lines, are passed over.

    Raises OperatorError as `lines` does, for what `csv` refuses, for columns
    of one name, and for a file that ends within quotes.
    """
    with Text(path, encoding, errors, last) as text:
        rows = _Rows(text, dialect, options)
        names = rows.header() if fieldnames is None else list(fieldnames)
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise text.refused(
                f'two columns are called {safe_repr(min(twice), 60)}, of '
                'which a dict holds one; name them all with fieldnames, and '
                'pass over the first row')
        if text.resumed:
            rows.go_on()
        reader, width, mark = rows.reader, len(names), text.mark
        try:
            for fields in reader:
                row: dict[Any, Any] = dict(zip(names, fields))
                if len(fields) != width:
                    if not fields:
                        continue
                    row.update(dict.fromkeys(names[len(fields):]))
                    if fields[width:]:
                        row[None] = fields[width:]
                if rows.ended:
                    raise rows.unfinished()
                yield _row((rows.ends[reader.line_num - rows.before], row,
                            mark))
        except rows.errors as error:
            raise rows.wrong(error) from error


class _Rows:
    """What `csv` makes of a text, and where it is."""

    def __init__(self, text: Text, dialect: Any, options: dict[str, Any]):
        import csv
        # A ValueError is of what QUOTE_NONNUMERIC finds no number.
        self.errors = csv.Error, ValueError
        self._text = text
        self._options = dialect, options
        self._csv = csv
        self._start()

    def _start(self) -> None:
        self.ends: List[int] = []       # of the lines of a block
        self.before = 0                 # lines of the blocks before it
        self.ended = False              # there are no more lines
        dialect, options = self._options
        self.reader = self._csv.reader(chain.from_iterable(self._lines()),
                                       dialect, **options)

    def header(self) -> List[str]:
        """Return the first row that there is."""
        try:
            for fields in self.reader:
                if self.ended:
                    raise self.unfinished()
                if fields:
                    return fields
        except self.errors as error:
            raise self.wrong(error) from error
        return []

    def go_on(self) -> None:
        """Go to where the text is to go on, behind the header at least."""
        # The place after the line that was read last.
        self._text.go_on(self.ends[self.reader.line_num - self.before]
                         if self.ends else 0)
        self._start()

    def unfinished(self) -> OperatorError:
        """What to say when a row wants more lines, and there are none."""
        return self._text.refused(
            'it ends within quotes, so its last row is not whole; correct '
            'it, or wait until it is written')

    def wrong(self, error: Exception) -> OperatorError:
        line = self.reader.line_num - self.before
        return self._text.refused(
            'csv cannot read the line that begins at byte '
            f'{self.ends[max(line - 1, 0)]} ({summary(error)}); correct it, '
            'say how it is written (delimiter, quotechar ...), or allow more '
            'with csv.field_size_limit()')

    def _lines(self) -> Iterator[List[str]]:
        for block, ends in self._text.blocks():
            found = io.StringIO(block).readlines()
            if not self._text.whole and block[-1:] in ('', '\n'):
                found.append('')        # of bytes that are ignored
            self._text.check(len(found), ends)
            self.before = self.reader.line_num
            self.ends = ends
            yield found
        self.ended = True
