"""Records of runs: what lives, how the others ended, which run is meant.

The files are real, and so is this process, which is what lives; times, the
machine and its boot are passed in.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from taskmaster.cli import finding
from taskmaster.cli.finding import find, is_over
from taskmaster.console import runs as console
from taskmaster.console.line import Status
from taskmaster.console.summary import Outcome, Retried
from taskmaster.errors import Unreachable, UsageError
from taskmaster.master.jobqueue import JobQueue
from taskmaster.master.recorder import Recorder
from taskmaster.master.register import Register
from taskmaster.settings import Settings
from taskmaster.storage.runs import (CRASHED, ELSEWHERE, KEPT, LIVE, MOST,
                                     STOPPED, Machine, Record, Runs, born,
                                     current, document)
from taskmaster.storage.state import Checkpoint, StateFile
from taskmaster.timing import STANDARD
from taskmaster.usercode.source import Source

HERE = Machine.here()
HOUR, DAY = 3600.0, 86400.0
NOW = 1_700_000_000.0


def record(start='aa', **changes):
    """Of a master that is this process."""
    return Record(
        'migrate', start, '127.0.0.1:3050', None, os.getpid(),
        born(os.getpid()), HERE.boot, HERE.host, '/srv/migrate.state',
        '/srv/migrate.failures', NOW - HOUR, NOW, 'running', 4403, 100_000,
        1)._replace(**changes)


ENDED = {'how': 'complete', 'exit_code': 1, 'ended': NOW - 60,
         'reason': 'complete, but for the failed jobs (exit code 1)'}


@pytest.fixture
def gone():
    """The pid of a process that has ended, and when it began."""
    child = subprocess.Popen(
        [sys.executable, '-c', 'import sys; sys.stdin.read()'],
        stdin=subprocess.PIPE)
    pid, since = child.pid, born(child.pid)
    assert since
    child.communicate()
    return {'pid': pid, 'born': since}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The records of a user of its own."""
    monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path / 'config'))
    return Runs(str(tmp_path / 'config' / 'taskmaster' / 'runs'))


# -- what lives -----------------------------------------------------------

def test_a_master_lives_while_its_process_does(gone):
    assert HERE.state(record()) == LIVE
    assert HERE.state(record(**gone)) == CRASHED
    assert HERE.state(record(**gone, stopping='SIGINT')) == STOPPED


def test_a_process_that_waits_to_be_buried_has_ended():
    child = subprocess.Popen([sys.executable, '-c', ''])
    since = born(child.pid)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert HERE.state(record(pid=child.pid, born=since)) == CRASHED
    child.wait()


def test_another_process_of_that_id_is_not_the_master():
    assert HERE.state(record(born='1')) == CRASHED


def test_of_another_boot_nothing_lives():
    assert HERE.boot
    assert HERE._replace(boot='another').state(record()) == CRASHED


def test_of_another_machine_nobody_knows():
    """In a home that they share: unless it has said how it ended."""
    there = HERE._replace(host='another')
    assert there.state(record()) == ELSEWHERE
    assert there.state(record(**ENDED)) == 'complete'


# -- how long they are kept -----------------------------------------------

def test_what_is_over_goes_after_a_week_and_what_lives_never(gone):
    old = NOW - 8 * DAY
    kept = [record('a1', started=old), record('a2', **ENDED),
            record('a3', **gone), record('a4', **gone, started=old),
            record('a5', **gone, started=NOW - HOUR, seen=NOW - HOUR)]
    lost = [record('b1', started=old, **{**ENDED, 'ended': old}),
            record('b2', started=old, seen=old, **gone),
            record('b3', started=old, seen=old, host='another')]
    found = current(kept + lost, HERE, NOW)
    assert {one.start for one in found} == {'a1', 'a2', 'a3', 'a4', 'a5'}
    assert KEPT == 7 * DAY


def test_a_clock_that_was_set_back_loses_none():
    late = record('a1', started=NOW + HOUR, seen=NOW + HOUR,
                  **{**ENDED, 'ended': NOW + HOUR})
    assert current([late], HERE, NOW) == [late]
    shown = document(late, HERE, NOW)
    assert shown['elapsed'] == shown['silent'] == 0


