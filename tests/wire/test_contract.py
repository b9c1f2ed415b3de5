"""What a slave may rely on: the same for a session and through a manager."""

import threading
from collections import Counter

import pytest
from fakes import (LONG, RUN, Background, Clock, greet, introduction, report,
                   take, until)

from taskmaster.master.feeder import Feeder
from taskmaster.master.jobqueue import JobQueue
from taskmaster.timing import STANDARD
from taskmaster.wire.fields import BadMessage
from taskmaster.wire.messages import Over, Recall, Stranger, Wait, Welcome

EXPIRY, GRACE = STANDARD.expiry, STANDARD.grace


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def queue(clock):
    """Ten jobs, 'job 1' to 'job 10', of a source that has more."""
    queue = JobQueue(100, RUN, 'mod', clock=clock)
    for number in range(1, 11):
        queue.put(f'job {number}')
    return queue


@pytest.fixture
def open_door(doors, queue):
    return doors(queue)


def named(*numbers):
    return [f'job {number}' for number in numbers]


class TestContract:
    """Run twice; see the fixture `doors`."""

    def test_a_welcome_says_what_a_slave_must_know(self, open_door):
        welcome = open_door().call('hello', introduction())
        assert type(welcome) is Welcome and welcome.span > 0
        assert (welcome.start, welcome.run, welcome.holds) == (RUN, 'mod', [])

    def test_without_hello_one_is_a_stranger(self, open_door):
        door = open_door()
        assert take(door) == Stranger()
        assert door.call('give_back', RUN, []) == Stranger()

    def test_another_run_is_refused(self, open_door, queue):
        door = open_door()
        code, line = door.call(
            'hello', introduction(start='old', run='mod shard=3'))
        assert code == 78
        assert 'mod shard=3' in line
        assert take(door) == Stranger()
        assert queue.sessions == 0

    def test_another_module_is_refused(self, open_door):
        code, line = open_door().call(
            'hello', introduction(module='other'))
        assert code == 78
        assert 'other' in line and '--host' in line

    def test_the_right_module_is_welcome(self, open_door):
        greet(open_door(), module='mod', run='mod')

    def test_jobs_come_in_order_and_numbered(self, open_door):
        door = open_door()
        greet(door)
        assert take(door, want=3) == (1, named(1, 2, 3))
        assert take(door, want=2) == (4, named(4, 5))

    def test_done_jobs_move_the_watermark(self, open_door, queue):
        door = open_door()
        greet(door)
        take(door, want=4)
        assert queue.watermark() == (0, None)
        take(door, want=0, done=[(1, 1), (3, 3)])
        assert queue.watermark() == (1, 'job 1')
        take(door, want=0, done=[(2, 2)])
        assert queue.watermark() == (3, 'job 3')
        assert queue.counts().finished == 3

    def test_a_failed_job_holds_the_watermark_until_recorded(
            self, open_door, queue):
        door = open_door()
        greet(door)
        take(door, want=3)
        take(door, want=0, done=[(1, 1), (3, 3)], failed=[2])
        failed, = queue.unrecorded()
        assert (failed.number, failed.job) == (2, 'job 2')
        assert failed.error == 'ValueError: bad'
        assert (failed.slave, failed.attempts) == ('host:s1', 1)
        assert queue.watermark() == (1, 'job 1')
        queue.recorded([2])
        assert queue.watermark() == (3, 'job 3')

    def test_what_is_given_back_goes_to_another_first(self, open_door):
        one, other = open_door(), open_door()
        greet(one)
        greet(other, 's2')
        take(one, want=5)
        assert type(one.call('give_back', RUN, [[3, 5]])) is Wait
        assert take(other, want=9) == (3, named(3, 4, 5))
        assert take(other, want=2) == (6, named(6, 7))

    def test_a_refused_job_goes_to_another(self, open_door):
        one, other = open_door(), open_door()
        greet(one)
        greet(other, 's2')
        take(one)
        assert take(one, refused=[(1, 1, 'no such class')]) == (2, named(2))
        assert take(other) == (1, named(1))

    def test_waiting_ends_with_a_job(self, doors):
        queue = JobQueue(10, RUN)
        door = doors(queue)()
        greet(door)
        waiting = Background(take, door, 1, 10.0)
        until(lambda: queue.waiters)
        queue.put('late')
        assert waiting.result() == (1, ['late'])

    def test_waiting_ends_with_the_time(self, doors):
        door = doors(JobQueue(10, RUN))()
        greet(door)
        reply = take(door, wait=0.01)
        assert type(reply) is Wait and reply.reason == ''

    def test_waiting_ends_with_the_run(self, doors):
        queue = JobQueue(10, RUN)
        door = doors(queue)()
        greet(door)
        waiting = Background(take, door, 1, 10.0)
        until(lambda: queue.waiters)
        queue.finish('complete')
        assert waiting.result() == Over('complete')

    def test_another_runs_report_is_a_strangers(self, open_door, queue):
        door = open_door()
        greet(door)
        take(door, want=2)
        assert take(door, done=[(1, 2)], start='run-0') == Stranger()
        assert door.call('give_back', 'run-0', [[1, 2]]) == Stranger()
        assert queue.counts().finished == 0
        assert not queue.at_rest()

    def test_a_hold_leases_nothing_until_it_ends(self, open_door, queue):
        door = open_door()
        greet(door)
        queue.hold('operator', 'paused')
        reply = take(door)
        assert type(reply) is Wait and reply.reason == 'paused'
        queue.hold('operator', '')
        assert take(door) == (1, named(1))

    def test_a_drain_leases_nothing_new(self, open_door, queue):
        busy, idle = open_door(), open_door()
        greet(busy)
        greet(idle, 's2')
        take(busy, want=4)
        queue.drain('draining')
        reply = take(busy)
        assert type(reply) is Wait and reply.reason == 'draining'
        busy.call('give_back', RUN, [[2, 2]])
        # Left undone it would hold the watermark below jobs that are done.
        assert take(idle) == (2, named(2))
        take(idle, want=0, done=[(2, 2)])
        assert not queue.at_rest()
        take(busy, done=[(1, 1), (3, 4)])
        assert queue.at_rest() and not queue.complete
        assert queue.watermark() == (4, 'job 4')
        assert type(take(busy)) is Wait

    def test_a_drain_may_ask_for_what_is_not_begun(self, open_door, queue):
        busy, idle = open_door(), open_door()
        greet(busy)
        greet(idle, 's2')
        take(busy, want=4)
        queue.drain('draining', give_back=True)
        reply = take(busy)
        assert type(reply) is Recall and reply.reason == 'draining'
        busy.call('give_back', RUN, [[2, 4]])
        assert type(take(idle)) is Wait        # nothing goes out any more
        assert not queue.at_rest()
        assert type(take(busy, done=[(1, 1)])) is Wait
        assert queue.at_rest() and not queue.complete
        assert queue.watermark() == (1, 'job 1')

    @pytest.mark.parametrize('how', ['complete', 'stopped'])
    def test_the_end_is_told_after_the_report_is_taken(self, open_door,
                                                       queue, how):
        door = open_door()
        greet(door)
        take(door)
        queue.finish(how)
        assert take(door, done=[(1, 1)]) == Over(how)
        assert queue.counts().finished == 1

    def test_a_new_connection_keeps_what_it_lists(self, open_door):
        old = open_door()
        greet(old)
        take(old, want=6)
        new = open_door()
        assert greet(new, start=RUN, holds=[(2, 3), (5, 9)]) == [
            (2, 3), (5, 6)]
        other = open_door()
        greet(other, 's2')
        assert take(other, want=9) == (1, named(1))     # was not listed
        assert take(other, want=9) == (4, named(4))
        assert take(other, want=9) == (7, named(7, 8, 9, 10))

    def test_of_another_run_nothing_is_kept(self, open_door):
        door = open_door()
        greet(door)
        take(door, want=2)
        assert greet(open_door(), start='run-0', holds=[(1, 2)]) == []

    def test_goodbye_of_an_old_connection_drops_nobody(self, open_door,
                                                       queue, clock):
        gone = []
        dispatcher = queue.dispatcher
        goodbye = dispatcher.goodbye
        dispatcher.goodbye = lambda *args: (goodbye(*args), gone.append(args))
        old, new, other = open_door(), open_door(), open_door()
        greet(other, 's2')
        greet(old)
        take(old)
        greet(new, start=RUN, holds=[(1, 1)])
        old.close()
        until(lambda: gone)
        assert queue.counts().slaves == 2
        clock.forward(GRACE)
        queue.expire()
        assert take(other) == (2, named(2))
        take(new, want=0, done=[(1, 1)])
        assert queue.watermark() == (1, 'job 1')

    def test_an_old_connection_is_given_nothing(self, open_door, queue):
        """It would never arrive; but its report counts."""
        old, new = open_door(), open_door()
        greet(old)
        take(old, want=2)
        greet(new, start=RUN, holds=[(1, 2)])
        assert take(old, done=[(1, 1)]) == Stranger()
        assert queue.watermark() == (1, 'job 1')
        assert take(new) == (3, named(3))

    def test_what_an_old_connection_says_late_is_of_another_lease(
            self, open_door, queue):
        """It was overtaken: the slave has these jobs again, and is at them."""
        old, other = open_door(), open_door()
        greet(old)
        greet(other, 's2')
        take(old, want=2)
        new = open_door()
        assert greet(new, start=RUN) == []
        assert take(new, want=2) == (1, named(1, 2))
        assert type(old.call('give_back', RUN, [[1, 2]])) is Stranger
        take(old, failed=[1], refused=[(2, 2, 'no such class')])
        assert queue.unrecorded() == []
        assert take(other) == (3, named(3))
        take(new, want=0, done=[(1, 1)], failed=[2])
        assert [job.number for job in queue.unrecorded()] == [2]

    def test_a_dropped_slave_has_a_grace(self, open_door, queue, clock):
        gone, other = open_door(), open_door()
        greet(gone)
        greet(other, 's2')
        take(gone, want=2)
        gone.close()
        until(lambda: queue.sessions == 1)
        clock.forward(GRACE - 0.1)
        queue.expire()
        assert take(other) == (3, named(3))
        clock.forward(0.2)
        queue.expire()
        assert take(other, want=5) == (1, named(1, 2))

    def test_a_successor_brings_its_jobs_out_at_once(self, open_door, queue,
                                                     caplog):
        dead, other = open_door(), open_door()
        greet(dead)
        greet(other, 's2')
        take(dead)
        greet(open_door(), 's3', after='s1')
        assert take(other) == (1, named(1))
        assert 'lost slave host:s1, 1 job back' in caplog.text

    def test_a_silent_slave_is_a_stranger_that_may_come_back(
            self, open_door, queue, clock):
        silent, other = open_door(), open_door()
        greet(silent)
        take(silent)
        clock.forward(EXPIRY)
        queue.expire()
        greet(other, 's2')
        assert take(other) == (1, named(1))
        assert take(silent, done=[(1, 1)]) == Stranger()
        assert queue.watermark() == (1, 'job 1')    # a success is a success
        assert greet(silent, start=RUN, holds=[(1, 1)]) == []

    def test_late_done_counts_late_failed_does_not(self, open_door, queue,
                                                   clock):
        late, other = open_door(), open_door()
        greet(late)
        take(late, want=2)
        clock.forward(EXPIRY)
        queue.expire()
        greet(other, 's2')
        assert take(other) == (1, named(1))
        assert take(other, done=[(1, 1)]) == (2, named(2))
        greet(late, start=RUN)
        take(late, want=0, failed=[2])
        assert queue.unrecorded() == []
        take(late, want=0, done=[(2, 2)])
        assert queue.watermark() == (2, 'job 2')

    def test_everything_goes_out_once(self, doors):
        """A feeder, a small queue, three slaves: real ones, but for work."""
        jobs = [f'job {number}' for number in range(1, 2001)]
        queue = JobQueue(50, RUN)
        open_door = doors(queue)
        seen = Counter()
        lock = threading.Lock()

        def slave(id):
            door = open_door()
            greet(door, id)
            done = []
            while True:
                reply = take(door, 7, 10.0, done=done)
                if type(reply) is Over:
                    return
                if type(reply) is Wait:
                    done = []
                    continue
                first, got = reply
                assert got == named(*range(first, first + len(got)))
                done = [(first, first + len(got) - 1)]
                with lock:
                    seen.update(got)

        slaves = [Background(slave, f's{n}') for n in range(3)]
        feeder = Feeder(queue, lambda: jobs)
        feeder.start()
        feeder.join(LONG)
        assert feeder.error is None
        until(lambda: queue.complete)
        queue.finish('complete')
        for one in slaves:
            one.result()
        assert seen == Counter(jobs)
        assert queue.watermark() == (2000, 'job 2000')


