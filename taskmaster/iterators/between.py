"""Ranges of keys, for one statement each: `WHERE id BETWEEN first AND last`.

    def get_jobs(last=0):
        db = psycopg.connect('dbname=app', autocommit=True)
        yield from ranges(db, 'SELECT id FROM users', key='id', last=last)

    def handle_jobs(jobs, db):
        db.execute('UPDATE users SET active = true '
                   'WHERE id BETWEEN %s AND %s',
                   (jobs[0].first, jobs[-1].last))

The rows stay where they are: only keys come here, two for each range.
"""

# Slaves load this for `Range` alone: what else it takes is imported late.
from __future__ import annotations

from itertools import starmap
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from ..errors import OperatorError

STEP = 1000         # rows of a range


class Range(NamedTuple):
    """The rows whose keys are from ``first`` to ``last``, both included."""

    first: Any
    last: Any

    @property
    def pk(self) -> Any:
        return self.last


def ranges(connection: Any, query: str, *, key: str, last: Any = None,
           step: int = STEP,
           parameters: Sequence[Any] | Mapping[str, Any] = ()
           ) -> Iterator[Range]:
    """Yield the keys of a query in ranges, those after the key ``last``.

    ``connection``, ``query``, ``last`` and ``parameters`` are as those of
    `keyset`, and so are the checks: the database vouches for the first and
    the last key of each range.  ``key`` is one column, unique, with an index
    on it; ``step`` is how many rows a range has, fewer only at the end.

    Ranges are in order and do not overlap.  Together they have each row that
    is there from the beginning of the walk to its end.  A list of them that
    `handle_jobs` gets has no other range in between, so one statement from
    the first one's ``first`` to the last one's ``last`` is right.  It
    also does the rows that were inserted between two ranges meanwhile.

    Raises OperatorError as `keyset` does, and for a key of several columns.
    """
    from .query import borders
    if not isinstance(key, str):
        raise OperatorError(
            'ranges takes one column as its key, since BETWEEN does; walk '
            'by an id, or row by row with keyset')
    return starmap(Range, borders(connection, query, key, last, step,
                                  parameters))
