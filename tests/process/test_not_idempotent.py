"""--twice: the missing ON CONFLICT, in the first minute."""

import pytest

pytestmark = pytest.mark.hunt

MODULE = '''
import sqlite3


def get_jobs(last=0):
    return iter(range(last + 1, 41))


def setup():
    db = sqlite3.connect('rows.db', timeout=60)
    db.execute('CREATE TABLE IF NOT EXISTS rows (id INTEGER PRIMARY KEY)')
    yield db
    db.close()


def handle_jobs(jobs, db):
    with db:
        db.executemany('INSERT INTO rows VALUES (?) CONFLICT',
                       [(job,) for job in jobs])
'''


@pytest.mark.parametrize('words', [['2', '--limit=20'], ['1', '--inline']],
                         ids=['limit', 'inline'])
def test_an_insert_with_on_conflict_and_without(work, words):
    work.write('migrate.py', MODULE.replace(' CONFLICT', ''))
    assert work.finish('run', 'migrate', *words, '--twice').code() == 1
    failures = work.failures()
    assert len(failures) == (20 if words[0] == '2' else 40)
    assert {failure['error'] for failure in failures} == {
        'not idempotent: IntegrityError: UNIQUE constraint failed: rows.id'}
    assert 'in handle_jobs' in failures[0]['traceback']
    (work.path / 'rows.db').unlink()
    work.write('migrate.py', MODULE.replace(
        'CONFLICT', 'ON CONFLICT DO NOTHING'))
    run = work.finish('run', 'migrate', *words, '--twice', '--reset')
    assert run.code() == 0 and not work.failures()


def test_it_is_for_a_first_try(work):
    work.write('migrate.py', MODULE)
    run = work.finish('run', 'migrate', '2', '--twice')
    assert run.code() == 2
    assert 'give --limit or --inline too' in run.err
    assert not work.has('migrate.state') and not work.has('rows.db')
