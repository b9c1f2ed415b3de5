"""Walks of real tables, SQLite's, and of what a function fetches."""

import contextlib
import itertools
import pkgutil
import sqlite3
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmaster import iterators
from taskmaster.errors import OperatorError
from taskmaster.iterators import keyset


@pytest.fixture
def db():
    with contextlib.closing(sqlite3.connect(':memory:')) as db:
        yield db


def table(db, kind, keys, columns='id', mark='?'):
    """Make the table `rows`, with a number for each row beside its key."""
    names = columns.replace(' ', '').split(',')
    db.execute('CREATE TABLE rows ({}, number integer)'.format(
        ', '.join(f'{name} {kind}' for name in names)))
    cursor = db.cursor()
    cursor.executemany(
        f'INSERT INTO rows ({columns}, number) '
        f'VALUES ({", ".join([mark] * (len(names) + 1))})',
        [(*(key if isinstance(key, tuple) else (key,)), number)
         for number, key in enumerate(keys)])
    return [key + (number,) if isinstance(key, tuple) else (key, number)
            for number, key in enumerate(keys)]


QUERY = 'SELECT * FROM rows'


def test_no_room_is_called_as_what_is_in_it():
    """Or importing `taskmaster.iterators.x` would hide a function x."""
    rooms = {room.name for room in pkgutil.iter_modules(iterators.__path__)}
    assert not rooms & set(iterators.__all__)
    for name in iterators.__all__:
        assert callable(getattr(iterators, name))
    with pytest.raises(AttributeError, match="no attribute 'lost'"):
        iterators.lost


# -- every row, once ------------------------------------------------------

@given(st.data())
def test_any_walk_is_a_part_of_the_sorted_scan(data):
    part = st.one_of(st.integers(-3, 3), st.sampled_from(['a', 'B', 'ü']))
    key = st.tuples(part, part)
    keys = data.draw(st.lists(key, unique=True))
    last = data.draw(st.one_of(st.none(), key))
    step = data.draw(st.integers(1, 5))
    descending = data.draw(st.booleans())
    with contextlib.closing(sqlite3.connect(':memory:')) as db:
        table(db, '', keys, 'a, b')
        sign, order = ('<', 'DESC') if descending else ('>', 'ASC')
        where, values = '', ()
        if last:
            where, values = f'WHERE (a, b) {sign} (?, ?)', last
        expected = db.execute(f'{QUERY} {where} ORDER BY a {order}, b {order}',
                              values).fetchall()
        assert list(keyset(db, QUERY, key=('a', 'b'), last=last, step=step,
                           descending=descending)) == expected


@pytest.mark.parametrize('step', range(1, 6))
@pytest.mark.parametrize('descending', [False, True])
def test_zero_is_the_beginning_and_a_key_like_another(db, step, descending):
    rows = table(db, 'INTEGER PRIMARY KEY', [-2, -1, 0, 1, 2])
    expected = rows[::-1] if descending else rows
    for last in 0, None:
        assert list(keyset(db, QUERY, key='id', last=last, step=step,
                           descending=descending)) == expected


def test_from_text_to_numbers(db):
    """Each text is above each number in SQLite, and Python cannot tell."""
    table(db, '', ['b', 1, 'a', 2.5, b'x'])
    for step in range(1, 7):
        assert [row[0] for row in keyset(db, QUERY, key='id', step=step)] == [
            1, 2.5, 'a', 'b', b'x']


def test_an_empty_table(db):
    table(db, '', [])
    assert list(keyset(db, QUERY, key='id')) == []


@pytest.mark.parametrize('parameters, where', [
    ((10, 'x%'), 'id >= ? AND name LIKE ?'),
    ({'least': 10, 'like': 'x%'}, 'id >= :least AND name LIKE :like')])
def test_a_query_with_parameters(db, parameters, where):
    db.execute('CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)')
    db.executemany('INSERT INTO users VALUES (?, ?)', [
        (number, 'xy'[number % 2]) for number in range(30)])
    assert list(keyset(
        db, f'SELECT name, id AS "Id" FROM users WHERE {where}  -- even\n;',
        key='"Id"', last=12, step=3, parameters=parameters)) == [
            ('x', number) for number in range(14, 30, 2)]


