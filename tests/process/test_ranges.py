"""Ranges of keys through a run: one statement for a list of them."""

import contextlib
import signal
import sqlite3

import pytest
from programs import eventually

pytestmark = pytest.mark.hunt

MODULE = '''
import os
import sqlite3
from contextlib import closing
from taskmaster.iterators import ranges

BAD = 1234, 1250, 15678


def get_jobs(last=0):
    with closing(sqlite3.connect('rows.db', timeout=60)) as db:
        yield from ranges(db, 'SELECT id FROM rows', key='id', last=last,
                          step=10)


def setup():
    with closing(sqlite3.connect('rows.db', isolation_level=None,
                                 timeout=60)) as db:
        yield db


def handle_jobs(jobs, db):
    first, last = jobs[0].first, jobs[-1].last
    if not os.path.exists('mended'):
        for bad in BAD:
            if first <= bad <= last:
                raise ValueError('a bad row')
    done = db.execute('UPDATE rows SET times = times + 1 '
                      'WHERE id BETWEEN ? AND ?', (first, last))
    # Nothing that another list was for: not what is between two lists.
    assert done.rowcount <= 10 * len(jobs)
'''


@pytest.fixture
def table(work):
    """20,000 rows, a third deleted; the numbers of times they were done."""
    work.write('migrate.py', MODULE)
    with contextlib.closing(sqlite3.connect(
            work.path / 'rows.db', isolation_level=None, timeout=60)) as db:
        db.execute('PRAGMA journal_mode = WAL')
        db.execute('CREATE TABLE rows (id INTEGER PRIMARY KEY, times INT)')
        db.execute('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 '
                   'FROM n WHERE i < 20000) INSERT INTO rows '
                   'SELECT i, 0 FROM n WHERE i % 3')
        yield lambda: dict(db.execute(
            'SELECT times, count(*) FROM rows GROUP BY times'))


@pytest.mark.parametrize('words', [['2'], ['1', '--inline']])
def test_failed_ranges_are_retried_one_at_a_time(work, table, words):
    """A statement over two of them would do all that is between, again."""
    assert work.finish('run', 'migrate', *words).code() == 1
    failed = [failure['key'] for failure in work.failures()]
    assert len(failed) == 3
    assert table() == {0: 30, 1: 13304}
    work.touch('mended')
    retried = work.finish('run', 'migrate', *words, '--retry-failed')
    assert retried.code() == 0
    assert table() == {1: 13334}


def test_ranges_of_a_run_that_is_killed(work, table):
    work.touch('mended')
    first = work.start('run', 'migrate', '2')
    eventually(lambda: table().get(1) or first.process.poll() is not None)
    first.send(signal.SIGKILL)
    first.code()
    last = work.finish('run', 'migrate', '2')
    assert last.code() == 0
    # At least once, and what was saved not again.
    assert set(table()) <= {1, 2}
