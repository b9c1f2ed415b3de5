"""One small example for every rule of the ledger."""

import pytest

from taskmaster.master import leasing
from taskmaster.master.leasing import IN_HAND, OF_ONE
from taskmaster.master.ledger import (BEYOND, LOSSES, REFUSALS, FailedJob,
                                      Ledger)
from taskmaster.master.ready import Ready
from taskmaster.master.slaves import REMEMBERED
from taskmaster.timing import STANDARD
from taskmaster.wire.fields import RANGES

EXPIRY, GRACE, RESERVE = STANDARD.expiry, STANDARD.grace, STANDARD.reserve
LATE = STANDARD.late


@pytest.fixture
def ledger():
    return make(100)


def make(jobs, size=1000, slaves='ab'):
    """A ledger with jobs 'job 1', 'job 2', ... and slaves connected."""
    ledger = Ledger(size)
    ledger.ready.extend([f'job {n}' for n in range(1, jobs + 1)])
    for id in slaves:
        ledger.hello(id, f'host:{id}', 1, 0)
    return ledger


def lease(ledger, id, want, now=0, prefetch=False, draining=False):
    """The numbers leased, or None."""
    lease = ledger.lease(id, want, now, prefetch, draining)
    if lease is None:
        return None
    numbers = [lease.first + i for i in range(len(lease.jobs))]
    assert lease.jobs == [f'job {n}' for n in numbers]
    return numbers


def lease_all(ledger, id, want=1000):
    """All that this slave gets when it asks and never finishes."""
    got = []
    while True:
        numbers = lease(ledger, id, want)
        if numbers is None:
            return got
        got.append(numbers)


def held(ledger, id):
    return sorted(n for piece in ledger.slaves[id].pieces
                  for n in range(piece.first, piece.last + 1))


def failed(ledger):
    return [job.number for job in ledger.unrecorded()]


def lose_alone(ledger, number, times, slaves='xyz'):
    """A single job is lost with slaves that hold nothing else."""
    for id in slaves[:times]:
        ledger.hello(id, f'host:{id}', 1, 0)
        assert lease(ledger, id, 1) == [number]
        assert ledger.lose(id) == 1


def test_ready_jobs_are_taken_in_order_across_the_lists_they_came_in():
    ready = Ready()
    for jobs in [1, 2, 3], [], [4], [5, 6, 7, 8]:
        ready.extend(jobs)
    assert len(ready) == 8
    assert [ready.take(2), ready.take(4), len(ready)] == [
        [1, 2], [3, 4, 5, 6], 2]
    ready.extend([9])
    assert [ready.take(3), ready.take(0), len(ready)] == [[7, 8, 9], [], 0]


def test_what_may_be_one_object_twice_is_not_taken():
    """While the feeder has not looked at it yet; the page grows."""
    ready, changing, page = Ready(), {}, [1, 2]
    ready.extend(page)
    ready.unsure = 2
    page += [3, changing, changing, 5]
    assert ready.take(3) == [1, 2, 3]
    assert ready.take(3) == [changing] and ready.take(2) == []
    del page[4:]
    ready.unsure = None
    assert len(ready) == 0 and ready.leased == 4


def test_the_newest_list_of_ready_jobs_may_grow():
    ready, jobs = Ready(), []
    ready.extend(jobs)
    assert len(ready) == 0
    jobs += [1, 2, 3]
    assert [ready.take(2), len(ready)] == [[1, 2], 1]
    jobs += [4]
    assert [ready.take(2), len(ready)] == [[3, 4], 0]
    jobs += [5]
    ready.extend([6])
    assert [ready.take(2), len(ready)] == [[5, 6], 0]


# -- leases, and what is done ---------------------------------------------

def test_jobs_are_numbered_as_they_are_leased(ledger):
    assert lease(ledger, 'a', 3) == [1, 2, 3]
    assert lease(ledger, 'b', 2) == [4, 5]
    assert ledger.ready.leased == 5 and len(ledger.ready) == 95
    assert ledger.slaves['a'].in_hand == 3


def test_nothing_is_leased_for_nothing(ledger):
    assert lease(ledger, 'a', 0) is None
    assert lease(make(0), 'a', 5) is None


