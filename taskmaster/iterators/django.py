"""Walking the objects of a Django queryset, for `get_jobs`.

    def get_jobs(last=0):
        for post in RangeQuerySetWrapper(Post.objects.all(), min_id=last):
            yield post
"""

from __future__ import annotations

from typing import Any, Iterator

from .walk import STEP, Page, check_step, has_nulls, keys_of, walk


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
        check_step(step)
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
            raise has_nulls(field)
        start = objects
        if self._min_id:
            start = objects.filter(**{f'{after}e': self._min_id})

        def fetch(last: Any, limit: int) -> Page:
            page = (start if last is None else
                    objects.filter(**{after: last}))
            rows = list(page[:limit])
            return rows, keys_of(rows, [field])
        return walk(fetch, None, self._step, descending)
