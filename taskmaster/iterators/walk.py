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

from datetime import date, datetime
from decimal import Decimal
from itertools import chain
from operator import attrgetter, gt, itemgetter, lt, ne
from typing import Any, Callable, Iterator, List, Sequence, Tuple
from uuid import UUID

from ..errors import OperatorError
from ..storage.codec import same
from ..text import safe_repr, short

STEP = 1000         # rows of a page
# Of which Python's order is every database's; text has collations.
NUMBERS = (int, float, Decimal)

Page = Tuple[List[Any], List[Any]]          # rows, and their keys
Fetch = Callable[[Any, int], Page]          # what comes after a key, or None
# What the database says of a key: the keys of rows that are equal to it (two
# at most), and the key of the last row, in the order of the walk, up to it.
Look = Callable[[Any], Tuple[List[Any], List[Any]]]
# The same of several keys, all in one list, for the price of one query.
Glance = Callable[[Sequence[Any]], List[Any]]


def walk(fetch: Fetch, last: Any, step: int, descending: bool,
         look: Look | None = None, resumed: Any = None,
         glance: Glance | None = None, until_empty: bool = False
         ) -> Iterator[Any]:
    """Page by page, each with one row more, which is the next page's first.

    It shows a key that repeats across the border, whose second row would
    be left out.

    With a ``look`` the database vouches for each page before it is handed
    out, and for the key that the walk is ``resumed`` at; and a page that is
    not full is the last one.  Without, `fetch` is believed, and only an
    empty page is the end, as with ``until_empty``.
    """
    until_empty = until_empty or look is None
    before = [last] if last else []

    def read() -> Page:
        page = fetch(last, step + 1)
        _check(before, page[1], descending)
        return page
    while True:
        if look is None:
            rows, keys = read()
        else:
            rows, keys = _vouched(read, step, look, resumed, glance)
            resumed = None
        ends = not rows or not until_empty and len(rows) <= step
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
    be told only of numbers and naive times; of others whether they repeat.
    No loop of ours goes over them: this is the hot path.
    """
    if not keys:
        return
    composite = isinstance(keys[0], tuple)
    if None in (chain.from_iterable(keys) if composite else keys):
        raise OperatorError('the key of a row is None, which is nothing to '
                            'go on from; walk by another key')
    compare: Any = ne
    if all(map(_ordered, _parts(keys[0]))):
        compare = gt if descending else lt
    earlier, later = before + keys[:-1], keys if before else keys[1:]
    try:
        good = all(map(compare, earlier, later))
    except (TypeError, ArithmeticError):    # of mixed types, or not a number
        compare = ne
        good = all(map(compare, earlier, later))
    if good and keys[-1:] != before:
        return
    for one, other in chain(zip(earlier, later), zip(keys[-1:], before)):
        # What Python calls equal may be told apart when it is saved.
        if not compare(one, other) and (compare is not ne
                                        or same(one, other)):
            raise OperatorError(
                f'after the key {shown(one)} came {shown(other)}; keys must '
                'be unique, and each page hold what comes after the last key '
                'of the one before, in order' + _clock(one))


def _ordered(part: Any) -> bool:
    """Whether Python orders such parts of keys as every database does."""
    return isinstance(part, NUMBERS) or (
        isinstance(part, date) and getattr(part, 'tzinfo', None) is None)


def _clock(key: Any) -> str:
    """What to do where a clock goes back."""
    return ('; local time repeats an hour at the end of summer time, so let '
            'the connection give UTC'
            if any(isinstance(part, datetime) for part in _parts(key)) else '')


# -- what the database says -----------------------------------------------
#
# A walk is right only where ORDER BY and `>` agree, and that is not for us
# to say: collations, ENUM and SET, local times, mixed types.  Rows that come
# after a page's last one, and are not `>` it, are those that are lost; such
# a row would be the last one up to it.

def _vouched(read: Callable[[], Page], step: int, look: Look,
             resumed: Any, glance: Glance | None) -> Page:
    """A page whose first and last row are what the database says they are.

    If they are not, the page is read once more, as rows may be deleted
    meanwhile.  Raises OperatorError if the row is still there, and still
    not what it should be.
    """
    suspects: List[Any] = []                    # one, or none
    while True:
        rows, keys = read()
        ends = keys[:1] + keys[1:step][-1:]     # of what is handed out
        if keys and all(map(_exact, ends)) and (
                resumed is None or _exact(resumed)):
            return rows, keys
        if resumed is not None:
            _vouch_for_last(look, resumed)
            resumed = None
        suspects = [key for key in suspects
                    if any(_same(key, other) for other in keys)]
        # If each is found once as itself, and once as the last up to itself,
        # nothing is wrong; otherwise a closer look says whether it is.
        if ends and not suspects and glance is not None and _same(
                tuple(glance(ends)), tuple(chain(*zip(ends, ends)))):
            return rows, keys
        for number, key in enumerate(suspects + ends):
            fault = _fault(key, *look(key))
            if fault and number < len(suspects):
                raise OperatorError(fault)
            if fault:
                suspects = [key]
                break
        else:
            return rows, keys


def _vouch_for_last(look: Look, last: Any) -> None:
    """Raise OperatorError unless the walk can go on from ``last``.

    Its row may be gone.  It may go while it is looked at, so that is done
    twice.
    """
    fault = ''
    for _ in range(2):
        equal, up_to = look(last)
        if not equal:
            return
        # A bound that a person gave may be of another type than the keys.
        key = equal[0] if _meant(last, equal[0]) else last
        fault = _fault(key, equal, up_to)
        if not fault:
            return
    raise OperatorError(fault)


def _fault(key: Any, equal: List[Any], up_to: List[Any]) -> str:
    """What is wrong with ``key`` if `look` gives the others, or ''."""
    if not equal:
        return (f'the row {shown(key)} is not found by its own key: the value '
                'does not come back as it was stored (as of FLOAT, real and '
                'BIT, or of times that are rounded); walk by another key, or '
                'by a CAST of it in the query')
    others = [other for other in equal if not _same(key, other)]
    if others or len(equal) > 1:
        other = (others or equal)[0]
        return (f'to the database the keys {shown(key)} and {shown(other)} '
                'are equal; keys must be unique to it: walk by another key, '
                'or by text under a binary collation, by times in UTC')
    for other in up_to:
        if _same(key, other):
            return ''
        return (f'the database puts {shown(other)} after {shown(key)} when it '
                'sorts, and not when it compares: walk by the number of an '
                'ENUM or a SET (status + 0), by text under a binary '
                'collation, by times in UTC')
    return (f'the database does not find {shown(key)} up to {shown(key)}: '
            'walk by another key')


def _exact(key: Any) -> bool:
    """Whether `>` and ORDER BY cannot but agree on such keys.

    No floats: many databases give others than they hold.  No bytes: a
    driver that was told not to decode gives text so.
    """
    return all(type(part) is int for part in _parts(key))


def _meant(last: Any, key: Any) -> bool:
    """Whether ``last`` is the key, but for the types of its parts."""
    pairs = list(zip(_parts(last), _parts(key)))
    return all(type(one) is not type(other) or _same(one, other)
               for one, other in pairs)


def _same(one: Any, other: Any) -> bool:
    """As `same`, which takes its time, but at once for the plain."""
    if type(one) is not type(other):
        return False
    if type(one) is tuple:
        return len(one) == len(other) and all(map(_same, one, other))
    if type(one) in (str, int, bytes, UUID):
        return bool(one == other)
    return same(one, other)


def _parts(key: Any) -> Sequence[Any]:
    return key if isinstance(key, tuple) else (key,)


# -- the keys of rows -----------------------------------------------------

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