def test_all_that_is_ready_may_go_while_the_source_runs(ledger):
    assert len(lease(ledger, 'a', 1000)) == 100


def test_done(ledger):
    lease(ledger, 'a', 3)
    ledger.done('a', [(1, 3)])
    assert ledger.finished == 3 and ledger.pieces.jobs == 0
    assert ledger.slaves['a'].done == 3
    assert held(ledger, 'a') == []


def test_done_counts_from_anybody(ledger):
    lease(ledger, 'a', 3)
    ledger.done('a stranger', [(1, 3)])
    assert ledger.finished == 3 and held(ledger, 'a') == []


def test_done_counts_late():
    ledger = make(4)
    lease(ledger, 'a', 4)
    ledger.lose('a')
    lease(ledger, 'b', 1)
    ledger.done('a', [(1, 4)])
    assert ledger.watermark() == (4, 'job 4')
    assert lease(ledger, 'b', 9) is None


def test_done_beats_a_failure_that_is_not_recorded(ledger):
    lease(ledger, 'a', 1)
    ledger.fail('a', 1, 'ValueError')
    ledger.done('b', [(1, 1)])
    assert failed(ledger) == [] and ledger.watermark() == (1, 'job 1')
    ledger.recorded([1])
    assert (ledger.finished, ledger.failed) == (1, 0)


def test_done_once_more_is_counted_apart(ledger):
    lease(ledger, 'a', 3)
    ledger.done('a', [(1, 2)])
    ledger.done('b', [(1, 3)])
    assert (ledger.finished, ledger.twice) == (3, 2)


def test_done_of_jobs_never_leased_is_nothing(ledger):
    lease(ledger, 'a', 3)
    ledger.done('a', [(50, 60), (2, 1 << 61)])
    assert (ledger.finished, ledger.twice) == (2, 0)


# -- pieces and the watermark ---------------------------------------------

def test_the_watermark_at_first(ledger):
    assert ledger.watermark() == (0, None)
    lease(ledger, 'a', 1)
    assert ledger.watermark() == (0, None)


def test_the_watermark_is_before_the_lowest_piece(ledger):
    lease(ledger, 'a', 2)
    lease(ledger, 'b', 2)
    ledger.done('b', [(3, 4)])
    assert ledger.watermark() == (0, None)
    assert ledger.pieces.lowest().holder.name == 'host:a'
    ledger.done('a', [(1, 1)])
    assert ledger.watermark() == (1, 'job 1')
    ledger.done('a', [(2, 2)])
    assert ledger.watermark() == (4, 'job 4')
    assert ledger.pieces.lowest() is None


def test_a_partial_report_cuts_a_piece(ledger):
    lease(ledger, 'a', 10)
    ledger.done('a', [(1, 2), (5, 6), (10, 10)])
    assert held(ledger, 'a') == [3, 4, 7, 8, 9]
    assert ledger.slaves['a'].in_hand == ledger.pieces.jobs == 5
    assert ledger.watermark() == (2, 'job 2')
    ledger.done('a', [(3, 4)])
    assert ledger.watermark() == (6, 'job 6')


def test_complete(ledger):
    ledger = make(1)
    lease(ledger, 'a', 1)
    ledger.done('a', [(1, 1)])
    assert not ledger.complete
    ledger.ended = True
    assert ledger.complete


def test_idle(ledger):
    assert ledger.idle
    lease(ledger, 'a', 2)
    assert not ledger.idle
    ledger.done('a', [(1, 1)])
    ledger.fail('a', 2, 'ValueError')
    assert ledger.idle


# -- failed, and given back -----------------------------------------------

def test_a_failed_job_holds_the_watermark_until_recorded(ledger):
    lease(ledger, 'a', 3)
    ledger.done('a', [(1, 1), (3, 3)])
    ledger.fail('a', 2, 'ValueError: x', 'Traceback', 4)
    assert ledger.unrecorded() == [FailedJob(
        2, 'job 2', 'ValueError: x', 'Traceback', 'host:a', 4)]
    assert held(ledger, 'a') == [] and ledger.slaves['a'].failed == 1
    assert ledger.watermark() == (1, 'job 1')
    ledger.recorded([2])
    assert ledger.watermark() == (3, 'job 3')
    assert (ledger.finished, ledger.failed) == (3, 1)


