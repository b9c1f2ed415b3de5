"""The fields of messages: each is checked before it is believed.

All that comes is JSON.  Whatever is not as it must be raises `BadMessage`,
and that ends the connection.
"""

from __future__ import annotations

from ..records import TYPE_CHECKING
from ..text import printable

if TYPE_CHECKING:
    from typing import Any, Callable, Sequence, TypeVar

    T = TypeVar('T')
    Check = Callable[[Any], Any]

TEXT = 1000                 # characters of an id, a reason or an error
NAME = 100                  # characters of a name that people are shown
RUN_NAME = 100_000          # characters; it has the arguments in it
TRACEBACK = 10_000          # characters of a traceback
RANGES = 10_000             # in a message
NUMBER = 1 << 62            # above any job number

Range = tuple[int, int]


class BadMessage(ValueError):
    """A message is not what it must be; its connection ends."""


def text(value: Any, limit: int = TEXT) -> str:
    if not isinstance(value, str) or len(value) > limit:
        raise BadMessage('a text is missing or too long')
    return value


def line(value: Any, limit: int = TEXT) -> str:
    """A text that may go to a terminal: nothing in it can steer one."""
    return printable(text(value, limit), instead='?')


def flag(value: Any) -> bool:
    if type(value) is not bool:
        raise BadMessage('a flag is missing')
    return value


def number(value: Any, least: int = 0, most: int = NUMBER) -> int:
    if type(value) is not int or not least <= value <= most:
        raise BadMessage('a number is missing or out of bounds')
    return value


def real(value: Any, most: float) -> float:
    """A time in seconds, or a rate: 0 or more, and no more than ``most``."""
    if type(value) not in (int, float) or not 0 <= value <= most:
        raise BadMessage('a time or rate is missing or out of bounds')
    return float(value)


def optional(check: Callable[[Any], T], value: Any) -> T | None:
    return None if value is None else check(value)


def items(value: Any, most: int, length: int = 0) -> list[Any]:
    """A list of at most ``most`` items, each a list of ``length``."""
    if not isinstance(value, list) or len(value) > most:
        raise BadMessage('a list is missing or too long')
    if length and any(not isinstance(item, list) or len(item) != length
                      for item in value):
        raise BadMessage('a list has items of another form')
    return value


def record(checks: dict[str, Check], value: Any) -> dict[str, Any]:
    """An object that has just these fields."""
    if not isinstance(value, dict) or value.keys() != checks.keys():
        raise BadMessage('an object is missing or has other fields')
    return {name: check(value[name]) for name, check in checks.items()}


def ranges(value: Any) -> list[Range]:
    """In order, and none touches another: so each job is looked at once."""
    return merged([(number(first, 1), number(last, first))
                   for first, last in items(value, RANGES, 2)])


def disjoint(value: Any) -> list[Range]:
    """As they are, in order; BadMessage if two of them overlap."""
    found = sorted((number(first, 1), number(last, first))
                   for first, last in items(value, RANGES, 2))
    if any(a[1] >= b[0] for a, b in zip(found, found[1:])):
        raise BadMessage('ranges overlap')
    return found


def merged(ranges: Sequence[Range]) -> list[Range]:
    """The same numbers in order; no two of the ranges touch."""
    found: list[Range] = []
    for a, b in sorted(ranges):
        if found and a <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(b, found[-1][1])
        else:
            found.append((a, b))
    return found
