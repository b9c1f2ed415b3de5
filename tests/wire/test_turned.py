"""A slave that holds the key and has turned: what it can cost is bounded.

How much of it an honest slave feels, tests/tools/turned.py measures.
"""

from contextlib import closing

import pytest
from fakes import KEY, RUN, Direct, greet, introduction, report, take

from taskmaster.master import dispatcher
from taskmaster.master.jobqueue import LINES, JobQueue
from taskmaster.master.lease_size import QUEUE_BYTES
from taskmaster.master.leasing import OF_ONE
from taskmaster.wire import client
from taskmaster.wire.fields import RANGES, BadMessage
from taskmaster.wire.messages import ID, WORKERS, Jobs, Wait

SIZE = 20


class Endless(JobQueue):
    """Always full."""

    def fill(self):
        while self.qsize() < SIZE:
            self.put('job')


@pytest.fixture
def queue():
    return Endless(SIZE, RUN)


def lines(caplog, what):
    return [record.message for record in caplog.records
            if what in record.message]


def test_who_hoards_leaves_enough_for_others(serve, queue):
    server = serve(queue)
    with closing(client.connect(server.address, KEY)) as turned:
        greet(turned, 'turned', workers=10)
        had = 0
        while True:
            queue.fill()
            got = take(turned, 1_000_000, 10.0)     # at once, if it is none
            if isinstance(got, Wait):
                break
            had += len(got[1])
        assert had == OF_ONE * SIZE
        with closing(client.connect(server.address, KEY)) as honest:
            greet(honest, 'honest')
            for number in range(had + 1, had + 100):
                queue.fill()
                first, _ = take(honest, done=[(number - 1, number - 1)])
                assert first == number


def test_slaves_that_die_one_after_another_are_counted(queue, caplog):
    door, other = Direct(queue), Direct(queue)
    queue.fill()
    for number in range(3 * LINES):
        queue.fill()
        greet(other, f's{number}')
        take(other)
        door.call('lost', f's{number}', [], True)
        other = Direct(queue)
    assert len(lines(caplog, 'lost slave')) == LINES
    queue.quiet._clock = lambda: 1e12
    queue.quiet.flush()
    assert lines(caplog, f'(and {2 * LINES - 1} more like it)')


def test_slaves_that_drop_are_counted(queue, caplog):
    for number in range(2 * LINES):
        queue.fill()
        door = Direct(queue)
        greet(door, f's{number}')
        take(door)
        door.close()
    queue.dispatcher._clock = lambda: 1e12
    queue.expire()
    assert len(lines(caplog, 'lost slave')) == LINES


def test_so_many_successors_are_awaited(queue, monkeypatch):
    monkeypatch.setattr(dispatcher, 'AWAITED', 5)
    door = Direct(queue)
    for number in range(20):
        other = Direct(queue)
        greet(other, f's{number}')
        door.call('lost', f's{number}', [], True)
    assert queue.sessions == 5
    greet(Direct(queue), 'next', after='s19')
    assert queue.sessions == 4 + 1


def test_who_says_that_it_has_many_workers_fills_no_memory():
    """Each may have a job, but not all of them wait in the queue."""
    queue = JobQueue(10_000, RUN)
    queue.weight.observe(1, QUEUE_BYTES // 100)
    greet(Direct(queue), workers=WORKERS)
    assert queue.page()[1] <= 100 and queue._most() == 100


def test_ids_are_short(queue):
    door = Direct(queue)
    for call in (('hello', introduction('x' * (ID + 1))),
                 ('hello', introduction(after='x' * (ID + 1))),
                 ('lost', 'x' * (ID + 1), [], True),
                 ('give_back', 'x' * (ID + 1), [])):
        with pytest.raises(BadMessage):
            door.call(*call)


def test_others_get_the_lock_in_the_midst_of_a_long_report(monkeypatch):
    """Ten thousand ranges are a quarter of a second's work."""
    queue = JobQueue(2 * RANGES, RUN)
    for job in range(2 * RANGES):
        queue.put(job)
    door = Direct(queue)
    greet(door)
    while isinstance(door.call('exchange', report(), 2 * RANGES, False, 0),
                     Jobs):
        pass
    held = []
    done = queue._ledger.done

    def counted(id, ranges):
        held.append(len(ranges))
        done(id, ranges)

    monkeypatch.setattr(queue._ledger, 'done', counted)
    take(door, done=[(n, n) for n in range(1, 2 * RANGES, 2)])
    assert sum(held) == RANGES and max(held) <= dispatcher.AT_ONCE
    assert queue.counts().finished == RANGES
