"""Walking the objects of a Django queryset, for `get_jobs`.

    def get_jobs(last=0):
        for post in RangeQuerySetWrapper(Post.objects.all(), min_id=last):
            yield post
"""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Sequence

from ..errors import OperatorError
from .walk import STEP, Page, check_step, has_nulls, keys_of, shown, walk


class RangeQuerySetWrapper:
    """The objects of a Django ``queryset``, in the order of a unique key.

    Or of a manager, which are all of its objects.

    ``order_by`` names its field, or several that make it up together, each
    with a ``-`` for descending.  A relation stands for its own column.  The
    ordering of the queryset and of its models does not matter.

    ``min_id`` is the key to begin with: an object that has it comes first,
    and the feeder skips it if it is the last of an earlier run.  None, 0 and
    '' stand for the beginning, whatever the keys are; so nothing is left out
    by a ``last=0``, and a run that stopped just at the key 0 repeats what is
    before it.  ``step`` is how many objects a page has; it is one query, one
    more for each of `prefetch_related`, and four small ones by which the
    database vouches for it, unless its keys are integers.

    Objects may be changed (but for their keys) and deleted while the walk
    goes on.  Those of `values()` and `values_list()` work too, if the key is
    in them.

    Iterating raises OperatorError for a key that is None, repeats, does not
    advance, or is another to the database than to us.
    """

    def __init__(self, queryset: Any, min_id: Any = None, step: int = STEP,
                 order_by: str | Sequence[str] = 'pk'):
        check_step(step)
        names = [order_by] if isinstance(order_by, str) else list(order_by)
        downward = {name.startswith('-') for name in names}
        if len(downward) != 1:
            raise OperatorError(
                f'order_by={shown(order_by)}: name one field or more, which '
                'all ascend, or all descend')
        self._queryset = _checked(queryset)
        self._min_id = min_id or None
        self._step = step
        self._names = [name.lstrip('-') for name in names]
        self._descending = downward.pop()

    def __iter__(self) -> Iterator[Any]:
        pages = _Pages(self._queryset, self._names, self._descending,
                       self._min_id)
        return walk(pages.fetch, None, self._step, self._descending,
                    pages.look, self._min_id)


def _checked(queryset: Any) -> Any:
    """Return what can be walked; raises OperatorError if it cannot."""
    from django.db.models import Manager, QuerySet
    if isinstance(queryset, Manager):
        queryset = queryset.all()
    if not isinstance(queryset, QuerySet):
        raise OperatorError(
            f'RangeQuerySetWrapper walks a queryset, not {shown(queryset)}; '
            'give it Model.objects.all()')
    if queryset.query.is_sliced or queryset.query.combinator:
        raise OperatorError(
            'RangeQuerySetWrapper walks a queryset by conditions of its own, '
            'and one that is cut ([:1000]) or put together (union) takes '
            'none; filter it, or end the run with --limit')
    return queryset


