"""The slave, on a real session and queue through a link in memory."""

import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from fakes import (AFTER, BEFORE, LONG, RUN, Background, Clock, Direct,
                   MemoryMaster, add, greet, take, until)

from taskmaster.cli import slave_process as cli
from taskmaster.console.ending import Stopped
from taskmaster.errors import (ConfigError, Fault, KeyRefused,
                               TaskmasterError, Unreachable)
from taskmaster.master.dispatcher import Leased
from taskmaster.settings import Settings
from taskmaster.slave.backlog import Backlog
from taskmaster.slave.link import Identity, LinkLoop, OtherWork
from taskmaster.slave.parent import CONNECTED, OVER, RETIRED
from taskmaster.slave.slave import Slave
from taskmaster.timing import STANDARD
from taskmaster.usercode.handler import Handler
from taskmaster.wire import messages
from taskmaster.wire.messages import Introduction, Report, Wait


# It connects anew at once.
QUICK = STANDARD._replace(first_backoff=0.001, longest_backoff=0.01)


def of(connect, handle=print, identity=Identity('s1', 'host:1'), retries=0,
       timing=QUICK, tell=lambda news: None, clock=time.monotonic,
       give_up=lambda error: None, **settings):
    """A slave with these settings."""
    return Slave(connect, Handler(handle, retries), identity,
                 Settings(**settings), tell, timing=timing, clock=clock,
                 give_up=give_up)


def make(master, handle, most=None, module=None, after=None, **options):
    """A slave of that master; ``most`` bounds what it asks for at once."""
    slave = of(master.connect, handle,
               Identity('s1', 'host:1', module, after), **options)
    if most:
        slave._backlog._pace.want = lambda: most
    return slave


class Gate:
    """A handler that blocks: the test says when its job is done."""

    def __init__(self):
        self.seen = []
        self.entered = threading.Semaphore(0)
        self.leave = threading.Semaphore(0)

    def __call__(self, job):
        self.seen.append(job)
        self.entered.release()
        assert self.leave.acquire(timeout=LONG)

    def wait(self):
        assert self.entered.acquire(timeout=LONG)

    def release(self, count=1):
        for _ in range(count):
            self.leave.release()


class Dropping:
    """Drops the connection in one call."""

    def __init__(self, when, call):
        self.when, self.call, self.dropped = when, call, False

    def __call__(self, number, method):
        if number == self.call:
            self.dropped = True
            return self.when


def methods(master):
    return [method for method, _ in master.calls]


# -- a whole run ----------------------------------------------------------

@pytest.mark.parametrize('workers', [1, 4])
def test_a_whole_run(workers):
    master = MemoryMaster(range(1000), size=1000)
    seen = []
    master.finish()
    make(master, seen.append, threads=workers).run()
    assert Counter(seen) == Counter(range(1000))
    assert master.queue.watermark() == (1000, 999)
    if workers == 1:
        assert seen == [*range(1000)]


def test_one_worker_handles_on_the_calling_thread():
    master = MemoryMaster([1])
    threads = []
    master.finish()
    make(master, lambda job: threads.append(threading.current_thread())).run()
    assert threads == [threading.current_thread()]


def test_several_workers_work_side_by_side():
    master = MemoryMaster(range(12))
    together = threading.Barrier(3)
    master.finish()
    make(master, lambda job: together.wait(LONG), threads=3).run()
    assert master.queue.complete


def test_failures_are_reported_and_the_run_goes_on():
    master = MemoryMaster(range(100))

    def handle(job):
        if job % 10 == 3:
            raise ValueError(f'no {job}')
        if job == 50:
            raise SystemExit(0)         # is no success

    master.finish()
    make(master, handle).run()
    assert ([job.number for job in master.failed]
            == [4, 14, 24, 34, 44, 51, 54, 64, 74, 84, 94])
    assert master.failed[0].error == 'ValueError: no 3'
    assert 'no 3' in master.failed[0].traceback
    assert master.queue.watermark() == (100, 99)


