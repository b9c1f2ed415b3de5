"""How long jobs take: samples of slaves, and what is made of them."""

import pytest
from fakes import RUN, Clock, Direct, add, greet

from taskmaster.master.jobqueue import JobQueue
from taskmaster.master.times import SAMPLES, SLOWEST, Times
from taskmaster.slave.backlog import Backlog
from taskmaster.slave.pace import SELDOM
from taskmaster.wire.messages import TIMES, JobTime


def put(queue, jobs):
    for job in jobs:
        queue.put(job)


class Pieces:
    """The jobs of numbers 1 .. are these."""

    def __init__(self, jobs):
        self.jobs, self.first = jobs, 1

    def within(self, a, b):
        return [self] if a <= len(self.jobs) else []


def test_median_and_the_slowest_are_of_jobs_and_not_of_samples():
    times = Times()
    assert times.report() is None
    times.note([JobTime(1, 97, 0.97), JobTime(98, 1, 0.5),
                JobTime(99, 1, 2.0), JobTime(100, 1, 3.0)],
               Pieces([f'job {n}' for n in range(1, 101)]))
    found = times.report()
    assert (round(found.median, 6), found.p99) == (0.01, 2.0)
    assert found.slowest == [(3.0, 'job 100'), (2.0, 'job 99'),
                             (0.5, 'job 98')]


def test_only_the_slowest_are_kept():
    times, pieces = Times(), Pieces(range(1, 5001))
    for n in range(1, 5001):
        times.note([JobTime(n, 1, float(n % 1000))], pieces)
    found = times.report()
    assert len(found.slowest) == SLOWEST
    assert {job % 1000 for _, job in found.slowest} == {999}
    assert SAMPLES == 1000 and 490 < found.median < 510


def test_a_job_that_nobody_holds_any_more_has_no_name():
    times = Times()
    times.note([JobTime(7, 1, 3.0)], Pieces([]))
    assert times.report().slowest == []
    assert times.report().p99 == 3.0


def test_a_slave_reports_what_a_worker_took_at_a_time():
    clock = Clock()
    backlog = Backlog(clock=clock)
    for first in range(1, 2 * TIMES, 2):
        add(backlog, first, ['a', 'b'])
        chunk = backlog.take()
        list(chunk.iterator)
        clock.forward(0.01)
        backlog.bring(chunk)
    # Of quick jobs not each report has them.
    reports = [backlog.report(RUN) for _ in range(SELDOM)]
    report, = [one for one in reports if one.times]
    assert report.times[0] == JobTime(1, 2, pytest.approx(0.01))
    assert len(report.times) == TIMES
    assert backlog.report(RUN).times == []


def test_a_master_names_the_slowest_by_the_job():
    queue = JobQueue(10, RUN)
    put(queue, ['a', 'b'])
    session = Direct(queue)
    greet(session)
    session.call('exchange', [RUN, [], [], [], []], 2, False, 0)
    session.call('exchange', [RUN, [[1, 1]], [], [], [[1, 1, 2.5]]], 0,
                 False, 0)
    assert queue.times().slowest == [(2.5, 'a')]
