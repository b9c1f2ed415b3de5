"""What who imports the package sees of it."""

import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import taskmaster
from taskmaster import Taskmaster, iterators
from taskmaster.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def test_only_what_is_for_users_is_listed():
    assert {name for name in dir(taskmaster) if name[0] != '_'} == {
        'Taskmaster', 'TaskmasterError', 'iterators', 'example'}
    assert {name for name in dir(iterators) if name[0] != '_'} == set(
        iterators.__all__)


@pytest.mark.parametrize('package, shown', [
    (taskmaster, ['Taskmaster(handle_job, get_jobs', 'start(self)']),
    (iterators, ['keyset(', 'class RangeQuerySetWrapper'])])
def test_help_shows_what_is_for_users(package, shown):
    said = pydoc.plain(pydoc.render_doc(package))
    assert [text for text in shown if text not in said] == []


def test_type_checkers_are_told_that_it_is_typed():
    assert Path(taskmaster.__file__).with_name('py.typed').exists()


# -- a Python without its lock --------------------------------------------

@pytest.mark.parametrize('words', [
    'master taskmaster.example', 'slave taskmaster.example', 'ctl status',
    'spawn taskmaster.example 1', 'run taskmaster.example 1'])
def test_scripts_need_the_lock(words):
    name, *words = words.split()
    done = subprocess.run(
        [sys.executable, '-c', 'import sys\n'
         'sys._is_gil_enabled = lambda: False\n'
         f'from taskmaster.cli.{name} import main\n'
         f'main({words!r})'], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == ConfigError.exit_code
    assert done.stderr.count('\n') == 1
    assert 'PYTHON_GIL=1' in done.stderr


def test_a_program_needs_the_lock(monkeypatch):
    monkeypatch.setattr(sys, '_is_gil_enabled', lambda: False, raising=False)
    with pytest.raises(ConfigError, match='PYTHON_GIL=1'):
        Taskmaster(print, [1], slaves=1).start()
