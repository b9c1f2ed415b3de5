"""Walks through SQLAlchemy's connections."""

import pickle

import pytest
from test_walks import PAIRS, PAIRS_OF_KEYS, QUERY, WORDS, walks
from walks import ALL, REFUSED, Case, Table, check

from taskmaster.errors import OperatorError
from taskmaster.iterators import keyset, ranges

sqlalchemy = pytest.importorskip('sqlalchemy', '2.0')

# Not on every Python: the databases would say the same.
pytestmark = pytest.mark.hunt

URLS = {'sqlite': 'sqlite://', 'postgresql': 'postgresql+psycopg://',
        'mariadb': 'mysql+pymysql://'}


@pytest.fixture(params=[
    'sqlite',
    pytest.param('postgresql', marks=pytest.mark.xdist_group('PostgreSQL')),
    pytest.param('mariadb', marks=pytest.mark.xdist_group('MariaDB'))])
def engine(request):
    options = {}
    if request.param == 'postgresql':
        import psycopg
        database = request.getfixturevalue('database')
        options['creator'] = lambda: psycopg.connect(database)
    elif request.param == 'mariadb':
        pymysql = pytest.importorskip('pymysql')
        mariadb = request.getfixturevalue('mariadb')
        options['creator'] = lambda: pymysql.connect(**mariadb)
    engine = sqlalchemy.create_engine(URLS[request.param], **options)
    yield engine
    engine.dispose()


@pytest.fixture
def db(engine):
    with engine.connect() as db:
        yield db.execution_options(isolation_level='AUTOCOMMIT')


def executor(db):
    """As a cursor's `execute`: ``?`` for the placeholders."""
    def execute(query, values=()):
        for number in range(len(values)):
            query = query.replace('?', f':v{number}', 1)
        db.execute(sqlalchemy.text(query), {
            f'v{number}': value for number, value in enumerate(values)})
    return execute


@pytest.mark.parametrize('case', [
    Case({'id': 'INT'}, list(range(1, 40))),
    Case({'id': 'VARCHAR(9)'}, WORDS[::5] + WORDS[1::5]),
    Case({'a': 'INT', 'b': 'INT'}, PAIRS_OF_KEYS)], ids=[
        'int', 'text', 'composite'])
def test_sqlalchemy(db, case):
    table = Table(executor(db), case, '?')
    for descending in False, True:
        check(table, walks(db, case.columns, descending=descending), ALL)


def test_a_collation_through_sqlalchemy():
    engine = sqlalchemy.create_engine('sqlite://',
                                      isolation_level='AUTOCOMMIT')
    with engine.connect() as db:
        table = Table(executor(db), Case({'id': 'TEXT COLLATE NOCASE'},
                                         PAIRS), '?')
        check(table, walks(db, ['id']), REFUSED)
    engine.dispose()


def test_text_parameters_and_rows(db):
    Table(executor(db), Case({'id': 'INT'}, list(range(1, 40))), '?')
    query = sqlalchemy.text(f'{QUERY} WHERE number % 2 = :odd;')
    rows = list(keyset(db, query, key='id', step=3, last=4,
                       parameters={'odd': 1}))
    assert [row.id for row in rows] == list(range(6, 40, 2))
    again = pickle.loads(pickle.dumps(rows))
    assert again == rows and again[0].number == 5
    with pytest.raises(OperatorError, match='are a mapping'):
        keyset(db, QUERY, key='id', parameters=[1])


def test_a_connection_that_would_hold_a_transaction(engine):
    remedy = r"execution_options\(isolation_level='AUTOCOMMIT'\)"
    with engine.connect() as db:
        with pytest.raises(OperatorError, match=remedy):
            keyset(db, QUERY, key='id')
    with pytest.raises(OperatorError, match='needs a connection .* Engine'):
        keyset(engine, QUERY, key='id')


@pytest.mark.parametrize('options', [
    {'isolation_level': 'AUTOCOMMIT'},
    {'execution_options': {'isolation_level': 'AUTOCOMMIT'}}])
def test_an_engine_that_is_in_autocommit_mode(options):
    engine = sqlalchemy.create_engine('sqlite://', **options)
    with engine.connect() as db:
        Table(executor(db), Case({'id': 'INT'}, [1, 2, 3]), '?')
        assert [row.id for row in keyset(db, QUERY, key='id')] == [1, 2, 3]
    engine.dispose()


def test_ranges(db):
    execute = executor(db)
    table = Table(execute, Case({'id': 'INT'}, list(range(1, 40))), '?')
    assert len(table.numbers) == 39
    query = sqlalchemy.text('SELECT id FROM walked WHERE id > :least')
    found = list(ranges(db, query, key='id', step=7,
                        parameters={'least': 3}))
    assert found[0] == (4, 10) and found[-1] == (39, 39)
    assert list(ranges(db, query, key='id', step=7, last=found[2].pk,
                       parameters={'least': 3})) == found[3:]