@pytest.mark.parametrize('end', [
    ';', '; -- all of them', ';\n-- one\n-- two\n', '-- none', '; /* a\nb */',
    ' ;;  ', "  -- it's none"])
def test_the_end_of_a_query(db, end):
    rows = table(db, 'INTEGER PRIMARY KEY', range(1, 6))
    assert list(keyset(db, QUERY + end, key='id', step=2)) == rows
    text = "'a; -- b'"
    assert list(keyset(db, f'SELECT id, {text} FROM rows WHERE {text} <> '
                       f"'; -- '{end}", key='id', step=2)) == [
        (number, 'a; -- b') for number in range(1, 6)]


class Point(NamedTuple):
    id: int
    number: int


ROWS = {
    'tuple': None, 'sqlite3.Row': sqlite3.Row,
    'dict': lambda cursor, row: dict(
        zip((column[0] for column in cursor.description), row)),
    'named tuple': lambda cursor, row: Point(*row)}


@pytest.mark.parametrize('factory', ROWS.values(), ids=ROWS)
def test_rows_come_as_the_cursor_gives_them(db, factory):
    table(db, '', range(1, 8))
    db.row_factory = factory
    rows = list(keyset(db, QUERY, key='ID', step=2))
    expected = db.execute(QUERY).fetchall()
    assert rows == expected
    assert {type(row) for row in rows} == {type(expected[0])}


def test_a_row_without_the_key(db):
    table(db, 'text', ['one', 'two'])
    db.row_factory = lambda cursor, row: row[0]
    with pytest.raises(OperatorError, match='a str has no key id'):
        list(keyset(db, 'SELECT id FROM rows', key='id'))


# -- while rows are changed -----------------------------------------------

def test_the_key_is_bound_before_the_row_is_given_away(db):
    table(db, '', range(1, 8))
    db.row_factory = ROWS['dict']
    found = []
    for row in keyset(db, QUERY, key='id', step=2):
        found.append(row['id'])
        row['id'] = -1
        db.execute('DELETE FROM rows WHERE id = ?', found[-1:])
    assert found == [1, 2, 3, 4, 5, 6, 7]


def test_one_page_is_in_memory(db):
    alive, most = [0], [0]

    class Row:
        def __init__(self, cursor, row):
            self.id = row[0]
            alive[0] += 1
            most[0] = max(most[0], alive[0])

        def __del__(self):
            alive[0] -= 1
    table(db, '', range(1, 101))
    db.row_factory = Row
    assert sum(1 for row in keyset(db, QUERY, key='id', step=10)) == 100
    assert most[0] <= 10 + 1 + 1    # a page, its look ahead, the one in hand


def test_nothing_is_retried():
    asked = []

    def fetch(last, limit):
        asked.append(last)
        if last == 2:
            raise ConnectionError('gone')
        return [(last + 1,), (last + 2,), (last + 3,)]
    rows = keyset(fetch, key=0, last=0, step=2)
    assert [next(rows), next(rows)] == [(1,), (2,)]
    with pytest.raises(ConnectionError):
        next(rows)
    assert asked == [0, 2]
    assert list(rows) == []         # as any generator that has raised


# -- what a walk cannot know (docs/walks.md warns of it) -------------------

def test_a_key_that_its_handler_changes_has_no_end_but_a_bound(db):
    db.isolation_level = None

    def handled(query):
        """The rows of a walk whose handler sets what it walks by."""
        db.execute('CREATE TABLE rows (id INTEGER, updated INTEGER UNIQUE)')
        db.executemany('INSERT INTO rows VALUES (?, ?)', zip(
            range(20), range(100, 120)))
        clock = itertools.count(1000)
        for id, _ in itertools.islice(
                keyset(db, query, key='updated', step=7), 100):
            db.execute('UPDATE rows SET updated = ? WHERE id = ?',
                       (next(clock), id))
            yield id
        db.execute('DROP TABLE rows')
    assert len(list(handled('SELECT * FROM rows'))) == 100
    assert sorted(handled('SELECT * FROM rows WHERE updated < 1000')
                  ) == list(range(20))


