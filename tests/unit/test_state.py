"""The state file: whole or refused, old or new, and one master's only."""

import errno
import os
import pathlib
import signal
import stat
import subprocess
import sys
import uuid

import pytest
from fakes import until

from taskmaster.errors import ConfigError, Locked, OperatorError, SaveError
from taskmaster.storage import files
from taskmaster.storage import state as module
from taskmaster.storage.state import Checkpoint, StateFile

ROOT = pathlib.Path(module.__file__).parents[2]
OLD = Checkpoint(17, 18, 1, False, time=1714564800.25)
NEW = Checkpoint(('eu', 40), 41, 2, True, True, 1714564801.0)


class Crash(BaseException):
    """The process has died: nothing after it reaches the disk."""


class FaultyOS:
    """``os`` whose step number ``at`` fails, or crashes, before it acts.

    With ``after`` it acts first; a write does half of its work before.
    """

    def __init__(self, at, error, after=False):
        self.at, self.error, self.after = at, error, after
        self.steps = []

    def __getattr__(self, name):
        def step(*args):
            self.steps.append(name)
            here = len(self.steps)
            if 0 < self.at < here and isinstance(self.error, Crash):
                raise self.error
            if here == self.at and not self.after:
                if name == 'write':
                    os.write(args[0], bytes(args[1])[:len(args[1]) // 2])
                raise self.error
            result = getattr(os, name)(*args)
            if here == self.at:
                raise self.error
            return result
        return step


def no_space():
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def steps_of(action):
    """The names of the steps that ``action(system)`` takes."""
    system = FaultyOS(0, None)
    action(system)
    return system.steps


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'migrate.state')


@pytest.fixture
def make(path):
    made = []

    def make(run='migrate', source='/srv/migrate.py', system=os, path=path):
        made.append(StateFile(path, run, source, system))
        return made[-1]
    yield make
    for state in made:
        state.system = os
        state.close()


def one_line(caught, *words):
    text = str(caught.value)
    assert '\n' not in text
    for word in words:
        assert word in text


# What is saved

@pytest.mark.parametrize('saved', [
    OLD, NEW, Checkpoint(None, 0, 0, True), Checkpoint(uuid.uuid4(), 1, 0, 0),
])
def test_what_is_saved_is_loaded(make, saved):
    make().save(saved)
    assert make().load() == saved
    assert type(make().load().key) is type(saved.key)


def test_no_file_is_no_state(make):
    assert make().load() is None


def test_a_person_can_read_it(make, path):
    make().save(NEW)
    text = pathlib.Path(path).read_text()
    assert '"literal": "(\'eu\', 40)"' in text
    assert '"time": "2024-05-01T12:00:01+00:00"' in text
    assert '"source": "/srv/migrate.py"' in text
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_path_that_is_no_text(make, tmp_path):
    odd = os.fsdecode(b'/srv/\xff.py')
    make(source=odd).save(OLD)
    assert make(source=odd).load() == OLD


def test_a_link_stays_a_link(make, tmp_path):
    link = tmp_path / 'link.state'
    (tmp_path / 'disk').mkdir()
    link.symlink_to(tmp_path / 'disk' / 'real.state')
    make(path=str(link)).save(OLD)
    make(path=str(link)).save(NEW)
    assert link.is_symlink()
    assert make(path=str(tmp_path / 'disk' / 'real.state')).load() == NEW


def test_a_key_that_cannot_be_saved_leaves_the_old_state(make):
    make().save(OLD)
    with pytest.raises(OperatorError):
        make().save(NEW._replace(key=lambda: 0))
    assert make().load() == OLD


# What is refused

def refused(make, path, data):
    pathlib.Path(path).write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        make().load()
    one_line(caught, path, '--reset')


def test_truncated_at_every_byte(make, path):
    make().save(OLD)
    data = pathlib.Path(path).read_bytes()
    for length in range(len(data)):
        refused(make, path, data[:length])


@pytest.mark.parametrize('mask', [0x01, 0x04, 0x20, 0x80, 0xff])
def test_every_byte_altered(make, path, mask):
    make().save(OLD)
    data = pathlib.Path(path).read_bytes()
    for place in range(len(data)):
        altered = bytearray(data)
        altered[place] ^= mask
        refused(make, path, altered)


@pytest.mark.parametrize('data', [
    b'', b'\n', b'0', b'[]', b'null', b'{}', b'"x"', b'{"format": 1}',
    b'[' * 100000, b'\0' * 400,
])
def test_what_is_no_state(make, path, data):
    refused(make, path, data)


def test_something_appended(make, path):
    make().save(OLD)
    refused(make, path, pathlib.Path(path).read_bytes() + b' ')


def test_an_unknown_format(make, path, monkeypatch):
    monkeypatch.setattr(module, 'FORMAT', 7)
    make().save(OLD)
    monkeypatch.undo()
    with pytest.raises(ConfigError) as caught:
        make().load()
    one_line(caught, path, 'format 7', '--reset')


@pytest.mark.parametrize('other', [
    {'run': 'migrate shard=3'}, {'source': '/home/migrate.py'}])
def test_the_state_of_another_run(make, path, other):
    make(**other).save(OLD)
    with pytest.raises(ConfigError) as caught:
        make().load()
    one_line(caught, path, '--state', *other.values())


def test_a_key_that_cannot_be_unpickled_here(make, path, monkeypatch):
    make().save(OLD._replace(key=uuid.UUID(int=7)))
    monkeypatch.setitem(sys.modules, 'uuid', None)
    with pytest.raises(ConfigError) as caught:
        make().load()
    one_line(caught, path, 'UUID(', '--reset')


def test_a_file_that_cannot_be_read(make, path):
    os.mkdir(path)
    with pytest.raises(ConfigError) as caught:
        make().load()
    one_line(caught, path, '--state')


# Saving, when something fails

def save_steps(make):
    return steps_of(lambda system: make(system=system).save(NEW))


def test_a_save_syncs_the_file_and_then_the_folder(make):
    assert save_steps(make) == [
        'open', 'write', 'fsync', 'close', 'replace',
        'open', 'fsync', 'close']


@pytest.mark.parametrize('after', [False, True])
@pytest.mark.parametrize('at', range(1, 9))
def test_a_crash_at_each_step_of_a_save(make, tmp_path, at, after):
    make().save(OLD)
    system = FaultyOS(at, Crash(), after)
    with pytest.raises(Crash):
        make(system=system).save(NEW)
    renamed = at > 5 or at == 5 and after
    assert make().load() == (NEW if renamed else OLD)
    state = make()
    state.lock()            # the next master clears up
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'migrate.state', 'migrate.state.lock']
    state.save(NEW)
    assert make().load() == NEW


