"""One statement in two slaves at once, against itself in one piece.

    python benchmarks/ranges.py [--scale N] [--turns N] [--rows]

pgbench's accounts, 100,000 for each unit of scale and a third of them
deleted, into a new table: `examples/postgres_backfill.py` with two slaves,
and its `INSERT ... SELECT ... ON CONFLICT` over all in one connection, in
turn; with --rows also `postgres_migration.py`, which moves the rows itself.
Each is timed as an operator would, from the start of the command to its end.

The PostgreSQL is one that this starts (needs psycopg), for both without
fsync and with room for the write-ahead log, so that no checkpoint and no
autovacuum falls to one of them alone.  What is compared is processors: on a
machine that does other things as well go by the processor time.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from lab import cpu_seconds, processor_seconds
from migration import DIFFERENT, ROOT, Run, example, postgres
from postgres_backfill import INSERT

SETTINGS = ('-c fsync=off -c autovacuum=off -c shared_buffers=512MB '
            '-c max_wal_size=16GB -c checkpoint_timeout=1h')


def in_one_piece(db):
    with example.connect() as other:
        other.execute(INSERT, (0, (1 << 31) - 1))


def slaves(name):
    def run(db):
        with tempfile.TemporaryDirectory() as folder:
            code = Run(folder, 2, ROOT / 'examples' / name)().wait()
        if code:
            raise RuntimeError(f'tm-run ended with {code}')
    return run


ONE, RANGES, ROWS = 'one statement', 'ranges, 2 slaves', 'rows, 2 slaves'
CONTENDERS = {ONE: in_one_piece, RANGES: slaves('postgres_backfill.py'),
              ROWS: slaves('postgres_migration.py')}


def processor_time(server):
    """Seconds of the server's processes, and of ours that have ended."""
    pid = (server._data / 'postmaster.pid').read_text().split()[0]
    living = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    ended = sum(map(int, Path(f'/proc/{pid}/stat').read_text(
        ).rpartition(') ')[2].split()[13:15]))
    return (cpu_seconds(living) + ended / os.sysconf('SC_CLK_TCK'),
            processor_seconds())


def timed(server, db, contender):
    """How long it takes, and the processor time of the server and of us."""
    db.execute('DROP TABLE IF EXISTS account')
    db.execute(example.NEW)
    db.execute('CHECKPOINT')
    before = processor_time(server)
    begin = time.monotonic()
    contender(db)
    taken = time.monotonic() - begin
    spent = [after - one for one, after
             in zip(before, processor_time(server))]
    if db.execute(DIFFERENT).fetchone()[0]:
        raise RuntimeError('the new table is not as the old one')
    return taken, spent


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--scale', type=int, default=30)
    parser.add_argument('--turns', type=int, default=5)
    parser.add_argument('--rows', action='store_true')
    options = parser.parse_args()
    # What is imported was compiled once, and is kept.
    os.environ.pop('PYTHONDONTWRITEBYTECODE', None)
    names = [ONE, RANGES] + [ROWS] * options.rows
    server = postgres.Server(SETTINGS)
    try:
        server.start()
        os.environ.update(server.environ)
        server.run('pgbench', '--initialize', '--quiet',
                   f'--scale={options.scale}')
        with example.connect() as db:
            db.execute('DELETE FROM pgbench_accounts WHERE aid % 3 = 0')
            db.execute('VACUUM ANALYZE pgbench_accounts')
            db.execute('VACUUM ANALYZE pgbench_branches')
            times = {name: [] for name in names}
            for turn in range(options.turns):
                # Whoever is first in one turn is last in the next.
                for name in names[::1 - turn % 2 * 2]:
                    taken, (theirs, ours) = timed(server, db,
                                                  CONTENDERS[name])
                    times[name].append(taken)
                    print(f'{name:18} {taken:7.2f} s; processor: server '
                          f'{theirs:.2f} s, tm-run {ours:.2f} s', flush=True)
        for name in names[1:]:
            ratios = [one / taken for one, taken
                      in zip(times[ONE], times[name])]
            print(f'{name}: {statistics.median(ratios):.2f} times the speed '
                  f'of one statement ({min(ratios):.2f} to '
                  f'{max(ratios):.2f})')
    finally:
        server.stop()


if __name__ == '__main__':
    main()
