"""What is printed, and where that cannot be."""

import io

import pytest

from taskmaster.cli.script import show
from taskmaster.console.output import print_line
from taskmaster.errors import Fault, SaveError


class Broken(io.StringIO):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def flush(self):
        raise self.error


def test_what_was_asked_for_is_written_or_it_is_said(monkeypatch):
    monkeypatch.setattr('sys.stdout', Broken(OSError(28, 'No space left')))
    with pytest.raises(SaveError, match='No space left') as caught:
        print_line('taskmaster_up 1')
    assert caught.value.exit_code == 74


@pytest.mark.parametrize('error', [
    BrokenPipeError(32, 'Broken pipe'), ValueError('closed file')])
def test_whoever_has_read_enough_is_no_error(monkeypatch, error):
    monkeypatch.setattr('sys.stdout', Broken(error))
    print_line('taskmaster_up 1')


def test_an_error_is_told_whatever_stands_in_the_librarys_place(
        monkeypatch, capfd):
    def refuse(*args):
        raise SystemExit('not from here')

    monkeypatch.setattr('taskmaster.logs.stamp', refuse)
    assert show(Fault('planted', 'Traceback ...'), 'tm-run') == 70
    assert capfd.readouterr().err == 'tm-run: planted\n'
