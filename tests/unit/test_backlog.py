"""What a slave has in hand."""

import pytest
from fakes import RUN, Background, Clock, add, until
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (RuleBasedStateMachine, initialize, invariant,
                                 precondition, rule, run_state_machine_as_test)

from taskmaster.slave.backlog import URGENT, Backlog
from taskmaster.wire import fields
from taskmaster.wire.fields import RANGES
from taskmaster.wire.messages import Report


def leased(*leases, **options):
    """A hand with these leases, each (first, how many): jobs are numbers."""
    backlog = Backlog(**options)
    for first, count in leases:
        add(backlog, first, [*range(first, first + count)])
    return backlog


def work(run, count):
    for _ in range(count):
        next(run.iterator)


def finish(backlog, run):
    work(run, len(run.jobs) - run.begun())
    backlog.bring(run)


def done(backlog):
    """What it would report as done."""
    return backlog.report(RUN).done


# -- runs -----------------------------------------------------------------

def test_a_run_is_a_whole_lease_for_one_worker():
    backlog = leased((1, 5), (6, 2))
    first, second = backlog.take(), backlog.take()
    assert (first.first, first.jobs) == (1, [1, 2, 3, 4, 5])
    assert (second.first, second.last) == (6, 7)


def test_several_workers_share_a_lease():
    backlog = leased((1, 12), workers=3)
    assert [len(backlog.take().jobs) for _ in range(3)] == [2, 2, 2]
    assert backlog.holds() == [(1, 12)]


def test_take_waits_for_a_lease():
    backlog = Backlog()
    taking = Background(backlog.take)
    until(lambda: backlog.appetite().hungry)
    add(backlog, 4, ['job'])
    assert taking.result().jobs == ['job']
    assert not backlog.appetite().hungry


def test_a_lease_wakes_every_worker():
    backlog = Backlog(workers=3)
    taking = [Background(backlog.take) for _ in range(3)]
    until(lambda: backlog._idle == 3)
    add(backlog, 1, [*range(1, 10)])
    runs = [one.result() for one in taking]
    assert len({run.first for run in runs}) == 3


def test_close_ends_who_waits_and_interrupts_who_works():
    backlog = leased((1, 5))
    run = backlog.take()
    taking = Background(backlog.take)
    until(lambda: backlog.appetite().hungry)
    backlog.close()
    assert taking.result() is None
    assert run.interrupt
    assert backlog.take() is None


def test_a_run_brought_back_early_is_taken_again():
    backlog = leased((1, 5), (6, 5))
    run = backlog.take()
    work(run, 2)
    backlog.bring(run)
    assert done(backlog) == [(1, 2)]
    again = backlog.take()
    assert (again.first, again.jobs) == (3, [3, 4, 5])      # before the next


def test_a_run_brought_back_at_once_has_done_nothing():
    backlog = leased((1, 5))
    backlog.bring(backlog.take())
    assert done(backlog) == []
    assert backlog.take().jobs == [1, 2, 3, 4, 5]


# -- reports --------------------------------------------------------------

def test_the_job_that_is_being_done_is_not_reported():
    backlog = leased((1, 5))
    run = backlog.take()
    assert done(backlog) == []
    work(run, 1)
    assert done(backlog) == []
    work(run, 2)
    assert done(backlog) == [(1, 2)]
    work(run, 2)
    # the fifth is still in the works
    assert done(backlog) == [(1, 2), (3, 4)]
    backlog.bring(run)
    assert done(backlog) == [(1, 2), (3, 4), (5, 5)]


def test_what_is_reported_is_not_reported_again():
    backlog = leased((1, 5))
    run = backlog.take()
    work(run, 3)
    sent = backlog.report(RUN)
    work(run, 1)
    assert backlog.report(RUN).done == [(1, 2), (3, 3)]    # the first was lost
    backlog.reported(sent)
    assert done(backlog) == [(3, 3)]
    assert backlog.appetite().unreported
    backlog.reported(backlog.report(RUN))
    assert not backlog.appetite().unreported


def test_failures_are_not_done():
    backlog = leased((1, 6))
    run = backlog.take()
    for number in range(1, 7):
        work(run, 1)
        if number in (1, 3, 4):
            backlog.fail(run, ValueError(number), 2)
    backlog.bring(run)
    sent = backlog.report(RUN)
    assert sent.done == [(2, 2), (5, 6)]
    assert [f.number for f in sent.failed] == [1, 3, 4]
    assert sent.failed[0].error == 'ValueError: 1'
    assert sent.failed[0].attempts == 2
    backlog.reported(sent)
    assert backlog.report(RUN) == Report(RUN, [], [], [])


