"""The rehearsal: what of a module would spoil a run, found beforehand."""

import contextlib
import dataclasses
import itertools
import json
import os
import sqlite3
import threading
import time
from types import SimpleNamespace

import pytest

from taskmaster import dry_run
from taskmaster.errors import ConfigError, OperatorError, UsageError
from taskmaster.settings import Settings
from taskmaster.storage.codec import encode_key
from taskmaster.storage.state import Checkpoint, StateFile
from taskmaster.usercode.handler import Handler
from taskmaster.usercode.source import Source


def numbers(last=0):
    return iter(range(last + 1, 2001))


class Twice:
    """A handler of lists that takes what setup gives."""

    def __call__(self, jobs, tool):
        raise AssertionError('it is called')


def handle(job):
    raise AssertionError('it is called')


@pytest.fixture
def rehearse(tmp_path, capsys, monkeypatch):
    """``rehearse(get_jobs, ...)``: lines by their labels, and the code.

    It leaves no file behind.
    """
    monkeypatch.chdir(tmp_path)
    # However busy the machine is, so many jobs, not so many seconds.
    monkeypatch.setattr(dry_run, 'CLOSELY', (1000, 60.0))
    monkeypatch.setattr(dry_run, 'ENOUGH', (100_000, 60.0))

    def rehearse(get_jobs=numbers, load=None, settings=(), **options):
        before = sorted(tmp_path.iterdir())
        source = Source(get_jobs, 'mod', '/mod.py', 'mod.state', **options)
        code, error = 0, ''
        try:
            dry_run.rehearse(source, Settings(
                folder=str(tmp_path), **dict(settings)), load)
        except OperatorError as caught:
            code, error = caught.exit_code, str(caught)
        assert sorted(tmp_path.iterdir()) == before
        lines = {}
        for line in capsys.readouterr().out.splitlines():
            label, _, text = line.partition(':')
            lines.setdefault(label, text.strip())
        wrong = {label for label in lines if label in error}
        return lines, code, wrong if 'not right' in error else error
    return rehearse


def test_all_is_well(rehearse):
    lines, code, error = rehearse(
        load=lambda: Handler(handle), count_jobs=lambda: 2000,
        throttle=lambda: None)
    assert (code, error) == (0, '')
    for label in 'keys', 'jobs', 'last', 'handler', 'throttle', 'total':
        assert lines[label].startswith('ok, '), lines
    assert lines['setup'] == 'none'
    assert lines['state'].endswith('would start at the beginning')
    assert lines['total'].startswith('ok, count_jobs says 2000, after ')
    assert lines['speed'].startswith('2000 jobs from get_jobs in ')
    assert lines['time'] == 'get_jobs alone would take 0:00:00 for 2000 jobs'


def test_a_master_leaves_out_what_slaves_have(rehearse):
    lines, _, _ = rehearse(throttle=lambda: None)
    assert not lines.keys() & {'handler', 'setup', 'throttle'}


def test_whatever_the_state_it_begins_at_the_beginning(rehearse, tmp_path):
    asked = []

    def get_jobs(last=0):
        asked.append(last)
        return numbers(last)
    state = StateFile(str(tmp_path / 'mod.state'), 'mod', '/mod.py')
    state.save(Checkpoint(700, 700, 0, False))
    lines, code, _ = rehearse(get_jobs, settings={'limit': 100})
    assert code == 0 and asked == [0, 5]
    assert lines['state'].endswith('would go on after key 700')
    assert lines['job'] == 'key 1, 5 bytes, 1'
    assert lines['time'].endswith(' for 100 jobs')
    lines, _, _ = rehearse(get_jobs)
    assert lines['time'].endswith(' for 1300 jobs')


# -- the resume -----------------------------------------------------------

