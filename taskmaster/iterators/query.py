"""Walking the rows of a query in the order of a key, for `get_jobs`.

    def get_jobs(last=0):
        db = psycopg.connect('dbname=app', autocommit=True)
        yield from keyset(db, 'SELECT id, name FROM users', key='id',
                          last=last)
"""

from __future__ import annotations

import re
from typing import Any, Callable, Iterator, List, Mapping, Sequence, Tuple

from ..errors import OperatorError
from ..text import short
from . import drivers
from .walk import STEP, Page, check_step, has_nulls, keys_of, shown, walk

# What may follow the semicolon of a query: space, and comments.
_NOTHING = re.compile(r'(\s|--[^\n]*|#[^\n]*|/\*.*?\*/)*', re.DOTALL)

# Text, and the numbers of the columns whose values go into it.
_Statement = Tuple[str, List[int]]


def keyset(source: Any, query: str = '', *,
           key: str | int | Sequence[str | int] | Callable[[Any], Any],
           last: Any = None, step: int = STEP,
           parameters: Sequence[Any] | Mapping[str, Any] = (),
           descending: bool = False) -> Iterator[Any]:
    """The rows of a query, in the order of a unique key, after ``last``.

    ``source`` is a DB-API connection (sqlite3, psycopg, PyMySQL and others
    whose placeholders are ``?`` or ``%s``), Django's, or one of SQLAlchemy
    2, that is in autocommit mode, and ``query`` a SELECT, without an ORDER
    BY, with the ``parameters`` for its placeholders.  These are a sequence,
    or a mapping for ``:name`` (SQLAlchemy's too) or ``%(name)s``.  Where
    placeholders are ``%s``, any other ``%`` is ``%%``.

    ``key`` is the name of a column of the result, or several for a key that
    they make up together; written as in SQL, so quoted if it has capitals.
    For speed there should be an index on just these columns.  ``last`` is a
    key: one value, or a tuple of them.  None, 0 and '' stand for the
    beginning, whatever the keys are; so nothing is left out by a `last=0`,
    and a run that stopped just at the key 0 repeats what is before it.
    ``step`` is how many rows a page has; one more is looked at.  All
    columns of the key ascend, or all descend.

    Rows come as the connection makes them: tuples, dicts, objects.

    Or ``source`` is a function ``fetch(last, limit)``, without a ``query``.
    It gives the first ``limit`` rows after ``last`` (in the first call what
    `keyset` was given) in the order of the key.  It may give fewer; only
    none is the end.  ``key`` is then a name, the number of a column,
    several of them, or a function of a row.

    Raises OperatorError for arguments that do not fit and, while it is
    iterated, for a key that is NULL, repeats, does not advance, or is not to
    the database what it is to us (see `walk`).
    """
    check_step(step)
    driver = drivers.find(source, parameters)
    if driver is not None:
        query = _text(query)
        if callable(key) or not query:
            raise OperatorError('keyset on a connection needs a query, and '
                                'the names of the columns of its key')
        names = list(map(_name, _several(key)))
        last = last or None
        if last is not None:        # or what is wrong is said too late
            parts = _parts(last, names)
            last = parts if len(parts) > 1 else parts[0]
        pages = _Query(driver, query, names, descending)
        return walk(pages.fetch, last, step, descending, pages.look, last,
                    pages.glance)
    if query or parameters:
        raise OperatorError(
            'keyset with a query needs a connection to a database, not '
            + type(source).__name__)

    def fetch(last: Any, limit: int) -> Page:
        rows = list(source(last, limit))
        return rows, (list(map(key, rows)) if callable(key) else
                      keys_of(rows, _several(key)))
    return walk(fetch, last, step, descending)


def borders(connection: Any, query: str, name: str, last: Any, step: int,
            parameters: Sequence[Any] | Mapping[str, Any]
            ) -> Iterator[tuple[Any, Any]]:
    """The first and the last key of every ``step`` rows, by the column.

    See `between.ranges`.
    """
    check_step(step)
    query = _text(query)
    driver = drivers.find(connection, parameters)
    if driver is None or not query:
        raise OperatorError('ranges needs a connection to a database, and a '
                            'query')
    last = _parts(last, [name])[0] if last else None
    pages = _Query(driver, query, [_name(name)], False, step)

    def fetch(last: Any, limit: int) -> Page:
        """The keys of first, last and next row; at the last both as a row."""
        keys = (pages.borders(last) if step > 1 else
                pages.fetch(last, limit)[1])
        rows: list[Any] = [None] * len(keys)
        ends = keys[:limit - 1]
        if ends:
            rows[len(ends) - 1] = ends[0], ends[-1]
        return rows, keys
    # Past the last one the database may know of more, if it sorts otherwise
    # than it compares: a row in the midst of a page is beyond its last one.
    return filter(None, walk(fetch, last, min(step, 2), False, pages.look,
                             last, pages.glance, until_empty=True))