def test_a_failure_is_a_line_and_a_bounded_traceback():
    class Terrible(Exception):
        def __str__(self):
            return 'x\n' * 100_000

    backlog = leased((1, 1))
    run = backlog.take()
    work(run, 1)
    try:
        raise Terrible
    except Terrible as error:
        backlog.fail(run, error)
    failure, = backlog.report(RUN).failed
    assert len(failure.error) <= 1000 and '\n' not in failure.error
    assert len(failure.traceback) <= 10_000


def test_many_failures_are_urgent():
    """They stop the work until they are reported."""
    backlog = leased((1, 100), workers=1)
    run = backlog.take()
    for number in range(URGENT):
        assert not run.interrupt and not backlog.appetite().urgent
        work(run, 1)
        backlog.fail(run, ValueError())
    assert run.interrupt and backlog.appetite().urgent
    backlog.bring(run)
    taking = Background(backlog.take)
    until(lambda: backlog._idle)
    assert taking.is_alive()
    backlog.reported(backlog.report(RUN))
    assert taking.result().first == URGENT + 1


def test_a_report_is_no_larger_than_a_message_may_be():
    backlog = leased(*((n, 1) for n in range(1, 3 * RANGES, 2)))
    for _ in range(1, 3 * RANGES, 2):
        finish(backlog, backlog.take())
    found = []
    while backlog.appetite().unreported:
        sent = backlog.report(RUN)
        assert 0 < len(sent.done) <= RANGES
        found += sent.done
        backlog.reported(sent)
    assert found == [(n, n) for n in range(1, 3 * RANGES, 2)]


def test_failures_of_many_workers_go_in_parts():
    backlog = leased(*((n, 1) for n in range(1, 101)), workers=100)
    runs = [backlog.take() for _ in range(100)]
    for run in runs:
        work(run, 1)
        backlog.fail(run, ValueError('x' * 20_000))
        backlog.bring(run)
    numbers = []
    while backlog.appetite().unreported:
        sent = backlog.report(RUN)
        assert 0 < len(sent.failed) <= 4 * URGENT
        numbers += [f.number for f in sent.failed]
        backlog.reported(sent)
    assert numbers == [*range(1, 101)]
    assert sent.done == []


def test_a_refusal_is_urgent():
    backlog = Backlog()
    backlog.refuse(1, 4, 'cannot be unpickled')
    assert backlog.appetite().urgent
    assert backlog.holds() == [(1, 4)]
    backlog.reported(backlog.report(RUN))
    assert not backlog.appetite().urgent and backlog.holds() == []


# -- what it wants --------------------------------------------------------

def test_it_wants_more_the_faster_it_works():
    clock = Clock()
    backlog = Backlog(clock=clock)
    assert backlog.appetite().want == 1
    add(backlog, 1, ['job'])
    run = backlog.take()
    clock.forward(0.001)
    finish(backlog, run)
    assert 1 < backlog.appetite().want <= 100
    add(backlog, 2, ['job'])
    run = backlog.take()
    clock.forward(10)
    finish(backlog, run)
    assert backlog.appetite().want == 1


def test_it_wants_one_lease_in_advance():
    backlog = leased((1, 1))
    assert backlog.appetite().want == 0
    run = backlog.take()
    assert backlog.appetite().want > 0
    add(backlog, 2, ['job'])
    assert backlog.appetite().want == 0
    finish(backlog, run)
    assert not backlog.appetite().empty
    finish(backlog, backlog.take())
    assert backlog.appetite().empty


def test_wait_ends_with_a_change():
    backlog = leased((1, 1))
    backlog.wait(0)
    assert not backlog.wait(0)
    waiting = Background(backlog.wait, 30.0)
    run = backlog.take()
    assert waiting.result()
    backlog.wait(0)
    finish(backlog, run)
    assert backlog.wait(0)         # it was before the call


# -- giving back ----------------------------------------------------------

def test_a_drain_begins_no_more():
    backlog = leased((1, 5), (6, 5))
    run = backlog.take()
    work(run, 2)
    assert backlog.give_back() == []
    backlog.drain()
    assert run.interrupt
    assert backlog.appetite().want == 0
    assert backlog.give_back() == [(6, 10), (3, 5)]
    assert backlog.holds() == [(1, 2)]
    backlog.bring(run)
    assert backlog.give_back() == []
    assert backlog.appetite().empty and done(backlog) == [(1, 2)]
    add(backlog, 11, ['late'])
    assert backlog.give_back() == [(11, 11)]


