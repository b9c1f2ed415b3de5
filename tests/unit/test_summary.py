"""What is said at the end."""

import logging

import pytest
from fakes import Clock

from taskmaster.console.summary import Outcome, Retried, Summary, reason
from taskmaster.storage.failures import Failure


AGAIN = ('; see tm-ctl failures x.failures, and --retry-failed to run it '
         'again')


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


def failures(*kinds):
    """Failed jobs: so many of each error, at a line of its own."""
    numbers = iter(range(1, 1 << 30))
    for error, times in kinds:
        for _ in range(times):
            number = next(numbers)
            yield Failure(number, str(number), error,
                          f'  File "/srv/m.py", line {len(error)}, in f\n',
                          'host:1', 1, None)


def test_the_most_frequent_kinds(said):
    clock = Clock()
    count = Summary(clock)
    count.add(failures(('ValueError: bad', 5), ('KeyError: 1', 2),
                       ('OSError: disk', 7), ('TypeError', 1),
                       ('KeyError: 23', 1)))
    clock.forward(1)
    assert said(count, 100, 1, failed=17) == [
        '100 jobs in 0:00:01 (100.00/s): 84 done, 16 failed, 0 done twice',
        'failed: 7 x OSError at m.py:13: disk (keys 8 to 14)',
        'failed: 5 x ValueError at m.py:15: bad (keys 1 to 5)',
        'failed: 2 x KeyError at m.py:11: 1 (keys 6 to 7)',
        'and 2 kinds more',
        '17 failed jobs are in x.failures, with those of earlier starts; '
        'see tm-ctl failures x.failures, and --retry-failed to run them '
        'again',
        'complete, but for the failed jobs (exit code 1)']


def test_failures_as_they_come(caplog):
    """The first of each kind, and then ten, a hundred ..."""
    count = Summary()
    for failure in failures(('ValueError: bad', 1000), ('KeyError: 1', 9)):
        count.add([failure])
    assert [record.getMessage() for record in caplog.records] == [
        'failed: job 1: ValueError: bad',
        *(f'failed: {n} x ValueError at m.py:15: bad (keys 1 to {n})'
          for n in (10, 100, 1000)),
        'failed: job 1001: KeyError: 1']
    assert count.failed == 1009
    caplog.clear()
    count.add([next(failures(('OSError: x', 1)))._replace(cause='IOError')])
    assert caplog.messages == ['failed: job 1: OSError: x (at first IOError)']


def test_a_retry_says_where_the_run_stands(said):
    count = Summary()
    count.add(failures(('ValueError: bad', 2)))
    assert said(count, 470, 1, failed=2, retried=Retried(14584, False))[
        -1] == ('retried 470: 468 done, 2 failed; the run itself stands at '
                '14584 jobs; start again without --retry-failed to go on')
    assert said(Summary(), 470, 0, retried=Retried(20, True))[-1] == (
        'retried 470: 470 done, 0 failed; the run itself is complete, with '
        '20 jobs')
    # Those of other kinds are why it ends with 1.
    *_, left, _, how = said(Summary(), 2, 1, failed=1,
                            retried=Retried(1, True))
    assert (left, how) == ('1 failed job is in x.failures' + AGAIN, (
        'retried 2: 2 done, 0 failed; 1 more in the file, not retried; the '
        'run itself is complete, with 1 job'))


def test_counts_say_what_they_are_of(said):
    """Of this start, or of the whole run where that is more."""
    clock = Clock()
    count = Summary(clock)
    count.add(failures(('ValueError: bad', 1)))
    clock.forward(1)
    assert said(count, 1, 1, failed=1, slaves=2, earlier=9) == [
        '1 job in 0:00:01 (1.00/s): 0 done, 1 failed, 0 done twice; slaves: '
        '2; with earlier starts 10 jobs',
        'failed: 1 x ValueError at m.py:15: bad (key 1)',
        '1 failed job is in x.failures' + AGAIN,
        'complete, but for the failed jobs (exit code 1)']
    # A nightly run that found nothing new.
    assert said(Summary(), 0, 1, failed=1, earlier=9)[0] == 'no jobs'
    # By name where that will do.
    assert said(Summary(), 1, 1, failed=2, run='a b=1')[1] == (
        '2 failed jobs are in x.failures, with those of earlier starts; '
        "see tm-ctl failures --run='a b=1', and --retry-failed to run them "
        'again')


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
    (1, {'stopped_by': 2}, 'stopped by SIGINT; start again to go on'),
    (0, {'stopped_by': 2, 'resumes': False},
     'stopped by SIGINT; start with --reset, as get_jobs takes no `last`'),
    (0, {'option': '--limit', 'resumes': False},
     'ended by --limit; start with --reset, as get_jobs takes no `last` '
     '(exit code 0)'),
    (74, {'stopped_by': 2},
     'the last save did not succeed (exit code 74)')])
def test_the_reason(code, given, text):
    assert reason(Outcome(code, 10, 0, 'x.failures', **given)) == text