class _Query:
    """The pages of a ``query`` by the columns ``names``, and looks at keys.

    Or the borders of ranges of ``step`` rows.
    """

    def __init__(self, driver: drivers.Driver, query: str, names: list[str],
                 descending: bool, step: int = 0):
        self._driver = driver
        self._names = names
        self._from = f'FROM (\n{_bare(query)}\n) AS page'
        self._columns = [f'page.{name}' for name in names]
        # Of keys alone an index may have all.
        self._what = ', '.join(self._columns) if step else '*'
        sign, back = '<>' if descending else '><'
        ahead, behind = (
            ', '.join(column + ' DESC' * down for column in self._columns)
            for down in (descending, not descending))
        self._first = self._statement([], ahead)
        self._after = self._statement(self._beyond(sign), ahead)
        self._equal = self._statement(self._are(len(names)), ahead)
        self._up_to = self._statement(self._beyond(back, or_equal='='),
                                      behind)
        self._ends = [
            self._union([(self._are(len(names)), ahead, '2'),
                         (self._beyond(back, or_equal='='), behind, '1')
                         ] * count)
            for count in (1, 2)]
        # From the beginning, and after a key.
        self._borders = [
            (self._union([(where, ahead, '1'),
                          (where, ahead, f'2 OFFSET {step - 1:d}')]),
             self._statement(where, behind))
            for where in ([], self._beyond(sign)) if step]
        self._nulls = [
            self._statement([*self._are(number), ' AND ' * bool(number),
                             f'{column} IS NULL'], '')
            for number, column in enumerate(self._columns)]

    def fetch(self, last: Any, limit: int) -> Page:
        """The first rows after a key, or of all."""
        if last is None:
            self._refuse_null(0, ())
            return self._select(self._first, (), limit)
        key = _parts(last, self._names)
        for number in range(1, len(self._names)):
            self._refuse_null(number, key)
        return self._select(self._after, key, limit)

    def borders(self, last: Any) -> list[Any]:
        """The keys of the first and the last row of a range, and the next.

        It is the range after a key, or the first one.
        """
        if last is None:
            self._refuse_null(0, ())
        key = () if last is None else _parts(last, self._names)
        both, furthest = self._borders[last is not None]
        rows, found = self._driver.select(both[0], key, key)
        if len(rows) == 1:          # fewer are left
            rows += self._run(furthest, key, 1)[0]
        keys = self._keys(rows, found)
        return keys[:1] if keys[:1] == keys[1:] else keys

    def look(self, key: Any) -> tuple[list[Any], list[Any]]:
        """See `walk.Look`."""
        key = _parts(key, self._names)
        return (self._select(self._equal, key, 2)[1],
                self._select(self._up_to, key, 1)[1])

    def glance(self, keys: Sequence[Any]) -> list[Any]:
        """What `look` says of one key or two, in one query."""
        text, columns = self._ends[len(keys) - 1]
        parts = [_parts(key, self._names) for key in keys for _ in range(2)]
        return self._keys(*self._driver.select(text, *(
            [part[column] for column in branch]
            for part, branch in zip(parts, columns))))

    def _refuse_null(self, number: int, key: Sequence[Any]) -> None:
        """Look for rows with a NULL, which no comparison ever finds.

        For the first column once, before the first page; for another one
        where the columns before it are as in the last row.  So it takes no
        more than a look into the index.
        """
        if self._run(self._nulls[number], key, 1)[0]:
            raise has_nulls(self._names[number])

    def _select(self, statement: _Statement, key: Sequence[Any], limit: int
                ) -> Page:
        rows, found = self._run(statement, key, limit)
        return rows, self._keys(rows, found)

    def _keys(self, rows: list[Any], found: list[str]) -> list[Any]:
        if not rows:
            return []
        positions = [_position(name, found) for name in self._names]
        if isinstance(rows[0], Sequence) and not isinstance(
                rows[0], (str, bytes)):
            return keys_of(rows, positions)
        return keys_of(rows, [found[at] for at in positions])

    def _run(self, statement: _Statement, key: Sequence[Any], limit: int
             ) -> tuple[list[Any], list[str]]:
        # As a number, or PostgreSQL plans the query anew each time.
        text, columns = statement
        return self._driver.select(f'{text} LIMIT {limit:d}',
                                   [key[number] for number in columns])

    # -- the parts of statements: text, and numbers of columns whose value in
    # -- the key is to be there

    def _statement(self, where: list[str | int], order: str,
                   before: int = 0) -> _Statement:
        """``before`` is how many values come before it."""
        text = f'SELECT {self._what} {self._from}'
        columns: list[int] = []
        for part in [' WHERE ' * bool(where), *where]:
            if isinstance(part, int):
                text += self._driver.mark(before + len(columns))
                columns.append(part)
            else:
                text += part
        text += f' ORDER BY {order}' * bool(order)
        return text, columns

    def _union(self, branches: list[tuple[list[str | int], str, str]]
               ) -> tuple[str, list[list[int]]]:
        """Several statements as one, and the columns of each."""
        texts, columns, before = [], [], 0
        for where, order, limit in branches:
            text, numbers = self._statement(where, order, before)
            before += len(numbers)
            texts.append(f'SELECT * FROM ({text} LIMIT {limit}) AS branch')
            columns.append(numbers)
        return ' UNION ALL '.join(texts), columns

    def _are(self, count: int) -> list[str | int]:
        """The first columns are as in the key."""
        parts: list[str | int] = []
        for number in range(count):
            parts += [' AND ' * bool(number), f'{self._columns[number]} = ',
                      number]
        return parts

    def _beyond(self, sign: str, or_equal: str = '') -> list[str | int]:
        """All columns, as a whole, are above (or below) the key.

        In the words by which the database enters an index on them: by
        others it reads the table from one end to there.
        """
        count = len(self._columns)
        if count > 1 and self._driver.enters_by_row:
            values: list[str | int] = []
            for number in range(count):
                values += [', ' * bool(number), number]
            return [f'({", ".join(self._columns)}) {sign}{or_equal} (',
                    *values, ')']
        parts: list[str | int] = []     # a > ? OR a = ? AND b > ?
        for number, column in enumerate(self._columns):
            parts += [' OR ' * bool(number), *self._are(number),
                      ' AND ' * bool(number), f'{column} {sign}',
                      or_equal * (number == count - 1), ' ', number]
        return ['(', *parts, ')']