@pytest.mark.parametrize('at', range(1, 9))
def test_an_error_at_each_step_of_a_save(make, tmp_path, at):
    make().save(OLD)
    state = make(system=FaultyOS(at, no_space()))
    with pytest.raises(OSError):
        state.save(NEW)
    assert make().load() == (NEW if at > 5 else OLD)
    assert [p.name for p in tmp_path.iterdir()] == ['migrate.state']
    state.save(NEW)
    assert make().load() == NEW


def test_after_a_failed_fsync_a_fresh_file_is_written(make):
    opened = []

    class Recorder(FaultyOS):
        def open(self, path, flags, mode=0o777):
            opened.append(path)
            return self.__getattr__('open')(path, flags, mode)

    state = make(system=Recorder(3, OSError(errno.EIO, 'I/O error')))
    with pytest.raises(OSError):
        state.save(OLD)
    state.save(NEW)
    assert make().load() == NEW
    first, second, folder = opened
    assert first != second and second.endswith('.tmp')


def test_short_writes(make):
    class Slow(FaultyOS):
        def write(self, fd, data):
            return os.write(fd, data[:7])

    make(system=Slow(0, None)).save(OLD)
    assert make().load() == OLD


def test_a_folder_that_cannot_be_synced_by_its_file_system(make):
    folder_sync = 7
    make(system=FaultyOS(folder_sync, OSError(errno.EINVAL, 'x'))).save(NEW)
    assert make().load() == NEW


# check_writable

def test_a_writable_folder_is_left_as_it_was(make, tmp_path):
    make().check_writable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('at', range(1, 9))
def test_each_step_of_the_check_can_fail(make, path, at):
    state = make(system=FaultyOS(at, no_space()))
    with pytest.raises(SaveError) as caught:
        state.check_writable()
    one_line(caught, path, 'No space left')


def test_a_folder_that_does_not_exist(make, tmp_path):
    state = make(path=str(tmp_path / 'none' / 'x.state'))
    for action in state.check_writable, state.lock:
        with pytest.raises(SaveError) as caught:
            action()
        one_line(caught, 'none/x.state', f'no folder {tmp_path}/none')


# set_aside

