"""Files that another user put where ours are to be, in a folder open to all.

The other user is real: these tests need root, to be it.
"""

import base64
import os
import pickle
import shutil
import socket
import tempfile
from pathlib import Path

import pytest

from taskmaster.errors import ConfigError, Locked
from taskmaster.storage import files
from taskmaster.storage.failures import Failure, FailuresFile
from taskmaster.storage.state import (Checkpoint, StateFile, _checksum,
                                      _render)
from taskmaster.wire import key as keys

pytestmark = pytest.mark.skipif(os.geteuid() != 0,
                                reason='only root can be another user')

OTHER, VICTIM = 54321, 54322        # uids that nobody has
SECRET = b'not to be touched'


@pytest.fixture
def folder(tmp_path):
    """A folder like /tmp; and with `theirs` what is another's."""
    tmp_path.chmod(0o1777)
    return tmp_path


def state(folder):
    return StateFile(str(folder / 'm.state'), 'm', '/m.py')


def failures(folder):
    return FailuresFile(str(folder / 'm.failures'))


def use_state(folder):
    state(folder).load()


def reset_state(folder):
    state(folder).set_aside()


def save_state(folder):
    try:
        state(folder).save(Checkpoint(1, 1, 0, False))
    except OSError as error:
        raise ConfigError(str(error)) from error


def use_lock(folder):
    file = state(folder)
    try:
        file.lock()
    finally:
        file.close()


def use_failures(folder):
    failures(folder).open(1)


def reset_failures(folder):
    failures(folder).set_aside()


def add_failure(folder):
    file = failures(folder)
    try:
        file.append([Failure(1, '1', 'E', '', 's', 1, 1)])
    except OSError as error:
        raise ConfigError(str(error)) from error
    finally:
        file.close()


def use_key(folder):
    keys.key(None, str(folder / 'key'))


def use_own_key(folder):
    keys.users_key(str(folder / 'key'))


USES = [(use_state, 'm.state'), (reset_state, 'm.state'),
        (save_state, 'm.state'), (use_lock, 'm.state.lock'),
        (use_failures, 'm.failures'), (reset_failures, 'm.failures'),
        (add_failure, 'm.failures'), (use_key, 'key'), (use_own_key, 'key')]


def foreign(path):
    path.write_bytes(b'{}\n')
    path.chmod(0o600)
    os.chown(path, OTHER, OTHER)


def link(path):
    """To a file of ours, which they would have us read or rename."""
    ours = path.with_name('ours')
    ours.write_bytes(SECRET)
    ours.chmod(0o600)
    path.symlink_to(ours)
    os.lchown(path, OTHER, OTHER)


def dangling(path):
    path.symlink_to(path.with_name('to-be-made'))
    os.lchown(path, OTHER, OTHER)


def fifo(path):
    """Opening it would wait for the other end for ever."""
    os.mkfifo(path, 0o666)
    os.chown(path, OTHER, OTHER)


def own_fifo(path):
    os.mkfifo(path, 0o600)