def test_every_job_fails():
    master = MemoryMaster(range(300))
    master.finish()
    make(master, lambda job: 1 / 0, threads=3).run()
    assert len(master.failed) == 300


class OnlyThere:
    """Unpickles only where ``here`` is true."""

    here = False

    def __reduce__(self):
        return made, ()


def made():
    if not OnlyThere.here:
        raise ImportError('no such module')
    return OnlyThere()


def test_jobs_that_cannot_be_unpickled_go_one_by_one():
    master = MemoryMaster([*range(10), OnlyThere(), *range(11, 20)])
    seen = []
    finished = master.finish()
    working = Background(make(master, seen.append, most=20).run)
    while not master.queue.complete:
        master.queue.expire()
    finished.result()
    working.result()
    assert sorted(seen) == [*range(10), *range(11, 20)]
    failed, = master.failed
    assert failed.number == 11
    assert 'cannot be unpickled: ImportError' in failed.error


def test_the_lease_has_at_most_what_was_asked():
    master = MemoryMaster(range(50))
    master.finish()
    make(master, lambda job: None, most=4).run()
    wants = [args[1] for method, args in master.calls if method == 'exchange']
    assert max(wants) == 4


def test_the_last_job_goes_to_a_slave_that_only_seems_busy():
    """Between two jobs a worker does not wait yet, but is free."""
    master = MemoryMaster(['job'])
    master.queue.end()
    for name in ('s2', 's3'):
        master.queue.dispatcher.hello(Introduction(
            name, name, 1, None, None, None, [], None), object())
    free = make(master, lambda job: None)       # no worker has come yet
    link = free._link
    link._link = master.connect()
    link.hello()
    assert link.step()
    assert free._backlog.holds() == [(1, 1)]
    link.cut()


# -- connections that drop ------------------------------------------------

@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize('when', [BEFORE, AFTER])
def test_a_drop_in_any_call_repeats_nothing(when, workers):
    """And loses nothing.  It drops in the first call, the second ..."""
    for call in range(1000):
        fault = Dropping(when, call)
        master = MemoryMaster(range(30), fault=fault)
        seen = []
        finished = master.finish()

        def handle(job):
            seen.append(job)
            if job % 7 == 3:
                raise ValueError(job)

        make(master, handle, threads=workers, most=4).run()
        finished.result()
        assert sorted(seen) == [*range(30)], (call, master.calls)
        assert [job.job for job in master.failed] == [3, 10, 17, 24]
        if not fault.dropped:
            break
    assert call > 5


def test_every_third_call_drops():
    master = MemoryMaster(range(200), fault=lambda number, method: (
        (BEFORE, AFTER)[number % 2] if number % 3 == 2 else None))
    seen = []
    master.finish()
    make(master, seen.append, most=3).run()
    assert sorted(seen) == [*range(200)]


def test_a_job_goes_on_while_its_connection_comes_back():
    master = MemoryMaster([1])
    gate = Gate()
    master.finish()
    slave = make(master, gate)
    working = Background(slave.run)
    gate.wait()
    for count in (2, 3, 4):
        slave._link.cut()
        until(lambda: methods(master).count('hello') == count)
    gate.release()
    working.result()
    assert gate.seen == [1]


def test_what_another_slave_has_got_meanwhile_is_not_done_here():
    """The connection was lost for longer than the master's grace."""
    clock = Clock()
    master = MemoryMaster(range(10), clock=clock)
    gate, back = Gate(), threading.Event()
    lost = []

    def connect():
        if lost:
            assert back.wait(LONG)
        return master.connect()

    slave = of(connect, gate)
    working = Background(slave.run)
    gate.wait()
    until(lambda: slave._backlog.holds() == [(1, 2)])
    lost.append(1)
    slave._link.cut()
    until(lambda: master.queue.sessions == 0)
    clock.forward(STANDARD.grace)
    master.queue.expire()
    other = Direct(master.queue)
    greet(other, 's2')
    # Both wait for their slave to come back; one is leased elsewhere.
    assert take(other) == (1, [0])
    assert take(other) == (2, [1])
    other.call('give_back', RUN, [[1, 1]])
    back.set()
    until(lambda: methods(master).count('hello') == 2
          and methods(master)[-1] == 'exchange')        # it has been told
    take(other, want=0, done=[(2, 2)])
    master.finish()
    gate.release(20)
    working.result()
    assert 1 not in gate.seen
    assert set(gate.seen) == {*range(10)} - {1}
    other.close()