def test_they_are_few_though_a_run_is_started_each_minute():
    many = [record(f'{n:x}', started=NOW - n, **ENDED)
            for n in range(MOST + 50)]
    assert current(many, HERE, NOW) == many[:MOST]


def test_the_next_master_removes_what_has_gone(folder, gone):
    old = time.time() - 8 * DAY
    folder.write(record('a1', started=old, seen=old))       # it lives
    folder.write(record('a2', started=old, seen=old, **gone))
    left = os.path.join(folder.folder, 'a3.json.01234567.tmp')
    open(left, 'w').close()
    os.utime(left, (old, old))
    folder.prune(HERE, time.time())
    assert os.listdir(folder.folder) == ['a1.json']


# -- the files ------------------------------------------------------------

def test_what_is_written_is_read(folder):
    one = record(socket='/s', **ENDED)
    for each in one, record('bb', started=NOW):
        folder.write(each)
    assert folder.read() == [record('bb', started=NOW), one]
    for path in folder.folder, os.path.join(folder.folder, 'aa.json'):
        assert os.stat(path).st_mode & 0o077 == 0


@pytest.mark.parametrize('change', [
    {'format': 9}, {'pid': 'x'}, {'pid': -1}, {'started': 5},
    {'run': None}, {'how': 'well'}, {'current': 1.5}, {'state': ['x']},
    {'exit_code': 'x'}, {'start': 'cc'}, {'ended': 'soon'}])
def test_what_is_no_record_is_left_out(folder, change):
    folder.write(record())
    folder.write(record('bb'))
    path = os.path.join(folder.folder, 'aa.json')
    with open(path) as file:
        text = json.load(file)
    with open(path, 'w') as file:
        json.dump({**text, **change}, file)
    assert folder.read() == [record('bb')]


@pytest.mark.parametrize('text', ['', '{', '[]', 'null', '[' * 100_000])
def test_nor_is_what_a_crash_left(folder, text):
    folder.write(record())
    with open(os.path.join(folder.folder, 'aa.json'), 'w') as file:
        file.write(text)
    assert folder.read() == []


def test_a_link_is_not_followed(folder, tmp_path):
    folder.write(record())
    os.rename(os.path.join(folder.folder, 'aa.json'), tmp_path / 'x')
    os.symlink(tmp_path / 'x', os.path.join(folder.folder, 'aa.json'))
    assert folder.read() == []


def test_a_folder_that_others_can_enter_is_not_written(folder):
    folder.write(record())
    os.chmod(folder.folder, 0o755)
    with pytest.raises(OSError, match='a folder of your own, mode 0700'):
        folder.write(record('bb'))


# -- the register ---------------------------------------------------------

@pytest.fixture
def register(folder, tmp_path):
    source = Source(lambda last=0: iter(()), 'migrate', '', 'migrate.state')
    recorder = Recorder(source, str(tmp_path / 'migrate.state'))
    one = Register(STANDARD)
    one.open(JobQueue(10, 'aa', 'migrate'), recorder, ('0.0.0.0', 3050),
             '/s')
    return one


def test_what_is_of_no_use_any_more_keeps_no_start_waiting(
        folder, gone, tmp_path):
    """Of 500 records all are read, which is for the thread."""
    folder.write(record('bb', seen=time.time() - 8 * DAY, **gone))
    source = Source(lambda last=0: iter(()), 'migrate', '', 'migrate.state')
    one = Register(STANDARD)
    one.open(JobQueue(10, 'aa', 'migrate'), Recorder(
        source, str(tmp_path / 'migrate.state')), ('127.0.0.1', 1), None)
    assert {each.start for each in folder.read()} == {'aa', 'bb'}
    one.end(outcome(), Status())
    one.keep()                  # until the end, which has come
    assert {each.start for each in folder.read()} == {'aa'}


def outcome(code=0, **more):
    return Outcome(code, 10, 0, '/f', **more)