@pytest.mark.parametrize('count', range(2, 9))
@pytest.mark.parametrize('first', [0, 1])
def test_from_last_on_or_after_it(rehearse, count, first):
    asked = []

    def get_jobs(last=None):
        asked.append(last)
        return iter(range(1, count + 1) if last is None else
                    range(last + first, count + 1))
    lines, code, _ = rehearse(get_jobs)
    assert code == 0 and lines['last'].startswith('ok, ')
    assert asked == [None, min(count - 1, 5)]


DEAF = {
    'again': (lambda last=None: iter(range(1, 10)), 'began with 1 again'),
    'too early': (lambda last=0: iter(range(max(last - 1, 0) + 1, 10)),
                  None),
    'much too early': (lambda last=0: iter(range(max(last - 3, 1), 10)),
                       'begins with 2, and 6 should come'),
    'one left out': (lambda last=-1: iter(range(last + 2, 10)),
                     'begins with 7, and 6 should come'),
    'nothing': (lambda last=0: iter(range(last + 1, 10) if not last else ()),
                'yields nothing, and 6 should come'),
    'raises': (lambda last='': iter(range(1, 10) if not last else last + ''),
               'raised TypeError'),
    'no iterable': (lambda last='': None if last else range(1, 10),
                    'get_jobs returned NoneType, which cannot be iterated'),
    'True, which is 1': (
        lambda last=None: iter([*range(9)] if last is None
                               else [float(last), 5]),
        'begins with 4.0, and 5 should come')}


@pytest.mark.parametrize('get_jobs, says', DEAF.values(), ids=DEAF)
def test_a_source_that_does_not_go_on(rehearse, get_jobs, says):
    lines, code, error = rehearse(get_jobs)
    if says is None:
        assert code == 0
    else:
        assert code == 70
        assert says in lines['last'] and error == lines['last']


def test_what_cannot_be_checked_is_no_fault(rehearse):
    for jobs in [], [1]:
        lines, code, _ = rehearse(lambda last=None: iter(jobs))
        assert code == 0 and 'not checked' in lines['last']
    lines, code, _ = rehearse(lambda: iter(range(10)))
    assert code == 0 and 'takes no `last`' in lines['last']


def test_a_source_is_closed_before_it_is_called_again(rehearse):
    opened = []

    def get_jobs(last=0):
        opened.append(last)
        try:
            assert len(opened) == 1
            for job in itertools.count(last + 1):
                yield job
        finally:
            opened.pop()
    lines, code, _ = rehearse(get_jobs)
    assert code == 0 and not opened
    assert lines['speed'].startswith('100000 jobs')
    assert lines['time'].startswith('unknown, as nobody says how many')


# -- keys and jobs --------------------------------------------------------

class Growing:
    """It comes back as another."""

    def __init__(self, pk):
        self.pk = pk

    def __reduce__(self):
        return Growing, (self.pk + 1,)


@dataclasses.dataclass(eq=False)
class Plain:
    """No two are equal by ==."""

    pk: int
    tags: tuple = ()


class Unreadable:
    def __init__(self, pk):
        self.pk = pk

    def __reduce__(self):
        return os.stat, ('/no/such/file',)


WRONG = {
    'keys that repeat': ([1, 2, 3, 2], {}, 'keys', 'two jobs have the key 2'),
    'keys that repeat late': ([*range(900), 7], {}, 'keys', 'the key 7;'),
    'no key': ([1, 2], {'get_key': lambda job: None}, 'keys', 'is None'),
    'a key without an end': (
        [1], {'get_key': lambda job: 'x' * 70_000}, 'keys', '64 kB'),
    'not a number': ([float('nan')], {}, 'keys', 'not equal to itself'),
    'a key that changes': (
        [Growing(1)], {'get_key': lambda job: job}, 'keys',
        'does not come back as the same'),
    'a job that cannot be pickled': (
        [1, lambda: 0], {'get_key': id}, 'jobs', 'CANNOT BE PICKLED'),
    'a job that changes': ([Growing(1), Growing(2)], {}, 'jobs',
                           '2 of the first 2 would fail: one comes back as'),
    'a job that cannot be unpickled': (
        [Unreadable(1)], {}, 'jobs', 'cannot be unpickled (FileNotFound')}