def test_a_failed_job_goes_to_nobody_more():
    ledger = make(1)
    lease(ledger, 'a', 1)
    ledger.fail('a', 1, 'ValueError')
    ledger.lose('a')
    ledger.expire(EXPIRY)
    assert ledger.unrecorded() and not ledger.slaves
    ledger.hello('b', 'host:b', 1, 0)
    assert lease(ledger, 'b', 1) is None


def test_failed_and_give_back_count_only_from_the_present_holder(ledger):
    lease(ledger, 'a', 2)
    ledger.give_back('a', [(1, 2)])
    assert lease(ledger, 'b', 2) == [1, 2]
    for other in 'a', 'a stranger':
        ledger.fail(other, 1, 'ValueError')
        ledger.give_back(other, [(1, 2)])
        ledger.refuse(other, 2, 2, 'no such class')
    assert held(ledger, 'b') == [1, 2] and failed(ledger) == []


def test_given_back_is_leased_before_any_new_job(ledger):
    lease(ledger, 'a', 4)
    ledger.give_back('a', [(2, 3)])
    assert held(ledger, 'a') == [1, 4]
    assert lease(ledger, 'b', 1) == [2]
    assert lease(ledger, 'b', 9) == [3]
    assert lease(ledger, 'b', 2) == [5, 6]


def test_given_back_blames_nobody(ledger):
    lease(ledger, 'a', 20)
    ledger.give_back('a', [(1, 20)])
    assert len(lease(ledger, 'b', 20)) == 20


# -- hello, and connections that drop -------------------------------------

def test_hello_keeps_what_the_slave_holds(ledger):
    lease(ledger, 'a', 4)
    ledger.drop('a', 10)
    assert ledger.slaves.workers == 1
    assert ledger.hello('a', 'host:a', 1, 11, [(1, 4)]) == [(1, 4)]
    assert held(ledger, 'a') == [1, 2, 3, 4] and ledger.slaves.workers == 2


def test_hello_returns_what_the_slave_was_given_and_never_got(ledger):
    lease(ledger, 'a', 4)
    lease(ledger, 'a', 2)
    assert ledger.hello('a', 'host:a', 1, 1, [(1, 2), (4, 4)]) == [
        (1, 2), (4, 4)]
    assert [lease(ledger, 'b', 9), lease(ledger, 'b', 9)] == [[3], [5, 6]]


def test_hello_keeps_nothing_of_another_slave(ledger):
    lease(ledger, 'a', 4)
    assert ledger.hello('b', 'host:b', 1, 0, [(1, 4)]) == []
    assert held(ledger, 'a') == [1, 2, 3, 4]


def test_what_a_slave_holds_waits_for_it(ledger):
    lease(ledger, 'a', 4)
    ledger.drop('a', 10)
    ledger.expire(10 + GRACE - 0.1)
    assert held(ledger, 'a') == [1, 2, 3, 4]
    ledger.expire(10 + GRACE)
    assert held(ledger, 'a') == []
    assert lease(ledger, 'b', 9) == [1, 2, 3, 4], 'not as suspects'


def test_after_that_it_still_keeps_what_was_not_leased_elsewhere(ledger):
    lease(ledger, 'a', 4)
    ledger.drop('a', 10)
    ledger.expire(10 + GRACE)
    assert lease(ledger, 'b', 2) == [1, 2]
    assert ledger.hello('a', 'host:a', 1, 20, [(1, 4)]) == [(3, 4)]
    assert held(ledger, 'a') == [3, 4] and held(ledger, 'b') == [1, 2]
    assert lease(ledger, 'b', 1) == [5]


def test_what_a_slave_no_longer_lists_waits_for_it_no_more(ledger):
    lease(ledger, 'a', 2)
    ledger.drop('a', 10)
    ledger.expire(10 + GRACE)
    ledger.hello('a', 'host:a', 1, 20)
    assert ledger.lose('a') == 0
    assert lease(ledger, 'b', 2) == [1, 2], 'not as suspects'


