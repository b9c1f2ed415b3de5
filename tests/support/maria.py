"""A MariaDB of the tests' own, in a temporary folder."""

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

# Debian, and others, keep the server off a user's PATH.
PATH = os.pathsep.join([os.environ.get('PATH', ''), '/usr/sbin',
                        '/usr/local/sbin', '/usr/libexec'])
USERS = ['mysql', 'nobody']     # as root it refuses to run
PATIENCE = 60                   # seconds for the start and the stop
# Nobody's data, so nothing is synced.  Only a socket, and no settings of
# this machine's.
OPTIONS = ['--skip-networking', '--innodb-flush-log-at-trx-commit=0',
           '--innodb-flush-method=nosync', '--skip-sync-frm',
           '--innodb-buffer-pool-size=64M', '--innodb-log-file-size=32M',
           '--character-set-server=utf8mb4',
           '--default-time-zone=+00:00']


def find(*names):
    """The path of one of MariaDB's programs, by its new or old name."""
    found = (shutil.which(name, path=PATH) for name in names)
    return next(filter(None, found), None)


class Server:
    """A server on a ``socket`` in a folder, with the user `test`."""

    def __init__(self):
        self._as = {}
        if os.geteuid() == 0:
            self._as = dict(user=_unprivileged(), extra_groups=[])
        # Short, as the path of a socket is at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix='my-'))
        self.socket = str(self.folder / 'socket')
        self._data = self.folder / 'data'
        # Not /tmp: one that starts removes temporary tables there, those of
        # another too.
        self._scratch = f'--tmpdir={self.folder}'
        self._server = None

    def start(self):
        if self._as:
            shutil.chown(self.folder, self._as['user'])
        self.folder.chmod(0o755)
        made = subprocess.run(
            [find('mariadb-install-db', 'mysql_install_db'),
             '--no-defaults', f'--datadir={self._data}', self._scratch,
             '--skip-test-db',
             '--auth-root-authentication-method=normal'],
            cwd=self.folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, **self._as)
        if made.returncode:
            raise RuntimeError(made.stdout.decode(errors='replace'))
        with open(self.folder / 'log', 'wb') as log:
            self._server = subprocess.Popen(
                [find('mariadbd', 'mysqld'), '--no-defaults',
                 f'--datadir={self._data}', f'--socket={self.socket}',
                 self._scratch,
                 f'--pid-file={self.folder}/pid', *OPTIONS],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True, **self._as)
        self._wait()
        self.run("CREATE USER test; GRANT ALL ON *.* TO test")

    def stop(self):
        try:
            if self._server is not None:
                self._server.kill()     # nobody's data
                self._server.wait(PATIENCE)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, statements):
        """Run SQL with MariaDB's own client."""
        subprocess.run(
            [find('mariadb', 'mysql'), '--no-defaults', '--user=root',
             f'--socket={self.socket}'], check=True, input=statements,
            encoding='utf-8', stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)

    def create(self, name=''):
        """Make a database; return how to connect to it."""
        name = name or f'test_{uuid.uuid4().hex[:12]}'
        self.run(f'CREATE DATABASE {name}')
        return dict(unix_socket=self.socket, user='test', password='',
                    database=name)

    def _wait(self):
        """For the server to answer."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return self.run('SELECT 1')
            except subprocess.CalledProcessError:
                log = (self.folder / 'log').read_text(errors='replace')
                if (self._server.poll() is not None
                        or time.monotonic() > until):
                    raise RuntimeError(f'mariadbd: {log}') from None
                time.sleep(0.05)


def _unprivileged():
    import pwd
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in USERS if name in known)
