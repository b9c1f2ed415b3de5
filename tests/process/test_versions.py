"""A master and its slaves on two Pythons, or of two versions."""

import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from programs import NUMBERS

from taskmaster import __version__
from taskmaster.wire.handshake import OLD_FIRST
from taskmaster.wire.messages import PROTOCOL

pytestmark = pytest.mark.hunt


def another():
    """Another Python on PATH, the farthest; a shim that runs none is none."""
    for minor in sorted(range(9, 20), reverse=True,
                        key=lambda minor: abs(minor - sys.version_info[1])):
        for folder in os.get_exec_path():
            path = shutil.which(f'python3.{minor}', path=folder)
            if path and minor != sys.version_info[1]:
                found = subprocess.run(
                    [path, '-c', 'import sys; print(sys.executable)'],
                    capture_output=True, text=True)
                if found.returncode == 0:
                    return found.stdout.strip()
    return None


@pytest.fixture(scope='module')
def other():
    """Where it is, not what finds it: a shim takes its time."""
    return another() or pytest.skip('there is no other Python on PATH')


@pytest.mark.parametrize('master_is_mine', [True, False])
def test_two_versions(work, other, master_is_mine):
    """Without a terminal neither side needs a package."""
    pythons = [sys.executable, other]
    if not master_is_mine:
        pythons.reverse()
    work.write('migrate.py', NUMBERS + '''
import datetime
import decimal
import sys
import uuid


class Row:
    def __init__(self, pk):
        self.pk = pk
        self.when = datetime.datetime(2024, 1, 1)
        self.price = decimal.Decimal('1.50')
        self.id = uuid.UUID(int=pk)


def get_jobs(last=0):
    with open('master', 'w') as file:
        file.write(sys.version)
    for pk in range(last + 1, 1001):
        yield Row(pk)


def handle_job(row):
    with open('slave', 'w') as file:
        file.write(sys.version)
    assert row.id.int == row.pk
    if row.pk == 7:
        raise ValueError('seven')
    record(row.pk)
''')
    master = work.start('master', 'migrate', python=pythons[0])
    slave = work.start('spawn', 'migrate', '2', master.host,
                       python=pythons[1])
    assert (slave.code(), master.code()) == (0, 1)
    work.check(row for row in range(1, 1001) if row != 7)
    assert work.state()['key'] == 1000
    versions = [(work.path / name).read_text()
                for name in ('master', 'slave')]
    assert versions[0] != versions[1]


# The number of what is said, patched before anything has looked at it.
PATCHED = '''
import sys
from taskmaster.wire import messages
messages.PROTOCOL += int(sys.argv.pop(1))
from taskmaster.cli.{name} import main
main()
'''


@pytest.mark.parametrize('master', [0, 1])
def test_one_speaks_a_newer_protocol(work, master):
    """Whichever it is: at once, with both versions in the line."""
    work.write('migrate.py', NUMBERS)

    def start(name, by, *words):
        return work.program(sys.executable, '-c', PATCHED.format(name=name),
                            str(by), *words)

    serving = start('master', master, 'migrate', '--host=127.0.0.1:0')
    others = [start(name, 1 - master, *words, serving.host)
              for name, words in (('slave', ['migrate']),
                                  ('ctl', ['status']))]
    spoken = [f'protocol {PROTOCOL + by}' for by in (master, 1 - master)]
    for other in others:
        assert other.code() == 76
        line = other.err.splitlines()[-1]
        assert line.count(f'taskmaster {__version__} ({spoken[0]})') == 1
        assert f'{__version__} ({spoken[1]})' in line
    said = serving.says('^warning: .* was refused: .*')[0]
    assert all(number in said for number in spoken)
    serving.stop()
    assert serving.code() == -signal.SIGINT and not work.lines('done')


def test_a_slave_of_before_there_were_versions(work):
    """Its first bytes are never answered; that is said once an address."""
    work.write('migrate.py', NUMBERS)
    master = work.start('master', 'migrate')
    for _ in range(3):
        with socket.create_connection(('127.0.0.1', master.port), 30) as old:
            old.sendall(OLD_FIRST)
            assert old.recv(1) == b''
    master.stop()
    assert master.code() == -signal.SIGINT
    assert master.err.count('is of an older version') == 1
