"""Walks on a MariaDB, through the drivers that people have."""

import contextlib
import datetime
from decimal import Decimal

import pytest
from test_walks import CLOCK, PAIRS_OF_KEYS, QUERY, both_ways, walks
from walks import ALL, REFUSED, STEPS, Case, Table, check

from taskmaster.errors import OperatorError
from taskmaster.iterators import keyset

pymysql = pytest.importorskip('pymysql')
connector = pytest.importorskip('mysql.connector')

# Not on every Python: the databases would say the same.
pytestmark = pytest.mark.hunt

# What each is told, beside where the server is.
DRIVERS = {
    'pymysql': (pymysql.connect, {}),
    'mysql.connector': (connector.connect, {
        'collation': 'utf8mb4_general_ci', 'use_pure': True})}


@pytest.fixture(params=DRIVERS)
def connect(request, mariadb):
    """``connect(**options)`` to a new database; in autocommit mode."""
    function, options = DRIVERS[request.param]
    with contextlib.ExitStack() as stack:
        def connect(**more):
            db = function(**{**mariadb, **options, 'autocommit': True,
                             **more})
            stack.callback(db.close)
            return db
        connect.driver = request.param
        yield connect


def executor(db):
    def execute(query, values=()):
        with contextlib.closing(db.cursor()) as cursor:
            cursor.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []
    return execute


NAIVE = [at.replace(tzinfo=None) for at in CLOCK]
CASES = {
    'int': Case({'id': 'INT'}, list(range(1, 60))),
    'composite': Case({'a': 'INT', 'b': 'INT'}, PAIRS_OF_KEYS),
    'composite with text': Case(
        {'a': 'VARCHAR(9) COLLATE utf8mb4_bin', 'b': 'INT'},
        [('aBc'[number % 3], number) for number in range(45)]),
    'ENUM': Case(
        {'status': "ENUM('pending', 'active', 'closed')", 'id': 'INT'},
        [(('pending', 'active', 'closed')[number % 3], number)
         for number in range(45)], REFUSED),
    'general_ci, accents': Case(
        {'id': 'VARCHAR(99) COLLATE utf8mb4_general_ci'},
        [f'{"cafe" if number % 2 else "café"}{number // 2}'
         for number in range(50)], REFUSED),
    'general_ci, unique': Case(
        {'id': 'VARCHAR(99) COLLATE utf8mb4_general_ci UNIQUE'},
        [f'{"aÉz_"[number % 4]}{number}' for number in range(50)]),
    'utf8mb4_bin': Case(
        {'id': 'VARCHAR(99) COLLATE utf8mb4_bin'},
        [f'{"cafe" if number % 2 else "café"}{number // 2}'
         for number in range(50)]),
    'DATETIME(6)': Case({'at': 'DATETIME(6)'}, [
        at + datetime.timedelta(microseconds=1) for at in NAIVE]),
    'TIMESTAMP in UTC': Case({'at': 'TIMESTAMP'}, NAIVE),
    'DATE': Case({'at': 'DATE'}, [
        datetime.date(2024, 1, 1) + datetime.timedelta(number)
        for number in range(40)]),
    'DECIMAL': Case({'id': 'DECIMAL(20, 10)'}, [
        Decimal(number) / 8 for number in range(1, 40)]),
    'BINARY(16)': Case({'id': 'BINARY(16)'}, [
        bytes([number * 5] * 16) for number in range(50)]),
    'DOUBLE': Case({'id': 'DOUBLE'}, [
        number / 10 for number in range(1, 50)]),
    'FLOAT': Case({'id': 'FLOAT'}, [
        number / 10 for number in range(1, 50)], REFUSED),
}


@pytest.mark.parametrize('case', CASES.values(), ids=CASES)
def test_mariadb(connect, case):
    db = connect()
    both_ways(db, executor(db), case, '%s',
              STEPS if connect.driver == 'pymysql' else [7])


# Drivers give a SET as a text or a set, BIT as bytes or a number.  Either
# all rows come, or the walk ends: with our line, or because the driver does
# not take back what it gave.
@pytest.mark.parametrize('kind, keys', [
    ("SET('a', 'b', 'c', 'd', 'e')", [
        ','.join(c for bit, c in enumerate('abcde') if number >> bit & 1)
        for number in range(1, 32)]),
    ('BIT(6)', list(range(1, 50)))])
@pytest.mark.parametrize('step', [1, 7, 20])
def test_types_of_which_drivers_differ(connect, kind, keys, step):
    db = connect()
    Table(executor(db), Case({'id': kind}, keys), '%s')
    for descending in False, True:
        found = []
        try:
            for row in keyset(db, QUERY, key='id', step=step,
                              descending=descending):
                found.append(row[1])
        except Exception as error:
            assert type(error).__name__ in ('OperatorError',
                                            'ProgrammingError')
        else:
            assert sorted(found) == list(range(len(keys)))


