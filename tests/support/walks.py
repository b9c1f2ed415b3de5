"""Walks against the truth: every row once, or the walk is refused.

A `Case` is a table, and how it is walked.  `check` walks it in pages of
several lengths, resumed after each of some rows, and while rows are deleted
and inserted, and compares with what a plain query of all rows gives.
"""

from itertools import islice
from typing import Any, Callable, Iterable, NamedTuple

from taskmaster.errors import OperatorError

STEPS = 1, 7, 1000
ENDLESS = 1000      # rows; no table of the tests has as many
ALL, REFUSED, EITHER = 'all', 'refused', 'either'


class Case(NamedTuple):
    """A table `walked`, with a unique `number` beside the columns of its key.

    ``columns`` are the names and types of the key's; ``keys`` those of the
    rows, some of which are left for being inserted.  ``expected`` says what
    must come of walks whose pages end within the table.
    """

    columns: dict[str, str]
    keys: list[Any]
    expected: str = ALL
    before: Iterable[str] = ()      # statements
    after: Iterable[str] = ()


class Table:
    """Makes and changes the table of a case, through ``execute``."""

    def __init__(self, execute: Callable[..., Any], case: Case, mark: str):
        self._execute = execute
        self._case = case
        names = ', '.join([*case.columns, 'number'])
        marks = ', '.join([mark] * (len(case.columns) + 1))
        self._insert = f'INSERT INTO walked ({names}) VALUES ({marks})'
        self._delete = f'DELETE FROM walked WHERE number = {mark}'
        self.numbers: set[int] = set()
        for statement in case.before:
            execute(statement)
        columns = ', '.join(f'{name} {kind}' for name, kind
                            in case.columns.items())
        execute(f'CREATE TABLE walked ({columns}, number INT PRIMARY KEY)')
        for number in range(len(case.keys)):
            self.insert(number)
        for statement in case.after:
            execute(statement)

    def insert(self, number: int) -> None:
        key = self._case.keys[number]
        self._execute(self._insert, (
            *(key if isinstance(key, tuple) else (key,)), number))
        self.numbers.add(number)

    def delete(self, number: int) -> None:
        self._execute(self._delete, (number,))
        self.numbers.discard(number)


def check(table, walk, expected, steps=STEPS):
    """Walk the table in many ways; ``walk(last, step)`` gives (key, number).

    Rows that are there all the time come once each; or OperatorError is
    raised, where that is expected.
    """
    every = frozenset(table.numbers)
    outcomes = set()
    for step in steps:
        gone: set[int] = set()
        outcomes.add(outcome(every, gone, whole, walk, step))
        for at in 7, len(every) // 2:
            outcomes.add(outcome(every, gone, resumed, walk, step, at))
        outcomes.add(outcome(every, gone, meddled, walk, step, table, gone))
        for number in every - table.numbers:
            table.insert(number)
    assert expected == EITHER or outcomes == {expected}
    return outcomes


def outcome(every, gone, way, walk, *arguments):
    """All, or refused; anything else is a failure."""
    try:
        found = way(walk, *arguments)
    except OperatorError as error:
        return REFUSED if error.args else None
    assert len(found) == len(set(found)), 'rows come twice'
    assert every - gone <= set(found) <= every
    return ALL


def whole(walk, step):
    return [number for _, number in islice(walk(None, step), ENDLESS)]


def resumed(walk, step, at):
    """The walk is left after ``at`` rows, and gone on with."""
    found, last = [], None
    for last, number in walk(None, step):
        found.append(number)
        if len(found) == at:
            break
    return found + [number for _, number in islice(walk(last, step), ENDLESS)]


def meddled(walk, step, table, gone):
    """Rows go that were handed out, or are to come; some come back."""
    found = []
    for _, number in islice(walk(None, step), ENDLESS):
        found.append(number)
        if len(found) % 5 == 2:
            later = table.numbers.difference(found)
            for one in [number, *sorted(later)[-1:]]:
                table.delete(one)
            gone.update(sorted(later)[-1:])
        if len(found) % 5 == 4:
            for one in sorted(gone - table.numbers)[:1]:
                table.insert(one)
    return found
