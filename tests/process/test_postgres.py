"""The migration of the examples, on a PostgreSQL, killed in the middle."""

import contextlib
import os
import signal
from pathlib import Path

import pytest
from programs import eventually

pytestmark = pytest.mark.hunt

EXAMPLES = Path(__file__).resolve().parents[2] / 'examples'
MODULE = str(EXAMPLES / 'postgres_migration.py')
ACCOUNTS = 2000

# The example, whose slave dies at one account, and waits at another one.
DYING = '''
import os
import signal

import postgres_migration
from postgres_migration import get_jobs, get_key, setup
from recorder import block, first, record


def handle_jobs(jobs, db):
    if jobs[-1][0] >= 100 and first('died'):
        os.kill(os.getpid(), signal.SIGKILL)
    if jobs[-1][0] >= 300:
        block('there')
    postgres_migration.handle_jobs(jobs, db)
    for job in jobs:
        record(job[0])
'''


@pytest.fixture
def bench(work, postgres_server, pg):
    """A connection to a database with pgbench's tables."""
    name = pg.info.dbname
    work.environ.update(postgres_server.environ, PGDATABASE=name)
    work.environ['PYTHONPATH'] += f'{os.pathsep}{EXAMPLES}'
    postgres_server.run('pgbench', '--initialize', '--quiet', name)
    pg.execute('DELETE FROM pgbench_accounts WHERE aid > %s', [ACCOUNTS])
    pg.execute('UPDATE pgbench_accounts SET abalance = 7919 * aid % 1000')
    return pg


def check_target(db):
    """The new table is what the old one says, told in another way."""
    rows = db.execute('SELECT id, number, balance, branch_balance FROM account'
                      ' ORDER BY id').fetchall()
    assert [row[0] for row in rows] == list(range(1, ACCOUNTS + 1))
    for id, number, balance, branch_balance in rows:
        assert number[2:] == f'0001{id:09}'
        assert int(number[2:] + number[:2]) % 97 == 1
        assert (balance * 100, branch_balance) == (7919 * id % 1000, 0)


def run_check(work):
    """Run the check of the example; its exit code."""
    return work.finish('run', MODULE, '2', '--get-jobs=get_ranges',
                       '--handle-job=check_range', '--reset').code()


def test_a_migration_and_its_check(work, bench):
    run = work.finish('run', MODULE, '2')
    assert run.code() == 0
    assert work.state('postgres_migration')['count'] == ACCOUNTS
    check_target(bench)
    assert run_check(work) == 0
    bench.execute('UPDATE account SET balance = balance + 1 WHERE id = 77')
    bench.execute('DELETE FROM account WHERE id = 1234')
    bench.execute("INSERT INTO account VALUES (5000, '', 0)")
    assert run_check(work) == 1
    assert [failure['error'].rpartition(': ')[2] for failure in sorted(
        work.failures('postgres_migration-get_ranges'),
        key=lambda failure: failure['number'])] == ['77', '1234', '5000']


def test_a_migration_that_is_killed_in_the_middle(work, bench):
    work.write('dying.py', DYING)
    run = work.start('run', 'dying', '2')
    eventually(lambda: work.has('there'), 'the account')
    assert work.has('died')
    for pid in work.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert run.code() == -signal.SIGKILL
    handled = set(work.handled())
    assert 0 < len(handled) < ACCOUNTS
    work.touch('go')
    assert work.finish('run', 'dying', '2').code() == 0
    work.check(range(1, ACCOUNTS + 1), twice=handled)
    check_target(bench)
    assert run_check(work) == 0


def test_a_backfill_by_ranges(work, bench):
    """Rows that are gone leave gaps; the check of the other one is right."""
    bench.execute('DELETE FROM pgbench_accounts WHERE aid % 3 = 0')
    module = str(EXAMPLES / 'postgres_backfill.py')
    assert work.finish('run', module, '2').code() == 0
    state = work.state('postgres_backfill')
    assert (state['key'], state['count']) == (ACCOUNTS, 2)
    assert bench.execute('SELECT count(*) FROM account').fetchone() == (
        ACCOUNTS - ACCOUNTS // 3,)
    assert run_check(work) == 0
