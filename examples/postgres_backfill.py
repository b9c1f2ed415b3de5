"""pgbench's accounts into a new table, without a row that leaves PostgreSQL.

    $ pgbench --initialize --scale=30
    $ tm-run examples/postgres_backfill.py 2
    Current Job: 3000 | Rate:  403.71/s | Elapsed Time: 0:00:07 | ...
    3000 jobs in 0:00:07 (402.90/s): 3000 done, 0 failed, ...
    complete (exit code 0)

It does what postgres_migration.py does, in SQL: a job is a range of accounts
that there are, and a list of them one INSERT ... SELECT.  Two slaves are two
connections, which work at once.

Where the database is libpq's variables say: PGHOST, PGDATABASE, PGUSER ...
"""

from postgres_migration import EXPECTED, NEW, connect, setup  # noqa: F401

from taskmaster.iterators import ranges

INSERT = f'''
    INSERT INTO account (id, number, balance, branch_balance)
    SELECT id, number, balance, branch_balance FROM ({EXPECTED}) AS expected
    WHERE id BETWEEN %s AND %s ORDER BY id
    ON CONFLICT (id) DO UPDATE SET
        number = excluded.number, balance = excluded.balance,
        branch_balance = excluded.branch_balance'''


def get_jobs(last=0):
    with connect() as db:
        db.execute(NEW)
        yield from ranges(db, 'SELECT aid FROM pgbench_accounts', key='aid',
                          last=last)


def handle_jobs(jobs, db):
    db.execute(INSERT, (jobs[0].first, jobs[-1].last))
