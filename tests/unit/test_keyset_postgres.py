"""Walks of tables of PostgreSQL, by psycopg."""

import asyncio
import contextlib
import sqlite3
import uuid

import pytest
from test_keyset import QUERY, check_nulls, table

from taskmaster.errors import OperatorError
from taskmaster.iterators import keyset

psycopg = pytest.importorskip('psycopg')
from psycopg import rows as row_factories  # noqa: E402
from psycopg import sql  # noqa: E402


@pytest.mark.parametrize('null', range(3))
def test_nulls_are_refused(pg, null):
    check_nulls(pg, '%s', null)


def test_a_value_that_does_not_come_back_as_it_was_stored(pg):
    table(pg, 'real', [0.1, 0.2, 0.3], mark='%s')
    with pytest.raises(OperatorError, match='the row 0.1 is not found by its '
                       'own key.*as it was stored'):
        list(keyset(pg, QUERY, key='id'))


def test_a_query_that_is_no_text():
    with contextlib.closing(sqlite3.connect(':memory:')) as db:
        with pytest.raises(OperatorError, match='is text, not a SQL; give'):
            keyset(db, sql.SQL(QUERY), key='id')


class Recording(psycopg.Cursor):
    """Keeps what it is told to execute."""

    said = []

    def execute(self, query, params=None, **options):
        self.said.append((query, params))
        return super().execute(query, params, **options)


def test_the_index_is_used_by_postgresql(pg):
    pg.execute('CREATE TABLE rows (a INT, b INT, c INT, PRIMARY KEY (a, b))')
    pg.execute('INSERT INTO rows SELECT n / 1000, n % 1000, 0'
               ' FROM generate_series(1, 100000) n')
    pg.execute('ANALYZE rows')
    pg.cursor_factory, Recording.said = Recording, []
    query = 'SELECT b, a FROM rows WHERE c = %s'
    for descending in False, True:
        list(keyset(pg, query, key=('a', 'b'), step=30_000, parameters=[0],
                    descending=descending))
    pg.cursor_factory = psycopg.Cursor
    said, pages = Recording.said, 0
    assert len(said) == 2 * (4 + 4)
    for mode in 'force_custom_plan', 'force_generic_plan':
        pg.execute(f'SET plan_cache_mode = {mode}')
        for query, parameters in said:
            for number, _ in enumerate(parameters, 1):
                query = query.replace('%s', f'${number}', 1)
            pg.execute(f'PREPARE walk AS {query}')
            plan = '\n'.join(line for line, in pg.execute(
                f'EXPLAIN EXECUTE walk ({", ".join(map(str, parameters))})'))
            pg.execute('DEALLOCATE walk')
            assert 'Index Scan' in plan and 'Sort' not in plan, plan
            pages += 'Index Cond: (ROW(a, b)' in plan
    assert pages == 2 * 2 * 3       # those but the first begin in the middle


class Made:
    def __init__(self, id, number):
        self.id, self.number = id, number

    def __eq__(self, other):
        return (self.id, self.number) == (other.id, other.number)


@pytest.mark.parametrize('factory', [
    row_factories.tuple_row, row_factories.dict_row,
    row_factories.namedtuple_row, row_factories.class_row(Made)])
def test_rows_of_psycopg(pg, factory):
    table(pg, 'integer', range(-5, 6), mark='%s')
    pg.row_factory = factory
    expected = pg.execute(f'{QUERY} ORDER BY id DESC').fetchall()
    assert list(keyset(pg, QUERY, key='id', step=3,
                       descending=True)) == expected


def test_parameters_of_psycopg(pg):
    table(pg, 'text', ['50%', '10%', '7'], mark='%s')
    for where, parameters in (
            ("id LIKE '%%0\\%%'", ()), ('id LIKE %s', [r'%0\%']),
            ('id LIKE %(like)s', {'like': r'%0\%'})):
        rows = keyset(pg, f'{QUERY} WHERE {where}', key='id', step=1,
                      parameters=parameters)
        assert [row[0] for row in rows] == ['10%', '50%']


@pytest.mark.parametrize('kind, keys', [
    ('text COLLATE "en-x-icu"', ['a', 'B', 'c', 'D', 'ä', 'Z', '_', '-1']),
    ('uuid', [uuid.UUID(int=7 ** number) for number in range(40)]),
    ('numeric', [number / 8 for number in range(-20, 20)]),
    ('real', [number / 8 for number in range(-20, 20)]),
    ('bytea', [b'\0', b'\xff', b'a', b''])], ids=lambda x: str(x)[:8])
@pytest.mark.parametrize('descending', [False, True])
def test_types_of_postgresql(pg, kind, keys, descending):
    table(pg, kind, keys, mark='%s')
    expected = pg.execute(
        f'{QUERY} ORDER BY id {"DESC" * descending}').fetchall()
    for step in 1, 3, 100:
        assert list(keyset(pg, QUERY, key='id', step=step,
                           descending=descending)) == expected
    for at in range(len(keys)):
        assert list(keyset(pg, QUERY, key='id', last=expected[at][0] or None,
                           descending=descending)) == (
            expected[at + 1:] if expected[at][0] else expected)


def test_nothing_is_held_open_between_pages(pg, database):
    """No transaction, so no snapshot, which would keep vacuum off."""
    table(pg, 'integer', range(9), mark='%s')
    with psycopg.connect(database, autocommit=True) as other:
        for _ in keyset(pg, QUERY, key='id', step=2):
            assert other.execute(
                'SELECT state, backend_xmin FROM pg_stat_activity'
                ' WHERE pid = %s', [pg.info.backend_pid]).fetchone() == (
                    'idle', None)


def test_a_connection_that_would_hold_a_transaction_open(database):
    with psycopg.connect(database) as db:
        with pytest.raises(OperatorError, match='set its autocommit = True'):
            keyset(db, QUERY, key='id')


def test_a_connection_of_asyncio(database):
    async def walk():
        async with await psycopg.AsyncConnection.connect(
                database, autocommit=True) as db:
            keyset(db, QUERY, key='id')
    with pytest.raises(OperatorError, match='connect without async'):
        asyncio.run(walk())
