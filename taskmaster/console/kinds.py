"""Failed jobs by kind: the type of the exception, and the operator's own line.

So `bad 500` and `bad 1000` are one, and the same error in two places is two.
The line is the innermost of the traceback that is neither the standard
library's nor of an installed package: ``ValueError at migrate.py:12``.
What the errors of one kind say may have several causes: so messages that
differ in more than numbers are counted each.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache

from ..records import TYPE_CHECKING, Protocol
from ..text import short

if TYPE_CHECKING:
    from typing import Any, Iterable

# Kinds told apart; what comes after is counted together.
MOST = 50
OTHERS = 'others'
# Characters of the traceback that a kind keeps: of its first job.
TRACEBACK = 5000
# Messages of a kind told apart, what comes after is counted together; those
# of them that are shown, the most frequent; and the characters of one.
MESSAGES, SHOWN, LENGTH = 20, 3, 200

# Where code is that is not the operator's.
_THEIRS = re.compile(r'/(?:site|dist)-packages/|/lib(?:64)?/python\d')
_LIBRARY = os.path.dirname(os.path.realpath(os.__file__)) + os.sep
_FRAME = '  File "'
_GROUP = '  | '          # before it, where a group of exceptions was raised
_WORD = re.compile(r'[^\W\d][\w.]*')
_ADDRESS = re.compile('0x[0-9a-fA-F]+')
_NO_DIGITS = dict.fromkeys(map(ord, '0123456789'))


class Failed(Protocol):
    """What tells of which kind a failed job is."""

    @property
    def number(self) -> int: ...

    @property
    def key(self) -> str: ...

    @property
    def error(self) -> str: ...

    @property
    def traceback(self) -> str: ...


class Recorded(Failed, Protocol):
    """A failed job that is in the failures file."""

    @property
    def cause(self) -> str: ...


class Message:
    """What errors of a kind say, numbers aside, and how many of them."""

    __slots__ = ('count', 'number', 'key', 'text', 'varies')

    def __init__(self, text: str, first: Failed):
        self.count = 0
        self.number, self.key = first.number, first.key     # of the first
        self.text = text                                    # of the first
        self.varies = False             # others have other numbers in it

    def add(self, text: str, failure: Failed) -> None:
        self.count += 1
        if text != self.text:
            self.varies = True
        if failure.number < self.number:
            self.number, self.key = failure.number, failure.key
            self.text = text

    def report(self) -> dict[str, Any]:
        """Return it as JSON has it: see `Kinds.report`."""
        return {'message': short(self.text, LENGTH), 'count': self.count,
                'key': self.key, 'varies': self.varies}


class Kind:
    """How many jobs have failed in one way, and which."""

    __slots__ = ('name', 'count', 'first', 'last', 'first_key', 'last_key',
                 'error', 'traceback', '_messages')

    def __init__(self, name: str, first: Failed):
        self.name = name
        self.count = 0
        self.first = self.last = first.number
        self.first_key = self.last_key = first.key
        # Of the first, too.
        self.error, self.traceback = first.error, first.traceback[-TRACEBACK:]
        self._messages: dict[str, Message] = {}

    def add(self, failure: Failed) -> None:
        """Count one more."""
        self.count += 1
        # In the order of the source, whatever came first.
        if failure.number >= self.last:
            self.last, self.last_key = failure.number, failure.key
        elif failure.number < self.first:
            self.first, self.first_key = failure.number, failure.key
            self.error = failure.error
            self.traceback = failure.traceback[-TRACEBACK:]
        text = self._text(failure.error)
        like = (_ADDRESS.sub('', text) if '0x' in text else text).translate(
            _NO_DIGITS)
        message = self._messages.get(like)
        if message is None:
            if len(self._messages) >= MESSAGES:
                return
            message = self._messages[like] = Message(text, failure)
        message.add(text, failure)

    def messages(self) -> list[dict[str, Any]]:
        """Return those told apart, as `Kinds.report`."""
        return [message.report() for message in sorted(
            [*self._messages.values()], key=lambda message: -message.count)]

    def lines(self) -> list[str]:
        """Return it for a person: ``2 x KeyError at m.py:3: 'age' (…)``.

        Where the messages differ there is a line for each of the most
        frequent.
        """
        keys = (f'key {short(self.first_key, 40)}' if self.count == 1 else
                f'keys {short(self.first_key, 40)} to '
                f'{short(self.last_key, 40)}')
        messages = self.messages()
        first = 'first: ' if differ(messages) else ''
        said = ('' if self.error == self.name
                else short(self._text(self.error), LENGTH))
        return [f'{self.count} x {self.name}{said and f": {first}{said}"} '
                f'({keys})', *differing(self.count, messages)]

    def _text(self, error: str) -> str:
        """Return the message, of `ValueError: bad 500` what is not a type."""
        return (error if self.name == OTHERS
                else error.partition(': ')[2])[:LENGTH]


class Kinds:
    """Counts failed jobs by kind; not more of those than some dozens."""

    def __init__(self, failures: Iterable[Failed] = ()):
        self.count = 0
        self._kinds: dict[str, Kind] = {}
        for failure in failures:
            self.add(failure)

    def add(self, failure: Failed) -> Kind:
        """Count one more; return its kind."""
        name = kind_of(failure.error, failure.traceback)
        kind = self._kinds.get(name)
        if kind is None:
            if len(self._kinds) >= MOST:
                name = OTHERS
            kind = self._kinds.setdefault(name, Kind(name, failure))
        kind.add(failure)
        self.count += 1
        return kind

    def frequent(self) -> list[Kind]:
        """Return the kinds, the most frequent first."""
        return sorted([*self._kinds.values()], key=lambda kind: -kind.count)

    def report(self, more: bool = False) -> list[dict[str, Any]]:
        """Return them as JSON has them, the most frequent first.

        Each with `kind`, `count` (of jobs), `first_key` and `last_key`, and
        for ``more`` with `traceback`, that of the first, and `messages`, the
        most frequent first: `message`, of the first of them, whose key is
        `key`; `count`; and `varies`, whether others have other numbers in it.
        """
        return [{'kind': kind.name, 'count': kind.count,
                 'first_key': kind.first_key, 'last_key': kind.last_key,
                 **({'traceback': kind.traceback,
                     'messages': kind.messages()} if more else {})}
                for kind in self.frequent()]


def differ(messages: list[dict[str, Any]]) -> bool:
    """Return whether that of one job is not that of all."""
    return len(messages) > 1 or any(each['varies'] for each in messages)


def differing(count: int, messages: list[dict[str, Any]]) -> list[str]:
    """Return a line each for messages, of ``count`` jobs, that differ.

    ``8 x no such user (first key 4711)``; nothing where there is but one.
    """
    if len(messages) < 2:
        return []
    shown = messages[:SHOWN]
    said = []
    for message in shown:
        one = message['count'] == 1 or message['varies']
        said.append(f"  {message['count']} x "
                    f"{'first: ' if message['varies'] else ''}"
                    f"{message['message'] or 'no message'}"
                    f" ({'' if one else 'first '}key "
                    f"{short(message['key'], 40)})")
    left = count - sum(message['count'] for message in shown)
    return said + ([f'  {left} x others'] if left else [])


def kind_of(error: str, traceback: str = '') -> str:
    """Return the kind of an error: ``ValueError at migrate.py:12``.

    ``error`` is one line, ``ValueError: bad 500``.  What we say ourselves of
    a job (it cannot be pickled, it was lost) has no place.
    """
    # Jobs that fail in one way differ in the last line, the message, alone.
    last = traceback.rfind('\n', 0, -1) + 1
    place = _place(traceback if traceback.startswith(_FRAME, last)
                   else traceback[:last])
    if place:
        return f'{type_of(error)} at {place}'
    first, _, rest = error.partition(': ')
    if not _WORD.fullmatch(first):      # ours; what follows may be theirs
        kind = type_of(rest)
        first += f': {kind}' if _WORD.fullmatch(kind) else ''
    return short(re.sub(r'\d+', 'N', first))


def type_of(error: str) -> str:
    """Return the exception's type, of ``ValueError: bad 500``."""
    return short(error.partition(':')[0])


def is_of(kind: str, failure: Failed) -> bool:
    """Return whether a job failed in that way: a kind, or a type alone."""
    return kind in (kind_of(failure.error, failure.traceback),
                    type_of(failure.error))


@lru_cache(maxsize=MOST)
def _place(traceback: str) -> str:
    """Return ``migrate.py:12``, where the operator's own code raised, or ''.

    The innermost frame stands last.
    """
    innermost = ''
    end = len(traceback)
    while end > 0:
        start = traceback.rfind('\n', 0, end)
        at = start + 1
        if traceback.startswith(_GROUP, at):
            at += len(_GROUP)
        if traceback.startswith(_FRAME, at):
            path, _, rest = traceback[at + len(_FRAME):end].rpartition(
                '", line ')
            number = rest.partition(',')[0]
            place = f'{os.path.basename(path)}:{number}'
            if (path and number.isdecimal() and not path.startswith('<')):
                if not (path.startswith(_LIBRARY) or _THEIRS.search(path)):
                    return short(place)
                innermost = innermost or place
        end = start
    return short(innermost)
