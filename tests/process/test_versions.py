"""A master on one Python, its slaves on another."""

import os
import shutil
import subprocess
import sys

import pytest
from programs import NUMBERS


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
