"""Copy pgbench's accounts into a new, denormalised table, and check it.

    $ pgbench --initialize --scale=10
    $ pgbench --client=4 --transactions=1000
    $ tm-run examples/postgres_migration.py 4
    state: none in .../postgres_migration.state; starting at the beginning
    Taskmaster server running on '127.0.0.1:3050'
    Current Job: 412207 | Rate: 136548.64/s | Elapsed Time: 0:00:03 | ...
    ^C
    stopping: jobs in hand are finished and saved first; once more ...
    Current Job: 442000 | Rate: 141241.00/s | ... | draining
    442000 jobs in 0:00:03 (140654.84/s): 442000 done, 0 failed, ...
    stopped by SIGINT; start again to go on
    $ tm-run examples/postgres_migration.py 4
    state: ..., resuming after key 442000 (442000 jobs, 0 failed)
    Taskmaster server running on '127.0.0.1:3050'
    Current Job: 1000000 | Rate: 177680.04/s | Elapsed Time: 0:00:03 | ...
    558000 jobs in 0:00:03 (177439.49/s): 558000 done, 0 failed, ...
    complete (exit code 0)

    $ psql -c 'UPDATE account SET balance = balance + 1 WHERE id = 1492'
    $ tm-run examples/postgres_migration.py 4 \\
        --get-jobs=get_ranges --handle-job=check_range
    warning: failed: job 2: ValueError: 1 accounts are not as they should ...
    Current Job: 1000 | Rate:  776.51/s | Elapsed Time: 0:00:01 | ...
    1000 jobs in 0:00:01 (773.01/s): 999 done, 1 failed, ...
    1 failed job is in .../postgres_migration-get_ranges.failures
    complete, but for the failed jobs (exit code 1)

pgbench_accounts and pgbench_branches become account

    aid  | bid | abalance | bbalance     id   | number          | balance | ...
    1665 |   1 |    -2964 |    35516     1665 | 450001000001665 |  -29.64 | ...

Where the database is libpq's variables say: PGHOST, PGDATABASE, PGUSER ...
"""

from decimal import Decimal

import psycopg

from taskmaster.iterators import keyset

OLD = '''
    SELECT aid, bid, abalance, bbalance
    FROM pgbench_accounts JOIN pgbench_branches USING (bid)'''

NEW = '''
    CREATE TABLE IF NOT EXISTS account (
        id integer PRIMARY KEY, number text NOT NULL,
        balance numeric(12, 2) NOT NULL, branch_balance numeric(12, 2))'''

# Columns as arrays: one statement, whatever the number of rows.  They are in
# the order of the key, so two slaves that write the same rows (one was taken
# for dead) wait for each other and do not deadlock.
INSERT = '''
    INSERT INTO account (id, number, balance, branch_balance)
    SELECT * FROM unnest(%s::int[], %s::text[], %s::numeric[], %s::numeric[])
    ON CONFLICT (id) DO UPDATE SET
        number = excluded.number, balance = excluded.balance,
        branch_balance = excluded.branch_balance'''

# What should be in the new table, said once more: in SQL, for the check.
EXPECTED = f'''
    SELECT aid AS id,
           lpad((98 - (bid * 1000000000::bigint + aid) * 100 %% 97)::text,
                2, '0') || to_char(bid, 'FM0000') || to_char(
                aid, 'FM000000000') AS number,
           abalance / 100.0 AS balance, bbalance / 100.0 AS branch_balance
    FROM ({OLD}) AS old'''

COMPARE = f'''
    SELECT coalesce(account.id, expected.id)
    FROM (SELECT * FROM account WHERE id >= %(first)s AND id < %(end)s
         ) AS account
    FULL JOIN (SELECT * FROM ({EXPECTED}) AS expected
               WHERE id >= %(first)s AND id < %(end)s) AS expected
    ON account.id = expected.id
    WHERE account IS DISTINCT FROM expected ORDER BY 1'''


def get_jobs(last=0):
    """The old rows, in the order of their primary key."""
    with connect() as db:
        db.execute(NEW)
        yield from keyset(db, OLD, key='aid', last=last)


def get_key(job):
    return job[0]


def setup():
    """One connection for each worker."""
    with connect() as db:
        yield db


def handle_jobs(jobs, db):
    """Write new rows, all or none; those that are there already again."""
    rows = [new_row(*job) for job in jobs]
    db.execute(INSERT, [list(column) for column in zip(*rows)])


def new_row(aid, bid, abalance, bbalance):
    number = bid * 10 ** 9 + aid
    check = 98 - number * 100 % 97      # two digits, as an IBAN has
    return (aid, f'{check:02}{number:013}', Decimal(abalance) / 100,
            Decimal(bbalance) / 100)


# The check, in ranges of keys that cover both tables.

def get_ranges(last=None, rows='1000'):
    with connect() as db:
        first, final = db.execute(
            'SELECT least(min(aid), (SELECT min(id) FROM account)),'
            ' greatest(max(aid), (SELECT max(id) FROM account))'
            ' FROM pgbench_accounts').fetchone()
    if first is not None:
        for start in range(first if last is None else last, final + 1,
                           int(rows)):
            yield start, start + int(rows)


def check_range(job, db):
    first, end = job
    ids = [id for id, in db.execute(COMPARE, {'first': first, 'end': end})]
    if ids:
        raise ValueError(f'{len(ids)} accounts are not as they should be: '
                         + ', '.join(map(str, ids[:10])))


def connect():
    return psycopg.connect(autocommit=True)