def test_late_done_of_a_slave_that_was_given_up_counts():
    """It was silent too long; what it did meanwhile is not done again."""
    master = MemoryMaster(range(3))
    queue = master.queue
    seen = []

    def handle(job):
        seen.append(job)
        if job == 0:
            until(lambda: slave._link._refused)     # it says nothing for now
            with queue._lock:
                queue._ledger.lose('s1')

    slave = make(master, handle)
    finished = master.finish()
    slave.run()
    finished.result()
    assert seen == [0, 1, 2]


# -- masters come and go --------------------------------------------------

def test_a_new_run_gets_nothing_of_the_old_one():
    """The master starts anew; what was not begun is dropped."""
    old = MemoryMaster(range(100, 110))
    new = MemoryMaster(range(5), run='run-2')
    place = [old]
    gate = Gate()
    slave = make(place[0], gate, most=5)
    slave._link._connect = lambda: place[0].connect()
    working = Background(slave.run)
    gate.wait()
    gate.release()
    gate.wait()
    until(lambda: slave._backlog._leases)
    finished = new.finish()
    place[0] = new
    slave._link.cut()
    until(lambda: 'exchange' in methods(new))       # it knows of the new run
    gate.release(10)
    working.result()
    finished.result()
    assert gate.seen == [100, 101, *range(5)]
    assert new.queue.counts().finished == 5
    assert all(args[0][0] != RUN for method, args in new.calls
               if method == 'exchange')


def test_a_stopped_master_is_waited_for():
    old = MemoryMaster([], run='run-1')
    new = MemoryMaster(['job'], run='run-2')
    place = [old]
    seen = []
    slave = of(lambda: place[0].connect(), seen.append)
    working = Background(slave.run)
    until(lambda: 'exchange' in methods(old))
    old.queue.finish('stopped')
    until(lambda: methods(old).count('hello') > 1)      # it looks again
    new.finish()
    place[0] = new
    working.result()
    assert seen == ['job']


def test_another_run_on_the_address_ends_a_slave():
    old = MemoryMaster([], name='mod shard=1')
    new = MemoryMaster([1], name='mod shard=2', run='run-2')
    place = [old]
    seen = []
    slave = of(lambda: place[0].connect(), seen.append)
    working = Background(slave.run)
    until(lambda: 'exchange' in methods(old))
    place[0] = new
    slave._link.cut()
    with pytest.raises(TaskmasterError, match='shard=2') as info:
        working.result()
    assert info.value.exit_code == ConfigError.exit_code
    assert seen == []


def test_a_long_name_of_a_run_is_no_hindrance():
    """Its arguments are in it, and may be long."""
    name = 'mod query=' + 'x' * 50_000
    master = MemoryMaster([1], name=name)
    gate = Gate()
    slave = make(master, gate)
    working = Background(slave.run)
    gate.wait()
    slave._link.cut()
    until(lambda: methods(master).count('hello') == 2)
    gate.release()
    master.finish()
    working.result()
    assert gate.seen == [1]


def test_a_refused_slave_says_why():
    master = MemoryMaster([1], name='mod')
    with pytest.raises(TaskmasterError, match='--host') as info:
        make(master, print, module='other').run()
    assert info.value.exit_code == 78
    assert methods(master) == ['hello']