def test_a_recall_is_for_what_there_is():
    backlog = leased((1, 5), (6, 5))
    run = backlog.take()
    work(run, 1)
    backlog.recall()
    assert run.interrupt and backlog.appetite().want == 0
    assert backlog.give_back() == [(6, 10), (2, 5)]
    backlog.bring(run)
    assert backlog.give_back() == []
    assert backlog.appetite().want > 0
    add(backlog, 11, ['job'])
    assert backlog.take().jobs == ['job']
    assert backlog.give_back() == []


def test_what_is_behind_a_job_that_hangs_is_given_back():
    """Its worker need not come back for that."""
    backlog = leased((1, 5), (6, 5), workers=1)
    run = backlog.take()
    work(run, 2)
    backlog.recall()
    assert backlog.give_back() == [(6, 10), (3, 5)]
    assert done(backlog) == [(1, 1)] and backlog.holds() == [(1, 2)]
    backlog.fail(run, ValueError())
    assert [f.number for f in backlog.report(RUN).failed] == [2]


def test_of_a_run_that_is_not_begun_all_is_given_back():
    backlog = leased((1, 5))
    run = backlog.take()
    backlog.recall()
    assert backlog.give_back() == [(1, 5)]
    assert backlog.holds() == [] and next(run.iterator, None) is None
    backlog.bring(run)
    assert done(backlog) == [] and backlog.appetite().empty


def test_lists_come_back_between_two_of_them():
    backlog = leased((1, 5))
    run = backlog.take()
    run.done = 2
    backlog.recall()
    assert backlog.give_back() == []
    backlog.bring(run)
    assert backlog.give_back() == [(3, 5)]


def test_a_recall_of_nothing_is_over_at_once():
    backlog = Backlog()
    backlog.recall()
    assert backlog.give_back() == []
    add(backlog, 1, ['job'])
    assert backlog.take().jobs == ['job']


# -- connections ----------------------------------------------------------

def test_holds_is_all_that_the_master_has_no_word_of():
    backlog = leased((1, 5), (6, 5), (11, 2))
    finish(backlog, backlog.take())
    run = backlog.take()
    work(run, 3)
    backlog.fail(run, ValueError())
    backlog.reported(backlog.report(RUN))     # 1-5, 6-7; 8 has failed
    backlog.refuse(20, 21, 'x')
    held = sorted(n for a, b in backlog.holds() for n in range(a, b + 1))
    assert held == [8, 9, 10, 11, 12, 20, 21]


def test_a_list_that_is_done_and_reported_is_held_no_more():
    """Though its worker has not brought it back yet."""
    backlog = leased((1, 5), (6, 2))
    run = backlog.take()
    run.done = 5
    backlog.reported(backlog.report(RUN))
    assert backlog.holds() == [(6, 7)]
    fields.ranges([list(pair) for pair in backlog.holds()])
    backlog.bring(run)
    assert done(backlog) == [] and backlog.holds() == [(6, 7)]


def test_a_slave_of_thousands_of_workers_can_say_what_it_holds():
    """Every other job is reported, so no two ranges can be joined."""
    count = RANGES + 100
    backlog = leased((1, 2 * count), workers=count, batch=2)
    for _ in range(count):
        backlog.take().done = 1
    while backlog.appetite().unreported or backlog.report(RUN).done:
        backlog.reported(backlog.report(RUN))
    held = backlog.holds()
    assert held == [(n, n) for n in range(2, 2 * RANGES + 1, 2)]
    assert fields.ranges([list(pair) for pair in held]) == held


def test_keep_forgets_what_another_has():
    backlog = leased((1, 5), (6, 5), (11, 5))
    run = backlog.take()
    work(run, 2)
    backlog.keep([(1, 3), (5, 7), (13, 13), (15, 99)])
    assert run.interrupt
    backlog.bring(run)
    assert done(backlog) == [(1, 2)]
    runs = []
    while not backlog.appetite().empty:
        runs.append(backlog.take())
        finish(backlog, runs[-1])
    assert [run.jobs for run in runs] == [[3], [5], [6, 7], [13], [15]]
    assert [run.first for run in runs] == [3, 5, 6, 13, 15]


def test_forget_leaves_nothing():
    backlog = leased((1, 5), (6, 5))
    run = backlog.take()
    work(run, 2)
    backlog.fail(run, ValueError())
    backlog.refuse(11, 12, 'x')
    backlog.forget()
    assert run.interrupt
    backlog.bring(run)
    backlog.fail(run, ValueError())
    assert backlog.holds() == []
    assert backlog.report(RUN) == Report(RUN, [], [], [])
    assert backlog.appetite().empty