@pytest.mark.parametrize('data', [b'', b'damaged'])
def test_set_aside_needs_no_sound_file(make, path, data):
    pathlib.Path(path + '.old').write_bytes(b'older')
    pathlib.Path(path).write_bytes(data)
    make().set_aside()
    assert make().load() is None
    assert pathlib.Path(path + '.old').read_bytes() == data


def test_set_aside_of_nothing_keeps_the_older_one(make, path):
    pathlib.Path(path + '.old').write_bytes(b'older')
    make().set_aside()
    assert pathlib.Path(path + '.old').read_bytes() == b'older'


def test_set_aside_that_fails(make, path):
    make().save(OLD)
    with pytest.raises(SaveError) as caught:
        make(system=FaultyOS(1, no_space())).set_aside()
    one_line(caught, path)


# The lock

MASTER = '''
import os, sys
from taskmaster.storage.state import StateFile
from taskmaster.errors import Locked
state = StateFile(sys.argv[1], 'migrate', '/srv/migrate.py')
try:
    state.lock()
except Locked as error:
    sys.exit(f'Locked: {error}')
orphan = os.fork() if 'fork' in sys.argv else -1
if orphan:
    print(orphan, flush=True)
sys.stdin.read()
'''


@pytest.fixture
def master(path):
    """Starts another master on the same state, and reads its first line:
    once it has the lock, the pid of its child, or -1."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, '-c', MASTER, path, *arguments],
            env={**os.environ, 'PYTHONPATH': str(ROOT)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
        started.append(process)
        return process, process.stdout.readline().strip()
    yield start
    for process in started:
        process.kill()
        process.communicate()   # closes stdin, which ends an orphan too


def test_another_process_has_the_lock(make, master, path):
    process, said = master()
    assert said == '-1'
    state = make()
    for _ in range(2):      # being refused takes nothing from the holder
        with pytest.raises(Locked) as caught:
            state.lock()
        one_line(caught, path, f'pid {process.pid} on {os.uname().nodename}:')
    process.kill()
    process.wait()
    state.lock()


def test_we_have_the_lock(make, master):
    state = make()
    state.lock()
    state.save(OLD)         # none of these lets go of it
    state.load()
    state.check_writable()
    with pytest.raises(Locked):
        make().lock()
    process, _ = master()
    assert f'Locked: {state.path} is in use by pid {os.getpid()} on ' in (
        process.communicate()[1])
    state.close()
    assert master()[1] == '-1'


def test_a_link_to_the_state_has_the_same_lock(make, tmp_path, path):
    (tmp_path / 'link').symlink_to(path)
    make().lock()
    with pytest.raises(Locked):
        make(path=str(tmp_path / 'link')).lock()


def test_twice_in_one_process(make):
    first = make()
    first.lock()
    with pytest.raises(Locked) as caught:
        make().lock()
    one_line(caught, 'this very process', '--state')
    first.close()
    first.close()
    make().lock()


def test_an_orphan_of_a_dead_master_does_not_hold_it(make, master):
    process, said = master('fork')
    orphan = int(said)
    assert orphan > 1
    with pytest.raises(Locked):
        make().lock()
    process.kill()
    process.wait()
    os.kill(orphan, 0)      # it lives, without the descriptor
    until(lambda: not any(
        '.state.lock' in os.readlink(f'/proc/{orphan}/fd/{fd}')
        for fd in os.listdir(f'/proc/{orphan}/fd')))
    make().lock()
    os.kill(orphan, signal.SIGKILL)


def test_a_started_program_does_not_inherit_it(make):
    state = make()
    state.lock()
    assert not os.get_inheritable(state._lock)


def test_each_step_of_the_lock_can_fail(make):
    steps = steps_of(lambda system: make(system=system).lock())
    assert steps[:4] == ['open', 'lockf', 'pwrite', 'ftruncate']
    make().close()
    for state in list(module._held):
        module._held.discard(state)
    for at in range(1, len(steps) + 1):
        state = make(system=FaultyOS(at, no_space()))
        with pytest.raises(SaveError) as caught:
            state.lock()
        one_line(caught, state.path, 'No space left')
        assert not module._held


def test_leftovers_of_others_stay(make, tmp_path):
    mine = tmp_path / 'migrate.state.0123abcd.tmp'
    others = ['migrate.state.old', 'migrate.state.tmp', 'x.0123abcd.tmp',
              'migrate.state.backup.tmp', 'migrate.state2.0123abcd.tmp']
    for name in [mine.name, *others]:
        (tmp_path / name).touch()
    files.remove_leftovers(os, str(tmp_path / 'migrate.state'))
    assert sorted(os.listdir(tmp_path)) == sorted(others)
