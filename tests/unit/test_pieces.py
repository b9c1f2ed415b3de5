"""The index of pieces: right, and not slower the more pieces there are.

What grows is found by counting, not by a clock: the steps of the
interpreter that a call takes, and the most memory that it holds meanwhile
(which a copy or a sorting takes, though it is one step).
"""

import sys
import tracemalloc
from itertools import islice

import pytest
from fakes import RUN, Clock, check_books
from hypothesis import given
from hypothesis import strategies as st

from taskmaster.master import ordered
from taskmaster.master.jobqueue import JobQueue
from taskmaster.master.ledger import BATCH, Ledger
from taskmaster.master.ordered import Numbers
from taskmaster.master.pieces import Piece, Turns
from taskmaster.master.slaves import Slave
from taskmaster.wire.messages import (FailureReport, Introduction, Refusal,
                                      Report)

FEW, MANY = 300, 6000       # pieces


# -- numbers in order -----------------------------------------------------

@given(numbers=st.lists(st.integers(0, 60), max_size=80),
       asked=st.integers(-1, 61))
def test_numbers_are_as_a_sorted_list(numbers, asked):
    block, ordered.BLOCK = ordered.BLOCK, 4
    try:
        found, model = Numbers(), []
        for number in numbers:          # a second time takes it away
            if number in model:
                found.remove(number)
                model.remove(number)
            else:
                found.add(number)
                model = sorted([*model, number])
            assert list(found) == model and bool(found) == bool(model)
            assert all(0 < len(one) <= 4 for one in found._blocks)
            assert [one[-1] for one in found._blocks] == found._lasts
        assert found.first() == (model[0] if model else None)
        assert list(found.beginning(asked)) == [
            n for n in model if n >= asked]
        assert found.at_most(asked) == max(
            (n for n in model if n <= asked), default=None)
    finally:
        ordered.BLOCK = block


# -- pieces ---------------------------------------------------------------

def test_cutting_never_changes_the_list_that_is_being_pickled():
    jobs = [*range(1, 101)]
    piece = Piece(1, jobs, None)
    assert piece.jobs is jobs
    right = piece.split(31)
    assert (piece.jobs, right.jobs) == (jobs[:30], jobs[30:])
    assert (right.first, right.last, right.before, right.job) == (
        31, 100, 30, 31)
    assert jobs == [*range(1, 101)]


def test_what_is_done_is_let_go_of_when_it_is_half_of_a_list():
    """A lease of which one job is left must not keep all the others."""
    piece = Piece(1, [*range(1, 101)], None)
    left = piece.split(40)
    assert len(left._list) == 100       # it keeps the list, for 61 jobs
    piece = left.split(60)
    assert len(left._list) == 20 and len(piece._list) == 41


def test_a_slave_looks_once_at_what_it_refused():
    turns, slave = Turns(), Slave('s1', 'host:1', 1, 0)
    pieces = [Piece(n, ['job'], None) for n in range(1, 1001)]
    for piece in pieces:
        piece.refused['s1'] = 'no such class'
        turns.add(piece)
    assert turns.first(slave) is None
    assert steps(lambda: turns.first(slave)) < 100
    other = Piece(1001, ['job'], None)
    other.refused['s2'] = 'no such class'
    turns.add(other)
    assert turns.first(slave) is other and turns.first(slave) is other
    turns.remove(other)
    assert turns.first(slave) is None
    assert turns.first(Slave('s2', 'host:2', 1, 0)) is pieces[0]


# -- no call grows --------------------------------------------------------