def test_a_slave_that_holds_nothing_may_go(ledger):
    ledger.drop('a', 0)
    assert 'a' not in ledger.slaves
    assert ledger.heard('a', 1) is None, 'it must say hello'


def test_a_stranger_is_no_loss(ledger):
    assert ledger.lose('a stranger') == 0
    ledger.drop('a stranger', 0)


# -- losses ---------------------------------------------------------------

def test_silence_until_expiry_is_a_loss(ledger):
    lease(ledger, 'a', 8)
    ledger.heard('a', 10)
    ledger.heard('b', 50)
    assert ledger.expire(10 + EXPIRY - 0.1) == ([], [])
    assert ledger.expire(10 + EXPIRY) == ([('host:a', 8)], [])
    assert 'a' not in ledger.slaves and 'b' in ledger.slaves


def test_any_message_renews_all_that_a_slave_holds(ledger):
    lease(ledger, 'a', 8)
    lease(ledger, 'a', 8)
    for now in range(0, 300, 50):
        ledger.heard('a', now)
        ledger.expire(now)
    assert len(held(ledger, 'a')) == 16


def test_a_loss_is_cut_into_eight(ledger):
    lease(ledger, 'a', 100)
    assert ledger.lose('a') == 100
    sizes = [len(numbers) for numbers in lease_all(ledger, 'b')]
    assert sizes == 7 * [13] + [9]


def test_down_to_single_jobs(ledger):
    lease(ledger, 'a', 20)
    ledger.lose('a')
    assert lease(ledger, 'b', 9) == [1, 2, 3]
    ledger.lose('b')
    ledger.hello('c', 'host:c', 1, 0)
    assert lease(ledger, 'c', 9) == [1]
    assert lease(ledger, 'c', 9) is None, 'it goes alone'


def test_also_what_waits_for_a_slave_is_lost_with_it(ledger):
    lease(ledger, 'a', 16)
    ledger.drop('a', 0)
    ledger.expire(GRACE)
    assert ledger.lose('a') == 16
    assert lease(ledger, 'b', 16) == [1, 2]


def test_of_a_suspect_piece_two_go_at_least(ledger):
    lease(ledger, 'a', 32)
    ledger.lose('a')
    assert lease(ledger, 'b', 1) == [1, 2]
    assert lease(ledger, 'b', 3) == [3, 4]


def test_the_third_loss_alone_fails_a_job():
    ledger = make(1, slaves='')
    lose_alone(ledger, 1, LOSSES - 1)
    assert failed(ledger) == []
    lose_alone(ledger, 1, 1)
    job, = ledger.unrecorded()
    assert (job.slave, job.attempts) == ('host:x', LOSSES)
    assert '3 times' in job.error


def test_what_a_lost_slave_held_is_suspect_wherever_it_is_by_now(ledger):
    lease(ledger, 'a', 16)
    ledger.drop('a', 0)
    assert ledger.expire(GRACE) == ([], [('host:a', 16)])
    assert lease(ledger, 'b', 10) == [*range(1, 11)]
    ledger.heard('b', EXPIRY)
    assert ledger.expire(EXPIRY) == ([('host:a', 6)], [])
    assert ledger.pieces.waiting == 6          # the others were cut
    ledger.drop('b', EXPIRY)
    ledger.expire(EXPIRY + GRACE)
    assert ledger.pieces.waiting == 6 + 5       # these too: dropped again


def test_nobody_is_blamed_for_a_slave_that_comes_back_late(ledger):
    lease(ledger, 'a', 16)
    ledger.drop('a', 0)
    ledger.expire(GRACE)
    assert lease(ledger, 'b', 16) == [*range(1, 17)]
    ledger.hello('a', 'host:a', 1, GRACE + 1)
    ledger.heard('b', EXPIRY)
    ledger.expire(GRACE + 1 + EXPIRY)
    assert not any(piece.suspect for piece in ledger.slaves['b'].pieces)


