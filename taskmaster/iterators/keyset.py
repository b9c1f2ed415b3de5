"""Walking a table in the order of a key, page by page, for `get_jobs`.

    def get_jobs(last=0):
        for post in RangeQuerySetWrapper(Post.objects.all(), min_id=last):
            yield post

    def get_jobs(last=0):
        db = psycopg.connect('dbname=app', autocommit=True)
        yield from keyset(db, 'SELECT id, name FROM users', key='id',
                          last=last)

Each page is a query of its own, for what comes after the last key of the
page before: the index finds it at once, however far the walk has come
(OFFSET counts its way there again every time), and nothing is held open on
the server between pages.  One page is in memory.  Nothing is retried: what
the database raises stops the walk, and the run goes on from its watermark
when it is started again.

A walk sees each row that is there from its beginning to its end, once.  A
row that is committed only later, with a key that the walk has passed by
then, is not seen.  Sequences do that under concurrent inserts: start the
walk after the writers have gone over to the new table, or stay behind them
(`WHERE created < now() - interval '1 hour'`), and look for the rest after.
"""

import sys
from contextlib import closing
from decimal import Decimal
from itertools import chain
from operator import attrgetter, gt, itemgetter, lt, ne
from typing import (Any, Callable, Iterator, List, Mapping, Sequence, Tuple,
                    Union)

from ..errors import OperatorError
from ..text import safe_repr, short

STEP = 1000         # rows of a page
# Of which Python's order is every database's; text has collations.
NUMBERS = (int, float, Decimal)

Key = Callable[[Any], Any]                              # of a row
Page = Tuple[List[Any], List[Any]]                      # rows, and their keys
Fetch = Callable[[Any, int], Page]                      # after a key, or None


class RangeQuerySetWrapper:
    """The objects of a Django ``queryset``, in the order of a unique field.

    ``order_by`` names it, with a ``-`` for descending.  ``min_id`` is the
    key to begin with: an object that has it comes first, and the feeder
    skips it if it is the last of an earlier run.  None, 0 and '' stand for
    the beginning, whatever the keys are; so nothing is left out by a
    ``last=0``, and a run that stopped just at the key 0 repeats what is
    before it.  ``step`` is how many objects a page has; it is one query,
    and one more for each of `prefetch_related`.

    Objects may be changed and deleted while the walk goes on.  Those of
    `values()` work too, if the field is one of them.

    Iterating raises OperatorError for a key that is None, repeats or does
    not advance.
    """

    def __init__(self, queryset: Any, min_id: Any = None, step: int = STEP,
                 order_by: str = 'pk'):
        _check_step(step)
        self._queryset = queryset
        self._min_id = min_id
        self._step = step
        self._order_by = order_by

    def __iter__(self) -> Iterator[Any]:
        descending = self._order_by.startswith('-')
        field = self._order_by.lstrip('-')
        after = field + ('__lt' if descending else '__gt')
        objects = self._queryset.order_by(self._order_by)
        if objects.filter(**{f'{field}__isnull': True}).exists():
            raise _has_nulls(field)
        start = objects
        if self._min_id:
            start = objects.filter(**{f'{after}e': self._min_id})

        def fetch(last: Any, limit: int) -> Page:
            page = (start if last is None else
                    objects.filter(**{after: last}))
            rows = list(page[:limit])
            return rows, _keys(rows, [field])
        return _walk(fetch, None, self._step, descending)