def test_a_refused_key_is_not_tried_again():
    calls = []

    def connect():
        calls.append(1)
        raise KeyRefused('another key')

    with pytest.raises(KeyRefused):
        of(connect).run()
    assert calls == [1]


def test_no_master_within_the_timeout():
    clock = Clock()

    def connect():
        clock.forward(1)
        raise ConnectionRefusedError('nobody there')

    with pytest.raises(Unreachable, match='5 s.*nobody there.*--timeout'):
        of(connect, timeout=5, clock=clock).run()
    assert clock.now == 1005


def test_a_master_in_the_parent_may_be_gone_for_long():
    """The parent was stopped, by a debugger say; its end would be noticed."""
    clock = Clock()
    master = MemoryMaster([])
    served = []

    def connect():
        if len(served) in (1, 2):
            clock.forward(100)
            served.append(None)
            raise TimeoutError('timed out')
        served.append(master.connect())
        return served[-1]

    slave = of(connect, identity=Identity('s1', 'host:1', local=True),
               timeout=5, clock=clock)
    working = Background(slave.run)
    until(lambda: 'exchange' in methods(master))
    served[0].cut()
    until(lambda: methods(master).count('hello') == 2)
    master.finish()
    working.result()
    assert len(served) == 4


def test_the_timeout_counts_from_the_last_word_of_a_master():
    clock = Clock()
    master = MemoryMaster([])
    served = []

    def connect():
        if not served:
            clock.forward(4)
            served.append(master.connect())
            return served[0]
        clock.forward(1)
        raise OSError('gone')

    slave = of(connect, timeout=5, clock=clock,
               tell=lambda news: clock.forward(10))
    working = Background(slave.run)
    until(lambda: 'exchange' in methods(master))
    served[0].cut()
    with pytest.raises(Unreachable):
        working.result()
    assert clock.now == 1000 + 4 + 10 + 5


def test_an_error_of_ours_ends_a_slave():
    def connect():
        raise KeyError('bug')

    with pytest.raises(Fault, match="link thread .KeyError: 'bug'") as info:
        of(connect).run()
    assert info.value.exit_code == 70
    assert "raise KeyError('bug')" in info.value.traceback


def test_after_an_error_of_ours_a_job_is_not_waited_for_long():
    """Its slave is given up while its worker is in it."""
    given_up, gate = threading.Event(), Gate()

    def connect():
        if connected:
            raise KeyError('bug')
        connected.append(master.connect())
        return connected[0]

    connected, master = [], MemoryMaster([1, 2])
    slave = of(connect, gate, timing=QUICK._replace(fault=0.01),
               give_up=lambda error: given_up.set())
    working = Background(slave.run)
    gate.wait()
    connected[0].cut()
    assert given_up.wait(LONG)
    gate.leave.release(2)
    with pytest.raises(Fault, match='bug'):
        working.result()


def test_the_parent_is_told_once():
    told = []
    master = MemoryMaster([1], fault=Dropping(BEFORE, 1))
    master.finish()
    make(master, print, tell=told.append).run()
    assert methods(master).count('hello') == 2
    assert told == [CONNECTED, OVER]


def test_the_parent_is_told_of_a_quota_that_is_used_up():
    told = []
    master = MemoryMaster(range(10))
    of(master.connect, identity=Identity('s1', 'host:1', quota=3),
       tell=told.append).run()
    assert told == [CONNECTED, RETIRED]
    assert master.queue.watermark() == (3, 2)


def test_the_predecessor_is_named_until_a_master_knows():
    master = MemoryMaster([1], fault=lambda number, method: (
        {0: AFTER, 2: BEFORE}.get(number)))
    master.finish()
    make(master, print, after='s0').run()
    named = [Introduction(*args[0]).after for method, args in master.calls
             if method == 'hello']
    assert named == ['s0', 's0', None]


# -- leaving --------------------------------------------------------------

