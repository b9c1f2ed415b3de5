"""Numbers in order, of which there may be very many."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

from ..records import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Iterator

BLOCK = 512         # numbers in a list, at most


class Numbers:
    """A sorted set of whole numbers.

    One sorted list would be moved in memory for each number that comes or
    goes.  So they are kept in short lists, and each list's last number is
    kept in one more, as in the package sortedcontainers.
    """

    __slots__ = '_blocks', '_lasts'

    def __init__(self) -> None:
        self._blocks: list[list[int]] = []      # none of them empty
        self._lasts: list[int] = []             # of each block

    def __bool__(self) -> bool:
        return bool(self._lasts)

    def __iter__(self) -> Iterator[int]:
        for block in self._blocks:
            yield from block

    def add(self, number: int) -> None:
        """Add a number that is not there."""
        if not self._lasts:
            self._blocks.append([number])
            self._lasts.append(number)
            return
        i = min(bisect_left(self._lasts, number), len(self._lasts) - 1)
        block = self._blocks[i]
        insort(block, number)
        if len(block) > BLOCK:
            self._blocks[i:i + 1] = block[:BLOCK // 2], block[BLOCK // 2:]
            self._lasts.insert(i, block[BLOCK // 2 - 1])
            i += 1
        self._lasts[i] = self._blocks[i][-1]

    def remove(self, number: int) -> None:
        """Remove a number that is there."""
        i = bisect_left(self._lasts, number)
        block = self._blocks[i]
        del block[bisect_left(block, number)]
        if block:
            self._lasts[i] = block[-1]
        else:
            del self._blocks[i], self._lasts[i]

    def first(self) -> int | None:
        """Return the least of them, or None."""
        return self._blocks[0][0] if self._blocks else None

    def beginning(self, number: int) -> Iterator[int]:
        """Yield those from ``number`` on; they must not change meanwhile."""
        i = bisect_left(self._lasts, number)
        if i == len(self._lasts):
            return
        block = self._blocks[i]
        for at in range(bisect_left(block, number), len(block)):
            yield block[at]
        for i in range(i + 1, len(self._blocks)):
            yield from self._blocks[i]

    def at_most(self, number: int) -> int | None:
        """Return the greatest that is not above ``number``, or None."""
        i = bisect_right(self._lasts, number)
        if i < len(self._lasts) and self._blocks[i][0] <= number:
            block = self._blocks[i]
            return block[bisect_right(block, number) - 1]
        return self._lasts[i - 1] if i else None
