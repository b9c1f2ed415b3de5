"""A CSV into a table of SQLite, in lists, stopped and gone on with.

    $ tm-run examples/csv_import.py 2 path=people.csv.gz
    state: none in .../csv_import-2f1c4ffb.state; starting at the beginning
    ^C
    $ tm-run examples/csv_import.py 2 path=people.csv.gz
    state: ..., resuming after key (190842, '9a1bd07.../1024') (6000 jobs, ...

The columns are id, name and born, in any order, and others besides.  A row
whose id is no number has failed, and is in the failures file.
"""

import sqlite3

from taskmaster.iterators import csv_rows

DATABASE = 'people.db'


def get_jobs(path, last=None):
    if last is None:
        db = sqlite3.connect(DATABASE, timeout=60)
        db.execute('CREATE TABLE IF NOT EXISTS people '
                   '(id INTEGER PRIMARY KEY, name TEXT, born TEXT)')
        db.close()
    yield from csv_rows(path, last)


def setup():
    db = sqlite3.connect(DATABASE, timeout=60)
    yield db
    db.close()


def handle_jobs(jobs, db):
    rows = [(int(job.row['id']), job.row['name'].strip(), job.row['born'])
            for job in jobs]
    with db:        # all of the list or nothing; again, it is the same
        db.executemany('INSERT OR REPLACE INTO people VALUES (?, ?, ?)',
                       rows)
