"""Our log, whatever is done to the standard one."""

import logging
import logging.config
import os
import re

import pytest

from taskmaster import logs


@pytest.fixture
def lines(monkeypatch):
    """Where our lines go once a script has set the log up."""
    said = []

    class Here(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())
    before = logs._root.handlers[:], logs._root.level
    logs.send_to(Here())
    logs.set_level(logging.INFO)
    yield said
    logs._root.handlers[:], level = before
    logs.set_level(level)


@pytest.fixture
def standard():
    """The standard tree, put back as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield root
    root.handlers[:], level = before
    root.setLevel(level)
    logging.disable(logging.NOTSET)
    for logger in root.manager.loggerDict.values():
        logger.disabled = False


@pytest.mark.parametrize('do', [
    lambda: logging.config.dictConfig({'version': 1}),
    lambda: logging.disable(logging.CRITICAL),
    lambda: logging.getLogger().setLevel(logging.CRITICAL),
    lambda: logging.getLogger('taskmaster').setLevel(logging.CRITICAL)],
    ids=['dictConfig', 'disable', 'root level', 'level of our name'])
def test_nothing_done_to_the_standard_loggers_reaches_ours(do, lines,
                                                           standard):
    log = logs.logger('taskmaster.test')
    try:
        do()
        log.info('here')
        assert lines == ['here']
    finally:
        logging.getLogger('taskmaster').setLevel(logging.NOTSET)


def test_ours_are_not_among_what_the_operator_logs_to_a_file(
        lines, standard, tmp_path):
    standard.handlers[:] = []
    logging.basicConfig(filename=tmp_path / 'log', level=logging.INFO)
    logs.logger('taskmaster.test').warning('ours')
    logging.getLogger('theirs').info('theirs')
    for handler in standard.handlers:
        handler.close()
    assert lines == ['ours']
    assert (tmp_path / 'log').read_text() == 'INFO:theirs:theirs\n'


def test_as_a_library_records_go_to_the_standard_loggers(caplog):
    assert logs.are_standard()
    log = logs.logger('taskmaster.test')
    with caplog.at_level(logging.INFO):
        log.info('here')
        log.debug('not here')
    assert [(record.name, record.message) for record in caplog.records] == [
        ('taskmaster.test', 'here')]


def test_as_a_library_a_level_there_is_kept_to(caplog):
    log = logs.logger('taskmaster.test')
    with caplog.at_level(logging.WARNING, 'taskmaster'):
        log.info('not here')
    assert caplog.records == []


# -- lines ----------------------------------------------------------------

STAMP = r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 '


@pytest.fixture
def stamped(monkeypatch):
    """Have lines begin with their time, as if they went to a file."""
    monkeypatch.setattr(logs, '_stamped', True)


def line(level, text, name='taskmaster.test'):
    return logs.Lines().format(logging.makeLogRecord({
        'name': name, 'levelno': level, 'msg': text, 'created': 0.0,
        'levelname': logging.getLevelName(level)}))


@pytest.mark.parametrize('level, text', [
    (logging.INFO, 'here'), (logging.WARNING, 'warning: here'),
    (logging.ERROR, 'error: here'), (logging.DEBUG, 'debug: here')])
def test_time_level_and_line(stamped, level, text):
    assert line(level, 'here') == f'1970-01-01T00:00:00+00:00 {text}'


def test_lines_of_a_slave_among_others_name_it(monkeypatch):
    monkeypatch.setattr(logs, 'speaker', 'web1:312')
    assert line(logging.WARNING, 'no') == 'warning: no (slave web1:312)'
    assert line(logging.WARNING, 'no', 'migrate') == 'warning: no'


def test_where_lines_begin_with_their_time(monkeypatch, tmp_path):
    monkeypatch.setattr(logs, '_stamped', False)

    def stamps(stream, **environ):
        logs.stamp_lines(stream, environ)
        assert logs.ENV_PLAIN not in environ
        return logs.are_stamped()

    with open(tmp_path / 'log', 'w') as file:
        there = os.fstat(file.fileno())
        journal = f'{there.st_dev}:{there.st_ino}'
        assert stamps(file)
        assert stamps(file, JOURNAL_STREAM='1:2')       # another's
        assert not stamps(file, JOURNAL_STREAM=journal)
        environ = {logs.ENV_PLAIN: '1'}
        logs.stamp_lines(file, environ)
        assert not logs.are_stamped() and not environ
        assert stamps(file)
        assert re.fullmatch(STAMP, logs.stamp())
    assert stamps(None)
    ours, theirs = os.openpty()
    with os.fdopen(theirs, 'w') as terminal:
        assert not stamps(terminal)
        assert logs.stamp() == ''
    os.close(ours)