@pytest.mark.parametrize('size', [1, 4, 500])
def test_a_job_that_kills_slaves_that_nobody_replaces_is_found(size):
    """No supervisor tells of a death, and there is always another slave."""
    ledger = make(500, slaves='')
    ledger.ended = True
    now, deaths = 0, 0
    while not ledger.complete and deaths < 100:
        id = f'slave {deaths}'
        ledger.hello(id, id, 1, now)
        while True:
            now += 0.1
            ledger.expire(now)
            ledger.recorded(failed(ledger))
            numbers = lease(ledger, id, size, now)
            if numbers is None:
                break
            if 77 in numbers:
                ledger.done(id, [(numbers[0], 76)] if numbers[0] < 77 else [])
                ledger.drop(id, now)
                deaths += 1
                break
            ledger.heard(id, now)
            ledger.done(id, [(numbers[0], numbers[-1])])
        now += GRACE
    assert ledger.complete and ledger.failed == 1
    assert deaths < 40


def test_a_job_that_took_too_long_has_failed_and_no_other(ledger):
    lease(ledger, 'a', 20)
    ledger.done('a', [(1, 3)])
    assert ledger.lose('a', [(5, 5)]) == 17
    assert failed(ledger) == [5]
    assert ledger.unrecorded()[0].error == 'took longer than --job-timeout'
    assert lease_all(ledger, 'b')[:2] == [[4], [*range(6, 21)]]


def test_of_a_list_that_took_too_long_only_its_jobs_are_suspect(ledger):
    lease(ledger, 'a', 20)
    ledger.lose('a', [(5, 8)])
    assert failed(ledger) == []
    assert list(ledger.pieces._isolated) == [5, 6, 7, 8]
    assert lease(ledger, 'b', 100) == [5]   # alone, as it is empty
    ledger.done('b', [(5, 5)])
    ledger.hello('c', 'host:c', 1, 0)
    assert lease(ledger, 'c', 1) == [6]
    ledger.lose('c', [(6, 6)])
    assert failed(ledger) == [6]


def test_a_late_job_that_is_done_or_with_another_is_no_failure(ledger):
    lease(ledger, 'a', 4)
    ledger.drop('a', 0)
    ledger.expire(GRACE)
    assert lease(ledger, 'b', 2) == [1, 2]
    ledger.done('a', [(4, 4)])
    assert ledger.lose('a', [(1, 1), (4, 4)]) == 1
    assert failed(ledger) == []
    assert held(ledger, 'b') == [1, 2]


def test_a_loss_beside_others_does_not_count():
    ledger = make(2, slaves='')
    for _ in range(2 * LOSSES):
        ledger.hello('a', 'host:a', 1, 0)
        ledger.lease('a', 1, 0)
        ledger.lease('a', 1, 0)
        if len(held(ledger, 'a')) < 2:
            break
        ledger.lose('a')
    assert failed(ledger) == [] and held(ledger, 'a') == [1]
    assert [piece.losses for piece in ledger.pieces] == [0, 0]


# -- isolated jobs and reservations ---------------------------------------

@pytest.fixture
def isolated():
    """A ledger in which job 1 waits to go alone; a and b hold 2 .. 5."""
    ledger = make(100, slaves='zab')
    lease(ledger, 'z', 1)
    assert lease(ledger, 'a', 2) == [2, 3]
    assert lease(ledger, 'b', 2) == [4, 5]
    ledger.lose('z')
    return ledger


def test_an_isolated_job_goes_to_an_empty_slave_that_gets_no_more(isolated):
    isolated.hello('c', 'host:c', 1, 0)
    assert lease(isolated, 'c', 5) == [1]
    assert lease(isolated, 'c', 5, prefetch=True) is None
    assert isolated.leasing.barred(isolated.slaves['c'])
    isolated.done('c', [(1, 1)])
    assert not isolated.leasing.barred(isolated.slaves['c'])
    assert lease(isolated, 'c', 2) == [6, 7]


def test_one_slave_is_reserved_until_it_is_empty(isolated):
    assert lease(isolated, 'a', 5, prefetch=True) is None
    assert isolated.leasing.barred(isolated.slaves['a'])
    isolated.done('a', [(2, 2)])
    assert lease(isolated, 'a', 5, prefetch=True) is None
    isolated.done('a', [(3, 3)])
    assert not isolated.leasing.barred(isolated.slaves['a'])
    assert lease(isolated, 'a', 5) == [1]


