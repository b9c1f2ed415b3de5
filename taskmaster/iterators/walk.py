"""The walk over pages in the order of a key, and the checks of its keys.

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

from __future__ import annotations

from decimal import Decimal
from itertools import chain
from operator import attrgetter, gt, itemgetter, lt, ne
from typing import Any, Callable, Iterator, List, Sequence, Tuple

from ..errors import OperatorError
from ..text import safe_repr, short

STEP = 1000         # rows of a page
# Of which Python's order is every database's; text has collations.
NUMBERS = (int, float, Decimal)

Page = Tuple[List[Any], List[Any]]                      # rows, and their keys
Fetch = Callable[[Any, int], Page]                      # after a key, or None


def walk(fetch: Fetch, last: Any, step: int, descending: bool,
         short_is_last: bool = True) -> Iterator[Any]:
    """Page by page, each with one row more, which is the next page's first.

    It shows a key that repeats across the border, whose second row would
    be left out.
    """
    before = [last] if last else []
    while True:
        rows, keys = fetch(last, step + 1)
        check(before, keys, descending)
        ends = not rows or short_is_last and len(rows) <= step
        del rows[step:], keys[step:]
        if keys:                # now: who gets the rows may change them
            before = [last := keys[-1]]
        del keys
        yield from rows
        if ends:
            return
        rows.clear()            # before there is another page


def check(before: List[Any], keys: List[Any], descending: bool) -> None:
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
            f'after the key {shown(one)} came {shown(other)}; keys must be '
            'unique, and each page hold what comes after the last key of the '
            'one before, in order')


def keys_of(rows: List[Any], key: Sequence[Any]) -> List[Any]:
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


def check_step(step: int) -> None:
    if step < 1:
        raise OperatorError(f'step={step} is too small for a page; '
                            'give at least 1')


def has_nulls(name: str) -> OperatorError:
    return OperatorError(
        f'{name} is NULL in some rows, which no page would have; walk by '
        'another key, or leave them out of the query')


def shown(key: Any) -> str:
    return short(safe_repr(key))