def test_a_master_is_found_as_soon_as_it_serves(register, folder, tmp_path):
    one, = folder.read()
    assert (one.run, one.address, one.socket) == (
        'migrate', '127.0.0.1:3050', '/s')
    assert one.state_file == str(tmp_path / 'migrate.state')
    assert HERE.state(one) == LIVE


@pytest.mark.parametrize('end, how, code', [
    (outcome(), 'complete', 0), (outcome(1), 'complete', 1),
    (outcome(stopped_by=signal.SIGINT), 'stopped', 130),
    (outcome(1, option='--limit'), 'stopped', 1),
    (outcome(65), 'failed', 65), (outcome(70), 'failed', 70),
    (outcome(74, stopped_by=signal.SIGTERM), 'failed', 74)])
def test_it_says_how_it_ended(register, folder, end, how, code):
    register.end(end, Status(10, total=10))
    register.close()            # which changes nothing more
    one, = folder.read()
    assert (one.how, one.exit_code, one.current) == (how, code, 10)
    assert one.reason and one.ended >= one.started


@pytest.mark.parametrize('complete, how', [
    (False, 'stopped'), (True, 'complete')])
def test_a_retry_leaves_the_run_where_it_stands(
        folder, tmp_path, complete, how):
    """Else a run that is not complete would be called that."""
    class Retrying(Recorder):
        retried = Retried(707, complete)

    source = Source(lambda last=0: iter(()), 'migrate', '', 'migrate.state')
    one = Register(STANDARD)
    one.open(JobQueue(10, 'aa', 'migrate'), Retrying(
        source, str(tmp_path / 'migrate.state')), ('127.0.0.1', 1), None)
    assert folder.read()[0].current == 707
    one.end(outcome(), Status(3))
    found, = folder.read()
    assert (found.how, found.exit_code, found.current) == (how, 0, 707)
    assert found.reason.startswith('failed jobs were retried; the run itself')
    one.correct(outcome(70))
    assert folder.read()[0].how == 'failed'


@pytest.mark.parametrize('run, lives, said', [
    ('migrate', True, True), ('other', True, False),
    ('migrate', False, False)])
def test_another_live_run_of_its_name_is_said(
        register, folder, gone, caplog, run, lives, said):
    """Started from another folder, the same migration begins anew."""
    folder.write(record('bb', run=run, state_file='/other/migrate.state',
                        **({} if lives else gone)))
    register.end(outcome(), Status())
    register.keep()
    assert ('another run called migrate goes on: pid '
            f'{os.getpid()}, state /other/migrate.state;' in caplog.text
            ) == said


def test_one_that_came_to_no_end_is_not_live(register, folder):
    register.close()
    one, = folder.read()
    assert one.how == 'failed' and HERE.state(one) == 'failed'


def test_a_folder_that_cannot_be_written_is_no_failure(
        folder, tmp_path, caplog):
    caplog.set_level('DEBUG')
    os.makedirs(os.path.dirname(folder.folder))
    open(folder.folder, 'w').close()        # a file in its place
    source = Source(lambda last=0: iter(()), 'migrate', '', 'migrate.state')
    one = Register(STANDARD)
    one.open(JobQueue(10, 'aa', 'migrate'), Recorder(
        source, str(tmp_path / 'migrate.state')), ('127.0.0.1', 1), None)
    one.end(outcome(), Status())
    said = [each for each in caplog.records if 'no record' in each.message]
    assert said and all(each.levelname == 'DEBUG' for each in said)


# -- which run is meant ---------------------------------------------------

def asked(**settings):
    return find(Settings(**settings))


def now(start, run, port, **changes):
    """A record that lives now."""
    return record(start, run=run, address=f'127.0.0.1:{port}',
                  started=time.time(), seen=time.time(), **changes)


def test_without_records_it_is_the_default(folder):
    assert ('127.0.0.1', 3050) in asked().places
    with pytest.raises(Unreachable, match='no run migrate of yours'):
        asked(run='migrate')


def test_one_that_lives_is_meant(folder):
    folder.write(now('aa', 'one', 1, socket='/s'))
    assert asked().places == asked(run='one').places == ['/s']
    # TLS is spoken at its port.
    assert asked(tls_ca='crt').places == [('127.0.0.1', 1)]
    assert asked(host='db1').places == [('db1', 3050)]