# -- lists ----------------------------------------------------------------

def test_of_lists_the_handler_says_what_is_finished():
    backlog = leased((1, 6))
    run = backlog.take()
    run.done = 0
    assert done(backlog) == [] and run.current() == 1
    run.done = 2
    backlog.fail(run, ValueError())
    run.done = 4
    assert done(backlog) == [(1, 2), (4, 4)]
    backlog.bring(run)                     # interrupted
    assert done(backlog) == [(1, 2), (4, 4)]
    again = backlog.take()
    assert (again.first, again.jobs, again.done) == (5, [5, 6], None)


def test_workers_share_a_lease_by_whole_lists():
    backlog = leased((1, 100), workers=2, batch=30)
    assert [len(backlog.take().jobs) for _ in range(4)] == [30, 30, 30, 10]


def test_take_without_waiting():
    backlog = Backlog()
    assert backlog.take(wait=False) is None
    assert not backlog.appetite().hungry
    add(backlog, 1, ['job'])
    assert backlog.take(wait=False).jobs == ['job']
    add(backlog, 2, ['job'])
    backlog.drain()
    assert backlog.take(wait=False) is None


# -- a quota --------------------------------------------------------------

def test_no_more_is_asked_for_than_the_quota():
    backlog = Backlog(workers=4, quota=5)
    assert backlog.appetite().want == 4
    add(backlog, 1, [*range(1, 4)])
    for _ in range(3):
        finish(backlog, backlog.take())
    assert not backlog.spent and backlog.appetite().want == 2
    add(backlog, 4, [4, 5])
    assert not backlog.spent
    finish(backlog, backlog.take())
    last = backlog.take()
    assert backlog.appetite().want == 0 and not backlog.spent
    finish(backlog, last)
    assert backlog.spent and backlog.appetite().want == 0


def test_without_a_quota_it_is_never_spent():
    assert not Backlog().spent


# -- what the link is told ------------------------------------------------

def test_the_link_is_not_told_of_each_run():
    """Of thousands a second: only when there is something to see to."""
    backlog = Backlog(workers=4)
    add(backlog, 1, [*range(1, 101)])
    taken = [backlog.take() for _ in range(3)]
    assert backlog.appetite().want == 0 and backlog.wait(0)
    for run in taken[:]:
        finish(backlog, run)
        taken.append(backlog.take())
    assert not backlog.wait(0)
    while backlog._leases:
        taken.append(backlog.take())
    assert backlog.wait(0)                 # time to ask for more


def test_the_link_is_told_of_what_it_has_not_seen_yet():
    """A lease is taken between two looks, and all is as it was before."""
    backlog = Backlog(workers=2)
    add(backlog, 1, [1])
    backlog.take()
    assert backlog.appetite().want and backlog.wait(0)
    add(backlog, 2, [2])
    assert backlog.appetite().want == 0 and not backlog.wait(0)
    backlog.take()
    assert backlog.wait(0) and backlog.appetite().want


# -- whatever the order ---------------------------------------------------

