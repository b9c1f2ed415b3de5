"""Paging through a table by key, and by OFFSET, on SQLite and PostgreSQL.

    python benchmarks/paging.py [--rows N]

Needs psycopg, and a PostgreSQL whose programs can be found (it starts one
of its own).  Pages are of 1,000 rows.  *Last page* is the one query for it,
the median of five; *walk* is all of them, from the first row to the last.
"""

import argparse
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'support')]

import postgres  # noqa: E402
import psycopg  # noqa: E402

from taskmaster.iterators import keyset  # noqa: E402

STEP = 1000
QUERY = 'SELECT id, name, mail FROM users'
TABLE = 'CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, mail TEXT)'


def by_key(db, rows):
    yield from keyset(db, QUERY, key='id', step=STEP)


def by_offset(db, rows):
    for offset in range(0, rows, STEP):
        yield from offset_page(db, offset)


def plain(db, rows):
    """One query, for comparison: it cannot be gone on from."""
    yield from db.execute(f'{QUERY} ORDER BY id')


def offset_page(db, offset):
    return db.execute(f'{QUERY} ORDER BY id LIMIT {STEP} OFFSET {offset}'
                      ).fetchall()


def last_by_key(db, rows):
    return list(keyset(db, QUERY, key='id', last=rows - STEP, step=STEP))


def last_by_offset(db, rows):
    return offset_page(db, rows - STEP)


def seconds(function, db, rows):
    begin = time.perf_counter()
    count = sum(1 for _ in function(db, rows))
    taken = time.perf_counter() - begin
    return taken, count


def measure(system, db, rows):
    for name, walk, last in (('keyset', by_key, last_by_key),
                             ('OFFSET', by_offset, last_by_offset),
                             ('one query', plain, None)):
        page = '-'
        if last is not None:
            taken, counts = zip(*(seconds(last, db, rows) for _ in range(5)))
            assert set(counts) == {STEP}
            page = f'{statistics.median(taken) * 1000:,.1f} ms'
        taken, count = seconds(walk, db, rows)
        assert count == rows
        show(system, name, page, f'{taken:,.1f} s',
             f'{rows / taken:,.0f}/s')


def show(*cells):
    print('|', ' | '.join(map(str.ljust, cells, (10, 9, 9, 8, 11))), '|',
          flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--rows', type=int, default=1_000_000)
    rows = parser.parse_args().rows
    show('system', 'paging', 'last page', 'walk', 'rows')
    show(*['---'] * 5)
    users = ((number, f'User {number}', f'{number}@example.com')
             for number in range(1, rows + 1))
    with tempfile.TemporaryDirectory() as folder:
        db = sqlite3.connect(f'{folder}/users.db')
        db.execute(TABLE)
        db.executemany('INSERT INTO users VALUES (?, ?, ?)', users)
        db.commit()
        measure('SQLite', db, rows)
        db.close()
    server = postgres.Server()
    try:
        server.start()
        with psycopg.connect(server.dsn, autocommit=True) as db:
            db.execute(TABLE)
            db.execute("INSERT INTO users SELECT n, 'User ' || n, n ||"
                       " '@example.com' FROM generate_series(1, %s) n",
                       [rows])
            db.execute('VACUUM ANALYZE users')
            measure('PostgreSQL', db, rows)
    finally:
        server.stop()


if __name__ == '__main__':
    main()
