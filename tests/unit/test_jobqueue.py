"""The job queue: blocking and waking, pickling, holding, ending.

What slaves may rely on is in tests/wire/test_contract.py.
"""

import logging
import pickle
import threading
from collections import Counter, OrderedDict
from functools import partial

import pytest
from fakes import LONG, RUN, Background, Clock, until

from taskmaster.master import gate, packing
from taskmaster.master.dispatcher import (Ended, Leased, Nothing, Recalled,
                                          Unknown)
from taskmaster.master.feeder import Feeder
from taskmaster.master.jobqueue import JobQueue
from taskmaster.master.leasing import IN_HAND, OF_ONE
from taskmaster.timing import STANDARD
from taskmaster.wire.messages import (LEASE_BYTES, FailureReport,
                                      Introduction, Refusal, Report)

SESSION = object()
FOREVER = 1000.0    # only a wake-up ends such a wait in time


def hello(queue, slave='s1', workers=1, session=SESSION, after=None):
    queue.dispatcher.hello(Introduction(
        slave, f'host:{slave}', workers, None, None, None, [],
        after), session)


def ask(queue, want=1, done=(), slave='s1', prefetch=False, wait=0.0,
        refused=(), failed=(), start=RUN, session=SESSION):
    return queue.dispatcher.exchange(
        slave, Report(start, list(done), [
            FailureReport(number, 'bad', '', 1) for number in failed],
            list(refused)), want, prefetch, wait, session)


def take(queue, want=1, **options):
    """A lease that there must be: its first number and its jobs."""
    leased = ask(queue, want, **options)
    assert isinstance(leased, Leased), leased
    return leased.first, unpickled(leased)


def unpickled(leased):
    jobs = pickle.loads(bytes(leased.payload))
    assert len(jobs) == leased.size
    return jobs


def filled(jobs, size=10_000, **options):
    """A queue of all these jobs, with one slave."""
    queue = JobQueue(size, RUN, **options)
    for job in jobs:
        assert queue.put(job)
    hello(queue)
    return queue


class Unpicklable:
    def __init__(self, error):
        self.error = error

    def __reduce__(self):
        raise self.error


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError('no text')


# -- the feeder's side ----------------------------------------------------

def test_put_blocks_at_maxsize_and_goes_on_at_half():
    queue = filled(range(10), size=10)
    assert queue.qsize() == queue.maxsize == 10
    putting = Background(queue.put, 10)
    for _ in range(4):
        take(queue)                     # 6 left: too many to go on
    assert putting.is_alive() and queue.qsize() == 6
    take(queue)                         # 5 left
    assert putting.result() is True
    assert queue.qsize() == 6


def test_a_queue_of_one_works():
    queue = filled([1], size=1)
    putting = Background(queue.put, 2)
    assert take(queue) == (1, [1])
    assert putting.result()
    assert take(queue) == (2, [2])


def test_a_page_is_a_part_of_the_room_that_is_left():
    queue = filled(range(3), size=20)
    page, room = queue.page()
    assert (page, room) == ([], 5)
    page.extend('abcde')
    assert queue.qsize() == 8
    for size in 5, 5, 2:
        page, room = queue.page()
        assert room == size
        page.extend(range(room))
    assert queue.qsize() == 20