def test_one_at_a_time(isolated):
    assert lease(isolated, 'a', 5, now=0) is None
    assert lease(isolated, 'b', 2, now=1) == [6, 7]


def test_and_one_more_after_a_while(isolated):
    assert lease(isolated, 'a', 5, now=0) is None
    assert lease(isolated, 'b', 1, now=RESERVE - 1) == [6]
    assert lease(isolated, 'b', 1, now=RESERVE) is None
    isolated.done('b', [(4, 6)])
    assert lease(isolated, 'b', 1, now=RESERVE) == [1]


@pytest.mark.parametrize('gone', ['leased', 'done'])
def test_nobody_is_reserved_once_the_isolated_job_is_gone(isolated, gone):
    assert lease(isolated, 'a', 5) is None
    if gone == 'leased':
        isolated.hello('c', 'host:c', 1, 0)
        assert lease(isolated, 'c', 1) == [1]
    else:
        isolated.done('z', [(1, 1)])
    assert not isolated.leasing.barred(isolated.slaves['a'])
    assert lease(isolated, 'a', 1, prefetch=True) == [6]


def test_an_empty_slave_is_reserved_no_more():
    """Though an isolated job waits still, which it has refused."""
    ledger = make(100, slaves='yzcd')
    lease(ledger, 'y', 1)
    ledger.lose('y')
    for id in 'cd':
        assert lease(ledger, id, 1) == [1]
        ledger.refuse(id, 1, 1, 'no such class')
    assert lease(ledger, 'z', 1) == [1]
    assert lease(ledger, 'c', 1) == [2]
    assert lease(ledger, 'd', 1) == [3]
    ledger.hello('e', 'host:e', 1, 0)
    assert lease(ledger, 'e', 1) == [4]
    ledger.lose('z')
    ledger.lose('e')
    assert lease(ledger, 'c', 1) is None, 'reserved for job 4'
    ledger.done('d', [(3, 3)])
    assert lease(ledger, 'd', 1) == [4]
    ledger.done('c', [(2, 2)])
    assert lease(ledger, 'c', 1) == [5]
    assert lease(ledger, 'c', 1, prefetch=True) == [6]


# -- refused --------------------------------------------------------------

def test_a_refused_batch_goes_again_in_eight_pieces(ledger):
    lease(ledger, 'a', 16)
    ledger.refuse('a', 1, 16, 'no such class')
    assert lease_all(ledger, 'b')[:8] == [
        [n, n + 1] for n in range(1, 17, 2)]


def test_a_refused_job_goes_elsewhere(ledger):
    lease(ledger, 'a', 1)
    ledger.refuse('a', 1, 1, 'no such class')
    ledger.expire(0)
    assert lease(ledger, 'a', 1) == [2]
    assert lease(ledger, 'b', 1) == [1]


def test_a_job_that_three_slaves_refuse_has_failed():
    ledger = make(1, slaves='abcd')
    for id in 'abc':
        assert failed(ledger) == []
        assert lease(ledger, id, 1) == [1]
        ledger.refuse(id, 1, 1, f'no such class at {id}')
    assert failed(ledger) == [1] and REFUSALS == 3
    assert ledger.unrecorded()[0].error == 'no such class at c'


def test_a_job_that_every_connected_slave_refused_has_failed():
    ledger = make(1, slaves='ab')
    lease(ledger, 'a', 1)
    ledger.refuse('a', 1, 1, 'no such class')
    ledger.expire(0)
    assert failed(ledger) == []
    ledger.drop('b', 0)
    ledger.expire(0)
    assert failed(ledger) == [1]


