"""Calling the operator's function, job by job."""

import pytest

from taskmaster import handlers
from taskmaster.handlers import Ways, run_each


class Says:
    """What a slave offers a handler, written down."""

    def __init__(self):
        self.failed, self.pauses = [], []
        self.ways = Ways(self._fail, self.pauses.append, [])

    def _fail(self, error, attempts):
        self.failed.append((str(error), attempts))


@pytest.fixture
def says():
    return Says()


def test_each_job_in_order(says):
    seen = []
    run_each(seen.append, 0, iter([1, 2, 3]), says.ways)
    assert seen == [1, 2, 3] and says.failed == []


@pytest.mark.parametrize('error', [
    ValueError('bad'), SystemExit('bad'), KeyboardInterrupt('bad'),
    GeneratorExit('bad'), StopIteration('bad'), RecursionError('bad')],
    ids=lambda error: type(error).__name__)
def test_whatever_it_raises_fails_that_job_alone(says, error):
    seen = []

    def handle(job):
        if job == 2:
            raise error
        seen.append(job)

    run_each(handle, 0, iter([1, 2, 3]), says.ways)
    assert seen == [1, 3] and says.failed == [('bad', 1)]


def test_it_is_told_before_the_next_job_is_begun(says):
    jobs = iter([1, 2, 3])
    left = []

    def fail(error, attempts):
        left.append(jobs.__length_hint__())

    run_each(lambda job: 1 / 0, 0, jobs, says.ways._replace(fail=fail))
    assert left == [2, 1, 0]


def test_an_interrupt_ends_it_after_the_job(says):
    seen = []

    def handle(job):
        seen.append(job)
        if job == 2:
            says.ways.interrupt.append(True)

    jobs = iter([1, 2, 3])
    run_each(handle, 0, jobs, says.ways)
    assert seen == [1, 2] and list(jobs) == [3]


def test_an_interrupt_counts_after_a_failure_too(says):
    def handle(job):
        says.ways.interrupt.append(True)
        raise ValueError

    jobs = iter([1, 2])
    run_each(handle, 0, jobs, says.ways)
    assert list(jobs) == [2]


def test_further_attempts(says):
    tries = []

    def handle(job):
        tries.append(job)
        if len(tries) < 3:
            raise ValueError('not yet')

    run_each(handle, 5, iter(['job']), says.ways)
    assert tries == ['job'] * 3 and says.failed == []
    assert len(says.pauses) == 2


def test_the_last_attempt_is_what_is_told(says):
    tries = []

    def handle(job):
        tries.append(job)
        raise ValueError(f'attempt {len(tries)}')

    run_each(handle, 2, iter(['job']), says.ways)
    assert says.failed == [('attempt 3', 3)]


def test_pauses_grow_and_are_bounded(says):
    run_each(lambda job: 1 / 0, 40, iter(['job']), says.ways)
    first, last = handlers.BACKOFF
    assert len(says.pauses) == 40
    assert all(0 <= pause <= last for pause in says.pauses)
    assert says.pauses[0] <= first and max(says.pauses) > 10 * first


def test_from_target(tmp_path, monkeypatch, says):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'handlers_mod.py').write_text(
        'seen = []\ndef handle_job(job):\n    seen.append(job)\n')
    target, handler = handlers.from_target('handlers_mod')
    handler(iter([1, 2]), says.ways)
    import handlers_mod
    assert handlers_mod.seen == [1, 2]
    assert target.name == 'handlers_mod'