def test_light_jobs_go_from_their_page_into_a_lease_without_a_copy():
    """As one page is a lease; what it keeps in memory weighs little."""
    queue = filled([])
    queue.weight.observe(1, LEASE_BYTES // 400)
    queue.page()
    page, room = queue.page()
    assert room == 10_000 // 4
    queue.weight.observe(1, 5)
    for _ in range(100):
        queue.weight.observe(1, 5)
    page, room = queue.page()
    assert room == 10_000
    page.extend(range(5000))
    queue.page()                        # that one is full, its feeder says
    assert take(queue, room) == (1, page)
    assert queue._ledger.pieces.lowest().jobs is page


def test_jobs_on_a_page_are_leased_while_it_is_filled():
    queue = filled([])
    page, _ = queue.page()
    for n in range(1, 4):
        page.append(f'job {n}')
        assert take(queue, 9) == (n, [f'job {n}'])


@pytest.mark.parametrize('end', [
    lambda queue: queue.drain('draining'),
    lambda queue: queue.finish('stopped'),
], ids=['drain', 'finish'])
def test_a_closed_queue_lets_the_feeder_go(end):
    queue = filled([1], size=1)
    putting = Background(queue.put, 2)
    end(queue)
    assert putting.result() is False
    assert queue.put(3) is False
    assert queue.fed == 1


def test_the_end_of_a_drained_source_is_not_its_end():
    queue = filled([])
    queue.drain('draining')
    queue.end()
    assert not queue.exhausted and not queue.complete


def test_the_end_is_told():
    news = []
    queue = filled([1], changed=lambda: news.append(1))
    queue.end()
    assert news and not queue.complete
    del news[:]
    take(queue)
    assert queue.exhausted and not queue.complete
    ask(queue, want=0, done=[(1, 1)])
    assert news and queue.complete


def test_no_wake_up_is_lost():
    """Eight slaves that wait, a queue that is always full or empty."""
    jobs = 20_000
    queue = JobQueue(8, RUN)
    seen = [Counter() for _ in range(8)]

    def slave(number):
        name = f's{number}'
        hello(queue, name)
        done = []
        while True:
            reply = ask(queue, 1 + number, done, name, wait=FOREVER)
            done = []
            if reply == Ended('complete'):
                return
            first, got = reply.first, unpickled(reply)
            seen[number].update(got)
            done = [(first, first + len(got) - 1)]

    slaves = [Background(slave, number) for number in range(8)]
    feeder = Feeder(queue, lambda: iter(range(jobs)))
    feeder.start()
    until(lambda: queue.complete)
    queue.finish('complete')
    for one in slaves:
        one.result()
    assert sum(seen, Counter()) == Counter(range(jobs))
    assert len(queue.waiters) == 0


def test_put_wakes_each_of_many_that_wait():
    queue = JobQueue(100, RUN)
    waiting = []
    for number in range(5):
        name = f's{number}'
        hello(queue, name)
        waiting.append(Background(
            lambda name=name: take(queue, slave=name, wait=FOREVER)))
    until(lambda: len(queue.waiters) == 5)
    for job in range(5):
        queue.put(job)
    numbers = sorted(one.result()[0] for one in waiting)
    assert numbers == [1, 2, 3, 4, 5]


def test_who_only_reports_uses_up_no_wake_up():
    """And hears of the end."""
    queue = filled([])
    hello(queue, 's2')
    reporting = Background(lambda: ask(queue, want=0, wait=FOREVER))
    until(lambda: queue.waiters.others)
    waiting = Background(lambda: ask(queue, slave='s2', wait=FOREVER))
    until(lambda: queue.waiters)
    queue.put('job')
    assert isinstance(waiting.result(), Leased)
    queue.finish('complete')
    assert reporting.result() == Ended('complete')


def test_a_job_that_comes_while_one_begins_to_wait():
    """The feeder saw nobody waiting, the slave no job."""
    class Racing(OrderedDict):
        def __setitem__(self, turn, value):
            if not queue.fed:
                page.append('job')
            super().__setitem__(turn, value)

    queue = filled([])
    page, _ = queue.page()
    queue.waiters.hungry = Racing()
    taking = Background(lambda: take(queue, wait=FOREVER))
    assert taking.result() == (1, ['job'])


def test_the_feeder_does_not_wait_for_the_lock_to_wake_somebody():
    """It would put one job into a busy queue each time it gets it."""
    queue = filled([])
    page, _ = queue.page()
    taking = Background(lambda: take(queue, 5, wait=FOREVER))
    until(lambda: queue.waiters)
    with queue._lock:
        feeder = Background(lambda: (page.append('job'),
                                     queue.waiters.feed_one()))
        feeder.result()
        assert taking.is_alive()
    assert taking.result() == (1, ['job'])      # who had the lock saw to it


def attempts(queue):
    """Counts, from now on, who looks for a job."""
    tried = []
    lease = queue._ledger.lease
    queue._ledger.lease = lambda *args: tried.append(args) or lease(*args)
    return tried


def test_those_who_wait_come_before_those_who_ask():
    queue = filled([])
    hello(queue, 's2')
    hello(queue, 's3')
    page, _ = queue.page()
    first = Background(lambda: take(queue, wait=FOREVER))
    until(lambda: queue.waiters)
    page += ['a', 'b']                  # of which nobody has heard so far
    assert ask(queue, slave='s2', prefetch=True) == Nothing('')
    assert first.result() == (1, ['a'])
    assert take(queue, slave='s3', wait=FOREVER) == (2, ['b'])


def test_who_waits_though_it_only_prefetches_is_not_woken_for_ever():
    """It gets none of the last jobs, which are for those that have none."""
    queue = filled(['a', 'b'])
    hello(queue, 'many', workers=100)
    queue.end()
    tried = attempts(queue)
    waiting = Background(lambda: ask(queue, prefetch=True, wait=FOREVER))
    until(lambda: queue.waiters.others)
    for _ in range(10):
        queue.counts()
    assert len(tried) == 1
    queue.finish('complete')
    assert waiting.result() == Ended('complete')


def test_nobody_is_woken_in_vain():
    queue = filled([])
    queue.maxsize = queue._ledger.leasing.size = 1
    for job in range(IN_HAND):
        assert queue.put(job)
        take(queue)
    assert queue.put('job')
    tried = attempts(queue)
    waiting = []
    for number in range(3):
        hello(queue, f'w{number}')
        waiting.append(Background(
            lambda name=f'w{number}': ask(queue, slave=name, wait=FOREVER)))
    until(lambda: len(queue.waiters) == 3)
    tried.clear()
    hello(queue, 'new')                 # all these let go of the lock
    for _ in range(10):
        queue.counts()
        queue.waiters.feed_one()
    assert not tried and len(queue.waiters) == 3
    ask(queue, want=0, done=[(1, 1)])
    until(lambda: not queue.qsize())
    queue.finish('complete')
    assert Counter(type(one.result()) for one in waiting) == {
        Leased: 1, Ended: 2}


def test_room_in_hand_wakes_who_waits():
    """All that may be out of the queue was; the feeder waits as well."""
    queue = filled([])
    hello(queue, 's2')
    queue.maxsize = queue._ledger.leasing.size = 1
    for job in range(IN_HAND):
        assert queue.put(job)
        take(queue)
    assert queue.put('job')
    waiting = Background(lambda: take(queue, slave='s2', wait=FOREVER))
    until(lambda: queue.waiters)
    ask(queue, want=0, done=[(1, 1)])
    assert waiting.result() == (IN_HAND + 1, ['job'])


# -- what is sent ---------------------------------------------------------

@pytest.mark.parametrize('error', [
    TypeError('not this'), SystemExit(3), RecursionError(),
    Unprintable(), pickle.PicklingError('two\nlines\n' + 'x' * 5000)],
    ids=lambda error: type(error).__name__)
def test_an_unpicklable_job_fails_alone(error):
    jobs = [*range(1, 500), Unpicklable(error), *range(501, 1001)]
    queue = filled(jobs)
    got = {}
    while len(got) < 999:
        first, batch = take(queue, 1000)
        got.update(enumerate(batch, first))
        ask(queue, 0, [(first, first + len(batch) - 1)])
    assert got == {n: n for n in range(1, 1001) if n != 500}
    failed, = queue.unrecorded()
    assert failed.number == 500 and failed.job is jobs[499]
    assert 'cannot be pickled' in failed.error
    assert type(error).__name__ in failed.error
    assert '\n' not in failed.error and len(failed.error) < 1000
    assert failed.attempts == 0
    assert queue.watermark() == (499, 499)
    queue.recorded([500])
    assert queue.watermark() == (1000, 1000)


def test_all_jobs_unpicklable_fail_one_by_one():
    queue = filled([lambda: None for _ in range(20)])
    assert ask(queue, 20) == Nothing('')
    assert [job.number for job in queue.unrecorded()] == [*range(1, 21)]


def test_jobs_that_pickle_only_alone_go_in_smaller_batches():
    class Shy:
        """Will not be pickled beside more than three of its kind."""
        company = 0

        def __reduce__(self):
            Shy.company += 1
            if Shy.company > 4:
                raise TypeError('too many of us')
            return int, ()

    class Counting(pickle.Pickler):
        def dump(self, jobs):
            Shy.company = 0
            super().dump(jobs)

    def dumps(job, protocol, original=pickle.dumps):
        Shy.company = 0
        return original(job, protocol)

    queue = filled([Shy() for _ in range(16)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing.pickle, 'Pickler', Counting)
        patch.setattr(packing.pickle, 'dumps', dumps)
        first, jobs = take(queue, 16)
    assert (first, jobs) == (1, [0, 0, 0, 0])
    assert queue.unrecorded() == []


def test_a_lease_is_cut_to_its_size_and_the_tail_given_back():
    queue = filled([bytes([n]) * 100_000 for n in range(100)])
    reply = ask(queue, 100)
    first, count, payload = reply
    assert (first, pickle.loads(bytes(payload))) == (
        1, [bytes([n]) * 100_000 for n in range(count)])
    assert payload.size <= 2 * LEASE_BYTES
    assert count >= 8
    second, jobs = take(queue, 100)
    assert second == count + 1          # the tail, before any new job
    assert len(jobs) <= 2 * LEASE_BYTES / 100_000


def test_a_large_job_travels_alone():
    large = b'x' * 5_000_000
    queue = filled([large, large, 'small'])
    assert take(queue, 3) == (1, [large])
    assert take(queue, 3) == (2, [large])
    assert take(queue, 3) == (3, ['small'])


def test_pickling_holds_no_lock():
    inside, go_on = threading.Event(), threading.Event()

    class Slow:
        def __reduce__(self):
            inside.set()
            assert go_on.wait(LONG)
            return str, ('slow',)

    queue = filled([Slow(), 'quick'])
    hello(queue, 's2')
    slow = Background(take, queue)
    assert inside.wait(LONG)
    assert take(queue, slave='s2') == (2, ['quick'])
    go_on.set()
    assert slow.result() == (1, ['slow'])


def test_jobs_out_of_the_queue_are_bounded():
    queue = JobQueue(2, RUN)
    feeder = Feeder(queue, lambda: iter(int, 1))        # without end
    feeder.start()
    leased = slaves = 0
    while leased < 2 * IN_HAND:
        if leased >= slaves * 2 * OF_ONE:   # the others have what they may
            slaves += 1
            hello(queue, f's{slaves}')
        leased += len(take(queue, 100, wait=FOREVER,
                           slave=f's{slaves}')[1])
    hello(queue, 'last')
    assert ask(queue, 100, slave='last') == Nothing('')
    assert leased == 2 * IN_HAND
    queue.drain('draining')
    feeder.join(LONG)


# -- steering -------------------------------------------------------------

def test_one_of_two_reasons_to_hold_is_enough():
    queue = filled([1])
    queue.hold('operator', 'paused')
    queue.hold('disk', 'full')
    queue.hold('operator', '')
    assert queue.held == 'full'
    assert isinstance(ask(queue), Nothing)
    queue.hold('disk', '')
    assert queue.held == ''
    assert take(queue) == (1, [1])


def test_a_hold_lets_wait_and_its_end_wakes():
    queue = filled([1])
    queue.hold('operator', 'paused')
    waiting = Background(lambda: ask(queue, wait=FOREVER))
    until(lambda: queue.waiters)
    queue.hold('operator', '')
    assert isinstance(waiting.result(), Leased)


def test_reports_are_taken_while_held():
    queue = filled([1, 2])
    take(queue)
    queue.hold('operator', 'paused')
    ask(queue, done=[(1, 1)])
    assert queue.counts().finished == 1


def test_too_many_failures_call_everything_back():
    queue = filled(range(10), too_many=lambda failed, finished: failed > 1)
    take(queue, 4)
    assert ask(queue, 0, failed=[1]) == Nothing('')
    assert not queue.too_many
    assert ask(queue, 9, failed=[2]) == Recalled('')
    assert queue.too_many
    queue.dispatcher.give_back('s1', RUN, [(3, 4)], SESSION)
    assert ask(queue, 9) == Nothing('')
    assert queue.at_rest(but_unrecorded=True) and not queue.at_rest()


def test_what_nobody_can_unpickle_fails():
    queue = filled(['job'])
    take(queue)
    ask(queue, refused=[Refusal(1, 1, 'cannot be unpickled')])
    queue.expire()
    failed, = queue.unrecorded()
    assert (failed.number, failed.error) == (1, 'cannot be unpickled')


def test_the_oldest_job_is_named():
    clock = Clock()
    queue = filled(['a', 'b'], clock=clock)
    assert queue.oldest() is None
    take(queue, 2)
    clock.forward(7)
    ask(queue, 0, [(2, 2)])
    assert queue.oldest() == (1, 'a', 'host:s1', 7, 1)


def test_a_lost_slave_is_said_and_waiting_ones_are_woken(caplog):
    clock = Clock()
    queue = filled(['job'], clock=clock)
    take(queue)
    clock.forward(STANDARD.expiry)
    hello(queue, 's2')
    waiting = Background(lambda: take(queue, slave='s2', wait=FOREVER))
    until(lambda: queue.waiters)
    queue.expire()
    assert waiting.result() == (1, ['job'])
    assert 'lost slave host:s1, 1 job back' in caplog.text
    assert queue.counts().slaves == queue.sessions == 1


def test_counts_are_of_one_moment():
    queue = filled(range(5))
    take(queue, 3)
    ask(queue, 0, [(1, 1)], failed=[2])
    assert queue.counts() == (1, 2, 1, 0, 1, 0, 1)
    queue.recorded([2])
    assert queue.counts() == (2, 2, 1, 1, 0, 0, 1)
    queue.dispatcher.goodbye('s1', SESSION)
    assert queue.counts().slaves == 0
    assert queue.fed == 5


def test_a_call_on_an_old_connection_is_given_nothing():
    """Its reply would never arrive, and nobody would notice."""
    queue = JobQueue(10, RUN)
    who = Introduction('s1', 'host:1', 1, None, RUN, None, [], None)
    old, new = object(), object()
    queue.dispatcher.hello(who, old)
    call = Background(lambda: ask(queue, wait=FOREVER, session=old))
    until(lambda: queue.waiters)
    queue.dispatcher.hello(who, new)
    queue.put('job')
    assert call.result() == Unknown()
    assert isinstance(ask(queue, session=new), Leased)


def test_what_an_expired_slave_has_done_counts():
    queue = JobQueue(10, RUN)
    assert ask(queue, 0, slave='nobody', start='other') == Unknown()
    for job in range(3):
        queue.put(job)
    hello(queue)
    take(queue, 3)
    assert ask(queue, 0, [(1, 3)], slave='gone', session=None) == Unknown()
    assert queue.counts().finished == 3


def test_a_successor_is_waited_for_unless_none_is_to_come():
    queue = filled(range(5))
    hello(queue, 's2')
    queue.lost('s1', [])
    assert queue.sessions == 2
    queue.lost('s1', [], False)         # its slot has ended
    assert queue.sessions == 1
    queue.lost('s2', [], False)
    assert queue.sessions == 0
    hello(queue, 's3')
    queue.lost('s3', [])
    hello(queue, 's4', after='s3')
    assert queue.sessions == 1


# -- a rate ---------------------------------------------------------------

def test_a_rate_holds_for_all_slaves_together():
    clock = Clock()
    queue = filled(range(100), clock=clock)
    hello(queue, 's2')
    assert queue.pace() is None
    queue.set_rate(10)
    assert ask(queue, 5) == Nothing('')
    assert queue.pace() == pytest.approx(0.1)
    clock.forward(0.21)
    assert take(queue, 1)[1] == [0]
    assert take(queue, 5, slave='s2')[1] == [1]
    assert ask(queue, 5) == Nothing('')
    queue.set_rate(None)
    assert take(queue, 5)[1] == [2, 3, 4, 5, 6]


def test_who_waits_for_the_rate_is_woken_by_the_pace():
    clock = Clock()
    queue = filled(range(100), clock=clock)
    queue.set_rate(10)
    tried = attempts(queue)
    waiting = Background(lambda: take(queue, 5, wait=FOREVER))
    until(lambda: queue.waiters)
    for _ in range(5):
        queue.counts()
        queue.pace()
    assert len(tried) == 1              # and not before
    clock.forward(0.11)
    queue.pace()
    assert waiting.result()[1] == [0]


def test_the_slowest_rate_does_not_sleep_for_ever():
    queue = filled([1])
    queue.set_rate(1e-300)
    assert queue.pace() == gate.PACE


def test_what_a_drain_is_to_finish_waits_for_no_rate():
    queue = filled(range(10))
    take(queue, 5)
    queue.dispatcher.give_back('s1', RUN, [(1, 5)], SESSION)
    queue.set_rate(0.001)
    queue.drain('draining')
    assert take(queue, 5)[1] == [0, 1, 2, 3, 4]


def test_nothing_is_logged_under_the_lock(caplog):
    """A terminal that is stopped (Ctrl-S) must not stop the queue."""
    queue = filled(range(5))
    said = []

    class Looks(logging.Handler):
        def emit(self, record):
            said.append(record.getMessage())
            assert not queue._lock.locked()

    handler = Looks()
    log = logging.getLogger('taskmaster.wire.quiet')
    log.addHandler(handler)
    try:
        take(queue, 3)
        queue.lost('s1', [])
        hello(queue, 's2')
        take(queue, 1, slave='s2')
        hello(queue, 's3', after='s2')
    finally:
        log.removeHandler(handler)
    assert said == ['lost slave host:s1, 3 jobs back',
                    'lost slave host:s2, 1 job back']


def test_jobs_that_weigh_more_than_a_moment_ago_do_not_end_the_source():
    """Room is asked for under the lock; the weight changes without it."""
    queue = JobQueue(100, RUN)
    for job in range(10):
        assert queue.put(job)
    said = [11, 10, 10, 10]
    queue.weight.held = lambda: said.pop(0)
    page, room = queue.page()
    assert room == 1


def test_a_call_that_waited_hears_that_jobs_go_singly():
    queue = JobQueue(100, RUN)
    hello(queue)
    waiting = Background(partial(ask, queue, 10, wait=FOREVER))
    until(lambda: len(queue.waiters))
    queue.weight.go_singly()
    with queue._lock:
        page = [1, 2, 3]
        queue.ready.extend(page)
        queue.waiters.wake_all()
    assert waiting.result().size == 1