@pytest.mark.parametrize('step', [1, 2, 10])
def test_a_row_that_comes_behind_the_walk_is_not_seen(db, step):
    table(db, 'integer', [(key,) for key in (10, 20, 40, 50)])

    def ids(**last):
        for id, _ in keyset(db, 'SELECT * FROM rows', key='id', step=step,
                            **last):
            yield id
    walk = ids()
    seen = [next(walk), next(walk)]
    # As of a transaction that began before and is committed now.
    db.execute('INSERT INTO rows VALUES (15, 0)')
    assert seen + list(walk) == [10, 20, 40, 50]
    assert list(ids(last=50)) == []         # nor when the run is resumed
    assert list(ids()) == [10, 15, 20, 40, 50]      # but by another walk


# -- keys that nothing can go on from -------------------------------------

@pytest.mark.parametrize('step', range(1, 6))
@pytest.mark.parametrize('descending', [False, True])
@pytest.mark.parametrize('keys', [[1, 2, 2, 3], ['a', 'b', 'b', 'c']])
def test_a_key_that_repeats(db, step, descending, keys):
    table(db, '', keys)
    rows = keyset(db, QUERY, key='id', step=step, descending=descending)
    with pytest.raises(OperatorError, match='keys must be unique'):
        list(rows)


@pytest.mark.parametrize('step', range(1, 6))
def test_a_key_of_two_that_repeats(db, step):
    table(db, '', [(1, 'a'), (1, 'b'), (1, 'b'), (2, 'a')], 'a, b')
    with pytest.raises(OperatorError, match=r"the key \(1, 'b'\) came \(1"):
        list(keyset(db, QUERY, key=['a', 'b'], step=step))


def check_nulls(connection, mark, null):
    """Wherever the database sorts them: no page would have them."""
    odd = [2, 2, 2]
    odd[null] = None
    table(connection, 'integer', [(1, 1, 1), (2, 2, 1), (2, 2, 2), (2, 2, 3),
                                  (2, 3, 1), tuple(odd)], 'a, b, c', mark)
    names = ['a', 'b', 'c']
    query = f'{QUERY} WHERE {names[null]} IS NOT NULL'
    for step in range(1, 8):
        for descending in False, True:
            with pytest.raises(OperatorError,
                               match=f'{names[null]} is NULL|None'):
                list(keyset(connection, QUERY, key=names, step=step,
                            descending=descending))
            assert len(list(keyset(connection, query, key=names, step=step,
                                   descending=descending))) == 5


@pytest.mark.parametrize('null', range(3))
def test_nulls_are_refused(db, null):
    check_nulls(db, '?', null)


@pytest.mark.parametrize('page', [
    lambda last: [(1,), (2,), (3,)],                # whatever is asked for
    lambda last: [(last + 2,), (last + 1,)],        # in another order
    lambda last: [(last,), (last + 1,)],            # from it, not after it
    lambda last: [(1,), (2,)] if last == 1 else [],     # and at once
    lambda last: [(last - 1,)],                     # the other way
    lambda last: [('a',), ('b',)] if last else [(1,)],
    lambda last: [(None,)], lambda last: [((1, None),)]])
def test_a_fetch_that_goes_nowhere(page):
    asked = []

    def fetch(last, limit):
        asked.append(last)
        return page(last)
    with pytest.raises(OperatorError):
        for row in keyset(fetch, key=0, last=1, step=2):
            assert len(asked) < 4


def test_a_bound_may_be_of_another_type_than_the_keys(db):
    rows = table(db, 'INTEGER PRIMARY KEY', range(1, 9))
    for last in '5', 5.0:
        assert list(keyset(db, QUERY, key='id', last=last, step=2)) == rows[5:]