class _Pages:
    """The pages of a queryset, and looks at keys.

    The first page begins at ``min_id``.  Raises OperatorError if the rows
    have no such key.
    """

    def __init__(self, queryset: Any, names: list[str], descending: bool,
                 min_id: Any):
        from django.db import connections
        self._by_row = connections[queryset.db].vendor != 'mysql'
        self._fields = list(_fields(queryset.model, names))
        self._names = [getattr(field, 'attname', name)
                       for name, field in self._fields]
        self._columns = _columns(queryset, names, self._fields)
        self._sign, self._back = 'gt', 'lt'
        if descending:
            self._sign, self._back = self._back, self._sign
        objects = queryset.order_by(*('-' * descending + name
                                      for name in self._names))
        if not objects.query.standard_ordering:
            objects = objects.reverse()     # what order_by leaves as it is
        self._start = self._objects = objects
        if min_id is not None:
            self._start = objects.filter(self._beyond(min_id, self._sign, 'e'))

    def fetch(self, last: Any, limit: int) -> Page:
        """The first objects after a key, or of all."""
        if last is None:
            self._refuse_nulls()
            return self._read(self._start, limit)
        return self._read(
            self._objects.filter(self._beyond(last, self._sign)), limit)

    def look(self, key: Any) -> tuple[list[Any], list[Any]]:
        """See `walk.Look`."""
        objects = self._objects.prefetch_related(None)
        equal = objects.filter(**dict(zip(self._names, self._parts(key))))
        up_to = objects.filter(self._beyond(key, self._back, 'e')).reverse()
        return self._read(equal, 2)[1], self._read(up_to, 1)[1]

    def _read(self, objects: Any, limit: int) -> Page:
        rows = list(objects[:limit])
        return rows, (keys_of(rows, self._columns) if self._columns else
                      rows[:])

    def _refuse_nulls(self) -> None:
        for number, (name, field) in enumerate(self._fields):
            # All of a table would have to be looked at for the others.
            if number == 0 or getattr(field, 'null', True):
                if self._objects.filter(
                        **{f'{self._names[number]}__isnull': True}).exists():
                    raise has_nulls(name)

    def _beyond(self, key: Any, sign: str, or_equal: str = '') -> Any:
        """A condition: the fields, as a whole, are above or below the key.

        As in `query`, in words by which the database enters an index.
        """
        from django.db.models import F, Q, Value, lookups
        parts = self._parts(key)
        if len(parts) > 1 and self._by_row:
            kind = {'gt': lookups.GreaterThan, 'lt': lookups.LessThan,
                    'gte': lookups.GreaterThanOrEqual,
                    'lte': lookups.LessThanOrEqual}[sign + or_equal]
            return kind(_row(map(F, self._names)), _row(
                Value(part, output_field=field) for part, (_, field)
                in zip(parts, self._fields)))
        condition = Q()
        same: dict[str, Any] = {}
        for number, (name, part) in enumerate(zip(self._names, parts), 1):
            end = or_equal * (number == len(parts))
            condition |= Q(**same, **{f'{name}__{sign}{end}': part})
            same[name] = part
        return condition

    def _parts(self, key: Any) -> tuple[Any, ...]:
        if len(self._names) == 1:
            return (key,)
        if isinstance(key, (tuple, list)) and len(key) == len(self._names):
            return tuple(key)
        raise OperatorError(
            f'min_id={shown(key)} is no key of {len(self._names)} fields; '
            'give the module a get_key(job) that returns a tuple of them')


def _fields(model: Any, names: list[str]) -> Iterator[tuple[str, Any]]:
    """Each name with its field, or None; a composite key gives several."""
    from django.core.exceptions import FieldDoesNotExist
    for name in names:
        try:
            field = (model._meta.pk if name == 'pk' else
                     model._meta.get_field(name))
        except FieldDoesNotExist:       # an annotation, or of a relation
            field = None
        for part in getattr(field, 'fields', [field]):
            yield (name if part is field else part.name), part


def _columns(queryset: Any, names: list[str],
             fields: list[tuple[str, Any]]) -> list[Any]:
    """Names, or numbers, of the key in a row; none if a row is its key."""
    from django.db.models.query import (FlatValuesListIterable,
                                        ValuesIterable)
    attributes = [getattr(field, 'attname', name) for name, field in fields]
    given = queryset._fields
    if given is None:                   # objects
        return attributes
    given = list(given or queryset.query.values_select)
    if names == ['pk'] and 'pk' in given:
        found: list[Any] = ['pk']
    else:
        found = [next((one for one in (attribute, name) if one in given), None)
                 for attribute, (name, _) in zip(attributes, fields)]
    if None in found:
        raise OperatorError(
            'the values() of a walk have to hold its key, '
            + ', '.join(attributes))
    kind = queryset._iterable_class
    if issubclass(kind, FlatValuesListIterable):
        return []
    if issubclass(kind, ValuesIterable):
        return found
    return list(map(given.index, found))


def _row(parts: Iterable[Any]) -> Any:
    """(a, b), in SQL."""
    from django.db.models import BooleanField, Func
    return Func(*parts, function='', output_field=BooleanField())
