"""Walks of tables whose databases have opinions, against the truth.

Every row comes once, or the walk is refused: whatever ORDER BY and `>` make
of a collation, a type, a clock.
"""

import contextlib
import datetime
import sqlite3
import uuid
from decimal import Decimal

import pytest
from walks import ALL, EITHER, REFUSED, STEPS, Case, Table, check

from taskmaster.iterators import keyset

# Not on every Python: the databases would say the same.
pytestmark = pytest.mark.hunt

QUERY = 'SELECT * FROM walked'
WORDS = [f'{word}{number}' for number in range(8)
         for word in ('a', 'B', 'Ä', 'z', '_')]
# Two that differ in case only, 25 times.
PAIRS = [f'{"Mail" if number % 2 else "mail"}{number // 2:02}@example.org'
         for number in range(50)]
PAIRS_OF_KEYS = [(number // 9, number % 9) for number in range(54)]
# Every quarter of an hour over the end of summer time in Berlin.
CLOCK = [datetime.datetime(2024, 10, 26, 22, tzinfo=datetime.timezone.utc)
         + datetime.timedelta(minutes=15 * number) for number in range(24)]


def walks(db, columns, query=QUERY, **options):
    """``walk(last, step)`` for `check`; gives keys and numbers."""
    names = list(columns)

    def walk(last, step):
        for row in keyset(db, query, key=names, last=last, step=step,
                          **options):
            key = row[:len(names)]
            yield (tuple(key) if len(names) > 1 else key[0]), row[len(names)]
    return walk


def both_ways(db, execute, case, mark, steps=STEPS):
    table = Table(execute, case, mark)
    check(table, walks(db, case.columns), case.expected, steps)
    check(table, walks(db, case.columns, descending=True), case.expected,
          [7])


# -- SQLite ---------------------------------------------------------------

SQLITE = {
    'int': Case({'id': 'INTEGER'}, list(range(1, 60))),
    'text': Case({'id': 'TEXT'}, WORDS),
    'blob': Case({'id': 'BLOB'}, [bytes([n * 5]) for n in range(50)]),
    'real': Case({'id': 'REAL'}, [number / 10 for number in range(1, 50)]),
    'mixed types': Case({'id': ''}, [1, 2.5, 'a', b'x', *range(3, 40), 'B']),
    'composite': Case({'a': 'INT', 'b': 'INT'}, PAIRS_OF_KEYS),
    'composite text': Case({'a': 'TEXT', 'b': 'INT'}, [
        ('aBc'[number % 3], number) for number in range(45)]),
    'NOCASE': Case({'id': 'TEXT COLLATE NOCASE'}, PAIRS, REFUSED),
    'NOCASE without pairs': Case({'id': 'TEXT COLLATE NOCASE'}, PAIRS[::2]),
    'NOCASE with one pair': Case(
        {'id': 'TEXT COLLATE NOCASE'}, [*PAIRS[::2], 'MAIL12@example.org'],
        EITHER),
    'composite NOCASE': Case(
        {'a': 'TEXT COLLATE NOCASE', 'b': 'INT'},
        [(PAIRS[number % 4], number // 8) for number in range(40)], EITHER),
    'own collation': Case({'id': 'TEXT COLLATE digits'}, [
        f'{chr(97 + number % 7)}{number}' for number in range(40)]),
    'own collation that forgets': Case({'id': 'TEXT COLLATE digits'}, [
        f'{"ab"[number % 2]}{number // 2}' for number in range(40)], REFUSED),
    'own collation that is none': Case({'id': 'TEXT COLLATE circle'}, [
        str(number) for number in range(40)], EITHER),
}


def by_digits(one, other):
    a, b = int(one[1:]), int(other[1:])
    return (a > b) - (a < b)


def in_a_circle(one, other):
    """Scissors, stone and paper."""
    return (0, 1, -1)[(int(one) - int(other)) % 3]


@pytest.mark.parametrize('case', SQLITE.values(), ids=SQLITE)
def test_sqlite(case):
    with contextlib.closing(sqlite3.connect(':memory:')) as db:
        db.isolation_level = None
        db.create_collation('digits', by_digits)
        db.create_collation('circle', in_a_circle)
        both_ways(db, db.execute, case, '?')


# -- PostgreSQL -----------------------------------------------------------

ICU = ["CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2',"
       " deterministic = false)"]
POSTGRESQL = {
    'int': Case({'id': 'INT'}, list(range(1, 60))),
    'bigint, negative': Case({'id': 'BIGINT'}, list(range(-25, 35))),
    'uuid': Case({'id': 'UUID'}, [
        uuid.UUID(int=7 ** number) for number in range(40)]),
    'numeric': Case({'id': 'NUMERIC'}, [
        Decimal(number) / 7 for number in range(1, 40)]),
    'text C': Case({'id': 'TEXT COLLATE "C"'}, WORDS),
    'text en_US': Case({'id': 'TEXT COLLATE "en-US-x-icu"'},
                       WORDS[:30] + PAIRS[:12]),
    'text nondeterministic': Case(
        {'id': 'TEXT COLLATE nocase'}, PAIRS, REFUSED, ICU),
    'citext': Case({'id': 'CITEXT UNIQUE'}, PAIRS[::2], ALL,
                   ['CREATE EXTENSION citext']),
    'citext, pairs': Case({'id': 'CITEXT'}, PAIRS, REFUSED,
                          ['CREATE EXTENSION citext']),
    'enum': Case({'kind': 'kind', 'id': 'INT'}, [
        (['new', 'active', 'closed'][number % 3], number)
        for number in range(45)],
        ALL, ["CREATE TYPE kind AS ENUM ('new', 'active', 'closed')"]),
    'composite': Case({'a': 'INT', 'b': 'INT'}, PAIRS_OF_KEYS),
    'composite uuid text': Case({'a': 'UUID', 'b': 'TEXT'}, [
        (uuid.UUID(int=number % 4), WORDS[number]) for number in range(40)]),
    'timestamptz in UTC': Case({'at': 'TIMESTAMPTZ'}, CLOCK),
    'timestamptz, local': Case({'at': 'TIMESTAMPTZ'}, CLOCK, ALL, (),
                               ["SET timezone = 'Europe/Berlin'"]),
    'timestamp': Case({'at': 'TIMESTAMP'}, [
        at.replace(tzinfo=None) for at in CLOCK]),
    'date': Case({'at': 'DATE'}, [
        datetime.date(2024, 1, 1) + datetime.timedelta(number)
        for number in range(40)]),
    'real': Case({'id': 'REAL'}, [
        number / 10 for number in range(1, 50)], EITHER),
    'bytea': Case({'id': 'BYTEA'}, [bytes([n * 5]) for n in range(50)]),
    'boolean and int': Case({'a': 'BOOLEAN', 'b': 'INT'}, [
        (bool(number % 2), number) for number in range(40)]),
}


@pytest.mark.parametrize('case', POSTGRESQL.values(), ids=POSTGRESQL)
def test_postgresql(pg, case):
    both_ways(pg, pg.execute, case, '%s')
