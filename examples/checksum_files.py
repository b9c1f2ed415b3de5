"""The SHA-256 of every file below a folder, into one SQLite database.

    $ tm-run examples/checksum_files.py 2 path=/usr/share
    Taskmaster server running on '127.0.0.1:3050'
    Current Job: 13838 | Rate: 3454.92/s | Elapsed Time: 0:00:04 | ...
    ^C
    stopping: jobs in hand are finished and saved first; ...
    Current Job: 17404 | Rate: 3479.24/s | Elapsed Time: 0:00:05 | ...
    $ tm-run examples/checksum_files.py 2 path=/usr/share
    state: ..., resuming after key '/usr/share/locale/nl/LC_MESSAGES/...
    Current Job: 43822 | Rate: 4378.43/s | Elapsed Time: 0:00:06 | ...
    Current Job: 46223 | Rate: 4046.81/s | Elapsed Time: 0:00:06 | ...
    $ python examples/checksum_files.py checksums.db
    272a645d21b22792f21f36beb410b8b5a4bdfa5dffc5eaa6f93a4ff62e721971  /usr/...
    915848216d7f3871e4e04387fb4279fd13581c7ab6ae6baba2855b7aa626d272  /usr/...

It prints what sha256sum does, so `| sha256sum --check` takes it.  Another
database is given as output=FILE; keep it outside the folder.  Files that
were there and have changed are read again with --reset.
"""

import hashlib
import os
import sqlite3
import sys
import threading

ESCAPES = str.maketrans({'\\': r'\\', '\n': r'\n', '\r': r'\r'})

local = threading.local()


def get_jobs(path, output='checksums.db', last=''):
    """Each regular file below `path`, with the database for its checksum."""
    if not os.path.isdir(path):
        raise NotADirectoryError(path)
    output = os.path.abspath(output)
    if not last:                        # a resumed run goes on with its own
        make(output)
    for file in walk(path, last[len(path):].lstrip('/')):
        yield file, output


def get_key(job):
    path, output = job
    return path


def handle_job(job):
    path, output = job
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    db = connect(output)
    with db:        # on disk before the job counts as finished
        db.execute('INSERT OR REPLACE INTO checksums VALUES (?, ?)',
                   (os.fsencode(path), digest.hexdigest()))


def walk(folder, last):
    """Yield the files below `folder` in the order of their names.

    The walk is resumed at `last`, a path below `folder`: whatever sorts
    before it, name by name, is neither opened nor looked at.
    """
    name, _, rest = last.partition('/')
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield folder                    # fails as a job, and says why
        return
    for entry in entries:
        if entry.name < name:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path, rest if entry.name == name else '')
        elif entry.is_file(follow_symlinks=False):
            yield entry.path


def make(output):
    db = sqlite3.connect(output)
    db.execute('PRAGMA journal_mode = WAL')     # stays with the file
    db.execute('CREATE TABLE IF NOT EXISTS checksums'
               ' (path BLOB PRIMARY KEY, sha256 TEXT) WITHOUT ROWID')
    db.close()


def connect(output):
    """This thread's connection, which waits while others write."""
    if not hasattr(local, 'db'):
        local.db = sqlite3.connect(output, timeout=60)
    return local.db


def main(output):
    """Print the checksums as sha256sum does, odd names escaped."""
    query = 'SELECT sha256, path FROM checksums ORDER BY path'
    for sha256, path in sqlite3.connect(output).execute(query):
        name = os.fsdecode(path)
        escaped = name.translate(ESCAPES)
        mark = '' if escaped == name else '\\'
        line = f'{mark}{sha256}  {escaped}\n'
        sys.stdout.buffer.write(os.fsencode(line))


if __name__ == '__main__':
    main(*sys.argv[1:])