def test_a_resume_at_one_of_two_that_are_equal_to_the_database(db):
    table(db, 'TEXT COLLATE NOCASE', ['a', 'b', 'B', 'c'])
    with pytest.raises(OperatorError, match="'B' and 'b' are equal"):
        list(keyset(db, QUERY, key='id', last='B'))
    db.execute("DELETE FROM rows WHERE id = 'B' COLLATE BINARY")
    with pytest.raises(OperatorError, match="'B' and 'b' are equal"):
        list(keyset(db, QUERY, key='id', last='B'))
    db.execute("DELETE FROM rows WHERE id = 'b'")
    assert list(keyset(db, QUERY, key='id', last='B')) == [('c', 3)]


# -- a function that fetches ----------------------------------------------

def fetch_from(numbers, most=100):
    def fetch(last, limit):
        return [dict(id=number, pair=(number // 2, number % 2))
                for number in numbers if number > (last or 0)][:limit][:most]
    return fetch


@pytest.mark.parametrize('most', [1, 2, 3, 100])
@pytest.mark.parametrize('key', ['id', lambda row: row['id']])
def test_a_fetch_may_give_less_than_a_page(most, key):
    rows = keyset(fetch_from(range(1, 20), most), key=key, last=5, step=3)
    assert [row['id'] for row in rows] == list(range(6, 20))


def test_keys_of_a_fetch():
    points = [Point(number // 3, number % 3) for number in range(1, 12)]

    def fetch(last, limit):
        return [point for point in points if point > (last or ())][:limit]
    for key in ('id', 'number'), (0, 1), tuple:
        assert list(keyset(fetch, key=key, step=4)) == points


# -- arguments ------------------------------------------------------------

@pytest.mark.parametrize('arguments, says', [
    (dict(key='lost'), 'no such column: page.lost'),
    (dict(key='"lost"'), 'no such column: page.lost'),
    (dict(key='rowid'), 'gives no column rowid, only id, number'),
    (dict(key='rows.id'), "key='rows.id': name the column of the result, "
     "so 'id'"),
    (dict(key=('number', 1)), 'key=1 is no name of a column'),
    (dict(key='id', last=(1, 2)), r'last=\(1, 2\) is a whole row; give the '
     r'module a get_key\(job\) that returns its id'),
    (dict(key='id', last={'id': 1}), 'is a whole row'),
    (dict(key=('id', 'number'), last=5), 'last=5 is no key of 2 columns'),
    (dict(key=('id', 'number'), last=(1, 2, 3)), 'is no key of 2 columns'),
    (dict(key='id', step=0), 'step=0 is too small'),
    (dict(key=tuple), 'the names of the columns')])
def test_what_does_not_fit(db, arguments, says):
    table(db, '', range(3))
    with pytest.raises((OperatorError, sqlite3.Error), match=says):
        list(keyset(db, QUERY, **arguments))


def test_what_is_no_connection(db):
    with pytest.raises(OperatorError, match='needs a connection .* not str'):
        keyset('users.db', QUERY, key='id')
    with pytest.raises(OperatorError, match='a query, and the names'):
        keyset(db, key='id')

    class Unknown:
        def cursor(self):
            raise AssertionError
    with pytest.raises(OperatorError, match='fetch.last, limit. instead'):
        keyset(Unknown(), QUERY, key='id')


# -- the plans ------------------------------------------------------------

def test_the_index_is_used_by_sqlite(db):
    db.execute('CREATE TABLE rows (a INT, b INT, c INT, PRIMARY KEY (a, b))')
    db.executemany('INSERT INTO rows VALUES (?, ?, 0)', [
        (number // 10, number % 10) for number in range(100)])
    queries = []
    db.set_trace_callback(queries.append)
    query = 'SELECT b, a FROM rows WHERE c = ?'
    for descending in False, True:
        list(keyset(db, query, key=('a', 'b'), step=30, parameters=[0],
                    descending=descending))
    db.set_trace_callback(None)
    assert len(queries) == 2 * (4 + 4)      # pages, and looks for a NULL
    for query in queries:
        [plan, *more] = [row[3] for row in
                         db.execute(f'EXPLAIN QUERY PLAN {query}')]
        assert 'USING INDEX' in plan and not more
