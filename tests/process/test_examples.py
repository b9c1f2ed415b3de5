"""The examples, as an operator runs them, stopped and killed in the middle."""

import csv
import gzip
import importlib.util
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Optional

import pytest

pytestmark = pytest.mark.hunt

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / 'examples'
PATIENCE = 60       # seconds for what takes one


class Run:
    """One ``tm-run`` in a folder of its own; a failed test shows its log."""

    def __init__(self, folder: Path, *arguments: str):
        path = os.pathsep.join(
            filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
        environ = {name: value for name, value in os.environ.items()
                   if not name.startswith('TASKMASTER')}
        environ.update(HOME=str(folder), PYTHONPATH=path)
        self.log = folder / 'log'
        with self.log.open('wb') as log:
            self.process = subprocess.Popen(
                [sys.executable, '-m', 'taskmaster', 'run', *arguments,
                 '--host=127.0.0.1:0'],
                cwd=folder, env=environ, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def end(self) -> int:
        """The exit code, and its log on the stdout of the test."""
        code = self.process.wait(PATIENCE)
        print(self.log.read_text('utf-8', 'replace'))
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()     # its slaves notice, and end
            self.process.wait()


@pytest.fixture
def run(tmp_path):
    runs = []

    def start(*arguments: object) -> Run:
        runs.append(Run(tmp_path, *map(str, arguments)))
        return runs[-1]
    yield start
    for each in runs:
        each.kill()


def in_the_middle(run: Run, database: Path, table: str, all: int,
                  number: int) -> None:
    """Send ``run`` a signal when some, not all, of its rows are written.

    They are counted under the lock that all writers need, and that is held
    until the signal is on its way: the run cannot get to its end meanwhile.
    """
    deadline = time.monotonic() + PATIENCE
    lock = None
    while lock is None:
        assert run.process.poll() is None, run.log.read_text()
        assert time.monotonic() < deadline, run.log.read_text()
        lock = lock_if_any(database, table)
    assert 0 < rows(database, table) < all
    run.process.send_signal(number)
    if number == signal.SIGKILL:
        run.process.wait(PATIENCE)
    lock.close()


def lock_if_any(database: Path, table: str) -> Optional[sqlite3.Connection]:
    """A connection that holds the lock, if some rows are there already."""
    if not rows(database, table):
        time.sleep(0.005)
        return None
    # No waiting for it: SQLite's own is too polite to those that write.
    db = sqlite3.connect(database, timeout=0)
    try:
        db.execute('BEGIN IMMEDIATE')
    except sqlite3.OperationalError:
        db.close()
        return None
    return db


def rows(database: Path, table: str) -> int:
    """How many there are; 0 while there is no such table."""
    if not database.exists():
        return 0
    try:
        [[count]] = select(database, f'SELECT count(*) FROM {table}')
    except sqlite3.OperationalError:
        return 0
    return count


def select(database: Path, query: str) -> list:
    db = sqlite3.connect(database, timeout=PATIENCE)
    try:
        return db.execute(query).fetchall()
    finally:
        db.close()


def failures(folder: Path) -> list:
    """The records of the one failures file."""
    [file] = folder.glob('*.failures')
    return [json.loads(line) for line in file.read_text().splitlines()]


# -- taskmaster.example ---------------------------------------------------

def test_numbers(run, tmp_path):
    assert run('taskmaster.example', 2, 'count=2000').end() == 0
    [state] = tmp_path.glob('*.state')
    saved = json.loads(state.read_text())
    assert (saved['count'], saved['complete']) == (2000, True)


# -- checksum_files -------------------------------------------------------

ODD = [b'with blanks  ', b'-n', b'*', b"it's", b'two\nlines', b'back\\slash',
       b'\xff\xfe is not UTF-8', 'übermäßig'.encode(), b'!', b'.hidden']


def make_tree(folder: Path, plain: int) -> list:
    """A tree whose order by path is another than that by string."""
    root = os.fsencode(folder)
    names = [b'%03d' % number for number in range(plain)]
    names += ODD + [b'sub/' + name for name in ODD]
    names += [b'sub.txt', b'sub-1', b'sub0', b'sub/sub/sub', b'empty']
    for name in ODD:
        names.append(b'dir ' + name + b'/file')
    for name in names:
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as file:
            if name != b'empty':
                file.write(name * 1000)
    os.symlink(b'sub', os.path.join(root, b'link'))
    os.mkfifo(os.path.join(root, b'fifo'))
    return names


def expected(folder: Path, root: str) -> list:
    """What find and sha256sum say of it."""
    output = subprocess.run(
        f'find {root} -type f -print0 | xargs -0 sha256sum', shell=True,
        cwd=folder, check=True, stdout=subprocess.PIPE).stdout
    return sorted(output.splitlines())


def printed(folder: Path) -> list:
    """What the example prints of its output."""
    output = subprocess.run(
        [sys.executable, EXAMPLES / 'checksum_files.py', 'sums.db'],
        cwd=folder, check=True, stdout=subprocess.PIPE).stdout
    return sorted(output.splitlines())


@pytest.mark.parametrize(
    'number', [signal.SIGINT, signal.SIGKILL], ids=['SIGINT', 'SIGKILL'])
def test_checksums_of_a_stopped_run(run, tmp_path, number):
    names = make_tree(tmp_path / 'tree', plain=1000)
    command = (EXAMPLES / 'checksum_files.py', 2, 'path=tree',
               'output=sums.db')
    first = run(*command)
    in_the_middle(first, tmp_path / 'sums.db', 'checksums', len(names),
                  number)
    assert first.end() == -number
    again = run(*command)
    assert again.end() == 0
    if number == signal.SIGINT:
        assert 'resuming after key' in again.log.read_text()
    lines = expected(tmp_path, 'tree')
    assert len(lines) == len(names)
    assert printed(tmp_path) == lines


@pytest.fixture
def checksum_files():
    spec = importlib.util.spec_from_file_location(
        'checksum_files', EXAMPLES / 'checksum_files.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('slash', ['', '/'])
def test_the_walk_goes_on_at_any_file(tmp_path, checksum_files, slash):
    names = make_tree(tmp_path / 'tree', plain=3)
    path = f'{tmp_path}/tree{slash}'
    output = str(tmp_path / 'sums.db')

    def walk(**last):
        jobs = checksum_files.get_jobs(path, output, **last)
        return [checksum_files.get_key(job) for job in jobs]
    files = walk()
    root = os.fsencode(path.rstrip('/'))
    assert {os.fsencode(file) for file in files} == {
        root + b'/' + name for name in names}
    assert len(files) == len(names)
    for position, last in enumerate(files):
        assert walk(last=last) == files[position:]
        assert walk(last=last + '\0')[0:1] == files[position + 1:][0:1]


def test_a_walk_that_goes_on_opens_no_finished_folder(
        tmp_path, checksum_files, monkeypatch):
    for folder in 'a', 'b', 'b/c', 'b/d', 'e':
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'file').touch()
    opened = []

    def scandir(folder):
        opened.append(os.path.relpath(folder, tmp_path))
        return scan(folder)
    scan = os.scandir
    monkeypatch.setattr(os, 'scandir', scandir)
    files = list(checksum_files.walk(str(tmp_path), 'b/d/file'))
    assert files == [f'{tmp_path}/{f}' for f in (
        'b/d/file', 'b/file', 'e/file')]
    assert opened == ['.', 'b', 'b/d', 'e']


def test_what_cannot_be_read_is_never_passed_in_silence(
        tmp_path, checksum_files):
    gone, output = str(tmp_path / 'gone'), str(tmp_path / 'sums.db')
    with pytest.raises(NotADirectoryError):
        next(checksum_files.get_jobs(gone))
    assert list(checksum_files.walk(gone, '')) == [gone]
    with pytest.raises(OSError):
        checksum_files.handle_job((gone, output))
    with pytest.raises(OSError):
        checksum_files.handle_job((str(tmp_path), output))


# -- sqlite_migration -----------------------------------------------------

def test_a_migration_that_is_killed_and_run_again(run, tmp_path):
    command = (EXAMPLES / 'sqlite_migration.py', 2, 'rows=400')
    database = tmp_path / 'users.db'
    killed = run(*command)
    in_the_middle(killed, database, 'person', 399, signal.SIGKILL)
    assert killed.end() == -signal.SIGKILL
    assert run(*command).end() == 1
    users = select(database, 'SELECT id, name, mails FROM users ORDER BY id')
    assert len(users) == 400
    good = [user for user in users if '@' in user[2]]
    assert [user[0] for user in users if user not in good] == [7]
    assert select(database, 'SELECT id, name FROM person ORDER BY id') == [
        (number, ' '.join(word.title() for word in name.split()))
        for number, name, _ in good]
    assert select(
        database, 'SELECT person, address FROM email ORDER BY 1, 2') == [
        (number, mail) for number, _, mails in good
        for mail in sorted(mails.lower().replace(' ', '').split(';'))]
    [failed] = failures(tmp_path)
    assert failed['key'] == '7'
    assert failed['error'].startswith('ValueError: no mail address')


# -- csv_import, listed_files, sqlite_backfill ----------------------------

def test_a_csv_that_is_killed_and_run_again(run, tmp_path):
    with gzip.open(tmp_path / 'people.csv.gz', 'wt', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['name', 'id', 'born'])
        writer.writerows([f'Ann\n{id} ', 'x' if id == 7 else id, '2000-01-01']
                         for id in range(20_000))
    command = (EXAMPLES / 'csv_import.py', 2, 'path=people.csv.gz')
    database = tmp_path / 'people.db'
    killed = run(*command)
    in_the_middle(killed, database, 'people', 19_999, signal.SIGKILL)
    assert killed.end() == -signal.SIGKILL
    assert run(*command).end() == 1
    assert select(database, 'SELECT id, name FROM people ORDER BY id') == [
        (id, f'Ann\n{id}') for id in range(20_000) if id != 7]
    [failed] = failures(tmp_path)
    assert failed['error'].startswith("ValueError: invalid literal for int()")


def test_checksums_of_files_from_a_list(run, tmp_path):
    make_tree(tmp_path / 'tree', plain=100)
    subprocess.run(
        "find tree -type f ! -path '*lines*' > names.txt", shell=True,
        cwd=tmp_path, check=True)
    assert run(EXAMPLES / 'listed_files.py', 1, 'names=names.txt',
               'output=sums.db').end() == 0
    names = (tmp_path / 'names.txt').read_bytes().splitlines()
    assert len(names) > 100
    assert len(printed(tmp_path)) == len(names)
    assert set(printed(tmp_path)) <= set(expected(tmp_path, 'tree'))


def test_a_backfill_that_is_killed_and_run_again(run, tmp_path):
    command = (EXAMPLES / 'sqlite_backfill.py', 2, 'rows=150000')
    database = tmp_path / 'users.db'
    killed = run(*command)
    in_the_middle(killed, database, 'users WHERE domain IS NOT NULL', 100_000,
                  signal.SIGKILL)
    assert killed.end() == -signal.SIGKILL
    assert run(*command).end() == 0
    assert select(database, 'SELECT domain, count(*) FROM users GROUP BY 1'
                  ) == [('example.org', 100_000)]
