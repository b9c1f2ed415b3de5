"""A new column for a million users, filled by ranges: on SQLite.

    $ tm-run examples/sqlite_backfill.py 2
    state: none in .../sqlite_backfill.state; starting at the beginning
    Current Job: 667 | Rate:  598.71/s | Elapsed Time: 0:00:01 | ...

Jobs are ranges of a thousand users that there are; a list of them is one
UPDATE.  On PostgreSQL see postgres_backfill.py.
"""

import sqlite3
from contextlib import closing

from taskmaster.iterators import ranges

DATABASE = 'users.db'


def get_jobs(last=0, rows='1000000'):
    with connect() as db:
        if not last:
            make(db, int(rows))
        yield from ranges(db, 'SELECT id FROM users', key='id', last=last)


def make(db, rows):
    """Some users to begin with, a third of whom have left."""
    db.execute('PRAGMA journal_mode = WAL')
    db.execute('BEGIN IMMEDIATE')
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'users'"
                      ).fetchone():
        db.execute('CREATE TABLE users '
                   '(id INTEGER PRIMARY KEY, mail TEXT, domain TEXT)')
        db.execute(
            'WITH RECURSIVE numbers(id) AS '
            '(SELECT 1 UNION ALL SELECT id + 1 FROM numbers WHERE id < ?) '
            "INSERT INTO users SELECT id, 'ann' || id || '@Example.ORG', NULL "
            'FROM numbers WHERE id % 3 > 0', [rows])
    db.execute('COMMIT')


def setup():
    with connect() as db:
        yield db


def connect():
    return closing(sqlite3.connect(DATABASE, isolation_level=None,
                                   timeout=60))


def handle_jobs(jobs, db):
    db.execute("UPDATE users SET domain = lower(substr(mail, "
               "instr(mail, '@') + 1)) WHERE id BETWEEN ? AND ?",
               (jobs[0].first, jobs[-1].last))
