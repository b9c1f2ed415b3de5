"""Copy 100,000 users with messy names and mails into a clean schema.

    $ tm-run examples/sqlite_migration.py 2
    Taskmaster server running on '127.0.0.1:3050'
    warning: failed: job 7: ValueError: no mail address: 'CHlOE At EXaMPLe'
    Current Job: 1175 | Rate:  379.75/s | Elapsed Time: 0:00:03 | ...
    Current Job: 49136 | Rate: 4657.75/s | Elapsed Time: 0:00:13 | ...
    Current Job: 100000 | Rate: 4108.66/s | Elapsed Time: 0:00:24 | ...
    10 failed jobs are in .../sqlite_migration.failures
    $ echo $?
    1

users (made if users.db is not there; fewer with rows=2000)

    1 | '  Bob  KIm '      | ' bOb.K@eXAMPlE.COm;BoB1@eXaMPlE.oRg '
    2 | '  AliCE  smitH '  | ' alicE.S@EXaMPlE.com;aLicE2@example.oRg '

becomes person and email

    1 | 'Bob Kim'               'bob.k@example.com'   | 1
    2 | 'Alice Smith'           'bob1@example.org'    | 1
                                'alice.s@example.com' | 2
                                'alice2@example.org'  | 2

Stop it, kill it, run it again: it goes on, and no row is there twice.
"""

import random
import re
import sqlite3
import threading

DATABASE = 'users.db'       # in the current directory

local = threading.local()


def get_jobs(last=0, rows='100000'):
    """The users after `last`: pages by primary key, never an OFFSET."""
    db = connect()
    if not last:
        make(db, int(rows))
    query = ('SELECT id, name, mails FROM users'
             ' WHERE id > ? ORDER BY id LIMIT 1000')
    while page := db.execute(query, (last,)).fetchall():
        yield from page
        last = page[-1][0]


def get_key(user):
    return user[0]


def handle_job(user):
    number, name, mails = user
    addresses = [normal_mail(mail) for mail in mails.split(';')]
    db = connect()
    with db:        # one short transaction, on disk before the job is done
        db.execute('INSERT INTO person (id, name) VALUES (?, ?)'
                   ' ON CONFLICT (id) DO UPDATE SET name = excluded.name',
                   (number, normal_name(name)))
        db.executemany('INSERT INTO email (address, person) VALUES (?, ?)'
                       ' ON CONFLICT DO NOTHING',
                       [(address, number) for address in addresses])


def normal_name(name):
    """'  aLiCe  SMITH ' is 'Alice Smith'."""
    return ' '.join(name.split()).title()


def normal_mail(mail):
    """' Alice@Example.COM' is 'alice@example.com'; or a ValueError."""
    address = mail.strip().lower()
    if not re.fullmatch(r'[\w.+-]+@[\w-]+(\.[\w-]+)+', address):
        raise ValueError(f'no mail address: {mail!r}')
    return address


def connect():
    """This thread's connection, which waits while others write."""
    if not hasattr(local, 'db'):
        local.db = sqlite3.connect(DATABASE, timeout=60)
    return local.db


def make(db, rows):
    """The old table with what is in it, and the new ones: all or nothing."""
    db.execute('PRAGMA journal_mode = WAL')     # stays with the file
    with db:
        db.execute('BEGIN IMMEDIATE')
        if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'users'"
                      ).fetchone():
            return
        db.execute('CREATE TABLE users'
                   ' (id INTEGER PRIMARY KEY, name TEXT, mails TEXT)')
        db.execute('CREATE TABLE person'
                   ' (id INTEGER PRIMARY KEY, name TEXT NOT NULL)')
        db.execute('CREATE TABLE email'
                   ' (address TEXT, person INTEGER REFERENCES person,'
                   '  PRIMARY KEY (address, person)) WITHOUT ROWID')
        db.executemany('INSERT INTO users VALUES (?, ?, ?)',
                       map(messy_user, range(1, rows + 1)))


def messy_user(number):
    chance = random.Random(number)      # the same user every time
    first = chance.choice(('alice', 'bob', 'chloe', 'dmitri', 'eve'))
    last = chance.choice(('smith', "o'brien", 'garcia', 'novak', 'kim'))
    mails = f' {first}.{last[0]}@example.com;{first}{number}@example.org '
    if number % 10_000 == 7:            # a few are past mending
        mails = f'{first} at example'
    return number, mess(chance, f'  {first}  {last} '), mess(chance, mails)


def mess(chance, text):
    return ''.join(chance.choice((str.upper, str.lower))(c) for c in text)