def test_of_several_one_must_be_named(folder):
    folder.write(now('aa', 'one', 1))
    folder.write(now('bb', 'two', 2))
    with pytest.raises(UsageError, match='one, two; give --run'):
        asked()
    assert asked(run='two').places == [('127.0.0.1', 2)]
    folder.write(now('cc', 'two', 3))
    with pytest.raises(UsageError, match=r'127\.0\.0\.1:[23] and 127.*--host'):
        asked(run='two')


def test_one_that_is_over_says_how(folder, gone):
    at = time.time() - 60
    folder.write(now('aa', 'one', 1, **{**ENDED, 'ended': at}))
    folder.write(now('bb', 'two', 2, **gone))
    assert ('127.0.0.1', 3050) in asked().places    # none of them lives
    over = asked(run='one').over
    assert (over['state'], over['exit_code']) == ('complete', 1)
    assert 'complete at ' in str(is_over(over))
    assert 'two is not live: crashed' in str(is_over(asked(run='two').over))
    said = '\n'.join(console.lines(over))
    assert 'exit:     1' in said and '/srv/migrate.failures' in said


def test_the_last_one_is_named_where_none_is_live(folder, gone):
    assert asked().last == ''
    at = time.time()
    folder.write(now('aa', "it's shard=1", 1, **{
        **ENDED, 'how': 'stopped', 'ended': at,
        'reason': 'stopped by SIGTERM; start again to go on'}))
    folder.write(now('bb', 'two', 2, **{**ENDED, 'ended': at - 60}))
    last = asked().last
    assert "the last was it's shard=1: stopped at " in last
    assert ' by SIGTERM; start again to go on' in last
    command = last.rpartition('(')[2].rstrip(')')
    assert shlex.split(command)[-1] == "--run=it's shard=1"
    assert asked(host='db1').last == ''
    folder.write(now('cc', 'three', 3))
    assert asked().last == ''


def test_the_last_start_of_a_run_is_listed_and_all_of_those_that_live(
        folder, gone):
    """But of one name in two folders each is a run."""
    at = time.time()
    for n in range(5):
        folder.write(now(f'a{n}', 'one', n, **{**ENDED, 'ended': at - n}))
    folder.write(now('bb', 'one', 9, failures_file='/other/one.failures',
                     **gone))
    found = finding.runs()
    assert [run['address'][-1] for run in finding.latest(found)] == ['9', '0']
    folder.write(now('cc', 'one', 7))
    folder.write(now('dd', 'one', 8))
    found = finding.latest(finding.runs())
    assert sorted(run['address'][-1] for run in found) == ['7', '8', '9']
    assert len(finding.runs()) == 8


def test_how_it_ended_is_said_once(folder):
    at = time.time()
    for start, how, reason in (
            ('aa', 'complete', 'complete, but for the failed jobs (exit code '
                               '1)'),
            ('bb', 'complete', 'complete (exit code 0)'),
            ('cc', 'stopped', 'stopped by SIGTERM; start again to go on'),
            ('dd', 'stopped', 'ended by --limit; start again to go on (exit '
                              'code 1)'),
            ('ee', 'failed', 'stopped by --max-failures (exit code 65)')):
        folder.write(now(start, start, 1, **{
            **ENDED, 'how': how, 'reason': reason, 'ended': at}))
    runs = {run['run']: run for run in finding.runs()}
    at = runs['aa']['ended']
    assert [console.how(run) for _, run in sorted(runs.items())] == [
        f'complete at {at}, but for the failed jobs (exit code 1)',
        f'complete at {at} (exit code 0)',
        f'stopped at {at} by SIGTERM; start again to go on',
        f'stopped at {at}: ended by --limit; start again to go on (exit code '
        '1)', f'failed at {at}: stopped by --max-failures (exit code 65)']
    assert [console.state(run) for _, run in sorted(runs.items())] == [
        'complete (1)', 'complete (1)', 'stopped by SIGTERM (1)',
        'stopped by --limit (1)', 'failed (1)']


