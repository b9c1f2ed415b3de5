"""Our log, whatever is done to the standard one."""

import logging
import logging.config

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
