"""What is typed to `tm-ctl`, and what it says to a word too many."""

import shlex
import subprocess
import time
from types import SimpleNamespace

import pytest

from taskmaster.cli import ctl, failures, top
from taskmaster.cli.finding import Found
from taskmaster.console.top import View
from taskmaster.errors import (KeyRefused, TaskmasterError, Unreachable,
                               UsageError)
from taskmaster.settings import Settings
from taskmaster.storage.failures import Failure, FailuresFile
from taskmaster.storage.runs import Record, Runs
from taskmaster.timing import STANDARD
from taskmaster.wire.messages import Failures

NAME = "it's shard=1"


def said(**settings):
    with pytest.raises(UsageError) as caught:
        ctl.run(Settings(**settings), None)
    return str(caught.value)


@pytest.mark.parametrize('command', [
    command for command in ctl.ALL if command not in ('rate', 'failures')])
def test_a_run_is_named_by_its_flag(command):
    line = said(command=command, value=NAME)
    assert line.startswith(f'{command} takes no other word; ')
    assert shlex.split(line.rpartition(' --')[2]) == ["run=" + NAME]


def test_a_rate_is_a_number(tmp_path):
    assert said(command='rate') == (
        'give a number of jobs a second, or off, to rate')
    assert said(command='rate', value='migrate').endswith(
        '; a run is named with --run=migrate')
    assert said(command='failures', value='migrate',
                folder=str(tmp_path)).endswith(
        'migrate; a run is named with --run=migrate')


def test_a_word_too_many(capsys):
    with pytest.raises(SystemExit) as ended:
        ctl.main(['rate', 'migrate', '500'])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        'tm-ctl: unrecognized arguments: 500; a run is named with '
        '--run=NAME; see tm-ctl --help\n')


def kinds(*names):
    return [{'kind': name, 'count': 2, 'first_key': '1', 'last_key': '2',
             'traceback': 'Traceback ...\n', 'messages': []}
            for name in names]


def test_each_kind_can_be_pasted_into_a_shell():
    names = ["ValueError at it's a file.py:3", 'KeyError at $HOME/m.py:4']
    lines = failures._lines(Failures('/srv/x.failures',
                                     kinds(*names, 'others')))
    assert lines[0] == '6 failed jobs of 3 kinds in /srv/x.failures'
    flags = [line for line in lines if line.startswith('  --retry-failed')]
    shown = subprocess.run(
        ['sh', '-c', f"printf '%s\\n' {' '.join(flags)}"],
        capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == ['--retry-failed', *(
        f'--retry-failed={name}' for name in names)]
    one, = kinds('KeyError')
    assert failures._lines(Failures('f', [{**one, 'count': 1}]))[0] == (
        '1 failed job of 1 kind in f')


def test_messages_that_differ_are_listed_and_whose_the_traceback_is():
    one, = kinds('KeyError at m.py:3')
    same = {'message': "'age'", 'count': 2, 'key': '1', 'varies': False}
    alike = failures._lines(Failures('f', [{**one, 'messages': [same]}]))
    assert alike[2:4] == ['2 x KeyError at m.py:3 (first key 1, last 2)',
                          '    Traceback ...']
    differ = [{**same, 'count': 1}, {**same, 'message': "'x'", 'count': 1,
                                     'key': '2'}]
    assert failures._lines(Failures('f', [{**one, 'messages': differ}]))[
        3:7] == ["  1 x 'age' (key 1)", "  1 x 'x' (key 2)",
                 '  the traceback of key 1:', '    Traceback ...']
    varies = [{**same, 'varies': True}]
    assert failures._lines(Failures('f', [{**one, 'messages': varies}]))[
        3] == '  the traceback of key 1:'


@pytest.mark.parametrize('typed, line', [
    ({'command': 'list', 'host': 'db1'}, 'list is of the runs of this '
                                         'machine; leave --host out'),
    ({'command': 'failures', 'value': 'x.failures', 'host': 'db1'},
     'give a file of failures or --host, not both'),
    ({'command': 'status', 'all': True}, '--all is for list'),
    ({'command': 'pause', 'json': True},
     '--json is for status, list and failures')])
def test_a_flag_that_would_be_ignored_is_refused(typed, line, monkeypatch):
    monkeypatch.delenv('TASKMASTER_HOST', raising=False)
    assert said(**typed) == line


def test_a_host_of_the_environment_is_no_flag(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path))
    monkeypatch.setenv('TASKMASTER_HOST', 'db1')
    assert ctl.run(Settings(command='list', host='db1'), STANDARD) == 0
    assert capsys.readouterr().out.startswith('no runs of yours')


def over(tmp_path, start, name, at):
    """A run that is over, and a job of it that has failed."""
    path = str(tmp_path / f'{name}.failures')
    file = FailuresFile(path)
    file.open(1)
    file.append([Failure(1, '1', 'KeyError: 1', '', 'host:1', 1, 1)])
    file.close()
    Runs(str(tmp_path / 'taskmaster' / 'runs')).write(Record(
        name, start, '127.0.0.1:1', None, 1, '1', '', 'host', None, path, at,
        at, '', 1, None, 1, at, 'complete', '', 1, 'complete (exit code 0)'))


def test_failures_of_the_last_run_where_no_run_is_live(tmp_path, monkeypatch):
    """Or which are meant is asked, and how to say it is said."""
    monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path))
    monkeypatch.delenv('TASKMASTER_HOST', raising=False)
    tried = []

    def ask(settings, found, method):
        tried.append(settings.timeout)
        raise Unreachable(f'no master; {found.last}')

    settings = Settings(command='failures', timeout=5.0)
    with pytest.raises(Unreachable):
        failures._of_run(settings, ask)
    over(tmp_path, 'aa', 'one', time.time() - 9)
    assert failures._of_run(settings, ask).kinds[0]['count'] == 1
    over(tmp_path, 'bb', 'two s=1', time.time())
    with pytest.raises(Unreachable) as caught:
        failures._of_run(settings, ask)
    assert "tm-ctl failures --run='two s=1'" in str(caught.value)
    assert len(str(caught.value)) < 150
    assert tried == [5.0, 0.0, 5.0]     # nothing is there to be waited for

    def refuse(settings, found, method):
        raise KeyRefused('another key')
    (tmp_path / 'one.failures').rename(tmp_path / 'here.failures')
    with pytest.raises(KeyRefused):     # it is live, somewhere
        failures._of_run(settings._replace(run='here', host='db1',
                                           folder=str(tmp_path)), refuse)


@pytest.mark.parametrize('host, note', [
    ('db1', "no answer; if it has ended, on db1: tm-ctl status "
            "--run='migrate s=1'"),
    (None, 'the master does not answer; this is what it said last')])
def test_a_screen_elsewhere_says_where_the_end_is_known(
        host, note, monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path))
    link = SimpleNamespace(close=lambda: None)
    poller = top.Poller(Settings(), lambda: link, link)
    poller.view = View({'run': 'migrate s=1', 'pid': 1,
                        'host': host or top.socket.gethostname()})
    poller._gone()
    assert poller.view.note == note and len(note) < 80


@pytest.mark.parametrize('error', [KeyRefused('another key'), EOFError('x')])
@pytest.mark.parametrize('last', ['the last was migrate', ''])
def test_where_no_run_is_live_the_last_one_is_said(error, last):
    """Also where somebody else's master has the default port."""
    def connect():
        raise error
    with pytest.raises(TaskmasterError) as caught:
        ctl._look_for(Found(name='here', last=last), connect, 0)
    assert str(caught.value).endswith(last) and caught.value.exit_code == (
        77 if isinstance(error, KeyRefused) else 69)