def listening(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def directory(path):
    path.mkdir()


@pytest.mark.parametrize('plant', [foreign, link, dangling, fifo, own_fifo,
                                   listening, directory])
@pytest.mark.parametrize('use, name', USES, ids=lambda value: (
    value if isinstance(value, str) else value.__name__))
def test_what_is_planted_is_refused_and_left(folder, use, name, plant):
    path = folder / name
    plant(path)
    before = {file.name: os.lstat(file) for file in folder.iterdir()}
    with pytest.raises(ConfigError) as caught:
        use(folder)
    assert '\n' not in str(caught.value) and str(path) in str(caught.value)
    after = {file.name: os.lstat(file) for file in folder.iterdir()}
    for file, status in before.items():
        assert (after[file].st_ino, after[file].st_mtime_ns) == (
            status.st_ino, status.st_mtime_ns)
    # At most a lock of our own has come, and never what a link led to.
    assert set(after) - set(before) <= {'m.state.lock'}


def test_an_old_one_of_another_is_not_replaced(folder):
    state(folder).save(Checkpoint(1, 1, 0, False))
    foreign(folder / 'm.state.old')
    with pytest.raises(ConfigError, match='m.state.old.*another user'):
        state(folder).set_aside()
    assert (folder / 'm.state').exists()
    assert os.stat(folder / 'm.state.old').st_uid == OTHER


def test_a_second_name_of_a_file_of_ours_is_not_written_over(folder):
    """Where the system lets others make one (fs.protected_hardlinks)."""
    ours = folder / 'ours'
    ours.write_bytes(SECRET)
    os.link(ours, folder / 'm.state.lock')
    file = state(folder)
    file.lock()
    with pytest.raises(Locked):
        state(folder).lock()
    file.close()
    assert ours.read_bytes() == SECRET


def test_what_is_put_in_the_place_after_a_look_is_refused(folder,
                                                          monkeypatch):
    """Of root, so that the owner is no reason."""
    path = folder / 'm.state'
    path.mkdir()
    monkeypatch.setattr(files, 'check_ours', lambda path: None)
    with pytest.raises(ConfigError, match='it is a directory'):
        use_state(folder)


def test_leftovers_of_another_are_left(folder):
    theirs = folder / 'm.state.01234567.tmp'
    foreign(theirs)
    mine = folder / 'm.state.89abcdef.tmp'
    mine.touch()
    file = state(folder)
    file.lock()
    file.close()
    assert theirs.exists() and not mine.exists()


def as_victim(do):
    """Call that as a user who is neither root nor the other; what it raised.

    In a child, with an umask that keeps nothing from anybody.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgid(VICTIM)
            os.setuid(VICTIM)
            os.umask(0)
            try:
                do()
            except BaseException as error:
                os.write(writer, f'{type(error).__name__}: {error}'.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        said = file.read()
    os.waitpid(child, 0)
    return said


@pytest.fixture
def open_to_all():
    """In no folder that is root's alone, as pytest's are."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize('plant', [foreign, link, dangling, fifo, listening])
@pytest.mark.parametrize('use, name', USES, ids=lambda value: (
    value if isinstance(value, str) else value.__name__))
def test_as_a_victim_who_is_not_root(open_to_all, use, name, plant):
    path = open_to_all / name
    plant(path)
    os.lchown(path, OTHER, OTHER)
    inode = os.lstat(path).st_ino
    said = as_victim(lambda: use(open_to_all))
    assert said.startswith('ConfigError: ') and str(path) in said
    assert os.lstat(path).st_ino == inode


@pytest.mark.parametrize('use', [save_state, use_lock, add_failure,
                                 use_own_key], ids=lambda use: use.__name__)
def test_ours_are_for_us_alone_whatever_the_umask(open_to_all, use):
    assert as_victim(lambda: use(open_to_all)) == ''
    made, = open_to_all.iterdir()
    status = os.lstat(made)
    assert (status.st_uid, status.st_mode & 0o777) == (VICTIM, 0o600)


def test_the_folders_of_the_key_are_for_us_alone(open_to_all):
    path = open_to_all / '.config' / 'taskmaster' / 'key'
    assert as_victim(lambda: keys.users_key(str(path))) == ''
    for folder in path.parent, path.parent.parent:
        assert os.lstat(folder).st_mode & 0o777 == 0o700


def test_links_and_files_of_ones_own_or_of_root(open_to_all):
    """As Kubernetes mounts a secret, and as one moves a state elsewhere."""
    (open_to_all / 'data').mkdir(0o755)
    secret = open_to_all / 'data' / 'key'
    secret.write_text('sesame')
    secret.chmod(0o400)
    os.chown(secret, VICTIM, VICTIM)
    (open_to_all / 'key').symlink_to('data/key')        # root's

    def use():
        assert keys.key(None, str(open_to_all / 'key')) == b'sesame'
        (open_to_all / 'mine').mkdir()
        (open_to_all / 'm.state').symlink_to('mine/state')
        save_state(open_to_all)
        assert state(open_to_all).load().count == 1
        assert (open_to_all / 'm.state').is_symlink()
    assert as_victim(use) == ''


def test_no_pickle_of_another_is_read(folder):
    """A key that runs code when it is decoded."""
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(folder / 'exploded'),)

    file = state(folder)
    data = base64.b64encode(pickle.dumps(Bomb())).decode()
    document = file._document(Checkpoint(1, 1, 0, False))
    document['key'] = {'pickle': data}
    rest = {k: v for k, v in document.items() if k != 'checksum'}
    document['checksum'] = _checksum(rest)
    path = folder / 'm.state'
    path.write_bytes(_render(document))
    os.chown(path, OTHER, OTHER)
    with pytest.raises(ConfigError, match='another user'):
        file.load()
    # Nor to forget it, when it is ours.
    os.chown(path, 0, 0)
    assert file.peek() == '1 finished job'
    assert file.set_aside() and not (folder / 'exploded').exists()