def test_the_number_of_an_enum(connect):
    db = connect()
    table = Table(executor(db), CASES['ENUM'], '%s')
    query = 'SELECT status + 0 AS state, id, number FROM walked'
    check(table, walks(db, ['state', 'id'], query), ALL)


@pytest.fixture
def berlin(mariadb_server):
    """The rules of a zone with summer time; a server is without any."""
    mariadb_server.run('''
        USE mysql;
        REPLACE INTO time_zone_name VALUES ('Berlin', 1);
        REPLACE INTO time_zone VALUES (1, 'N');
        REPLACE INTO time_zone_transition VALUES
            (1, 1711846800, 1), (1, 1729990800, 0);
        REPLACE INTO time_zone_transition_type VALUES
            (1, 0, 3600, 0, 'CET'), (1, 1, 7200, 1, 'CEST');
        ''')
    return "SET time_zone = 'Berlin'"


def test_a_clock_that_goes_back(connect, berlin):
    db = connect()
    execute = executor(db)
    case = CASES['TIMESTAMP in UTC']._replace(expected=REFUSED,
                                              after=[berlin])
    both_ways(db, execute, case, '%s')
    # Each of its times, stopped at and gone on from.
    every = [row[0] for row in execute(
        'SELECT number FROM walked ORDER BY at')]
    times = [row[0] for row in execute('SELECT at FROM walked ORDER BY at')]
    for place, last in enumerate(times):
        for step in 1, 7, 1000:
            with contextlib.suppress(OperatorError):
                rest = [row[1] for row in keyset(db, QUERY, key='at',
                                                 last=last, step=step)]
                assert set(every[place + 1:]) <= set(rest)


def test_pages_of_a_composite_key_enter_the_index(connect):
    """However far the walk has come, and whatever the first column says."""
    db = connect()
    execute = executor(db)
    execute('CREATE TABLE many (a INT, b INT, PRIMARY KEY (a, b))')
    execute('INSERT INTO many SELECT 1, seq FROM seq_1_to_20000')
    execute('ANALYZE TABLE many')
    for descending, last in (False, (1, 19_000)), (True, (1, 1_000)):
        execute('FLUSH STATUS')
        assert len(list(keyset(db, 'SELECT a, b FROM many', key=('a', 'b'),
                               last=last, descending=descending))) in (
                                   999, 1000)
        read = sum(int(row[1]) for row in execute(
            "SHOW STATUS LIKE 'Handler_read%'"))
        assert read < 5000, 'the table was read from its beginning'


# -- connections ----------------------------------------------------------

def test_a_connection_without_autocommit(connect):
    with pytest.raises(OperatorError, match='autocommit ?= ?True'):
        keyset(connect(autocommit=False), QUERY, key='id')


def test_rows_committed_meanwhile_are_seen(connect):
    db, other = connect(), connect()
    Table(executor(other), Case({'id': 'INT'}, [1, 2, 3]), '%s')
    rows = keyset(db, QUERY, key='id', step=1)
    assert next(rows) == (1, 0)
    executor(other)('INSERT INTO walked VALUES (4, 3)')
    assert [row[0] for row in rows] == [2, 3, 4]


@pytest.mark.parametrize('parameters, where', [
    ((), "name LIKE '1%%' AND id %% 2 = 1"),
    (['1%'], 'name LIKE %s AND id %% 2 = 1'),
    ({'like': '1%'}, 'name LIKE %(like)s AND id %% 2 = 1')])
def test_percent_signs(connect, parameters, where):
    db = connect()
    execute = executor(db)
    execute('CREATE TABLE names (id INT PRIMARY KEY, name TEXT)')
    execute('INSERT INTO names SELECT seq, seq FROM seq_1_to_30')
    query = f'SELECT id FROM names WHERE {where}; -- no more'
    assert list(keyset(db, query, key='id', step=2,
                       parameters=parameters)) == [
        (1,), (11,), (13,), (15,), (17,), (19,)]


def test_a_percent_sign_that_is_one_too_few(connect):
    db = connect()
    Table(executor(db), Case({'id': 'INT'}, [1, 2, 3]), '%s')
    rows = keyset(db, f'{QUERY} WHERE id % 2 = 1', key='id')
    if connect.driver == 'mysql.connector':     # which does not mind
        assert [row[0] for row in rows] == [1, 3]
    else:
        with pytest.raises(OperatorError, match='write %% for any other %'):
            list(rows)


def test_cursors_that_give_dicts(mariadb):
    with contextlib.closing(pymysql.connect(
            **mariadb, autocommit=True,
            cursorclass=pymysql.cursors.DictCursor)) as db:
        Table(executor(db), Case({'a': 'INT', 'b': 'VARCHAR(9)'}, [
            (number // 3, 'abc'[number % 3]) for number in range(9)]), '%s')
        rows = list(keyset(db, QUERY, key=('a', 'b'), step=2))
        assert [row['number'] for row in rows] == list(range(9))
        assert rows[4] == {'a': 1, 'b': 'b', 'number': 4}
