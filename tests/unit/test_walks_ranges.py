"""Ranges of keys: every row is in one of them, or the walk is refused."""

import contextlib
import sqlite3
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_walks import POSTGRESQL, QUERY, SQLITE, by_digits, in_a_circle
from walks import ALL, EITHER, ENDLESS, STEPS, Case, Table, outcome

from taskmaster.errors import OperatorError
from taskmaster.iterators import Range, ranges
from taskmaster.iterators.between import STEP


@pytest.fixture
def db():
    with contextlib.closing(sqlite3.connect(':memory:')) as db:
        yield db


def covered(db, execute, name, mark):
    """``walk(last, step)``: each range's key, and the rows in it.

    That is what a statement about them would meet, at that time.
    """
    def walk(last, step):
        for first, last in ranges(db, QUERY, key=name, last=last, step=step):
            yield last, [row[0] for row in execute(
                f'SELECT number FROM walked WHERE {name} BETWEEN {mark} '
                f'AND {mark}', (first, last))]
    return walk


def whole(walk, step):
    return [number for _, numbers in islice(walk(None, step), ENDLESS)
            for number in numbers]


def resumed(walk, step, at):
    found, last = [], None
    for last, numbers in islice(walk(None, step), at):
        found += numbers
    return found + [number for _, numbers in islice(walk(last, step), ENDLESS)
                    for number in numbers]


def meddled(walk, step, table, gone):
    """Rows go that are done, or are to come: borders too."""
    found = []
    for _, numbers in islice(walk(None, step), ENDLESS):
        found += numbers
        later = sorted(table.numbers.difference(found))
        for number in numbers[-1:] + later[:1] + later[-1:]:
            table.delete(number)
        gone.update(later[:1] + later[-1:])
    return found


def check(table, walk, expected, steps=STEPS):
    every, outcomes = frozenset(table.numbers), set()
    for step in (*steps, 2):
        gone = set()
        outcomes.add(outcome(every, gone, whole, walk, step))
        for at in 1, 3, 20:
            outcomes.add(outcome(every, gone, resumed, walk, step, at))
        outcomes.add(outcome(every, gone, meddled, walk, step, table, gone))
        for number in every - table.numbers:
            table.insert(number)
    assert expected == EITHER or outcomes == {expected}


def of_one_column(cases):
    return [pytest.param(case, id=name) for name, case in cases.items()
            if len(case.columns) == 1]


def check_case(db, execute, case, mark, steps=STEPS):
    # What keyset refuses may be right here: two keys that are equal to the
    # database are in one range.
    check(Table(execute, case, mark),
          covered(db, execute, *case.columns, mark),
          ALL if case.expected == ALL else EITHER, steps)


@pytest.mark.parametrize('case', of_one_column(SQLITE))
def test_sqlite(db, case):
    db.isolation_level = None
    db.create_collation('digits', by_digits)
    db.create_collation('circle', in_a_circle)
    check_case(db, db.execute, case, '?')


@pytest.mark.hunt
@pytest.mark.parametrize('case', of_one_column(POSTGRESQL))
def test_postgresql(pg, case):
    check_case(pg, pg.execute, case, '%s')


@pytest.mark.hunt
@pytest.mark.xdist_group('MariaDB')
def test_mariadb(mariadb):
    pymysql = pytest.importorskip('pymysql')
    from test_walks_mariadb import CASES, executor
    cases = {**CASES, 'ENUM alone': Case(
        {'id': "ENUM('pending', 'active', 'new', 'closed')"},
        ['pending', 'active', 'new', 'closed'], EITHER)}
    with contextlib.closing(pymysql.connect(
            **mariadb, autocommit=True)) as db:
        execute = executor(db)
        for case in cases.values():
            if len(case.columns) == 1:
                check_case(db, execute, case, '%s', [1, 7])
                execute('DROP TABLE walked')


@given(st.sets(st.integers(-30, 30)), st.integers(1, 9),
       st.none() | st.integers(-31, 31))
def test_consecutive_keys_that_there_are(keys, step, last):
    with contextlib.closing(sqlite3.connect(':memory:')) as db:
        db.execute('CREATE TABLE walked (id INTEGER PRIMARY KEY)')
        db.executemany('INSERT INTO walked VALUES (?)', [(k,) for k in keys])
        rest = sorted(key for key in keys if not last or key > last)
        assert list(ranges(db, QUERY, key='id', last=last, step=step)) == [
            Range(rest[at], rest[at:at + step][-1])
            for at in range(0, len(rest), step)]


def test_a_range_is_its_own_key(db):
    db.execute('CREATE TABLE walked (id INTEGER PRIMARY KEY)')
    db.execute('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 '
               'FROM n WHERE i < 2500) INSERT INTO walked SELECT i FROM n')
    found = list(ranges(db, f'{QUERY} WHERE id > ?;', key='"id"',
                        parameters=[10]))
    assert [job.pk for job in found] == [10 + STEP, 10 + 2 * STEP, 2500]
    assert list(ranges(db, f'{QUERY} WHERE id > :least', key='id',
                       last=found[0].pk, parameters={'least': 10})
                ) == found[1:]


def test_rows_of_dicts(db):
    db.execute('CREATE TABLE walked (id INTEGER PRIMARY KEY)')
    db.execute('INSERT INTO walked VALUES (1), (2), (5)')
    db.row_factory = lambda cursor, row: {
        column[0]: value for column, value in zip(cursor.description, row)}
    assert list(ranges(db, QUERY, key='id', step=2)) == [(1, 2), (5, 5)]


def test_rows_that_come_behind_the_last_range_are_seen(db):
    db.isolation_level = None
    db.execute('CREATE TABLE walked (id INTEGER PRIMARY KEY)')
    db.execute('INSERT INTO walked VALUES (1), (2), (3)')
    walk = ranges(db, QUERY, key='id', step=2)
    assert [next(walk), next(walk)] == [(1, 2), (3, 3)]
    db.execute('INSERT INTO walked VALUES (7)')
    assert list(walk) == [(7, 7)]


def test_a_connection_of_django():
    pytest.importorskip('django')
    from djangos import connection as django_connection
    with django_connection.cursor() as cursor:
        cursor.execute('CREATE TABLE between_walked (id INTEGER PRIMARY KEY)')
        cursor.execute('INSERT INTO between_walked VALUES (1), (2), (9)')
    try:
        assert list(ranges(django_connection, 'SELECT id FROM between_walked '
                           'WHERE id < %s', key='id', parameters=[5])) == [
                               (1, 2)]
    finally:
        with django_connection.cursor() as cursor:
            cursor.execute('DROP TABLE between_walked')


@pytest.mark.parametrize('options, why', [
    ({'key': ('a', 'b')}, 'one column as its key'),
    ({'key': 'id', 'step': 0}, 'step=0 is too small'),
    ({'key': 'id', 'last': Range(1, 2)}, 'is a whole row'),
    ({'key': 'id', 'query': ''}, 'needs a connection to a database, and a'),
    ({'key': 'name'}, 'name is NULL in some rows')])
def test_what_is_wrong_is_said(db, options, why):
    db.execute('CREATE TABLE walked (id INTEGER, name TEXT)')
    db.execute('INSERT INTO walked VALUES (1, NULL), (2, 3)')
    with pytest.raises(OperatorError, match=why):
        list(ranges(db, **{'query': QUERY, **options}))
    with pytest.raises(OperatorError, match='needs a connection'):
        ranges(lambda last, limit: [], QUERY, key='id')