def test_an_idle_slave_leaves_at_once():
    master = MemoryMaster([])
    slave = make(master, print)
    working = Background(slave.run)
    until(lambda: master.queue.waiters)
    slave.leave()
    working.result(messages.WAIT_SECONDS / 2)
    until(lambda: master.queue.sessions == 0)


def test_a_slave_that_looks_for_a_master_leaves_at_once():
    tried = threading.Event()

    def connect():
        tried.set()
        raise OSError('nobody')

    slave = of(connect, print)
    working = Background(slave.run)
    assert tried.wait(LONG)
    slave.leave()
    working.result()


@pytest.mark.parametrize('when', [None, BEFORE, AFTER])
def test_a_busy_slave_finishes_its_job_and_gives_back_the_others(when):
    """Also when the connection drops in a call that it makes then."""
    master = MemoryMaster(range(20))
    gate = Gate()
    slave = make(master, gate, most=10)
    working = Background(slave.run)
    gate.release()
    gate.wait()
    gate.wait()
    dropped = []

    def fault(number, method):
        if (when and not dropped and method == 'exchange'
                and gate.seen[2:] == []):
            dropped.append(method)
            return when

    until(lambda: slave._backlog._leases)
    slave.leave()
    until(lambda: 'give_back' in methods(master))
    master._fault = fault
    gate.release()
    working.result(messages.WAIT_SECONDS / 2)
    assert gate.seen == [0, 1]
    assert bool(dropped) == bool(when)
    until(lambda: master.queue.sessions == 0)
    assert master.queue.watermark() == (2, 1)
    assert master.queue.at_rest()


def test_leaving_with_the_report_on_its_way_loses_nothing():
    """`leave` cuts a call that waits, with a report that was not sent."""
    master = MemoryMaster(['job'])
    slave = make(master, lambda job: None)

    def fault(number, method):
        if method == 'exchange' and slave._backlog.appetite().unreported:
            master._fault = lambda number, method: None
            slave.leave()
            return BEFORE

    master._fault = fault
    slave.run()
    assert master.queue.watermark() == (1, 'job')


def test_leaving_just_as_a_new_run_welcomes():
    master = MemoryMaster(range(10))
    gate = Gate()
    slave = make(master, gate, tell=lambda news: slave.leave())
    slave.run()
    assert gate.seen == []
    assert master.queue.watermark() == (0, None)


def test_leaving_while_no_master_answers_gives_up_what_is_in_hand():
    master = MemoryMaster(range(3))
    gate = Gate()

    def connect():
        if 'hello' in methods(master):
            raise OSError('gone')
        return master.connect()

    slave = of(connect, gate)
    working = Background(slave.run)
    gate.wait()
    slave.leave()
    slave._link.cut()
    gate.release()
    working.result()
    assert gate.seen == [0]


# -- one step of the link -------------------------------------------------

def test_a_signal_between_handling_and_checking_is_for_who_checks(
        monkeypatch):
    """And so is a fault of ours in the thread of the signals."""
    made, signals = [], {}

    class Noted:
        def __init__(self, *_, **__):
            made.append(self)
            self.left, self.failed = False, []
            if len(made) == 2:
                signals['stop'](15)

        def leave(self):
            self.left = True

        def fail(self, error):
            self.failed.append(error)

        def run(self):
            if len(made) == 1:
                raise OtherWork('checks')
            assert self.left and not made[0].failed
            signals['failed']('fault')
            assert self.failed == ['fault']

    class Caught:
        def __init__(self, stop, tell, failed):
            signals.update(stop=stop, failed=failed)

        def install(self):
            pass

    target = SimpleNamespace(name='one')
    monkeypatch.setattr(cli, 'Slave', Noted)
    monkeypatch.setattr(cli, 'from_target',
                        lambda *_: (target, Handler(print, 0)))
    monkeypatch.setattr(cli, 'Signals', Caught)
    monkeypatch.setattr('faulthandler.register', lambda *_, **__: None)
    with pytest.raises(Stopped) as stopped:
        cli.run(Settings(target='one', key='0123456789abcdef' * 4,
                         host='127.0.0.1:1'), QUICK)
    assert stopped.value.number == 15 and len(made) == 2


