"""The ledger under random histories, beside a model of single jobs.

The machine plays the whole world round the ledger: the source, slaves that
are slow, dead, cut off or of an earlier run, the failures file and the
checkpoint, and a master that is killed and starts again.  The `Model` says
for every job by itself where it must be; the ledger must agree after each
step.  In the end the run must be able to complete.

LEDGER_EXAMPLES=20000 makes a long hunt, LEDGER_STEPS longer histories.
"""

import os

import pytest
from fakes import check_books
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (RuleBasedStateMachine, initialize, invariant,
                                 precondition, rule, run_state_machine_as_test)

from taskmaster.master import leasing
from taskmaster.master.ledger import LOSSES, REFUSALS, Ledger
from taskmaster.timing import STANDARD

EXPIRY, GRACE, RESERVE = STANDARD.expiry, STANDARD.grace, STANDARD.reserve

EXAMPLES = int(os.environ.get('LEDGER_EXAMPLES', 0))
STEPS = int(os.environ.get('LEDGER_STEPS', 60))
IN_HAND = 3             # queues full, small enough to be met
BUSY = 4                # jobs that a slave which is never idle likes to hold

HELD, RETURNED, FAILED, FINISHED = 'held', 'returned', 'failed', 'finished'


class Job:
    """What the model knows of a leased job."""

    def __init__(self, model):
        self._model = model
        self.state = RETURNED
        self.holder = self.claim = None
        self.suspect = False
        self.losses = 0
        self.refused = set()

    def go(self, state, holder=None, claim=None, alone=False):
        self._model.fails += state == FAILED != self.state
        self.state, self.holder, self.claim = state, holder, claim
        self.alone = alone          # it must be all that its holder holds


class Model:
    """The rules of a job, told for one job at a time."""

    def __init__(self):
        self.jobs = {}              # by number, from 1 on
        self.heard = {}             # of the slaves known: when
        self.dropped = {}           # of those cut off: when
        self.gone = {}              # what they held when that was noticed
        self.recorded = self.done = 0
        self.fails = 0              # jobs that have failed, in any way
        self.twice = 0              # jobs done again
        self.told = {}              # done, in the last report of a slave
        self.seen = set()           # slaves

    def of(self, slave, kind='holder'):
        return [n for n, job in self.jobs.items()
                if getattr(job, kind) == slave]

    def hello(self, slave, now, holds):
        self.seen.add(slave)
        self.heard[slave] = now
        self.dropped.pop(slave, None)
        self.gone.pop(slave, None)
        for n in self.of(slave):
            if n not in holds:
                self.jobs[n].go(RETURNED)
        for n in self.of(slave, 'claim'):
            self.jobs[n].claim = None
            if n in holds:
                self.jobs[n].go(HELD, slave)
        return self.of(slave)

    def drop(self, slave, now):
        if slave in self.heard and slave not in self.dropped:
            self.dropped[slave] = now
            if not self.of(slave):
                del self.heard[slave], self.dropped[slave]

    def lose(self, slave, late=()):
        if slave not in self.heard:
            return
        del self.heard[slave]
        self.dropped.pop(slave, None)
        lost = self.of(slave) + self.of(slave, 'claim')
        gone = self.gone.pop(slave, lost)
        for n in () if late else set(gone) - set(lost):
            job = self.jobs[n]
            if job.state in (HELD, RETURNED):
                job.losses += len(gone) == 1
                if job.losses >= LOSSES and job.state == RETURNED:
                    job.go(FAILED)
                else:
                    job.suspect = True
                    if job.state == RETURNED:
                        job.claim = None
        for n in lost:
            job = self.jobs[n]
            job.go(RETURNED)
            if late:
                if n in late:
                    job.go(FAILED)
                continue
            if len(gone) == 1:
                job.losses += 1
            if job.losses >= LOSSES:
                job.go(FAILED)
            else:
                job.suspect = True

    def expire(self, now):
        for slave in list(self.heard):
            if now - self.heard[slave] >= EXPIRY:
                self.lose(slave)
            elif (now - self.dropped.get(slave, now) >= GRACE
                    and self.of(slave)):
                self.gone[slave] = self.of(slave)
                for n in self.of(slave):
                    self.jobs[n].go(RETURNED, claim=slave)
        connected = self.connected()
        for job in self.jobs.values():
            if (job.state == RETURNED and connected
                    and job.refused >= connected
                    or job.state == RETURNED and job.losses >= LOSSES):
                job.go(FAILED)

    def connected(self):
        return self.heard.keys() - self.dropped.keys()

    def finish(self, slave, numbers):
        told = self.told.get(slave, set())
        for n in set(numbers):
            if n in self.jobs and self.jobs[n].state != FINISHED:
                self.jobs[n].go(FINISHED)
                self.done += 1
            elif n in self.jobs:
                self.twice += n not in told
        self.told[slave] = set(numbers) or told

    def unfinished(self):
        return [n for n, job in self.jobs.items() if job.state != FINISHED]

    def watermark(self):
        return min(self.unfinished(), default=len(self.jobs) + 1) - 1