def test_then_it_waits_for_nobody():
    """It had a claim left, and was leased again when that one died."""
    ledger = make(1, slaves='ab')
    lease(ledger, 'a', 1)
    ledger.refuse('a', 1, 1, 'no such class')
    lease(ledger, 'b', 1)
    ledger.drop('b', 0)
    ledger.expire(GRACE)
    assert failed(ledger) == [1]
    assert ledger.hello('b', 'host:b', 1, GRACE, [(1, 1)]) == []
    assert ledger.lose('b') == 0
    ledger.hello('c', 'host:c', 1, GRACE)
    assert lease(ledger, 'c', 1) is None


# -- draining, the cap, and the end ---------------------------------------

def test_while_draining_only_what_was_given_back_is_leased(ledger):
    lease(ledger, 'a', 4)
    ledger.give_back('a', [(3, 4)])
    assert lease(ledger, 'b', 9, draining=True) == [3, 4]
    assert lease(ledger, 'b', 9, draining=True) is None


def test_what_may_have_killed_its_slave_waits_while_draining(ledger):
    lease(ledger, 'a', 16)
    lease(ledger, 'b', 1)
    ledger.lose('a')
    ledger.lose('b')
    ledger.hello('c', 'host:c', 1, 0)
    assert lease(ledger, 'c', 9, draining=True) is None
    assert not ledger.leasing.barred(ledger.slaves['c'])


def test_jobs_in_hand_are_capped():
    slaves = [f's{n}' for n in range(IN_HAND)]
    ledger = make(0, 2, [*slaves, 'b'])
    for slave in slaves:
        ledger.ready.extend(['job'] * 2)
        ledger.lease(slave, 2, 0)
    ledger.ready.extend(['job'] * 2)
    assert ledger.pieces.jobs == 100
    assert ledger.lease('b', 2, 0) is None
    ledger.done('b', [(7, 7)])
    assert len(ledger.lease('b', 2, 0).jobs) == 1


def test_one_slave_has_no_more_than_its_part_in_hand():
    ledger = make(1000, size=10)
    assert len(lease_all(ledger, 'a', 10)) == OF_ONE
    assert len(lease(ledger, 'b', 10)) == 10
    ledger.done('a', [(1, 1)])
    assert len(lease(ledger, 'a', 10)) == 10


def test_a_slave_of_many_workers_has_two_jobs_for_each():
    ledger = make(1000, size=1)
    ledger.hello('c', 'host:c', 20, 0)
    assert len(lease_all(ledger, 'c', 1)) == 40


def test_while_very_many_pieces_wait_nothing_new_is_leased(monkeypatch):
    """Or whoever refuses all that there is fills the memory."""
    monkeypatch.setattr(leasing, 'WAITING', 10)
    ledger = make(1000, size=100)
    for number in lease(ledger, 'a', 20):
        ledger.refuse('a', number, number, 'no')
    assert lease(ledger, 'a', 5) is None and ledger.leasing.full
    assert lease(ledger, 'b', 5) == [1]         # these first


def test_beyond_too_many_failures_few_are_recorded():
    """A slave that fails all it has in hand does not fill the disk."""
    ledger = Ledger(1000, too_many=lambda failed, finished: failed > 5)
    ledger.ready.extend([*range(1, 1001)])
    ledger.hello('a', 'host:a', 1, 0)
    ledger.lease('a', 1000, 0)
    for number in range(1, 1001):
        ledger.fail('a', number, 'no')
    failed = ledger.unrecorded()
    assert [job.number for job in failed] == [*range(1, 6 + BEYOND + 1)]
    ledger.recorded(job.number for job in failed)
    assert ledger.watermark()[0] == 6 + BEYOND
    assert ledger.idle and not ledger.complete      # the next start has them


def test_of_a_last_report_so_much_is_remembered():
    ledger = make(10_000)
    many = [(n, n) for n in range(1, 10_000, 2)]
    ledger.done('a', many)
    ledger.done('gone', many)
    assert len(ledger.slaves['a'].reported) == REMEMBERED
    assert len(ledger.slaves._reports['gone']) == REMEMBERED


def test_what_came_back_is_leased_though_the_cap_is_reached():
    ledger = make(50, size=1)
    ledger.lease('a', 50, 0)
    ledger.give_back('a', [(1, 50)])
    assert len(lease(ledger, 'b', 50)) == 50