class Scripted:
    """A connection whose replies are given beforehand."""

    def __init__(self, *replies):
        self.calls, self._replies = [], list(replies)

    def call(self, method, *args, wait=0):
        self.calls.append((method, args))
        return self._replies.pop(0)


def test_who_has_given_all_back_asks_for_more_at_once():
    """Not for nothing, waiting, as long as it had something to give back."""
    backlog = Backlog()
    link = LinkLoop(None, Identity('s1', 'host:1'), backlog, 60.0)
    add(backlog, 1, ['job'])
    chunk = backlog.take()
    link._link = Scripted(Wait(0.1, ''))
    backlog.recall()
    next(chunk.iterator)
    backlog.bring(chunk)
    assert link.step()
    (method, (report, want, prefetch, wait)), = link._link.calls
    assert method == 'exchange' and report.done == [(1, 1)]
    assert want >= 1 and not prefetch and wait == STANDARD.wait


# -- a slave does not spin ------------------------------------------------

def quiet(master, seconds=0.3):
    """How many calls there are in a while in which nothing happens."""
    before = len(master.calls)
    threading.Event().wait(seconds)
    return len(master.calls) - before


def test_a_slave_of_a_paused_queue_does_not_spin():
    master = MemoryMaster(range(10))
    master.queue.hold('operator', 'paused')
    slave = make(master, print)
    working = Background(slave.run)
    until(lambda: 'exchange' in methods(master))
    assert quiet(master) <= 1
    slave.leave()
    working.result()


@pytest.mark.parametrize('workers', [1, 2])
def test_a_busy_slave_that_gets_no_more_does_not_spin(workers):
    master = MemoryMaster([1])
    gate = Gate()
    slave = make(master, gate, threads=workers)
    working = Background(slave.run)
    gate.wait()
    assert quiet(master) <= 2
    gate.release()
    master.finish()
    working.result()


@pytest.mark.parametrize('workers', [1, 2])
def test_a_barred_slave_does_not_spin(workers):
    """It holds a job that may be a killer, and gets no other."""
    master = MemoryMaster([1, 2, 3])
    dispatcher, session = master.queue.dispatcher, object()
    dispatcher.hello(Introduction('s0', 'host:0', 1, None, None, None, [],
                                  None), session)
    assert isinstance(dispatcher.exchange(
        's0', Report(RUN, [], [], []), 1, False, 0.0, session), Leased)
    gate = Gate()
    slave = make(master, gate, threads=workers, after='s0')
    working = Background(slave.run)
    gate.wait()
    assert gate.seen == [1]
    assert quiet(master) <= 2
    assert gate.seen == [1]
    gate.release(3)
    master.finish()
    working.result()
    assert gate.seen == [1, 2, 3] or workers > 1


@pytest.mark.parametrize('give_back', [False, True])
def test_a_slave_of_a_draining_queue_does_not_spin(give_back):
    master = MemoryMaster(range(10))
    gate = Gate()
    slave = make(master, gate)
    working = Background(slave.run)
    gate.wait()
    master.queue.drain('draining', give_back=give_back)
    assert quiet(master) <= 4       # a beat, and what is given back
    gate.release(10)
    until(master.queue.at_rest)
    assert quiet(master) <= 3
    master.queue.finish('complete')
    working.result()


def test_workers_that_end_as_nobody_foresaw_do_not_keep_the_slave():
    """Whatever there may be: the link leaves, and the slave raises."""
    master = MemoryMaster(range(3))
    slave = make(master, print)
    work = slave._workers.run

    def run(ready):
        work(lambda: (ready(), slave._backlog.close()))
        raise ZeroDivisionError('planted')

    slave._workers.run = run
    with pytest.raises(ZeroDivisionError):
        Background(slave.run).result()
