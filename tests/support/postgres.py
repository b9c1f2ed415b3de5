"""A PostgreSQL of the tests' own, in a temporary folder."""

import glob
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

# Where Debian, and Red Hat, keep what is not on PATH.
PLACES = ['/usr/lib/postgresql/*/bin', '/usr/pgsql-*/bin']
USERS = ['postgres', 'nobody']      # as root it refuses to run
PATIENCE = 60                       # seconds for the start and the stop


def find(name='initdb'):
    """The path of one of PostgreSQL's programs, the newest, or None."""
    found = [path for place in PLACES
             for path in glob.glob(os.path.join(place, name))]
    return max(found, key=_version, default=shutil.which(name))


def _version(path):
    folder = path.split(os.sep)[-3]     # '15' or 'pgsql-15'
    return [int(number) for number in re.findall(r'\d+', folder)]


class Server:
    """A server on a socket in a folder; ``dsn`` says how to connect.

    Nobody's data, so without fsync, unless `settings` say otherwise.
    """

    def __init__(self, settings='-c fsync=off'):
        self._settings = settings
        self._database = None
        self._as = {}
        if os.geteuid() == 0:
            self._as = dict(user=_unprivileged(), extra_groups=[])
        # Short, as the path of a socket is at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix='pg-'))
        self._data = self.folder / 'data'
        self.dsn = f'host={self.folder} user=test dbname=postgres'
        self.environ = dict(PGHOST=str(self.folder), PGUSER='test',
                            PGDATABASE='postgres')

    def start(self):
        if self._as:
            shutil.chown(self.folder, self._as['user'])
        self.folder.chmod(0o755)
        self._run('initdb', '--no-sync', '--auth=trust', '--username=test',
                  '--encoding=UTF8', '--locale=C')
        self._run('pg_ctl', '--wait', f'--timeout={PATIENCE}',
                  f'--log={self.folder}/log', 'start', '-o',
                  f"-k {self.folder} -c listen_addresses='' {self._settings}")

    def restart(self):
        """End all connections, and serve again."""
        self._run('pg_ctl', '--wait', f'--timeout={PATIENCE}', '--mode=fast',
                  f'--log={self.folder}/log', 'restart')

    def stop(self):
        try:
            if (self._data / 'postmaster.pid').exists():
                self._run('pg_ctl', '--wait', f'--timeout={PATIENCE}',
                          '--mode=immediate', 'stop')
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, name, *arguments):
        """Run one of PostgreSQL's programs on this server."""
        subprocess.run([find(name), *arguments], check=True,
                       env={**os.environ, **self.environ},
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def create(self, name):
        """Make a database; return how to connect to it."""
        self.run('createdb', name)
        return f'host={self.folder} user=test dbname={name}'

    def emptied(self):
        """Return how to connect to a database with nothing in it.

        It is the same each time, as a new one would take ten times as long.
        """
        import psycopg
        if self._database is None:
            self._database = self.create('test')
        with psycopg.connect(self._database, autocommit=True) as db:
            db.execute("""
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database()
                      AND pid <> pg_backend_pid()""")
            db.execute('DROP SCHEMA public CASCADE')
            db.execute('CREATE SCHEMA public')
        return self._database

    def _run(self, name, *arguments):
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [find(name), f'--pgdata={self._data}', *arguments],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True, **self._as)
            output.seek(0)
            if done.returncode:
                raise RuntimeError(f'{name}: {output.read().decode()}')


def _unprivileged():
    import pwd
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in USERS if name in known)