class Run:
    """One start of the master.  Job ``n`` of it is row ``base + n``."""

    accepts_any = False             # a mistake that a mutant makes

    def __init__(self, ledger, id, base):
        self.ledger = ledger
        self.id = id
        self.base = base

    def takes(self, run):
        """The queue's check of the run's id."""
        return run == self.id or self.accepts_any


class Slave:
    """A slave process, with its own idea of what it holds."""

    def __init__(self, id):
        self.id = id
        self.run = None
        self.connected = False
        self.held = []              # numbers of its run
        self.handled = []           # and those to be reported


def ranges(numbers):
    """Numbers as [(first, last), ...]."""
    found = []
    for n in sorted(set(numbers)):
        if found and found[-1][1] == n - 1:
            found[-1] = (found[-1][0], n)
        else:
            found.append((n, n))
    return found


who = st.integers(0, 3)
where = st.integers(0, 40)
many = st.integers(1, 12)
seldom = st.sampled_from([True] + 4 * [False])


class LedgerMachine(RuleBasedStateMachine):

    ledger_class = Ledger
    run_class = Run

    def __init__(self):
        super().__init__()
        self.now = 1000.0
        self.runs = 0
        self.bases = {}             # of every run so far
        self.names = 0
        self.slaves = []
        self.dead = []
        self.yielded = 0            # rows that the source gave, ever
        self.total = None           # rows of the source, once it has ended
        self.saved = 0              # the checkpoint: a row
        self.handled = set()        # rows
        self.file = set()           # rows in the failures file

    # -- the master -------------------------------------------------------

    @initialize(size=st.sampled_from([20, 5, 20, 1]),
                wants=st.lists(many, min_size=1, max_size=4))
    def begin(self, size, wants):
        self.size = size
        self.start()
        self.feed(size)
        for want in wants:
            self.join(want)

    def start(self):
        self.runs += 1
        self.counted = []           # failed jobs, as the ledger says
        self.ledger = self.ledger_class(self.size, too_many=self.count)
        self.run = self.run_class(self.ledger, f'run {self.runs}', self.saved)
        self.bases[self.run.id] = self.run.base
        self.model = Model()
        self.next = self.saved + 1
        self.file = {row for row in self.file if row <= self.saved}
        for slave in self.slaves:
            slave.connected = False

    def count(self, failed, finished):
        """As --max-failures does, but that it never stops the run."""
        self.counted.append(failed)

    @rule(really=seldom, saved=st.booleans())
    def master_restarts(self, really, saved):
        """Old slaves work on, and report when numbers mean other jobs."""
        if really:
            if saved:
                self.save()
            self.start()
            self.feed(self.size)
            self.join(self.size)
            self.report_of_another_run()

    @rule()
    def save(self):
        self.saved = self.run.base + self.ledger.watermark()[0]

    @rule(some=many)
    def record_failures(self, some=1000):
        numbers = [job.number for job in self.ledger.unrecorded()[:some]]
        for n in numbers:
            self.file.add(self.run.base + n)
            self.model.jobs[n].go(FINISHED)
        self.model.recorded += len(numbers)
        self.model.done += len(numbers)
        self.ledger.recorded(numbers)
        self.ledger.recorded(numbers)       # once more changes nothing

    @rule(some=st.integers(1, 50))
    def feed(self, some):
        room = self.size - len(self.ledger.ready)
        if self.total is not None:
            room = min(room, self.total + 1 - self.next)
        rows = list(range(self.next, self.next + min(some, room)))
        self.next += len(rows)
        self.ledger.ready.extend(rows)
        self.yielded = max(self.yielded, self.next - 1)

    @precondition(lambda self: self.next > self.yielded)
    @rule(really=seldom)
    def end_source(self, really):
        if self.total or really and self.yielded >= 2 * self.size:
            self.total = self.yielded
            self.ledger.ended = True

    @rule(seconds=st.sampled_from([1, GRACE, RESERVE, 30, EXPIRY]),
          silent=st.sets(who, max_size=2))
    def time_passes(self, seconds, silent=()):
        self.now += seconds
        for i, slave in enumerate(self.slaves):
            if i not in silent and slave.connected:
                self.ledger.heard(slave.id, self.now)
                if slave.id in self.model.heard:
                    self.model.heard[slave.id] = self.now
        self.ledger.expire(self.now)
        self.model.expire(self.now)

    # -- slaves -----------------------------------------------------------

    def pick(self, who, having='id'):
        slaves = [slave for slave in self.slaves if getattr(slave, having)]
        return slaves[who % len(slaves)]

    def hello(self, slave, holds):
        returns = slave.run == self.run.id
        if not returns:
            slave.run, slave.held, holds = self.run.id, [], []
            slave.handled = []
        kept = self.ledger.hello(slave.id, slave.id, 1, self.now,
                                 ranges(holds), returns)
        mine = self.model.hello(slave.id, self.now, set(holds))
        assert sorted(n for a, b in kept for n in range(a, b + 1)) == mine
        slave.connected = True
        slave.held = [n for n in slave.held if n in mine]

    @precondition(lambda self: len(self.slaves) < 4)
    @rule(want=many)
    def join(self, want):
        slave = self.arrive()
        slave.held += self.ask(slave, want, False)

    def arrive(self, after=None):
        self.names += 1
        slave = Slave(f'slave {self.names}')
        if after:
            self.lose(after)
        self.hello(slave, [])
        self.slaves.append(slave)
        return slave

    def lose(self, slave, late=()):
        back = self.model.of(slave.id) + self.model.of(slave.id, 'claim')
        self.model.lose(slave.id, late)
        assert self.ledger.lose(
            slave.id, [(n, n) for n in late]) == len(back)

    @precondition(lambda self: self.slaves)
    @rule(who=who, late=st.sets(where, min_size=1, max_size=2),
          noticed=st.booleans())
    def take_too_long(self, who, late, noticed):
        """Its supervisor ends a slave: it alone is at fault for these."""
        if noticed:
            self.drop(who)
        slave = self.pick(who)
        self.slaves.remove(slave)
        known = [n for n in slave.held + slave.handled]
        self.lose(slave, {known[at % len(known)] for at in late}
                  if known else {1})

    @precondition(lambda self: self.slaves)
    @rule(who=who, want=st.integers(0, 3))
    def come_back(self, who, want):
        slave = self.pick(who)
        self.hello(slave, slave.held + slave.handled)
        slave.held += self.ask(slave, want, bool(slave.held))

    @precondition(lambda self: self.slaves)
    @rule(who=who)
    def come_back_forgetful(self, who):
        slave = self.pick(who)
        slave.held = slave.held[::2]
        self.hello(slave, slave.held)

    @precondition(lambda self: self.slaves)
    @rule(who=who)
    def drop(self, who):
        slave = self.pick(who)
        if slave.connected:
            slave.connected = False
            self.ledger.drop(slave.id, self.now)
            self.model.drop(slave.id, self.now)

    @precondition(lambda self: self.slaves)
    @rule(some=st.sets(who, min_size=1),
          seconds=st.sampled_from([GRACE, EXPIRY]), noticed=st.booleans(),
          want=st.integers(0, 20), at=where)
    def vanish(self, some, seconds, noticed, want, at):
        """Some slaves are cut off, and work on, as do the others."""
        for who in some:
            if noticed:
                self.drop(who)
            self.pick(who).connected = False
        self.time_passes(seconds)
        self.all_ask(want, False)
        if self.belated():
            self.too_late(at)

    @precondition(lambda self: self.slaves)
    @rule(who=who, noticed=st.booleans())
    def die(self, who, noticed):
        if noticed:
            self.drop(who)
        slave = self.pick(who)
        self.slaves.remove(slave)
        self.dead.append(slave)

    @precondition(lambda self: self.dead)
    @rule(who=who)
    def successor(self, who):
        self.arrive(after=self.dead.pop(who % len(self.dead)))

    @precondition(lambda self: self.slaves)
    @rule(who=who, times=st.integers(1, 4), want=st.integers(1, 2))
    def die_and_die_again(self, who, times, want):
        """A job kills its slave, the successor takes it up, and dies."""
        slave = self.pick(who)
        self.slaves.remove(slave)
        for _ in range(times):
            slave = self.arrive(after=slave)
            slave.held += self.ask(slave, want, False)
            self.check()
            self.slaves.remove(slave)
        self.lose(slave)
        self.all_ask(want, True)

    # -- jobs -------------------------------------------------------------

    @precondition(lambda self: self.slaves)
    @rule(who=who, want=many, prefetch=st.booleans(),
          arrives=st.sampled_from([True, True, True, False]),
          feed=st.integers(0, 20), draining=seldom)
    def lease(self, who, want, prefetch, arrives, feed, draining):
        slave = self.pick(who)
        self.feed(feed)
        if not slave.connected or slave.id not in self.model.heard:
            self.hello(slave, slave.held + slave.handled)
        numbers = self.ask(slave, want, prefetch, draining)
        if arrives:
            slave.held += numbers
        elif numbers:
            self.drop(who)

    @precondition(lambda self: self.slaves)
    @rule(want=many, prefetch=st.booleans())
    def everybody_leases(self, want, prefetch):
        self.feed(self.size)
        self.all_ask(want, prefetch)

    def all_ask(self, want, prefetch):
        for slave in self.slaves:
            if slave.connected and slave.id in self.model.heard:
                slave.held += self.ask(slave, want, prefetch)

    def ask(self, slave, want, prefetch, draining=False):
        """Lease; whatever the ledger gives, or not, must be within rules."""
        ledger, model = self.ledger, self.model
        had = model.of(slave.id)
        returned = {n for n, job in model.jobs.items()
                    if job.state == RETURNED and slave.id not in job.refused}
        alone = {n for n in returned if self.alone(n)}
        barred = any(self.alone(n) for n in had)
        ready, room = len(ledger.ready), self.size * IN_HAND
        room -= len(model.unfinished())
        # Also of what was returned, though this slave may have refused it.
        waiting = sum(job.state == RETURNED and not self.alone(n)
                      for n, job in model.jobs.items())
        share = ready if not ledger.ended else -(
            -(ready + waiting) // (2 * len(model.connected())))

        lease = ledger.lease(slave.id, want, self.now, prefetch, draining)

        if draining:
            returned = {n for n in returned if not model.jobs[n].suspect}
            alone, ready = set(), 0
        if lease is None:
            if not want:
                return []
            assert had or prefetch or not returned, 'returned jobs wait'
            assert had or prefetch or not ready or room < 1, 'new jobs wait'
            return []
        numbers = [lease.first + i for i in range(len(lease.jobs))]
        assert [row - self.run.base for row in lease.jobs] == numbers
        assert not barred, 'not alone'
        if numbers[0] > len(model.jobs):
            assert not draining, 'new while draining'
            assert returned <= alone, 'new before returned'
            assert had or not alone, 'new before an isolated job'
            assert len(numbers) <= min(want, room, share)
            assert numbers[0] == len(model.jobs) + 1
            for n in numbers:
                model.jobs[n] = Job(model)
        else:
            assert returned >= set(numbers)
            if numbers[0] in alone:
                assert numbers[1:] == [] == had, 'not alone'
            else:
                assert had or not alone, 'others before an isolated job'
            most = 2 if model.jobs[numbers[0]].suspect else 1
            assert len(numbers) <= max(want, most)
        for n in numbers:
            model.jobs[n].go(HELD, slave.id, alone=n in alone)
        return numbers

    def piece(self, n):
        for piece in self.ledger.pieces.within(n, n):
            return piece.first, piece.last

    def alone(self, n):
        return self.model.jobs[n].suspect and self.piece(n) == (n, n)

    @precondition(lambda self: any(slave.held for slave in self.slaves))
    @rule(who=who, at=where, some=many, report=st.booleans())
    def handle(self, who, at, some, report):
        slave = self.pick(who, 'held')
        at %= len(slave.held)
        numbers = slave.held[at:at + some]
        del slave.held[at:at + some]
        base = self.bases[slave.run]
        self.handled.update(base + n for n in numbers)
        slave.handled += numbers
        if report:
            self.send(slave)

    @precondition(lambda self: any(slave.handled for slave in self.slaves))
    @rule(who=who, lost=seldom)
    def report(self, who, lost):
        """From any slave, also one cut off, lost, or of another run."""
        self.send(self.pick(who, 'handled'), lost)

    def send(self, slave, lost=False):
        """``lost`` is the reply: the slave will say all of it again."""
        if self.run.takes(slave.run):
            self.ledger.done(slave.id, ranges(slave.handled))
            if slave.run == self.run.id:
                self.model.finish(slave.id, slave.handled)
            if not lost:
                slave.handled = []

    def report_of_another_run(self):
        for slave in self.slaves:
            if slave.run != self.run.id:
                base = self.bases[slave.run]
                self.handled.update(base + n for n in slave.held)
                slave.handled += slave.held
                slave.held = []
                self.send(slave)

    @precondition(lambda self: self.handled)
    @rule(at=where, some=many)
    def report_of_a_stranger(self, at, some):
        base = self.run.base
        numbers = sorted(row - base for row in self.handled
                         if base < row <= base + len(self.model.jobs))
        numbers = numbers[at % max(len(numbers), 1):][:some]
        self.ledger.done('a stranger', ranges(numbers))
        self.model.finish('a stranger', numbers)

    @precondition(lambda self: any(slave.held for slave in self.slaves))
    @rule(who=who, at=where)
    def fail(self, who, at):
        slave = self.pick(who, 'held')
        if self.run.takes(slave.run):
            n = slave.held.pop(at % len(slave.held))
            self.ledger.fail(slave.id, n, 'ValueError', attempts=2)
            for n in self.of(slave, n, n):
                self.model.jobs[n].go(FAILED)

    def of(self, slave, a, b):
        """What of a .. b is this slave's, by the model."""
        if slave.run != self.run.id:
            return []
        return [n for n in self.model.of(slave.id) if a <= n <= b]

    @precondition(lambda self: any(slave.held for slave in self.slaves))
    @rule(who=who, at=where, some=many)
    def give_back(self, who, at, some):
        slave = self.pick(who, 'held')
        if self.run.takes(slave.run):
            at %= len(slave.held)
            numbers = slave.held[at:at + some]
            del slave.held[at:at + some]
            self.ledger.give_back(slave.id, ranges(numbers))
            for n in numbers:
                for n in self.of(slave, n, n):
                    self.model.jobs[n].go(RETURNED)

    @precondition(lambda self: any(slave.held for slave in self.slaves))
    @rule(who=who, at=where, some=st.sampled_from([1, 1, 1, 3, 12]),
          want=st.integers(0, 20))
    def refuse(self, who, at, some, want):
        slave = self.pick(who, 'held')
        if self.run.takes(slave.run):
            at %= len(slave.held)
            a, b = ranges(slave.held[at:at + some])[0]
            for n in self.of(slave, a, b):
                job = self.model.jobs[n]
                first, last = self.piece(n)
                if max(a, first) == min(b, last):
                    job.refused.add(slave.id)
                job.go(RETURNED if len(job.refused) < REFUSALS else FAILED)
            self.ledger.refuse(slave.id, a, b, 'no such class')
            slave.held = [n for n in slave.held if not a <= n <= b]
            self.all_ask(want, True)

    def belated(self):
        """What slaves believe to hold that is theirs no more."""
        return [(slave.id, n) for slave in self.slaves
                if slave.run == self.run.id for n in slave.held
                if self.model.jobs[n].holder != slave.id]

    @precondition(lambda self: self.belated())
    @rule(at=where)
    def too_late(self, at):
        belated = self.belated()
        slave, n = belated[at % len(belated)]
        self.ledger.fail(slave, n, 'ValueError')
        self.ledger.give_back(slave, [(n, n)])
        self.ledger.refuse(slave, n, n, 'no such class')

    # -- what always holds ------------------------------------------------

    def check(self):
        self.the_model_agrees()
        self.every_job_is_in_one_state()
        self.the_books_agree()
        self.nothing_is_lost()

    @invariant()
    def the_model_agrees(self):
        ledger, model = self.ledger, self.model
        jobs = {}
        before = 0
        for piece in ledger.pieces:
            assert piece.first > before, 'out of order'
            before = piece.last
            state = (FAILED if piece.first in ledger.pieces.failed else
                     HELD if piece.holder else RETURNED)
            for n, row in enumerate(piece.jobs, piece.first):
                assert row == self.run.base + n
                jobs[n] = (state, piece.holder and piece.holder.id,
                           piece.claim and piece.claim.id, piece.suspect,
                           piece.losses, set(piece.refused))
        assert before <= ledger.ready.leased == len(model.jobs)
        assert jobs == {
            n: (job.state, job.holder, job.claim, job.suspect, job.losses,
                job.refused)
            for n, job in model.jobs.items() if job.state != FINISHED}
        assert ledger.slaves.keys() == model.heard.keys()
        for n, job in model.jobs.items():
            assert not job.alone or model.of(job.holder) == [n]

    @invariant()
    def every_job_is_in_one_state(self):
        ledger = self.ledger
        ready = [row for rows in ledger.ready._lists for row in rows]
        ready = ready[ledger.ready._taken:]
        assert ready == list(range(
            self.run.base + ledger.ready.leased + 1, self.next))
        assert len(ready) == len(ledger.ready) <= self.size
        assert ledger.pieces.jobs == len(self.model.unfinished())
        assert ledger.finished == ledger.ready.leased - ledger.pieces.jobs
        assert ledger.finished == self.model.done
        assert ledger.failed == self.model.recorded
        assert ledger.twice == self.model.twice
        assert ledger.slaves.seen == len(self.model.seen)
        assert len(self.counted) == self.model.fails
        assert ledger.failures == self.model.recorded + sum(
            job.state == FAILED for job in self.model.jobs.values())
        assert ledger.pieces.jobs <= self.size * IN_HAND

    @invariant()
    def the_books_agree(self):
        check_books(self.ledger)

    @invariant()
    def nothing_is_lost(self):
        number, row = self.ledger.watermark()
        assert number == self.model.watermark()
        assert row == (self.run.base + number if number else None)
        for row in range(1, max(self.saved, self.run.base + number) + 1):
            assert row in self.handled or row in self.file, row
        assert self.ledger.complete == (
            self.ledger.ended and not self.ledger.ready
            and not self.model.unfinished())

    # -- and in the end ---------------------------------------------------

    def teardown(self):
        if not self.runs:
            return
        # A slave dies.  Every other is stuck with what it holds but shows
        # life, and the source goes on: one slave, never idle, must get
        # everything else, so also the jobs that go only to an empty one.
        *others, one = [
            slave for slave in self.slaves if slave.connected
            and self.model.of(slave.id) == sorted(slave.held) != []
        ] or [self.arrive()]
        one.held += self.ask(one, 2, True)
        victim = self.arrive()
        self.ask(victim, 4, False)
        self.slaves.remove(victim)
        self.lose(victim)
        for slave in others:
            slave.held += self.ask(slave, 1, True)
        self.work([one], until=lambda: all(
            one.id in job.refused for job in self.model.jobs.values()
            if job.state == RETURNED))
        # Now the others fall silent; two that are never idle must do all.
        other = self.arrive()
        self.slaves = [one, other]
        self.now += EXPIRY / 2
        self.time_passes(0)
        self.now += EXPIRY / 2
        self.time_passes(0)
        if self.total is None:
            self.total = self.yielded
        self.work([one, other], until=lambda: self.ledger.complete)
        self.save()
        assert self.saved == self.total
        self.check()

    def work(self, slaves, until):
        """Let these slaves work, a job each a second, until that is so."""
        jobs = self.size * IN_HAND + len(self.ledger.ready)
        if self.total is not None:
            jobs += self.total + 1 - self.next
        for _ in range(5 * jobs + 10 * int(RESERVE)):
            self.feed(self.size)
            if self.total is not None and self.next > self.total:
                self.ledger.ended = True
            for slave in slaves:
                if slave.id not in self.model.heard:
                    self.hello(slave, slave.held)
                if len(slave.held) < BUSY:
                    slave.held += self.ask(slave, 2, bool(slave.held))
                self.finish_one(slave)
            self.the_books_agree()
            self.record_failures()
            self.time_passes(1)
            if until():
                return
        raise AssertionError('it never ends')

    def finish_one(self, slave):
        for n in slave.held[:1]:
            self.handled.add(self.run.base + n)
            self.ledger.done(slave.id, [(n, n)])
            self.model.finish(slave.id, [n])
        del slave.held[:1]


def profile(examples, steps=STEPS, **options):
    return settings(
        max_examples=examples, stateful_step_count=steps, deadline=None,
        derandomize=not EXAMPLES, database=None,
        suppress_health_check=list(HealthCheck), **options)


def hunt(machine, monkeypatch, options):
    monkeypatch.setattr(leasing, 'IN_HAND', IN_HAND)
    run_state_machine_as_test(machine, settings=options)


@pytest.mark.hunt
def test_ledger(monkeypatch):
    hunt(LedgerMachine, monkeypatch, profile(EXAMPLES or 60))