@pytest.mark.parametrize('jobs, options, label, says', WRONG.values(),
                         ids=WRONG)
def test_what_is_wrong_with_keys_and_jobs(rehearse, jobs, options, label,
                                          says):
    lines, code, wrong = rehearse(lambda: iter(jobs), **options)
    assert code == 70
    assert says in lines[label]
    assert label in wrong or wrong == lines[label]


def test_what_only_seems_to_be_wrong(rehearse):
    """By what is saved, and not by ==."""
    rows = [Plain(pk, (pk, {'b', 'a'}, {'x': 1})) for pk in range(20)]
    for jobs in rows, [1, True, 1.0], [{'pk': 1}, {'pk': 2}]:
        assert rehearse(lambda: iter(jobs))[1] == 0


def test_a_plain_iterable_needs_no_keys(rehearse):
    lines, code, _ = rehearse(lambda: iter([1, 1]), resumable=False)
    assert code == 0 and lines['keys'] == 'not needed, as no state is kept'


def test_a_dict_that_changes(rehearse):
    def get_jobs():
        row = {}
        for row['pk'] in range(10):
            yield row
    assert rehearse(get_jobs)[1:] == (70, (
        'get_jobs yielded the same dict twice; jobs must not change after '
        'they are yielded, so make a new one for each'))


def test_what_cannot_be_iterated_is_said_as_by_a_run(rehearse):
    async def coroutine():
        return []
    made = coroutine()
    for get_jobs, kind in ((lambda: None, 'NoneType'),
                           (lambda: made, 'coroutine')):
        assert rehearse(get_jobs)[1:] == (70, (
            f'get_jobs returned {kind}, which cannot be iterated; let it '
            'yield the jobs'))
    made.close()


def test_get_jobs_is_called_where_a_run_calls_it(rehearse):
    """What was made on the main thread is of no use there, but inline."""
    with contextlib.closing(sqlite3.connect(':memory:')) as db:
        def get_jobs(last=0):
            yield from db.execute('WITH t (id) AS (VALUES (1), (2)) '
                                  'SELECT id FROM t WHERE id > ?', (last,))
        options = dict(get_key=lambda job: job[0])
        _, code, error = rehearse(get_jobs, **options)
        assert code == 70 and 'get_jobs raised ProgrammingError' in error
        lines, code, _ = rehearse(get_jobs, settings={'inline': True},
                                  **options)
        assert code == 0 and lines['last'].startswith('ok, ')
        _, code, error = rehearse(
            count_jobs=lambda: db.execute('SELECT 1').fetchone()[0])
        assert code == 70 and 'count_jobs raised ProgrammingError' in error


def test_a_source_that_blocks_is_said(rehearse, monkeypatch):
    said, told = threading.Event(), []

    def info(*what):
        told.append(what)
        said.set()
    monkeypatch.setattr(dry_run, 'PATIENCE', 0.01)
    monkeypatch.setattr(dry_run, 'logger',
                        lambda name: SimpleNamespace(info=info))

    def get_jobs(last=0):
        yield last + 1
        assert said.wait(60)
    assert rehearse(get_jobs)[1] == 0
    assert told[0] == ('waiting for %s, %.0f s', 'get_jobs', 0.01)


def test_a_source_that_becomes_slow_is_not_waited_for(rehearse, monkeypatch):
    monkeypatch.setattr(dry_run, 'CLOSELY', (3, 60.0))
    monkeypatch.setattr(dry_run, 'ENOUGH', (1000, 10.0))
    # Each job takes a second.
    monkeypatch.setattr(dry_run, 'time', SimpleNamespace(
        monotonic=time.monotonic, perf_counter=itertools.count().__next__))
    lines, code, _ = rehearse(itertools.count)
    assert code == 0
    assert lines['speed'] == ('12 jobs from get_jobs in 12.00 s (1/s); none '
                              'was handled, nothing written')