def _text(query: Any) -> str:
    """Return a query as text, which SQLAlchemy's text() has in it."""
    query = getattr(query, 'text', query)
    if not isinstance(query, str):
        raise OperatorError(f'a query is text, not a {type(query).__name__}; '
                            'give its SQL')
    return query


def _bare(query: str) -> str:
    """Without what ends a query: it becomes a part of a longer one."""
    before, semicolon, rest = query.rpartition(';')
    # Where quotes are odd it is in a text.
    if (semicolon and not before.count("'") % 2
            and _NOTHING.fullmatch(rest)):
        return _bare(before)
    return query.rstrip()


def _position(name: str, columns: list[str]) -> int:
    """Where the result has a column that SQL calls so."""
    name = name.strip('"`[]')
    for wanted, found in ((name, columns),
                          (name.lower(), [c.lower() for c in columns])):
        if wanted in found:
            return found.index(wanted)
    raise OperatorError(f'the query gives no column {name}, only '
                        + short(', '.join(columns)))


def _name(name: Any) -> str:
    """A column of the key, as SQL calls it."""
    if not isinstance(name, str):
        raise OperatorError(f'key={shown(name)} is no name of a column')
    if '.' in name and not name.startswith(('"', '`', '[')):
        raise OperatorError(
            f'key={shown(name)}: name the column of the result, so '
            + shown(name.rpartition('.')[2]))
    return name


def _several(key: Any) -> list[Any]:
    return [key] if isinstance(key, (str, int)) else list(key)


def _parts(key: Any, names: list[str]) -> Tuple[Any, ...]:
    """The values of the columns of a key.

    Raises OperatorError for what is no key of theirs.
    """
    if len(names) > 1:
        if isinstance(key, (tuple, list)) and len(key) == len(names):
            return tuple(key)
        raise OperatorError(
            f'last={shown(key)} is no key of {len(names)} columns; give the '
            'module a get_key(job) that returns a tuple of them')
    if isinstance(key, Mapping) or isinstance(key, Sequence) and (
            not isinstance(key, (str, bytes, bytearray, list))):
        raise OperatorError(
            f'last={shown(key)} is a whole row; give the module a '
            f'get_key(job) that returns its {names[0]}')
    return (key,)
