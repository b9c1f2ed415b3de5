"""Connections that `setup` made, and that have died since."""

import pytest
from programs import eventually

# Rows 1 .. 300, each copied by a handler with a connection of its own.
COPYING = '''
import os
import psycopg
from recorder import block, first, record


def get_jobs(last=0):
    return iter(range(last + 1, 301))


def copy(job, db):
    db.execute('INSERT INTO copied VALUES (%s)', [job])
    if job == 100 and first('there'):
        block('blocked')
    record(job)
'''

HANDLERS = {
    'jobs': '''
def setup():
    with psycopg.connect(os.environ['DSN'], autocommit=True) as db:
        yield db


def handle_job(job, db):
    copy(job, db)
''',
    'lists': '''
def setup():
    return psycopg.connect(os.environ['DSN'], autocommit=True)


def handle_jobs(jobs, db):
    with db.transaction():
        for job in jobs:
            db.execute('INSERT INTO copied VALUES (%s)', [job])
        if 100 in jobs and first('there'):
            block('blocked')
    for job in jobs:
        record(job)
''',
    'async': '''
async def setup():
    async with await psycopg.AsyncConnection.connect(
            os.environ['DSN'], autocommit=True) as db:
        yield db


async def handle_job(job, db):
    await db.execute('INSERT INTO copied VALUES (%s)', [job])
    if job == 100 and first('there'):
        block('blocked')
    record(job)
'''}


@pytest.mark.parametrize('how', HANDLERS)
def test_56_a_server_is_restarted_in_the_middle(work, postgres_server,
                                                database, how):
    """What setup made is made anew, and no job fails."""
    psycopg = pytest.importorskip('psycopg')
    work.environ['DSN'] = database
    work.environ['PYTHONWARNINGS'] = 'error,ignore::ResourceWarning'
    with psycopg.connect(database) as db:
        db.execute('CREATE TABLE copied (id int PRIMARY KEY)')
    work.write('migrate.py', COPYING + HANDLERS[how])
    run = work.start('run', 'migrate', '1', '--retries=2')
    eventually(lambda: work.has('blocked'))
    postgres_server.restart()
    work.touch('go')
    assert run.code() == 0
    assert not work.failures()
    assert {*work.lines('done')} == {str(job) for job in range(1, 301)}
    with psycopg.connect(database) as db:
        assert db.execute('SELECT count(*) FROM copied').fetchone() == (300,)


@pytest.mark.parametrize('retries, failed', [(0, 3), (2, 0)])
def test_56_connections_that_were_idle_too_long_fail_no_hundred_jobs(
        work, postgres_server, database, retries, failed):
    """Without --retries it costs what has failed in a row until then."""
    psycopg = pytest.importorskip('psycopg')
    work.environ['DSN'] = database
    work.environ['PYTHONWARNINGS'] = 'error,ignore::ResourceWarning'
    with psycopg.connect(database) as db:
        db.execute('CREATE TABLE copied (id int PRIMARY KEY)')
    work.write('migrate.py', COPYING + HANDLERS['jobs'] + '''

def throttle():
    return 'not yet' if os.path.exists('waits') else None
''')
    work.touch('waits')
    run = work.start('run', 'migrate', '1', f'--retries={retries}')
    eventually(lambda: 'not yet' in run.err)
    with psycopg.connect(database, autocommit=True) as db:
        eventually(lambda: db.execute('''
            SELECT bool_or(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database()
                  AND pid <> pg_backend_pid()''').fetchone()[0])
    work.touch('go')
    (work.path / 'waits').unlink()
    assert run.code() == (1 if failed else 0)
    assert len(work.failures()) == failed
    assert len(work.handled()) == 300 - failed