def test_however_slow_it_is_a_resume_is_tried(rehearse, monkeypatch):
    # The first job takes a minute, each of the others a second.
    clock = itertools.chain([0], itertools.count(60))
    monkeypatch.setattr(dry_run, 'CLOSELY', (1000, 0.0))
    monkeypatch.setattr(dry_run, 'ENOUGH', (1000, 2.0))
    monkeypatch.setattr(dry_run, 'time', SimpleNamespace(
        monotonic=time.monotonic, perf_counter=clock.__next__))
    lines, code, _ = rehearse(lambda last=0: itertools.count(last + 1),
                              settings={'total': 5000})
    assert code == 0 and lines['last'] == 'ok, get_jobs(last=5) begins with 6'
    assert lines['keys'].startswith('ok, the first 6 are unique')
    assert lines['speed'].startswith('6 jobs from get_jobs in 65.00 s (1/s)')
    assert lines['time'].startswith('get_jobs alone would take 1:24:20 ')


def test_jobs_are_looked_at_for_a_while_only(rehearse, monkeypatch):
    monkeypatch.setattr(dry_run, 'CLOSELY', (3, 60.0))
    lines, code, _ = rehearse(lambda: iter([1, 2, 3, 3, 3]))
    assert code == 0 and lines['keys'].startswith('ok, the first 3 are')
    monkeypatch.setattr(dry_run, 'CLOSELY', (100, 0.0))
    assert rehearse(lambda: iter([*range(6), 5]))[1] == 0


# -- the other functions --------------------------------------------------

def missing():
    raise ConfigError('no function handle_job in mod')


FUNCTIONS = {
    'handler': [missing, lambda: Handler(lambda: None),
                lambda: Handler(lambda a, b, c: None, setup=lambda: 1),
                lambda: Handler(lambda job, *, db: None)],
    'setup': [lambda: Handler(handle, setup=lambda job: 1)]}


@pytest.mark.parametrize('label, load', [
    (label, load) for label, loads in FUNCTIONS.items() for load in loads])
def test_functions_that_do_not_fit(rehearse, label, load):
    lines, code, error = rehearse(load=load)
    assert code == 70 and error == lines[label]


def test_functions_that_fit(rehearse):
    for load in (lambda: Handler(Twice(), setup=lambda: 1, lists=True),
                 lambda: Handler(lambda *jobs: None),
                 lambda: Handler(lambda job, more=1: None),
                 lambda: Handler(print)):
        assert rehearse(load=load)[1] == 0


def test_a_throttle_that_does_not_fit(rehearse):
    lines, code, error = rehearse(load=lambda: Handler(handle),
                                  throttle=lambda limit: None)
    assert code == 70
    assert error == lines['throttle'] == (
        '<lambda> cannot be called with no arguments, as it will be; correct '
        'what it takes')


@pytest.mark.parametrize('count', [lambda: 1 / 0, lambda: 'many',
                                   lambda of: 1])
def test_a_count_that_cannot_be_had(rehearse, count):
    lines, code, error = rehearse(count_jobs=count)
    assert code == 70 and 'count_jobs raised' in lines['total']


def test_several_faults_are_named_together(rehearse):
    lines, code, wrong = rehearse(
        lambda last=None: iter([1, 2, 2, *range(3, 9)]), load=missing)
    assert code == 70 and wrong == {'keys', 'last', 'handler'}


def test_it_goes_with_get_jobs(rehearse):
    with pytest.raises(UsageError, match='--retry-failed'):
        rehearse(settings={'retry_failed': True})


def test_a_state_that_cannot_be_used(rehearse, tmp_path):
    path = tmp_path / 'mod.state'
    path.write_text(json.dumps({'key': encode_key(1)}))
    with pytest.raises(ConfigError, match='damaged'):
        rehearse()
