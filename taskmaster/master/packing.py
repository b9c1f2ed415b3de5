"""Packing: the jobs of a lease pickled, as many as go together.

All of it happens outside the queue's lock, as pickling takes long and may
call the operator's own code.
"""

from __future__ import annotations

import pickle

from ..records import TYPE_CHECKING, NamedTuple
from ..wire.messages import PICKLE, Payload
from .lease_size import Weight

if TYPE_CHECKING:
    from typing import Any, Sequence


class Packed(NamedTuple):
    """The first ``size`` jobs of a lease, pickled as one list."""

    size: int                   # may be 0
    payload: Payload
    culprits: list[Culprit]     # of the others


class Culprit(NamedTuple):
    """A job that cannot be pickled, and why."""

    at: int                     # how many jobs are before it
    error: BaseException


class Packer:
    """Packs the leases of a run, and tells ``weight`` how heavy they are."""

    def __init__(self, weight: Weight) -> None:
        self._weight = weight

    def most(self) -> int:
        """Return how many jobs are likely to fit into a lease."""
        return self._weight.most()

    def pack(self, jobs: Sequence[Any]) -> Packed:
        """Pickle as many of the jobs, from the first on, as go together.

        Whatever comes out of pickling one, an exit too, fails it alone.
        """
        count, culprits = len(jobs), []
        while count:
            payload = Payload()
            try:
                pickle.Pickler(payload, PICKLE).dump(
                    jobs if count == len(jobs) else jobs[:count])
            except BaseException as error:      # the operator's own code
                culprit = _culprit(jobs[:count])
                if culprit is None and count == 1:
                    culprit = Culprit(0, error)
                if culprit is None:
                    count //= 2         # each goes alone, but not all of them
                else:
                    count = culprit.at
                    culprits.append(culprit)
                continue
            weight = payload.size
            self._weight.observe(count, weight)
            fits = self._weight.cut(count, weight)
            if fits == count:
                return Packed(count, payload, culprits)
            count = fits
        return Packed(0, Payload(), culprits)


def _culprit(jobs: Sequence[Any]) -> Culprit | None:
    """The first that cannot be pickled, each for itself."""
    for at, job in enumerate(jobs):
        try:
            pickle.dumps(job, PICKLE)
        except BaseException as error:
            return Culprit(at, error)
    return None
