"""What a run keeps, between one start and the next."""

import asyncio
import json
import os

import pytest

from taskmaster.console.summary import Retried
from taskmaster.errors import (ConfigError, Locked, NothingToDo,
                               OperatorError, UsageError)
from taskmaster.master.pieces import FailedJob
from taskmaster.master.recorder import (Recorder, RetryRecorder,
                                        make_recorder)
from taskmaster.settings import Settings
from taskmaster.storage import state as module
from taskmaster.usercode.source import Source


class Started:
    """One start of a run: what its source yields, until it is closed."""

    def __init__(self, path, jobs, get_key=None, system=os):
        self.source = Source(lambda last=None: iter(jobs), 'mod', '',
                             'mod.state', get_key=get_key)
        self.recorder = Recorder(self.source, str(path / 'mod.state'))
        self.recorder.state.system = system
        self.recorder.open()
        self.jobs = list(jobs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.recorder.close()

    def begin(self):
        """As the feeder does: whether the first job is skipped."""
        return self.recorder.skip(self.jobs[0])

    def finish(self, count, failed=()):
        """So many jobs are finished, some of which have failed."""
        self.recorder.record([
            FailedJob(number, self.jobs[number - 1], 'ValueError: bad',
                      'Traceback ...', 'host:1', 1) for number in failed])
        self.recorder.save(count, self.jobs[count - 1], False)


@pytest.fixture
def start(tmp_path):
    return lambda jobs, **options: Started(tmp_path, jobs, **options)


# -- where a start begins -------------------------------------------------

@pytest.mark.parametrize('complete', [True, False])
def test_a_check_that_is_complete_begins_anew(tmp_path, caplog, complete):
    """Verify, mend, verify: or the second one would check nothing."""
    caplog.set_level('INFO')

    def opened():
        source = Source(lambda last=None: [], 'mod.check', '', 'x')
        recorder = Recorder(source, str(tmp_path / 'mod.check.state'),
                            anew=True)
        recorder.open()
        return recorder

    run = opened()
    run.record([FailedJob(2, 2, 'NotRight: no', '', 'host:1', 1)])
    run.save(3, 3, complete)
    run.close()
    again = opened()
    again.close()
    assert (again.count, again.failed) == ((0, 0) if complete else (3, 1))
    said = 'checked once more from the beginning: '
    assert (said in caplog.text) == complete
    for name in 'mod.check.state.old', 'mod.check.failures.old':
        assert (tmp_path / name).exists() == complete


def test_it_is_said_that_a_run_cannot_go_on(tmp_path, caplog):
    source = Source(lambda: [], 'mod', '', 'mod.state')
    recorder = Recorder(source, str(tmp_path / 'mod.state'))
    recorder.open()
    recorder.close()
    assert 'get_jobs takes no `last`' in caplog.text
    assert not recorder.resumes


@pytest.mark.parametrize('functions, said', [
    ({'get_key': lambda: 1}, 'get_key cannot be called with 1 argument,'),
    ({'throttle': lambda a: 1}, 'throttle cannot be called with no arguments'),
    ({'finished': lambda: 1}, 'finished cannot be called with 1 argument,')])
def test_functions_that_cannot_be_called_are_refused(functions, said):
    source = Source(lambda last=None: [], 'mod', '', 'mod.state', **functions)
    with pytest.raises(ConfigError) as caught:
        make_recorder(source, Settings())
    assert said in str(caught.value)


# -- a source that ignores `last` -----------------------------------------

def test_the_runs_first_job_again_is_refused(start):
    with start([1, 2, 3]) as run:
        assert not run.begin()
        run.finish(2)
    with start([1, 2, 3]) as run:
        with pytest.raises(OperatorError) as caught:
            run.begin()
    for word in 'began with 1 again', '`last`', '--reset':
        assert word in str(caught.value)
    assert caught.value.exit_code == 70


def test_it_is_refused_ever_after(start):
    """The first key is that of the run, not of its last start."""
    with start([1, 2, 3]) as run:
        run.begin()
        run.finish(2)
    for begin in 2, 3:                  # from `last`, after it
        with start([begin, begin + 10]) as run:
            run.begin()
            run.finish(2)
    with start([1, 2, 3]) as run:
        with pytest.raises(OperatorError):
            run.begin()


@pytest.mark.parametrize('jobs, skipped', [
    ([2, 3], True), ([3], False), ([0, 1], False), ([True], False),
    ([1.0], False)])
def test_what_goes_on_is_not(start, jobs, skipped):
    with start([1, 2, 3]) as run:
        run.begin()
        run.finish(2)
    with start(jobs) as run:
        assert run.begin() == skipped


def test_a_run_of_which_one_job_is_done(start):
    with start([1, 2, 3]) as run:
        run.begin()
        run.finish(1)
    with start([1, 2, 3]) as run:
        assert run.begin()              # it is `last` itself


def test_a_first_job_that_has_failed_may_come_again(start):
    """By a source that asks for all that is not done yet."""
    with start([1, 2, 3]) as run:
        run.begin()
        run.finish(2, failed=[1])
    with start([1, 3]) as run:
        assert not run.begin()


def test_the_key_is_what_counts(start):
    def get_key(row):
        return row['id']

    with start([{'id': 1}, {'id': 2}], get_key=get_key) as run:
        run.begin()
        run.jobs[0]['id'] = 7           # after it was yielded
        run.finish(2)
    with start([{'id': 1}], get_key=get_key) as run:
        with pytest.raises(OperatorError):
            run.begin()


def test_a_start_before_any_job_is_done_is_the_first(start):
    with start([1, 2, 3]) as run:
        run.begin()
        run.recorder.paused = True
        run.recorder.save(0, None, False)
    with start([1, 2, 3]) as run:
        assert not run.begin()


def test_a_state_of_format_1_does_not_know(start, tmp_path):
    with start([1, 2, 3]) as run:
        run.begin()
        run.finish(2)
    path = tmp_path / 'mod.state'
    document = json.loads(path.read_bytes())
    assert document['format'] == 2 and document['first'] == {'literal': '1'}
    for name in 'first', 'checksum':
        del document[name]
    document['format'] = 1
    document['checksum'] = module._checksum(document)
    path.write_bytes(module._render(document))
    with start([1, 2, 3]) as run:
        assert run.recorder.count == 2
        assert not run.begin()
        run.finish(1)
    assert json.loads(path.read_bytes())['first'] is None


# -- a save that fails half-way -------------------------------------------

class BrokenSync:
    """The folder cannot be synced while ``broken``: the name is there."""

    broken = False

    def __getattr__(self, name):
        return getattr(os, name)

    def fsync(self, fd):
        if self.broken and os.path.isdir(f'/proc/self/fd/{fd}'):
            raise OSError(5, 'Input/output error')
        os.fsync(fd)


def test_it_is_written_again(start):
    """Though what is to be saved then was saved before it."""
    disk = BrokenSync()
    with start([1, 2, 3], system=disk) as run:
        run.begin()
        run.finish(2)
        run.recorder.paused = disk.broken = True
        with pytest.raises(OSError):
            run.finish(2)
        assert run.recorder.state.load().paused
        run.recorder.paused = disk.broken = False
        run.finish(2)                   # as it was before
        assert not run.recorder.state.load().paused


def test_it_is_tried_until_it_succeeds(start):
    disk = BrokenSync()
    with start([1, 2, 3], system=disk) as run:
        run.begin()
        disk.broken = True
        for _ in range(3):
            with pytest.raises(OSError):
                run.finish(2)


def test_two_jobs_of_one_key_are_found_all_the_same(start):
    disk = BrokenSync()
    with start(['a', 'b', 'b'], system=disk) as run:
        run.begin()
        disk.broken = True
        with pytest.raises(OSError):
            run.finish(2)
        disk.broken = False
        run.finish(2)
        with pytest.raises(OperatorError, match='two jobs have the key'):
            run.finish(3)


# -- what is the operators' -----------------------------------------------

@pytest.mark.parametrize('error', [
    ValueError('no'), SystemExit(0), KeyboardInterrupt(),
    asyncio.CancelledError()], ids=lambda error: type(error).__name__)
def test_a_failed_job_whose_methods_raise_is_recorded(start, error):
    class Odd:
        def __repr__(self):
            raise error

        def __reduce__(self):
            raise error

    with start([Odd(), 2]) as run:
        assert not run.begin()
        assert run.recorder.shown_key(run.jobs[0]) == '<Odd without a repr>'
        run.finish(2, failed=[1])
        failure, = run.recorder.failures.outstanding()
    assert failure.key == '<Odd without a repr>'
    assert failure.missing == 'it could not be pickled'


# -- retried by kind ------------------------------------------------------

def retry(path, kind):
    source = Source(lambda last=None: iter(()), 'mod', '', 'mod.state')
    recorder = RetryRecorder(source, str(path / 'mod.state'), kind)
    try:
        recorder.open()
        return list(recorder.jobs()), recorder.retried
    finally:
        recorder.close()


@pytest.fixture
def two_kinds(start):
    with start(list(range(1, 10))) as run:
        for line, numbers in (3, (1, 2, 5)), (8, (7,)):
            run.recorder.record([FailedJob(
                number, number, f'ValueError: bad {number}',
                f'  File "/srv/m.py", line {line}, in f\n', 'host:1', 1)
                for number in numbers])
        run.recorder.record([FailedJob(6, 6, 'KeyError: 6', '', 'host:1', 1)])
        run.recorder.save(8, 8, False)


@pytest.mark.parametrize('kind, jobs', [
    (None, [1, 2, 5, 6, 7]), ('ValueError at m.py:3', [1, 2, 5]),
    ('ValueError', [1, 2, 5, 7]), ('KeyError', [6])])
def test_one_kind_is_retried_or_one_type(tmp_path, two_kinds, kind, jobs):
    assert retry(tmp_path, kind) == (jobs, Retried(8, False))


def test_a_kind_that_there_is_not(tmp_path, two_kinds):
    with pytest.raises(UsageError) as caught:
        retry(tmp_path, 'ValueError at m.py:4')
    assert str(caught.value).endswith(
        'there are: ValueError at m.py:3, KeyError, ValueError at m.py:8')


def test_the_kinds_of_the_file(tmp_path, two_kinds, start):
    with start([9]) as run:
        path, kinds = run.recorder.kinds()
    assert path == str(tmp_path / 'mod.failures')
    assert [(kind['kind'], kind['count'], kind['last_key'])
            for kind in kinds] == [('ValueError at m.py:3', 3, '5'),
                                   ('KeyError', 1, '6'),
                                   ('ValueError at m.py:8', 1, '7')]


# -- the failures once more -----------------------------------------------

def again(path, kind=None):
    source = Source(lambda last=None: iter(()), 'mod', '', 'mod.state')
    return RetryRecorder(source, str(path / 'mod.state'), kind)


def test_nothing_to_retry_is_said_and_no_failure(start, tmp_path):
    with start([1, 2]) as run:
        run.finish(2)
    for kind in None, 'ValueError':
        with pytest.raises(NothingToDo, match='nothing to retry: no failed '
                                              'job is in .*mod.failures'):
            again(tmp_path, kind).open()
    assert NothingToDo.exit_code == 0


def test_of_one_kind_the_others_are_said(start, tmp_path, caplog):
    caplog.set_level('INFO')
    with start([1, 2, 3]) as run:
        run.finish(3, failed=[1, 3])
    with open(tmp_path / 'mod.failures') as file:
        text = file.read()
    (tmp_path / 'mod.failures').write_text(
        text.replace('ValueError: bad', 'KeyError: 7', 1))
    one = again(tmp_path, 'KeyError')
    one.open()
    assert caplog.messages[-1].startswith('retrying 1 of the 2 failed jobs of')
    one.close()
    with pytest.raises(UsageError, match='there are: .*ValueError'):
        again(tmp_path, 'OSError').open()


def test_while_the_run_is_live_its_failures_wait(start, tmp_path):
    """Another state would be no help: the failures lie beside this one."""
    with start([1, 2]) as run:
        run.finish(2, failed=[1])
        source = Source(lambda last=None: iter(()), 'mod', '', 'mod.state')
        for other, says in (
                (again(tmp_path), 'retried when that one has ended; tm-ctl '
                                  'stop '),
                (Recorder(source, str(tmp_path / 'mod.state')), '--state')):
            # As another process would: this one has it.
            with pytest.raises(Locked) as caught:
                other.open()
            assert says in str(caught.value)
            assert ('--state' in str(caught.value)) == (says == '--state')


def test_a_job_that_fails_again_counts_once(start, tmp_path, two_kinds):
    """On the status line, too: it is in the file already."""
    recorder = again(tmp_path)
    recorder.open()
    assert recorder.failing(0) == recorder.failing(2) == 5
    recorder.close()
    with start([9]) as run:
        assert run.recorder.failing(2) == 7
