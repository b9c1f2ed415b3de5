"""One filter, for whatever others wrote, on the way to a terminal or a log."""

import ast
import io
import logging
import re
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from taskmaster import logs
from taskmaster.console import output, status
from taskmaster.console.line import Status, format_status
from taskmaster.errors import Fault, TaskmasterError
from taskmaster.text import (counted, duration, printable, safe_repr, short,
                             summary, traceback_of)

# A title set, a screen cleared, C1, a line hidden, read from right to left.
NASTY = ('a\x1b]0;pwned\x07b', '\x1b[2Jb', '\x9b31mb', 'a\rb', 'a\bb',
         'a\u202eb', 'a\u2066b', 'a\u200bb', 'a\u2028b', 'a\x85b', 'a\0b',
         'a\udc1bb', 'a\x7fb')


def harmless(text):
    return all(char.isprintable() or char in '\n\t' for char in text)


@pytest.mark.parametrize('text', NASTY)
def test_what_steers_a_terminal_is_written_out(text):
    shown = printable(text)
    assert harmless(shown) and '\\' in shown and shown.endswith('b')


@pytest.mark.parametrize('text', [
    '', 'plain', 'Zürich', '東京\u3000大阪', 'a\xa0b', 'שלום', '\\x1b', '🎉'])
def test_what_is_to_be_read_stays(text):
    assert printable(text) == text


def test_lines_stay_where_they_are_wanted():
    assert printable('a\n\tb\x1b', lines=True) == 'a\n\tb\\x1b'
    assert printable('a\n\tb') == 'a\\n\\tb'
    assert printable('a\n\x1bb', instead='?') == 'a??b'


class Nasty(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.text = text

    def __repr__(self):
        return self.text


@pytest.mark.parametrize('text', NASTY)
def test_each_way_to_make_text(text):
    error = Nasty(text)
    try:
        raise error
    except Nasty:
        pass
    for shown in (safe_repr(error), short(text), summary(error),
                  traceback_of(error), str(TaskmasterError(text)),
                  Fault.of(error, 'here').traceback):
        assert harmless(shown)
    assert '\n' not in str(TaskmasterError('one\ntwo'))


@pytest.mark.parametrize('text', NASTY)
def test_each_way_out(text, monkeypatch):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, 'stdout', out)
    monkeypatch.setattr(sys, 'stderr', err)
    output.print_line(text)
    output.to_stderr(text)
    record = logging.makeLogRecord({'msg': '%s', 'args': (text,),
                                    'levelno': logging.INFO})
    err.write(logs.Lines().format(record))
    out.write(format_status(Status(1, state=text), 1.0, 1.0))
    slave = {'name': text, 'done': 1, 'failed': 0, 'rate': 1.0, 'in_hand': 1,
             'oldest': 1.0}
    for line in status.lines({
            'run': text, 'state': text, 'current': 1, 'total': None,
            'failed': 0, 'rate': 1.0, 'limit': None, 'queued': 1, 'size': 1,
            'slower': text, 'eta': None, 'slaves': [slave], 'oldest': {
                'number': 1, 'key': text, 'slave': text, 'age': 1.0}}):
        assert '\n' not in line
        out.write(line)
    assert harmless(out.getvalue()) and harmless(err.getvalue())
    assert 'b' in out.getvalue() and 'b' in err.getvalue()


def test_what_handlers_print_is_theirs(capsys):
    output.pass_on('\x1b[31mred\x1b[0m')
    assert capsys.readouterr().out == '\x1b[31mred\x1b[0m\n'


def test_a_name_of_others_is_short():
    slave = {'name': 'n' * 5000, 'done': 1, 'failed': 0, 'rate': 1.0,
             'in_hand': 1, 'oldest': None}
    shown = status.lines({
        'run': 'r', 'state': 's', 'current': 1, 'total': None, 'failed': 0,
        'rate': 1.0, 'limit': None, 'queued': 1, 'size': 1, 'slower': 's',
        'eta': None, 'slaves': [slave], 'oldest': None})
    assert max(map(len, shown)) < 200


def test_the_standard_loggers_get_it_filtered(caplog):
    """Where a program has set up logging of its own."""
    logs.logger('taskmaster.test').warning('key %s', 'a\x1b[2Jb')
    assert caplog.messages == ['key a\\x1b[2Jb']


@pytest.mark.parametrize('seconds', [
    0, 40.9, 59, 60, 3599, 3600, 86399, 86400, 172799, 172800, 1e9])
def test_a_duration_reads_as_the_library_writes_it(seconds):
    assert duration(seconds) == str(timedelta(seconds=int(seconds)))


def test_one_is_one():
    assert [counted(n, 'failed job') for n in (0, 1, 2, '1', '0.5')] == [
        '0 failed jobs', '1 failed job', '2 failed jobs', '1 failed job',
        '0.5 failed jobs']


# Where there are never so few: of constants, of what is told apart from one
# above it, of bytes of a file.
SEVERAL = {('settings.py', 'jobs'), ('ledger.py', 'times'),
           ('supervisor.py', 'times'), ('finding.py', 'runs'),
           ('dry_run.py', 'bytes'), ('textfile.py', 'bytes'),
           ('connection.py', 'bytes')}
PLURAL = re.compile(
    r'(?:%d|%s|#) (?:failed |finished |live )?(jobs|slaves|runs|kinds|bytes|'
    r'times|rows|lines|days|keys|failures|seconds|threads|workers|lists|'
    r'records|files|processes|samples)\b')


def literals(tree):
    """The texts of a module, a # in the place of what is filled in."""
    parts = {id(part) for node in ast.walk(tree)
             if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield ''.join(part.value if isinstance(part, ast.Constant)
                          else '#' for part in node.values)
        elif (isinstance(node, ast.Constant) and isinstance(node.value, str)
              and id(node) not in parts):
            yield node.value


@pytest.mark.hunt
def test_whatever_is_counted_may_be_one():
    """No number stands before a plural, but through `counted`."""
    package = Path(__file__).parents[2] / 'taskmaster'
    found = {(path.name, match[1]) for path in package.rglob('*.py')
             for text in literals(ast.parse(path.read_text()))
             for match in PLURAL.finditer(text)}
    assert found == SEVERAL
