"""The scripts in a folder open to all, where another user was first.

The victim is neither root nor that user; only root can start both.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from programs import NUMBERS, Workspace

pytestmark = [
    pytest.mark.hunt,
    pytest.mark.skipif(os.geteuid() != 0,
                       reason='only root can be another user'),
    pytest.mark.skipif(shutil.which('setpriv') is None,
                       reason='there is no setpriv')]

OTHER, VICTIM = 54321, 54322        # uids that nobody has


@pytest.fixture
def shared(tmp_path):
    """Where anybody may write, as in /tmp; with a home for the victim."""
    folder = Path(tempfile.mkdtemp())
    work = Workspace(folder)
    work.write('migrate.py', NUMBERS)
    for path in [work.home, *folder.glob('*.py')]:
        os.chown(path, VICTIM, VICTIM)
    folder.chmod(0o1777)
    yield work
    try:
        work.close()
    finally:
        shutil.rmtree(folder)


def foreign(path):
    path.write_text('{}\n')


def link(path):
    ours = path.parent / 'thesis'
    ours.write_text('of the victim')
    ours.chmod(0o600)
    os.chown(ours, VICTIM, VICTIM)
    path.symlink_to(ours)


def fifo(path):
    os.mkfifo(path)


def as_victim(work, *words):
    """As the victim, who may read what root may: this Python, say."""
    run = work.program(
        'setpriv', f'--reuid={VICTIM}', f'--regid={VICTIM}', '--clear-groups',
        '--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search',
        sys.executable, '-m', 'taskmaster', 'run', 'migrate', '1', *words,
        '--host=127.0.0.1:0')
    run.code()
    return run


@pytest.mark.parametrize('plant', [foreign, link, fifo])
@pytest.mark.parametrize('name', ['migrate.state', 'migrate.state.lock',
                                  'migrate.failures', 'key'])
def test_it_is_refused_and_left(shared, name, plant):
    path = shared.path / name
    plant(path)
    os.lchown(path, OTHER, OTHER)
    inode = os.lstat(path).st_ino
    words = ['--key-file=key'] if name == 'key' else []
    for more in [], ['--reset']:
        run = as_victim(shared, *words, *more)
        assert run.code() == 78
        assert path.name in run.err and run.err.count('\n') == 1
        assert os.lstat(path).st_ino == inode
    assert not shared.handled()
    if plant is link:
        assert (shared.path / 'thesis').read_text() == 'of the victim'


def test_without_them_it_runs(shared):
    assert as_victim(shared).code() == 0
    for name in 'migrate.state', 'migrate.state.lock':
        status = os.lstat(shared.path / name)
        assert (status.st_uid, status.st_mode & 0o777) == (VICTIM, 0o600)
    key = shared.home / '.config' / 'taskmaster' / 'key'
    for path in key, key.parent, key.parent.parent:
        assert os.lstat(path).st_mode & 0o077 == 0