def steps(call):
    """How many steps of the interpreter a call takes."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == 'opcode'
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def memory(call):
    """The most bytes that are held during a call, beyond those before."""
    tracemalloc.start()
    try:
        call()                          # what is made once is made
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        call()
        _, most = tracemalloc.get_traced_memory()
        return most - before
    finally:
        tracemalloc.stop()


class World:
    """A queue, and slaves a, b and c that say to it what a test wants."""

    def __init__(self, n):
        self.n = n
        self.queue = JobQueue(4 * n + 100, RUN, clock=Clock())
        self.dispatcher = self.queue.dispatcher
        self.names = iter(range(n))
        self.in_hand = iter(range(n + 1, 2 * n + 1))    # where n failed
        for slave in 'abc':
            self.hello(slave)
        self.feed(3 * n)

    def feed(self, count):
        while count > 0:
            page, room = self.queue.page()
            page += ['job'] * min(room, count)
            count -= room

    def hello(self, slave, after=None):
        self.dispatcher.hello(Introduction(
            slave, slave, 1, None, RUN, None, [], after), None)

    def ask(self, slave, want=1, done=(), failed=(), refused=()):
        return self.dispatcher.exchange(slave, Report(
            RUN, list(done), [FailureReport(n, 'bad', '', 1) for n in failed],
            list(refused)), want, False, 0.0, None)

    def new(self):
        """The id of one more slave."""
        return f'slave {next(self.names)}'


def waiting(world):
    """Every other job of a lease was given back."""
    world.ask('a', 2 * world.n)
    world.dispatcher.give_back(
        'a', RUN, [(n, n) for n in range(1, 2 * world.n, 2)])


def held(world):
    """Every other job of a lease is done."""
    world.ask('a', 2 * world.n)
    world.ask('a', 0, done=[(n, n) for n in range(2, 2 * world.n + 1, 2)])


def failed(world):
    world.ask('a', 2 * world.n)
    world.ask('a', 0, failed=range(1, world.n + 1))


def refused(world):
    """All that was leased, job by job, by one slave."""
    for n in range(1, world.n + 1):
        leased = world.ask('a', 1)
        world.ask('a', 0, refused=[Refusal(leased.first, leased.first,
                                           'no such class')])


def isolated(world):
    """Slaves were lost that held but one job; b and c hold others."""
    world.ask('b')
    world.ask('c')
    for _ in range(world.n // 10):
        world.hello('lost')
        world.ask('lost')
        world.dispatcher.lost('lost', [])


def lose_an_empty_one(world):
    slave = world.new()
    world.hello(slave)
    world.dispatcher.lost(slave, [])


def lease_at_the_end(world):
    world.queue._ledger.ended = True
    world.ask('b')


def fail_twenty(world):
    world.ask('a', 0, failed=list(islice(world.in_hand, 20)))


def record(world):
    world.queue.recorded(list(islice(world.queue._ledger.pieces.failed, 20)))


def a_job_done(world):
    leased = world.ask('b')
    world.ask('b', 0, done=[(leased.first, leased.first)])


CALLS = [
    (waiting, lambda world: world.queue.expire(), 'expire'),
    (waiting, lease_at_the_end, 'lease at the end'),
    (waiting, lambda world: world.ask('b'), 'lease what was given back'),
    (waiting, lambda world: world.hello(world.new()), 'hello'),
    (waiting, lose_an_empty_one, 'lose an empty slave'),
    (waiting, lambda world: world.queue.at_rest(), 'at rest'),
    (waiting, lambda world: world.queue.watermark(), 'watermark'),
    (held, lambda world: world.ask('a'), 'lease for one that has much'),
    (held, a_job_done, 'lease and done'),
    (held, lambda world: world.queue.expire(), 'expire what is held'),
    (held, lambda world: world.queue.slaves(), 'status of the slaves'),
    (held, lambda world: world.queue.holders(), 'holders'),
    (held, lambda world: world.queue.oldest(), 'oldest'),
    (failed, fail_twenty, 'twenty more failures'),
    (failed, lambda world: world.queue.counts(), 'counts'),
    (failed, record, 'record'),
    (refused, lambda world: world.ask('a'), 'lease where all is refused'),
    (refused, lambda world: world.ask('b'), 'lease of what is refused'),
    (refused, lambda world: world.queue.expire(), 'expire refused'),
    (isolated, lambda world: world.ask('b'), 'lease beside isolated ones'),
    (isolated, lambda world: world.queue.expire(), 'expire isolated ones'),
]


@pytest.mark.hunt
@pytest.mark.parametrize('prepare, call, name', CALLS,
                         ids=[name.replace(' ', '-') for *_, name in CALLS])
def test_no_call_grows_with_the_number_of_pieces(prepare, call, name):
    few, many = World(FEW), World(MANY)
    for world in few, many:
        prepare(world)
        call(world)                     # what is done once is done
        check_books(world.queue._ledger)
    assert steps(lambda: call(many)) <= 1.5 * steps(lambda: call(few)) + 200
    assert memory(lambda: call(many)) <= memory(lambda: call(few)) + 20_000


@pytest.mark.hunt
def test_what_grows_is_seen():
    few, many = World(FEW), World(MANY)
    for world in few, many:
        waiting(world)
    assert steps(lambda: [*many.queue._ledger.pieces]) > 10 * steps(
        lambda: [*few.queue._ledger.pieces])
    assert memory(lambda: sorted(many.queue._ledger.pieces._at)) > 40_000


@pytest.mark.parametrize('measure', [steps, memory])
def test_a_lease_done_job_by_job_takes_as_long_for_each(measure):
    def each(n):
        ledger = Ledger(n)
        ledger.ready.extend(['job'] * n)
        ledger.hello('a', 'host:a', 1, 0)
        ledger.lease('a', n, 0)
        ranges = [(number, number) for number in range(1, n, 2)]
        if measure is memory:
            ledger.done('a', ranges[:n // 4])
        found = measure(lambda: ledger.done('a', ranges[-n // 4:]))
        check_books(ledger)
        return found / n

    assert each(MANY // 4) <= 1.5 * each(FEW)


def test_of_very_many_failures_some_are_recorded_at_once():
    world = World(BATCH)
    failed(world)
    world.ask('a', 0, failed=range(world.n + 1, world.n + 11))
    assert len(world.queue.unrecorded()) == BATCH
    world.queue.recorded([job.number for job in world.queue.unrecorded()])
    assert [job.number for job in world.queue.unrecorded()] == [
        *range(world.n + 1, world.n + 11)]
