"""What is said at the end."""

import logging

import pytest
from fakes import Clock

from taskmaster.console import summary
from taskmaster.console.summary import Outcome, Summary, reason


@pytest.fixture
def said(caplog):
    """``said(count, finished, ...)``: the lines."""
    def say(count, finished, code, failed=0, **options):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            count.say(Outcome(code, finished, failed, 'x.failures',
                              **options))
        return [record.getMessage() for record in caplog.records]
    return say


def test_all_went_well(said):
    clock = Clock()
    count = Summary(clock)
    clock.forward(50)
    assert said(count, 1000, 0, twice=3, slaves=2) == [
        '1000 jobs in 0:00:50 (20.00/s): 1000 done, 0 failed, 3 done twice; '
        'slaves: 2', 'complete (exit code 0)']


def test_the_most_frequent_errors(said):
    clock = Clock()
    count = Summary(clock)
    for error, times in [('ValueError: bad', 5), ('KeyError: 1', 2),
                         ('OSError: disk', 7), ('KeyError: 2', 1)]:
        count.add([error] * times)
    clock.forward(1)
    assert said(count, 100, 1, failed=16) == [
        '100 jobs in 0:00:01 (100.00/s): 85 done, 15 failed, 0 done twice',
        'failed: 7 x OSError: disk', 'failed: 5 x ValueError: bad',
        'failed: 2 x KeyError: 1', '16 failed jobs are in x.failures',
        'complete, but for the failed jobs (exit code 1)']


def test_errors_that_all_differ_take_no_memory():
    count = Summary()
    count.add(f'ValueError: row {n} ' + 'x' * 1000 for n in range(100_000))
    assert len(count._kinds) == summary.KINDS + 1
    assert count._kinds['ValueError'] == 100_000 - summary.KINDS
    assert max(map(len, count._kinds)) <= 100


@pytest.mark.parametrize('code, given, text', [
    (0, {}, 'complete (exit code 0)'),
    (0, {'option': '--limit'}, 'ended by --limit; start again to go on '
                               '(exit code 0)'),
    (65, {'option': '--max-runtime'},
     'stopped by --max-failures (exit code 65)'),
    (65, {}, 'stopped by --max-failures (exit code 65)'),
    (70, {}, 'code outside of a job raised (exit code 70)'),
    (70, {'fault': True}, 'a fault of taskmaster itself (exit code 70)'),
    (74, {}, 'the last save did not succeed (exit code 74)'),
    (78, {}, 'ended (exit code 78)'),
    (1, {'stopped_by': 2}, 'stopped by SIGINT; start again to go on')])
def test_the_reason(code, given, text):
    assert reason(Outcome(code, 10, 0, 'x.failures', **given)) == text