@pytest.mark.parametrize('name, command', [
    ('one', 'tm-run one, or as it was started'),
    ('one shard=1.check', 'tm-run one shard=1 --verify, or as it was '
                          'started')])
def test_how_to_go_on_with_it(folder, name, command):
    folder.write(now('aa', name, 1, **{
        **ENDED, 'how': 'stopped', 'ended': time.time(),
        'reason': 'stopped by SIGTERM; start again to go on'}))
    run, = finding.runs()
    assert f'go on:    {command}' in console.lines(run)
    assert str(is_over(run)).endswith(
        f'start again to go on (again: {command})')
    assert console.go_on({**run, 'state': 'complete'}) == ''
    assert console.go_on({**run, 'state_file': None}) == ''     # none is kept


def test_of_a_run_that_crashed_its_state_file_knows_most(
        folder, gone, tmp_path):
    path, older = (str(tmp_path / f'{name}.state') for name in 'ab')
    at = time.time() + DAY      # whatever it takes
    for file, at in (path, at), (older, 1000.0):
        StateFile(file, 'one', '').save(Checkpoint(180, 180, 2, False,
                                                   time=at))
    folder.write(now('aa', 'one', 1, current=128, state_file=path, **gone))
    run, = finding.runs()
    assert (run['current'], run['failed'], run['at_least']) == (180, 2, False)
    assert 'jobs:     180 finished of 100000, 2 failed' in console.lines(run)
    # Of another time, another run, or not there: no more than was said.
    for other in ({'state_file': older}, {'run': 'two'},
                  {'state_file': str(tmp_path / 'none')}):
        folder.write(now('aa', **{'run': 'one', 'port': 1, 'current': 128,
                                  'state_file': path, **gone, **other}))
        run, = finding.runs()
        assert (run['current'], run['at_least']) == (128, True)
        assert 'jobs:     at least 128 finished of 100000, 1 failed' in (
            console.lines(run))


def test_live_ones_are_listed_first_and_then_those_that_ended_last(folder):
    at = time.time()
    folder.write(record('aa', run='old', started=at - DAY, seen=at))
    for n in range(15):
        folder.write(now(f'b{n:x}', f'over{n}', n, **{
            **ENDED, 'ended': at - n, 'state_file': f'/srv/over{n}.state'}))
    found = finding.runs()
    assert [run['run'] for run in found] == [
        'old', *(f'over{n}' for n in range(15))]        # as JSON has them
    head, *said, more = console.listed(found)
    assert [line.split()[0] for line in said] == [
        'old', *(f'over{n}' for n in range(10))]
    assert more == 'and 5 runs more that ended before; --all has all'
    assert head.endswith('state file')
    assert said[0].endswith('/srv/migrate.state')
    assert said[1].endswith('/srv/over0.state')
    assert found[1]['ended'] in said[1]
    assert f"ended {found[1]['ended']}" in said[1]     # not since then
    assert len(console.listed(found, whole=True)) == 17
    # One whose machine nobody knows of is of then.
    assert console.listed([{**found[1], 'ended': None}])[1].count(
        found[1]['seen']) == 1
    assert console.listed([]) == [
        'no runs of yours on this machine, in the last week']
    assert console.listed([], named=True) == [
        'no runs of that name on this machine, in the last week']


def test_the_list(folder, gone):
    folder.write(now('aa', 'one', 1))
    folder.write(now('bb', 'two', 2, **gone))
    folder.write(now('cc', 'shard s=\x1b[2J', 3, total=None,
                     state='throttled: lag',
                     **{**ENDED, 'ended': time.time()}))
    folder.write(now('dd', 'four', 4, host='db2'))
    said = '\n'.join(console.listed(finding.runs()))
    assert '127.0.0.1:1' in said and '4403/100000   4%' in said
    assert '4403+/100000' in said       # and maybe more, by a crash
    assert 'crashed' in said and 'complete (1)' in said
    assert 'on db2' in said and '\x1b' not in said
    # One that has not said a word for long is there, and says so.
    shown = console.listed(finding.runs(time.time() + 60))
    assert any('running; silent for 60 s' in line for line in shown)
