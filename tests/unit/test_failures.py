"""The failures file: no failed job is lost, whatever fails and whenever."""

import base64
import errno
import json
import math
import os
import pickle
import stat
import sys
import uuid

import pytest

from taskmaster.errors import ConfigError, SaveError
from taskmaster.storage import failures as module
from taskmaster.storage.failures import MISSING, Failure, FailuresFile


class Crash(BaseException):
    """The process has died: nothing after it reaches the disk."""


class FaultyOS:
    """``os`` whose step number ``at`` fails, or crashes; see
    test_checkpoint.  A write does half of its work before it fails."""

    def __init__(self, at=0, error=None):
        self.at, self.error = at, error
        self.steps = []

    def __getattr__(self, name):
        def step(*args):
            self.steps.append(name)
            here = len(self.steps)
            if 0 < self.at < here and isinstance(self.error, Crash):
                raise self.error
            if here == self.at:
                if name == 'write':
                    os.write(args[0], bytes(args[1])[:len(args[1]) // 2])
                raise self.error
            return getattr(os, name)(*args)
        return step


class NoRepr:
    def __init__(self):
        self.function = lambda: 0

    def __repr__(self):
        raise RuntimeError('no repr')


class Loads:
    """Pickles, but what it became cannot be unpickled."""

    def __reduce__(self):
        return int, ('no number\nat all',)


def failure(number, job=None, error='ValueError: bad', **values):
    return Failure(number, repr(number), error, 'Traceback …', 'host:1',
                   values.pop('attempts', 1), number if job is None else job,
                   **values)


def no_space():
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'migrate.failures'


@pytest.fixture
def make(path):
    made = []

    def make(upto=math.inf, system=os):
        made.append(FailuresFile(str(path), system))
        made[-1].open(upto)
        return made[-1]
    yield make
    for file in made:
        file.system = os
        file.close()


def numbers(file):
    return [failure.number for failure in file.outstanding()]


def one_line(caught, *words):
    text = str(caught.value)
    assert '\n' not in text
    for word in words:
        assert word in text


# Records

def test_no_file_until_something_fails(make, path):
    file = make()
    file.append([])
    file.resolve([7])
    assert (file.count, numbers(file)) == (0, [])
    assert not path.exists()
    file.append([failure(1)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize('job', [
    0, None, 'x', {'id': 1}, (1, [2.0]), uuid.UUID(int=7), math.inf,
    'x' * 3_000_000, [1, 'x', None, True, -0.0], {'a': {'b': [1.5]}}, (),
    (1, (2, 3)), {1: 2}, {'a': (1,)}, [b'x'], {'literal': '1'},
    {'pickle': 'x', 'repr': 'y'}, {'repr': 'x'}, 10 ** 4000, 'é\ud800',
    '\ud83d\ude00', {'\ud83d\ude00': 1}, {'a': ['\ud83d\ude00']}, 'é',
], ids=lambda job: repr(job)[:20])
def test_a_job_comes_back(make, job):
    given = Failure(3, '3', 'E: x', 'Trace\nback', 'host:1', 2, job, 17.5)
    make().append([given])
    [back] = make().outstanding()
    assert back == given
    assert type(back.job) is type(job)


def test_a_literal_job_can_be_read_by_a_person(make, path):
    make().append([failure(3, {1, 2}, time=1714564800.0)])
    record = json.loads(path.read_text())
    assert record['job'] == {'literal': '{1, 2}'}
    assert record['time'] == '2024-05-01T12:00:00+00:00'


@pytest.mark.parametrize('job, shown', [
    ({'id': 1, 'name': 'x'}, {'id': 1, 'name': 'x'}), (17, 17), ('x', 'x'),
    ((17, 'x'), [17, 'x']), ([1.5, None], [1.5, None])])
def test_a_job_of_plain_values_is_json(make, path, job, shown):
    """So that jq reads it: `.job.id`, `.job[0]`."""
    make().append([failure(3, job)])
    assert json.loads(path.read_text())['job'] == shown


def nested(depth):
    job = []
    for _ in range(depth):
        job = [job]
    return job


def test_a_job_that_holds_itself_comes_back(make):
    job = {'id': 1}
    job['self'] = [job, job]
    make().append([failure(3, job), failure(4, nested(99)),
                   failure(5, nested(300))])
    first, *others = make().outstanding()
    assert first.job['self'][1] is first.job
    assert [one.job for one in others] == [nested(99), nested(300)]


@pytest.mark.parametrize('encoded, job', [
    ({'literal': "{'id': 1}"}, {'id': 1}),
    ({'pickle': base64.b64encode(pickle.dumps(7)).decode(), 'repr': '7'}, 7)])
def test_a_file_of_an_earlier_version_is_read(make, path, encoded, job):
    make().append([failure(3, {1, 2})])
    record = json.loads(path.read_text())
    record['job'] = encoded
    del record['cause']
    path.write_text(json.dumps(record) + '\n')
    [back] = make().outstanding()
    assert back.job == job and not back.missing


# Looked at by others

def test_who_looks_decodes_nothing_and_changes_nothing(make, path):
    file = make()
    file.append([failure(number, lambda: 0) for number in (1, 2, 3)])
    file.resolve([2])
    before = path.read_bytes()
    path.write_bytes(before + b'no record\n{"number": 4, "key"')
    damaged = []
    found = list(FailuresFile(str(path)).peek(damaged.append))
    assert [failure.number for failure in found] == [1, 3]
    assert damaged == [5]               # the torn line is being written
    assert path.read_bytes().startswith(before)
    assert {failure.job for failure in file.unread()} == {MISSING}


def test_who_looks_for_what_is_not_there(path):
    with pytest.raises(FileNotFoundError):
        FailuresFile(str(path)).peek(print)


@pytest.mark.parametrize('job, shown', [
    (lambda: 0, '<function <lambda>'), (NoRepr(), '<NoRepr without a repr>')])
def test_a_job_that_cannot_be_pickled(make, path, job, shown):
    make().append([failure(3, job)])
    assert json.loads(path.read_text())['job']['repr'].startswith(shown)
    [back] = make().outstanding()
    assert back.job is MISSING
    assert back.missing == 'it could not be pickled'


def test_a_job_that_cannot_be_unpickled(make):
    make().append([failure(3, Loads()), failure(4)])
    first, second = make().outstanding()
    assert first.job is MISSING
    assert 'ValueError: invalid literal' in first.missing
    assert '\n' not in first.missing
    assert (second.job, second.missing) == (4, '')


def test_missing_is_still_missing_when_it_fails_again(make):
    make().append([failure(3, MISSING)])
    [back] = make().outstanding()
    assert back.job is MISSING


def test_long_texts_are_cut(make):
    make().append([Failure(1, 'k' * 9999, 'E: two\nlines ' + 'e' * 9999,
                           'a' + 't' * 10_000, 's', 1, 0)])
    [back] = make().outstanding()
    assert back.key == 'k' * 1000
    assert back.error.startswith('E: two lines e') and len(back.error) == 1000
    assert back.traceback == 't' * 10_000


# Which of them are outstanding

def test_the_last_record_of_a_number_wins(make):
    file = make()
    file.append([failure(7), failure(3)])
    file.append([failure(7, error='E: again', attempts=4)])
    for file in file, make():
        assert file.count == 2
        assert [(f.number, f.error) for f in file.outstanding()] == [
            (3, 'ValueError: bad'), (7, 'E: again')]


def test_resolved_and_failed_again(make):
    file = make()
    file.append([failure(n) for n in (1, 2, 3)])
    file.resolve([1, 3, 99])
    assert (file.count, numbers(file)) == (1, [2])
    file.append([failure(3)])
    assert (make().count, numbers(make())) == (2, [2, 3])


def test_those_above_the_watermark_are_forgotten(make, path):
    make().append([failure(n) for n in (9, 2, 5, 6)])
    file = make(upto=5)
    assert (file.count, numbers(file)) == (2, [2, 5])
    assert (make().count, numbers(make())) == (2, [2, 5])
    file.append([failure(6, error='E: new')])
    assert [f.error for f in make().outstanding()][2:] == ['E: new']
    assert make(upto=0).count == 0
    assert not path.exists()


def test_a_sound_file_is_not_rewritten(make, path):
    make().append([failure(n) for n in (1, 2)])
    before = path.stat().st_ino
    system = FaultyOS()
    assert make(upto=2, system=system).count == 2
    assert set(system.steps) == {'open', 'listdir'}
    assert path.stat().st_ino == before


def test_appending_while_the_outstanding_are_read(make):
    file = make()
    file.append([failure(n) for n in (1, 2, 3)])
    seen = []
    for each in file.outstanding():
        seen.append(each.number)
        file.resolve([each.number])
        file.append([failure(3, error='E: again')])
        file.compact()
    assert seen == [1, 2, 3]
    assert numbers(make()) == [3]


# Damage

def test_torn_at_every_byte_of_the_last_line(make, path):
    make().append([failure(1), failure(2)])
    data = path.read_bytes()
    first = data.index(b'\n') + 1
    for length in range(first, len(data)):
        path.write_bytes(data[:length])
        file = make()
        # All but its newline is there: then it is no less a record.
        whole = length == len(data) - 1
        assert numbers(file) == ([1, 2] if whole else [1])
        file.append([failure(3)])
        assert numbers(make()) == ([1, 2, 3] if whole else [1, 3])


@pytest.mark.parametrize('tail', [b'\0' * 100, b'{"number": 7', b'x'])
def test_what_a_crash_left_at_the_very_end(make, path, tail):
    make().append([failure(1)])
    data = path.read_bytes()
    path.write_bytes(data + tail)
    assert numbers(make()) == [1]
    assert path.read_bytes() == data


@pytest.mark.parametrize('tail', [b'{"number": 7}\n', b'\n', b'x\n'])
def test_a_whole_line_that_is_no_record_is_refused(make, path, tail):
    make().append([failure(1)])
    data = path.read_bytes() + tail
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        make()
    one_line(caught, str(path), 'line 2', '--reset')
    assert path.read_bytes() == data


@pytest.mark.parametrize('data', [b'my notes', b'my notes\n', b'\n', b'[]'])
def test_a_file_that_is_another_is_left_alone(make, path, data):
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        make()
    one_line(caught, str(path), 'line 1')
    assert path.read_bytes() == data


@pytest.mark.parametrize('data', [b'{', b'{"number": 1, "key', b'\0' * 9])
def test_a_first_record_that_a_crash_tore(make, path, data):
    path.write_bytes(data)
    assert numbers(make()) == [] and not path.exists()


@pytest.mark.parametrize('line', [
    b'', b'x', b'[]', b'{}', b'{"number": "2", "resolved": ""}', b'\xff',
    b'{"number": 2}', b'{"number": true, "resolved": ""}', b'[' * 100000,
    b'{"number": 2, "job": {"literal": "2"}}',
], ids=lambda line: repr(line[:20]))
def test_a_damaged_line_elsewhere_is_refused(make, path, line):
    make().append([failure(1), failure(2)])
    lines = path.read_bytes().splitlines()
    damaged = b'\n'.join([lines[0], line, lines[1], b''])
    path.write_bytes(damaged)
    with pytest.raises(ConfigError) as caught:
        make()
    one_line(caught, str(path), 'line 2', '--reset')
    assert path.read_bytes() == damaged


def test_a_file_that_cannot_be_read(make, path):
    path.mkdir()
    with pytest.raises(ConfigError) as caught:
        make()
    one_line(caught, str(path))


# Appending, when something fails

def test_an_append_is_one_write_and_synced(make):
    system = FaultyOS()
    file = make(system=system)
    del system.steps[:]
    file.append([failure(1), failure(2)])
    assert system.steps == [
        'open', 'fstat', 'open', 'fsync', 'close', 'write', 'fsync']
    del system.steps[:]
    file.resolve([1, 2])
    assert system.steps == ['write', 'fsync']


@pytest.mark.parametrize('action', ['append', 'resolve'])
@pytest.mark.parametrize('at', range(1, 8))
@pytest.mark.parametrize('fault', [no_space, Crash])
def test_each_step_of_a_write_can_fail(make, path, action, at, fault):
    error = fault()
    make().append([failure(1), failure(2)])
    system = FaultyOS(0, error)
    file = make(system=system)
    system.at = len(system.steps) + at

    def act(file):
        if action == 'append':
            file.append([failure(3), failure(4)])
        else:
            file.resolve([1, 2])

    with pytest.raises(type(error)):
        act(file)
    if isinstance(error, Crash):
        file = make(upto=2)     # the watermark has not passed 3 and 4
    # What had reached the disk may count: those two are handled.
    assert file.count == 2 or (action, fault) == ('resolve', Crash)
    assert len(numbers(file)) == file.count
    act(file)
    expected = [1, 2, 3, 4] if action == 'append' else []
    assert numbers(file) == numbers(make()) == expected
    for line in path.read_bytes().splitlines():
        json.loads(line)        # no half line stayed


def test_what_a_failed_append_left_is_cut_off(make, path):
    system = FaultyOS()
    file = make(system=system)
    file.append([failure(1)])
    sound = path.read_bytes()
    system.at, system.error = len(system.steps) + 1, no_space()
    with pytest.raises(OSError):
        file.append([failure(2)])
    assert path.read_bytes() != sound       # half a line
    file.append([failure(3)])
    assert path.read_bytes().startswith(sound)
    assert numbers(make()) == [1, 3]


@pytest.mark.skipif(sys.platform != 'linux', reason='has no /dev/full')
def test_a_full_disk(make):
    class Full(FaultyOS):
        full = True

        def write(self, fd, data):
            if not self.full:
                return os.write(fd, data)
            with open('/dev/full', 'wb', 0) as full:
                return full.write(data)

    system = Full()
    file = make(system=system)
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            file.append([failure(1)])
        assert caught.value.errno == errno.ENOSPC
        assert file.count == 0
    system.full = False
    file.append([failure(1)])
    assert numbers(make()) == [1]


# Compacting and setting aside

@pytest.fixture
def worn(make):
    """A file in which half of the records are not needed."""
    file = make()
    file.append([failure(n) for n in (4, 3, 2, 1)])
    file.append([failure(2, error='E: again')])
    file.resolve([1, 3])
    return file


def test_compacted_to_the_outstanding(make, worn, path):
    before = list(worn.outstanding())
    worn.compact()
    assert len(path.read_bytes().splitlines()) == 2
    assert list(worn.outstanding()) == list(make().outstanding()) == before
    worn.append([failure(9)])
    assert numbers(worn) == numbers(make()) == [2, 4, 9]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_compacted_to_nothing(make, worn, path):
    worn.resolve([2, 4])
    worn.compact()
    worn.compact()
    assert not path.exists()
    worn.append([failure(9)])
    assert numbers(worn) == numbers(make()) == [9]


def compact_steps():
    return ['open', 'open', 'write', 'write', 'fsync', 'close', 'replace',
            'open', 'fsync', 'close']


def test_the_steps_of_compacting(make, worn):
    system = FaultyOS()
    file = make(system=system)
    del system.steps[:]
    file.compact()
    assert system.steps == compact_steps()


@pytest.mark.parametrize('at', range(1, len(compact_steps()) + 1))
@pytest.mark.parametrize('fault', [no_space, Crash])
def test_each_step_of_compacting_can_fail(make, worn, path, at, fault):
    error = fault()
    system = FaultyOS(0, error)
    file = make(system=system)
    system.at = len(system.steps) + at
    with pytest.raises(type(error)):
        file.compact()
    if isinstance(error, Crash):
        file = make()
    assert numbers(file) == numbers(make()) == [2, 4]
    assert os.listdir(path.parent) == [path.name]
    file.append([failure(9)])       # its places are those of the right file
    assert numbers(file) == numbers(make()) == [2, 4, 9]


def test_a_clean_up_that_fails_at_the_start(make, worn, path):
    with pytest.raises(SaveError) as caught:
        make(upto=2, system=FaultyOS(4, no_space()))
    one_line(caught, str(path), 'No space left')
    assert numbers(make()) == [2, 4]


def test_set_aside(make, worn, path):
    old = path.with_name(path.name + '.old')
    old.write_bytes(b'older')
    before = path.read_bytes()
    worn.set_aside()
    worn.set_aside()
    assert worn.count == 0 and not path.exists()
    assert old.read_bytes() == before
    worn.append([failure(1)])
    assert numbers(make()) == [1]


def test_set_aside_of_a_damaged_file(path):
    path.write_bytes(b'damaged\n' * 2)
    FailuresFile(str(path)).set_aside()
    assert not path.exists()


def test_memory_holds_no_records(make, worn):
    assert set(worn._offsets) == {2, 4}
    assert all(type(place) is int for place in worn._offsets.values())
    assert module.MISSING is MISSING