def keyset(source: Any, query: str = '', *,
           key: Union[str, int, Sequence[Union[str, int]], Key],
           last: Any = None, step: int = STEP,
           parameters: Union[Sequence[Any], Mapping[str, Any]] = (),
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
    _check_step(step)
    if hasattr(source, 'cursor'):
        if callable(key) or not query:
            raise OperatorError('keyset on a connection needs a query, and '
                                'the names of the columns of its key')
        return _walk(
            _Query(source, query, _several(key), parameters, descending),
            last or None, step, descending)
    if query or parameters:
        raise OperatorError(
            'keyset with a query needs a connection to a database, not '
            + type(source).__name__)

    def fetch(last: Any, limit: int) -> Page:
        rows = list(source(last, limit))
        return rows, (list(map(key, rows)) if callable(key) else
                      _keys(rows, _several(key)))
    return _walk(fetch, last, step, descending, short_is_last=False)


# -- the walk -------------------------------------------------------------

def _walk(fetch: Fetch, last: Any, step: int, descending: bool,
          short_is_last: bool = True) -> Iterator[Any]:
    """Page by page, each with one row more, which is the next page's first.

    It shows a key that repeats across the border, whose second row would
    be left out.
    """
    before = [last] if last else []
    while True:
        rows, keys = fetch(last, step + 1)
        _check(before, keys, descending)
        ends = not rows or short_is_last and len(rows) <= step
        del rows[step:], keys[step:]
        if keys:                # now: who gets the rows may change them
            before = [last := keys[-1]]
        del keys
        yield from rows
        if ends:
            return
        rows.clear()            # before there is another page


def _check(before: List[Any], keys: List[Any], descending: bool) -> None:
    """Raise OperatorError unless keys are there, and strictly in order.

    ``before`` is the last key of the page before.  Whether keys advance can
    be told only of numbers; of others whether they repeat.  No loop of ours
    goes over them: this is the hot path.
    """
    if not keys:
        return
    composite = isinstance(keys[0], tuple)
    if None in (chain.from_iterable(keys) if composite else keys):
        raise OperatorError('the key of a row is None, which is nothing to '
                            'go on from; walk by another key')
    compare: Any = ne
    if all(isinstance(part, NUMBERS)
           for part in (keys[0] if composite else keys[:1])):
        compare = gt if descending else lt
    earlier, later = before + keys[:-1], keys if before else keys[1:]
    try:
        good = all(map(compare, earlier, later))
    except TypeError:           # of mixed types, as in SQLite's columns
        compare = ne
        good = all(map(compare, earlier, later))
    if not good or keys[-1:] == before:
        one, other = next(
            (pair for pair in zip(earlier, later) if not compare(*pair)),
            (keys[-1], keys[0]))
        raise OperatorError(
            f'after the key {_shown(one)} came {_shown(other)}; keys must be '
            'unique, and each page hold what comes after the last key of the '
            'one before, in order')


# -- a query --------------------------------------------------------------

class _Query:
    """Fetches the pages of a ``query`` by the columns ``names``."""

    def __init__(self, connection: Any, query: str, names: List[str],
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
            return rows, _keys(rows, positions)
        return rows, _keys(rows, [found[position] for position in positions])

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
                raise _has_nulls(self._names[number])

    def _select(self, query: str, values: Sequence[Any]
                ) -> Tuple[List[Any], List[str]]:
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


# -- keys -----------------------------------------------------------------

def _keys(rows: List[Any], key: Sequence[Any]) -> List[Any]:
    """The keys of rows, by the names of what they consist of, or places."""
    if not rows:
        return []
    by_item = isinstance(key[0], int) or (      # a sqlite3.Row is no Mapping
        hasattr(rows[0], 'keys') and hasattr(rows[0], '__getitem__'))
    try:
        return list(map((itemgetter if by_item else attrgetter)(*key), rows))
    except (LookupError, TypeError, AttributeError):
        raise OperatorError(
            f'a row that is a {type(rows[0]).__name__} has no key '
            + ', '.join(map(str, key))) from None


def _position(name: str, columns: List[str]) -> int:
    """Where the result has a column that SQL calls so."""
    name = name.strip('"`[]')
    for wanted, found in ((name, columns),
                          (name.lower(), [c.lower() for c in columns])):
        if wanted in found:
            return found.index(wanted)
    raise OperatorError(f'the query gives no column {name}, only '
                        + short(', '.join(columns)))


def _several(key: Any) -> List[Any]:
    return [key] if isinstance(key, (str, int)) else list(key)


def _parts(last: Any, count: int) -> Sequence[Any]:
    """The values of a key of ``count`` columns; none at the beginning."""
    if last is None:
        return ()
    if count == 1:
        return (last,)
    if not isinstance(last, (tuple, list)) or len(last) != count:
        raise OperatorError(f'last={_shown(last)} is no key of {count} '
                            'columns; let get_key give a tuple of them')
    return last


def _check_step(step: int) -> None:
    if step < 1:
        raise OperatorError(f'step={step} is too small for a page; '
                            'give at least 1')


def _has_nulls(name: str) -> OperatorError:
    return OperatorError(
        f'{name} is NULL in some rows, which no page would have; walk by '
        'another key, or leave them out of the query')


def _shown(key: Any) -> str:
    return short(safe_repr(key))