@pytest.mark.parametrize('method, args', [
    ('hello', [None]),
    ('hello', [[]]),
    ('hello', [[1]]),
    ('hello', [['1', '1.0']]),
    ('hello', [introduction()[:-1]]),
    ('hello', [introduction(slave='x' * 1001)]),
    ('hello', [introduction(workers=0)]),
    ('hello', [introduction(workers=True)]),
    ('hello', [introduction(holds=[(3, 2)])]),
    ('hello', [introduction(holds=[(0, 2)])]),
    ('hello', [introduction(module=7)]),
    ('exchange', [None, 1, False, 0]),
    ('exchange', [report()[:3], 1, False, 0]),
    ('exchange', [report(done=[(1, 2, 3)]), 1, False, 0]),
    ('exchange', [report(done=[(1, '2')]), 1, False, 0]),
    ('exchange', [report(done=[(1, 2.0)]), 1, False, 0]),
    ('exchange', [report(done=[(1, 1 << 63)]), 1, False, 0]),
    ('exchange', [report(done=[(1, 1)] * 100_001), 1, False, 0]),
    ('exchange', [[RUN, [], [[1, 'x', 'y' * 10_001, 1, '']], []], 1, False,
                  0]),
    ('exchange', [[RUN, [], [[1, 'x', 'y', -1, '']], []], 1, False, 0]),
    ('exchange', [[RUN, [], [[1, 'x', 'y', 1]], []], 1, False, 0]),
    ('exchange', [[RUN, [], [[1, 'x', 'y', 1, 0]], []], 1, False, 0]),
    ('exchange', [report(refused=[(1, 1, None)]), 1, False, 0]),
    ('exchange', [report(), -1, False, 0]),
    ('exchange', [report(), 'many', False, 0]),
    ('exchange', [report(), 1, False, 10.5]),
    ('exchange', [report(), 1, False, -1]),
    ('exchange', [report(), 1, False, float('nan')]),
    ('exchange', [report(), 1, False, None]),
    ('give_back', [None, []]),
    ('give_back', [RUN, [[1]]]),
    ('give_back', [RUN, {'1': 2}]),
])
def test_what_is_out_of_form_ends_a_session(doors, method, args):
    queue = JobQueue(10, RUN)
    door = doors(queue)()
    greet(door)
    with pytest.raises((BadMessage, EOFError, OSError)):
        door.call(method, *args)
    door.close()
    until(lambda: queue.sessions == 0)
