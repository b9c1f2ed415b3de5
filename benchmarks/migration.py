"""A million accounts into a new schema, with kills on the way.

    python benchmarks/migration.py [--scale N] [--slaves N] [--loop ROWS]

`examples/postgres_migration.py` on pgbench's accounts, 100,000 for each unit
of scale, in a PostgreSQL that this starts (with its default settings, so
with fsync; needs psycopg).  Against it: one `INSERT ... SELECT` in the
database, the floor; a plain loop in one process, with an insert for each
row, and with the example's own lists of 1,000 rows.  Each is timed as an
operator would, from the start of the command to its end.

In the run with kills everything (master and slaves) gets a SIGKILL three
times, and is started again; before each, one slave does.  After each run
the target is compared with the source, by one query.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / 'examples' / 'postgres_migration.py'
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'support'),
                str(ROOT / 'examples')]

import postgres  # noqa: E402
import postgres_migration as example  # noqa: E402
from programs import MARK, processes  # noqa: E402

ONE = '''
    INSERT INTO account VALUES (%s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET
        number = excluded.number, balance = excluded.balance,
        branch_balance = excluded.branch_balance'''
DIFFERENT = f'''
    WITH expected AS ({example.EXPECTED.replace('%%', '%')})
    SELECT count(*) FROM account FULL JOIN expected USING (id)
    WHERE account IS DISTINCT FROM expected'''
KILLS = [(0.15, 'slave'), (0.25, 'all'), (0.4, 'slave'), (0.5, 'all'),
         (0.65, 'slave'), (0.75, 'all')]


def in_database(db, options):
    db.execute('INSERT INTO account ' + example.EXPECTED.replace('%%', '%'))


def one_by_one(db, options):
    for job in islice(example.get_jobs(), options.loop):
        db.execute(ONE, example.new_row(*job))


def by_lists(db, options):
    jobs = example.get_jobs()
    while page := list(islice(jobs, 1000)):
        example.handle_jobs(page, db)


def taskmaster(db, options, kills=()):
    with tempfile.TemporaryDirectory() as folder:
        start = Run(folder, options.slaves)
        run = start()
        try:
            for share, what in kills:
                wait_for(db, share * options.rows, run)
                victims = processes(start.mark)
                if what == 'slave':
                    victims.remove(run.pid)
                    victims = victims[:1]
                for pid in victims:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                if what == 'all':
                    run.wait()
                    run = start()
            if run.wait():
                raise RuntimeError(f'tm-run ended with {run.returncode}')
        finally:
            run.kill()
            run.wait()
            for pid in processes(start.mark):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def taskmaster_killed(db, options):
    taskmaster(db, options, KILLS)


class Run:
    """Starts `tm-run` in a folder, each time on the state that it finds."""

    def __init__(self, folder, slaves, example=EXAMPLE):
        self.folder = folder
        self.mark = os.path.basename(folder)
        self._slaves = str(slaves)
        self._example = str(example)

    def __call__(self):
        return subprocess.Popen(
            [sys.executable, '-m', 'taskmaster', 'run', self._example,
             self._slaves, '--host=127.0.0.1:0', '--no-progress',
             '--log-level=warning'],
            cwd=self.folder, env={**os.environ, 'PYTHONPATH': str(ROOT),
                                  MARK: self.mark})


def wait_for(db, rows, run):
    """Until so many are in the new table, about: its greatest key."""
    while (db.execute('SELECT coalesce(max(id), 0) FROM account'
                      ).fetchone()[0] < rows):
        if run.poll() is not None:
            raise RuntimeError(f'tm-run ended with {run.returncode}')
        time.sleep(0.01)


CONTENDERS = [('INSERT ... SELECT', in_database),
              ('plain loop, row by row', one_by_one),
              ('plain loop, lists of 1,000', by_lists),
              ('Taskmaster', taskmaster),
              ('Taskmaster, killed', taskmaster_killed)]


def show(*cells):
    print('|', ' | '.join(map(str.ljust, cells, (26, 9, 7, 9, 9))), '|',
          flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--scale', type=int, default=10)
    parser.add_argument('--slaves', type=int, default=4)
    parser.add_argument('--loop', type=int, default=100_000, metavar='ROWS',
                        help='of the loop row by row, which takes its time')
    options = parser.parse_args()
    options.rows = 100_000 * options.scale
    server = postgres.Server(settings='')
    try:
        server.start()
        os.environ.update(server.environ)
        server.run('pgbench', '--initialize', '--quiet', '--init-steps=dtGvp',
                   f'--scale={options.scale}')
        with example.connect() as db:
            db.execute(example.NEW)
            # A column that is not indexed, with something in it.
            db.execute('UPDATE pgbench_accounts SET abalance ='
                       ' 7919 * aid::bigint % 100000')
            show('what', 'rows', 'time', 'rows', 'different')
            show(*['---'] * 5)
            for name, contender in CONTENDERS:
                db.execute('TRUNCATE account')
                db.execute('VACUUM ANALYZE pgbench_accounts')
                db.execute('CHECKPOINT')
                begin = time.monotonic()
                contender(db, options)
                taken = time.monotonic() - begin
                [rows] = db.execute('SELECT count(*) FROM account').fetchone()
                [different] = db.execute(DIFFERENT).fetchone()
                if contender is one_by_one:     # not all of them
                    different -= options.rows - rows
                show(name, f'{rows:,}', f'{taken:,.1f} s',
                     f'{rows / taken:,.0f}/s', str(different))
    finally:
        server.stop()


if __name__ == '__main__':
    main()