def test_at_the_end_what_is_left_is_shared(ledger):
    ledger.ended = True
    sizes = []
    while ledger.ready:
        sizes.append(len(lease(ledger, 'ab'[len(sizes) % 2], 30)))
    assert sizes[:4] == [25, 19, 14, 11] and sizes[-1] == 1


def test_those_who_hunger_come_before_those_who_prefetch():
    ledger = make(1)
    ledger.ended = True
    assert lease(ledger, 'a', 5, prefetch=True) is None
    assert lease(ledger, 'b', 5) == [1]


def test_hello_with_ranges_that_overlap(ledger):
    lease(ledger, 'a', 10)
    assert ledger.hello('a', 'host:a', 1, 0, [(1, 10), (5, 5)]) == [(1, 10)]
    assert ledger.pieces.waiting == 0


def test_what_was_given_back_at_the_end_is_shared_too():
    ledger = make(8)
    assert lease(ledger, 'a', 8) == [1, 2, 3, 4, 5, 6, 7, 8]
    ledger.ended = True
    ledger.give_back('a', [(2, 8)])
    assert lease(ledger, 'b', 9) == [2, 3]
    assert lease(ledger, 'a', 9, prefetch=True) == [4, 5]


def test_a_slave_is_late_with_more_than_it_works_on(ledger):
    lease(ledger, 'a', 2)
    slave = ledger.slaves['a']
    assert not ledger.leasing.late(slave, LATE * 0.1, 0.1)
    assert ledger.leasing.late(slave, LATE * 0.1 + 0.01, 0.1)
    ledger.done('a', [(1, 1)])
    assert not ledger.leasing.late(slave, 100, 0.1)


# -- what is counted once -------------------------------------------------

def test_a_report_that_is_repeated_is_not_done_twice(ledger):
    """The reply to the first was lost; meanwhile more was done."""
    lease(ledger, 'a', 6)
    ledger.done('a', [(1, 2), (4, 4)])
    ledger.done('a', [(1, 5)])
    assert (ledger.finished, ledger.twice) == (5, 0)
    ledger.done('b', [(1, 1)])
    assert ledger.twice == 1


def test_nor_when_the_slave_was_forgotten_in_between(ledger):
    lease(ledger, 'a', 2)
    ledger.done('a', [(1, 2)])
    ledger.drop('a', 0)                 # it holds nothing, so it is gone
    ledger.hello('a', 'host:a', 1, 1, [(1, 2)], returns=True)
    ledger.done('a', [(1, 2)])
    assert ledger.twice == 0


def test_a_slave_that_comes_back_is_not_one_more(ledger):
    assert ledger.slaves.seen == 2
    ledger.drop('a', 0)
    ledger.hello('a', 'host:a', 1, 60, returns=True)
    ledger.hello('b', 'host:b', 1, 60, returns=True)
    assert ledger.slaves.seen == 2
    ledger.hello('c', 'host:c', 1, 60)
    assert ledger.slaves.seen == 3


def test_what_is_kept_fits_into_a_message():
    """What does not is leased again, or it would be nobody's."""
    jobs = 2 * (RANGES + 10)
    ledger = make(jobs, size=jobs, slaves='ab')
    lease(ledger, 'a', jobs)
    ledger.done('b', [(n, n) for n in range(1, jobs, 2)])
    kept = ledger.hello('a', 'host:a', 1, 0, [(1, jobs)])
    assert kept == [(n, n) for n in range(2, 2 * RANGES + 1, 2)]
    assert ledger.slaves['a'].in_hand == RANGES
    assert ledger.pieces.waiting == 10


def test_a_job_that_all_refuse_fails_no_more_once_too_many_have():
    ledger = Ledger(100, too_many=lambda failed, finished: failed >= 20)
    ledger.ready.extend(['job'] * 100)
    ledger.hello('a', 'host:a', 1, 0)
    for _ in range(50):
        number = ledger.lease('a', 1, 0).first
        ledger.refuse('a', number, number, 'no such class')
    ledger.expire(0)
    assert ledger.too_many and ledger.failures == 20
    ledger.expire(0)
    assert ledger.failures == 20 and ledger.pieces.waiting == 30
