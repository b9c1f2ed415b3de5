"""Walking the rows of a query in the order of a key, for `get_jobs`.

    def get_jobs(last=0):
        db = psycopg.connect('dbname=app', autocommit=True)
        yield from keyset(db, 'SELECT id, name FROM users', key='id',
                          last=last)
"""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any, Callable, Iterator, Mapping, Sequence

from ..errors import OperatorError
from ..text import short
from .walk import STEP, Page, check_step, has_nulls, keys_of, shown, walk


def keyset(source: Any, query: str = '', *,
           key: str | int | Sequence[str | int] | Callable[[Any], Any],
           last: Any = None, step: int = STEP,
           parameters: Sequence[Any] | Mapping[str, Any] = (),
           descending: bool = False) -> Iterator[Any]:
    """The rows of a query, in the order of a unique key, after ``last``.

    ``source`` is a DB-API connection (sqlite3, psycopg, psycopg2 and others
    whose placeholders are ``?`` or ``%s``) that is in autocommit mode, and
    ``query`` a SELECT, without an ORDER BY, with the ``parameters`` for its
    placeholders.  These are a sequence, or a mapping for ``:name`` or
    ``%(name)s``.  Where placeholders are ``%s``, any other ``%`` is ``%%``.

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
    iterated, for a key that is NULL, repeats or does not advance.
    """
    check_step(step)
    if hasattr(source, 'cursor'):
        if callable(key) or not query:
            raise OperatorError('keyset on a connection needs a query, and '
                                'the names of the columns of its key')
        return walk(
            _Query(source, query, _several(key), parameters, descending),
            last or None, step, descending)
    if query or parameters:
        raise OperatorError(
            'keyset with a query needs a connection to a database, not '
            + type(source).__name__)

    def fetch(last: Any, limit: int) -> Page:
        rows = list(source(last, limit))
        return rows, (list(map(key, rows)) if callable(key) else
                      keys_of(rows, _several(key)))
    return walk(fetch, last, step, descending, short_is_last=False)


class _Query:
    """Fetches the pages of a ``query`` by the columns ``names``."""

    def __init__(self, connection: Any, query: str, names: list[str],
                 parameters: Any, descending: bool):
        if getattr(connection, 'autocommit', True) is False:
            raise OperatorError(
                'keyset wants a connection that is in autocommit mode: this '
                'one would hold a transaction open for as long as the walk '
                'takes, and the database could clean up nothing; set its '
                'autocommit = True')
        self._connection = connection
        self._parameters = parameters
        self._named = isinstance(parameters, Mapping)
        self._style = _paramstyle(connection)
        self._from = f'FROM (\n{query.rstrip().rstrip(";")}\n) AS page'
        self._names = names
        self._columns = [f'page.{name}' for name in names]
        self._sign = '<' if descending else '>'
        self._order = ', '.join(column + ' DESC' * descending
                                for column in self._columns)

    def __call__(self, last: Any, limit: int) -> Page:
        values = _parts(last, len(self._names))
        self._refuse_nulls(values)
        where = ''
        if values:      # compared as a whole: an index can be entered so
            where = 'WHERE ({}) {} ({}) '.format(
                ', '.join(self._columns), self._sign,
                ', '.join(map(self._mark, range(len(values)))))
        rows, found = self._select(
            f'SELECT * {self._from} {where}ORDER BY {self._order} '
            f'LIMIT {self._mark(len(values))}', [*values, limit])
        positions = [_position(name, found) for name in self._names]
        if rows and isinstance(rows[0], Sequence) and not isinstance(
                rows[0], (str, bytes)):
            return rows, keys_of(rows, positions)
        return rows, keys_of(rows, [found[position] for position in positions])

    def _refuse_nulls(self, values: Sequence[Any]) -> None:
        """Look for rows with a NULL, which no comparison ever finds.

        For the first column once, before the first page; for another one
        where the columns before it are as in the last row.  So it takes no
        more than a look into the index.
        """
        for number in range(1, len(self._names)) if values else (0,):
            column = self._columns[number]
            same = ''.join(f'{name} = {self._mark(position)} AND '
                           for position, name
                           in enumerate(self._columns[:number]))
            if self._select(
                    f'SELECT 1 {self._from} WHERE {same}{column} IS NULL '
                    f'LIMIT {self._mark(number)}',
                    [*values[:number], 1])[0]:
                raise has_nulls(self._names[number])

    def _select(self, query: str, values: Sequence[Any]
                ) -> tuple[list[Any], list[str]]:
        """The rows, and the names of their columns."""
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(query, (
                {**self._parameters, **{f'keyset_{number}': value for
                                        number, value in enumerate(values)}}
                if self._named else (*self._parameters, *values)))
            return (list(cursor.fetchall()),
                    [column[0] for column in cursor.description])

    def _mark(self, number: int) -> str:
        """The placeholder of a value of ours."""
        if self._named:
            return (f':keyset_{number}' if self._style == 'qmark' else
                    f'%(keyset_{number})s')
        return '?' if self._style == 'qmark' else '%s'


def _paramstyle(connection: Any) -> str:
    """Of the module that a connection is of, or of one above it."""
    for kind in type(connection).__mro__:
        name = kind.__module__
        while name:
            style = getattr(sys.modules.get(name), 'paramstyle', None)
            if style in ('qmark', 'format', 'pyformat'):
                return str(style)
            name = name.rpartition('.')[0]
    raise OperatorError(
        f'keyset cannot tell what placeholders a {type(connection).__name__} '
        'takes; give it a function fetch(last, limit) instead')


def _position(name: str, columns: list[str]) -> int:
    """Where the result has a column that SQL calls so."""
    name = name.strip('"`[]')
    for wanted, found in ((name, columns),
                          (name.lower(), [c.lower() for c in columns])):
        if wanted in found:
            return found.index(wanted)
    raise OperatorError(f'the query gives no column {name}, only '
                        + short(', '.join(columns)))


def _several(key: Any) -> list[Any]:
    return [key] if isinstance(key, (str, int)) else list(key)


def _parts(last: Any, count: int) -> Sequence[Any]:
    """The values of a key of ``count`` columns; none at the beginning."""
    if last is None:
        return ()
    if count == 1:
        return (last,)
    if not isinstance(last, (tuple, list)) or len(last) != count:
        raise OperatorError(f'last={shown(last)} is no key of {count} '
                            'columns; let get_key give a tuple of them')
    return last