class Machine(RuleBasedStateMachine):
    """Every leased number is reported once: done, failed or given back.

    A worker calls its handler for one job at a time, as `run_each` does:
    a job is finished when the next one is begun or the run is brought.  Or
    with lists, and then it says how far it is.
    """

    @initialize(workers=st.integers(1, 3), lists=st.booleans())
    def begin(self, workers, lists):
        self.clock = Clock()
        self.lists = lists
        self.backlog = Backlog(
            workers, batch=3 if lists else 1, clock=self.clock)
        self.runs = {}              # by worker
        self.failed = {}            # numbers, by worker: of its last job
        self.number = 1
        self.unbegun = set()        # what workers may take
        self.outcomes = {}          # number -> what became of it
        self.forgotten = set()      # by `keep`: the master knows best
        self.begun = set()
        self.sent = None
        self.draining = False

    def note(self, number, outcome):
        assert number not in self.outcomes, (number, outcome, self.outcomes)
        self.outcomes[number] = outcome

    @property
    def stopped(self):
        backlog = self.backlog
        return (backlog.leaving.is_set() or backlog._recalled
                or len(backlog._failed) >= URGENT)

    @rule(count=st.integers(1, 8))
    def lease(self, count):
        numbers = range(self.number, self.number + count)
        add(self.backlog, self.number, [*numbers])
        self.number += count
        self.unbegun.update(numbers)

    @precondition(lambda self: self.backlog._leases and not self.stopped)
    @rule(worker=st.integers(0, 2))
    def take(self, worker):
        if worker < self.backlog.workers and worker not in self.runs:
            run = self.runs[worker] = self.backlog.take()
            assert run.jobs == [*range(run.first, run.last + 1)]
            if self.lists:
                run.done = 0

    def next_job(self, worker):
        run = self.runs[worker]
        if not self.lists:
            number = next(run.iterator, None)
        elif run.done < len(run.jobs):
            number = run.current()
            run.done += 1
        else:
            number = None
        self.failed[worker] = None
        if number is not None:
            assert number not in self.begun, 'begun twice'
            self.begun.add(number)
            self.unbegun.discard(number)

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), count=st.integers(1, 4))
    def advance(self, data, count):
        worker = data.draw(st.sampled_from(sorted(self.runs)))
        run = self.runs[worker]
        for _ in range(count):
            if not run.interrupt or not run.begun():
                self.clock.forward(0.01)
                self.next_job(worker)

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def fail(self, data):
        worker = data.draw(st.sampled_from(sorted(self.runs)))
        run = self.runs[worker]
        number = run.current()
        if self.lists:
            if run.done < len(run.jobs):
                self.backlog.fail(run, ValueError(number))
                self.next_job(worker)
        elif run.begun() and self.failed.get(worker) != number and (
                number not in run.failed):
            self.backlog.fail(run, ValueError(number))
            self.failed[worker] = number

    @precondition(lambda self: self.runs)
    @rule(data=st.data())
    def bring(self, data):
        worker = data.draw(st.sampled_from(sorted(self.runs)))
        run = self.runs.pop(worker)
        self.failed.pop(worker, None)
        self.backlog.bring(run)

    @rule()
    def report(self):
        """The call; whether it reached the master is not known yet."""
        self.sent = self.backlog.report(RUN)

    @precondition(lambda self: self.sent)
    @rule()
    def reported(self):
        sent, self.sent = self.sent, None
        self.backlog.reported(sent)
        for first, last in sent.done:
            for number in range(first, last + 1):
                assert number in self.begun
                self.note(number, 'done')
        for failure in sent.failed:
            self.note(failure.number, 'failed')
        for refusal in sent.refused:
            for number in range(refusal.first, refusal.last + 1):
                self.note(number, 'refused')

    @precondition(lambda self: self.sent)
    @rule()
    def lost(self):
        self.sent = None

    @rule(count=st.integers(1, 3))
    def refuse(self, count):
        self.backlog.refuse(self.number, self.number + count - 1, 'x')
        self.number += count

    @rule()
    def recall(self):
        self.backlog.recall()

    @rule()
    def give_back(self):
        for first, last in self.backlog.give_back():
            for number in range(first, last + 1):
                assert number not in self.begun, 'given back, but begun'
                self.unbegun.discard(number)
                self.note(number, 'given back')

    @precondition(lambda self: not self.sent)
    @rule(data=st.data())
    def reconnect(self, data):
        """The master has given some of it to others."""
        held = sorted(set(self.held()))
        kept = data.draw(st.sets(st.sampled_from(held)) if held
                         else st.just(set()))
        self.forgotten |= self.unbegun - kept
        self.unbegun &= kept
        self.backlog.keep(ranges(kept))

    def held(self):
        return [n for a, b in self.backlog.holds() for n in range(a, b + 1)]

    @invariant()
    def nothing_is_out_of_hand(self):
        if hasattr(self, 'backlog'):
            open = set(range(1, self.number)) - set(self.outcomes)
            held = set(self.held())
            # Failures are reported at once, a run up to where it is known
            # to be finished; the master knows better.
            failed = {number for run in self.runs.values()
                      for number in run.failed}
            assert open - self.forgotten <= held
            assert held <= open | self.forgotten | failed
            assert not (held & set(self.outcomes)) - failed

    def teardown(self):
        if not hasattr(self, 'backlog'):
            return
        self.sent = None
        self.backlog.drain()
        for worker in sorted(self.runs):
            self.backlog.bring(self.runs.pop(worker))
        self.give_back()
        while self.backlog.appetite().unreported:
            self.report()
            self.reported()
        assert self.held() == []
        assert (set(range(1, self.number)) - set(self.outcomes)
                <= self.forgotten - self.begun)
        for number in self.begun:
            assert self.outcomes[number] in ('done', 'failed')


def ranges(numbers):
    found = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found


@pytest.mark.hunt
def test_whatever_the_order_each_number_has_one_outcome():
    run_state_machine_as_test(Machine, settings=settings(
        max_examples=60, stateful_step_count=40, deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck)))
