"""--verify: the second pass, which shows that every row is right."""

import pytest
from programs import eventually, free_port

pytestmark = pytest.mark.hunt

MODULE = '''
import sqlite3
from contextlib import closing
from recorder import block, first, record
from taskmaster.iterators import keyset


def get_jobs(last=0):
    with closing(sqlite3.connect('rows.db', timeout=60)) as db:
        yield from keyset(db, 'SELECT id FROM old', key='id', last=last)


def get_key(job):
    return job[0]


def setup():
    with closing(sqlite3.connect('rows.db', isolation_level=None,
                                 timeout=60)) as db:
        yield db


def handle_jobs(jobs, db):
    db.executemany('INSERT OR REPLACE INTO new VALUES (?, 2 * ?)',
                   [job + job for job in jobs])


def is_right(job, db):
    record(job[0])
    found = db.execute('SELECT twice FROM new WHERE id = ?', job).fetchone()
    return found == (2 * job[0],)
'''
SINGLE = MODULE + '''

def check_job(job, db):
    if job[0] == 77 and not is_right(job, db):
        raise LookupError('no such row')
    return job[0] == 77 or is_right(job, db)
'''
LISTS = MODULE + '''

def check_jobs(jobs, db):
    if not all([is_right(job, db) for job in jobs]):
        return False
'''


@pytest.fixture
def database(work):
    """300 rows, not migrated yet."""
    import contextlib
    import sqlite3
    with contextlib.closing(sqlite3.connect(
            work.path / 'rows.db', isolation_level=None, timeout=60)) as db:
        db.execute('PRAGMA journal_mode = WAL')
        db.execute('CREATE TABLE old (id INTEGER PRIMARY KEY)')
        db.execute('CREATE TABLE new (id INTEGER PRIMARY KEY, twice INT)')
        db.executemany('INSERT INTO old VALUES (?)',
                       [(id,) for id in range(1, 301)])
        yield db


@pytest.mark.parametrize('module, words', [
    (SINGLE, ['2']), (LISTS, ['2', '--batch=50']), (LISTS, ['1', '--inline'])],
    ids=['jobs', 'lists', 'inline'])
def test_just_what_was_spoilt_is_found(work, database, module, words):
    work.write('migrate.py', module)
    assert work.finish('run', 'migrate', *words).code() == 0
    assert work.finish('run', 'migrate', *words, '--verify',
                       '--limit=100').code() == 0
    assert work.state('migrate.check')['run'] == 'migrate.check'
    before = (work.path / 'migrate.state').read_bytes()
    database.execute('UPDATE new SET twice = 0 WHERE id IN (150, 250)')
    database.execute('DELETE FROM new WHERE id IN (77, 300)')
    again = work.finish('run', 'migrate', *words, '--verify')
    assert again.code() == 1 and 'after key 100' in again.err
    assert [failure['key'] for failure in sorted(
        work.failures('migrate.check'), key=lambda f: f['number'])] == [
            '150', '250', '300']
    # It was complete, so that this is a check of all.
    anew = work.finish('run', 'migrate', *words, '--verify')
    assert anew.code() == 1
    errors = {failure['key']: failure['error']
              for failure in work.failures('migrate.check')}
    assert errors.keys() == {'77', '150', '250', '300'}
    gave = f'NotRight: check_job{"s" * (module is LISTS)} gave False'
    assert errors['150'] == gave
    if module is SINGLE:
        assert errors['77'] == 'LookupError: no such row'
        assert f'failed: 3 x {gave}' in anew.err
    assert (work.path / 'migrate.state').read_bytes() == before
    # Mended, and looked at once more.
    database.execute('INSERT OR REPLACE INTO new SELECT id, 2 * id FROM old')
    assert work.finish('run', 'migrate', *words, '--verify',
                       '--retry-failed').code() == 0
    assert not work.failures('migrate.check')


def test_what_cannot_be_is_said_before_anything_is_served(work, database):
    work.write('migrate.py', MODULE)
    run = work.finish('run', 'migrate', '2', '--verify')
    assert run.code() == 78 and 'no function check_job in migrate' in run.err
    assert 'server running' not in run.err
    work.write('migrate.py', LISTS)
    both = work.finish('run', 'migrate', '2', '--verify', '--twice',
                       '--limit=1')
    assert both.code() == 2 and 'give one of them' in both.err
    assert not list(work.path.glob('*.state'))


def test_slaves_that_are_started_alone(work, database):
    """They take the check of their module; never one for the other."""
    work.write('migrate.py', LISTS.replace('return False', '''
        return False
    block('here')
'''))
    assert work.finish('run', 'migrate', '2').code() == 0
    host = f'--host=127.0.0.1:{free_port()}'
    master = work.start('master', 'migrate', '--verify', host,
                        '--state=other.state')
    slave = work.start('slave', 'migrate', host)
    eventually(lambda: work.has('here'))
    named = work.finish('slave', 'migrate:handle_jobs', host)
    assert named.code() == 78
    assert 'give it the module alone' in named.err
    assert 'run:     migrate.check' in work.finish('ctl', 'status', host).out
    # Its master goes, and another comes that has jobs handled.
    master.send(9)
    master.code()
    other = work.start('master', 'migrate', '--reset', host)
    other.says('server running')
    work.touch('go')
    assert slave.code() == 78
    assert 'the master now serves another run (migrate)' in slave.err
    only = work.start('spawn', 'migrate', '1', host)
    assert (other.code(), only.code()) == (0, 0)
    master = work.start('master', 'migrate', '--verify', host,
                        '--state=other.state')
    assert (work.finish('spawn', 'migrate', '2', host).code(),
            master.code()) == (0, 0)
    assert work.state('other')['complete']
    assert set(work.handled()) == {str(id) for id in range(1, 301)}


def test_a_module_that_has_but_a_check(work, database):
    work.write('migrate.py', LISTS.replace('handle_jobs', 'nothing'))
    master = work.start('master', 'migrate', '--verify')
    slave = work.finish('slave', 'migrate', master.host)
    assert (slave.code(), master.code()) == (65, 65) or (
        slave.code(), master.code()) == (0, 65)
    plain = work.start('master', 'migrate')
    slave = work.finish('slave', 'migrate', plain.host)
    assert slave.code() == 78 and 'no function handle_job' in slave.err


def test_from_python(work, database):
    work.write('migrate.py', LISTS)
    assert work.finish('run', 'migrate', '2').code() == 0
    database.execute('UPDATE new SET twice = 0 WHERE id = 9')
    work.write('start.py', '''
        from taskmaster import Taskmaster
        import migrate

        print(Taskmaster(migrate.handle_jobs, migrate.get_jobs, batch=100,
                         host='127.0.0.1:0', verify=True).start())
        ''')
    import sys
    program = work.program(sys.executable, 'start.py')
    assert program.code() == 0 and program.out == '1\n'
    assert [failure['key'] for failure in work.failures('migrate.check')
            ] == ['9']
