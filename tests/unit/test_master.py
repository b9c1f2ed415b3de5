"""The master: when it is over, what it says; and a fault in any thread.

Its files, its port and its threads are real; slaves are sessions on its
queue, without a connection.
"""

import logging
import signal
import socket
import threading
import time

import pytest
from fakes import KEY, LONG, Background, Clock, Direct, greet, report, until

from taskmaster.console.line import state_text
from taskmaster.console.progress import Progress
from taskmaster.converters import MaxFailures
from taskmaster.errors import (Fault, OperatorError, SaveError,
                               TaskmasterError, TooManyFailures)
from taskmaster.master import monitor
from taskmaster.master.jobqueue import LINES
from taskmaster.master.master import Master
from taskmaster.master.recorder import Recorder
from taskmaster.settings import Settings
from taskmaster.storage.runs import Runs
from taskmaster.storage.state import StateFile
from taskmaster.timing import STANDARD
from taskmaster.usercode.source import Source
from taskmaster.wire.messages import (FAILED, LIMITED, PAUSE, RATE, RESUME,
                                      STOP, STOPPED, Jobs, Over, Recall, Wait)

QUICK = STANDARD._replace(tick=0.01, save=0.02, farewell=2.0,
                          throttle=0.01)


def numbers(last=0, count='20'):
    return iter(range(last + 1, int(count) + 1))


@pytest.fixture
def make(tmp_path, caplog, monkeypatch):
    """``make(get_jobs, ...)``: an open master, and what it keeps on disk."""
    # Where the name of its socket is: each test is a user of its own.
    monkeypatch.setenv('XDG_CONFIG_HOME', str(tmp_path / 'config'))
    caplog.set_level(logging.INFO)
    made = []

    def master(get_jobs=numbers, recorder=Recorder, timing=QUICK,
               count_jobs=None, throttle=None, get_key=None, finished=None,
               **settings):
        source = Source(get_jobs, 'mod', '', 'mod.state', get_key=get_key,
                        count_jobs=count_jobs, throttle=throttle,
                        finished=finished)
        kept = recorder(source, str(tmp_path / 'mod.state'))
        one = Master(kept, ('127.0.0.1', 0), KEY, Progress(None),
                     Settings(**settings), timing=timing)
        one.open()
        made.append(one)
        return one
    yield master
    for one in made:
        one.queue.drain('the test is over')
        one.queue.finish(STOPPED)
        one.close()


def state(tmp_path):
    """What a next start would load."""
    return StateFile(str(tmp_path / 'mod.state'), 'mod', '').load()


class Slave:
    """Handles jobs one by one in this thread; those of ``bad`` fail."""

    def __init__(self, master, name='s1', bad=()):
        self.door = Direct(master.queue)
        self._start = master.queue.start_id
        self._bad = bad
        greet(self.door, name)

    def ask(self, wait=0.0, want=1, **finished):
        """One round trip: the reply."""
        return self.door.call('exchange', report(
            start=self._start, **finished), want, False, wait)

    def work(self, most=1 << 30):
        """Until the run is over or ``most`` are done; the last reply."""
        done = {}
        for _ in range(most):
            reply = self.ask(0.5, **done)
            done = {}
            if isinstance(reply, Over):
                self.door.close()
                return reply
            if isinstance(reply, Jobs):
                first, last = reply.first, reply.first + reply.size - 1
                done = ({'failed': [first]} if first in self._bad
                        else {'done': [(first, last)]})
        return self.ask(want=0, **done)


def finished(master, **options):
    """The outcome of a run with one slave: the code, or what is raised."""
    running = Background(master.run)
    slave = Slave(master, **options)
    slave.work()
    return running.result()


# -- when it is over ------------------------------------------------------

def test_it_is_over_when_all_is_finished(make, tmp_path, caplog):
    assert finished(make()) == 0
    saved = state(tmp_path)
    assert saved.key == 20 and saved.complete
    assert 'complete (exit code 0)' in caplog.text


def test_no_jobs(make, caplog):
    assert finished(make(lambda last=0: iter(()))) == 0
    assert 'no jobs' in caplog.text


def test_failed_jobs_are_recorded_first(make, tmp_path, caplog):
    assert finished(make(), bad={3, 7}) == 1
    saved = state(tmp_path)
    assert (saved.key, saved.failed, saved.complete) == (20, 2, True)
    assert '2 failed jobs are in' in caplog.text
    assert 'complete, but for the failed jobs (exit code 1)' in caplog.text


def test_too_many_failures(make, tmp_path):
    master = make(max_failures=MaxFailures(3))
    with pytest.raises(TooManyFailures) as caught:
        finished(master, bad=range(1, 21))
    assert caught.value is master.said and caught.value.exit_code == 65
    assert state(tmp_path).failed == 3


def test_too_many_failures_are_said_before_what_they_end(make, caplog):
    """And how to see them, and to run them again."""
    said = []

    class Slow(Recorder):
        def record(self, failed):
            said.extend(caplog.messages)
            super().record(failed)

    with pytest.raises(TooManyFailures):
        finished(make(max_failures=MaxFailures(1), recorder=Slow), bad={1})
    assert not any('stopped by' in line for line in said)
    failed, stopped = (next(
        place for place, line in enumerate(caplog.messages) if text in line)
        for text in ('failed: job 1', 'stopped by too many failed jobs'))
    assert failed < stopped and '--retry-failed' in caplog.messages[stopped]
    assert any('see tm-ctl failures --run=mod, and --retry-failed' in line
               for line in caplog.messages)


def test_a_limit_leaves_the_state_to_go_on_from(make, tmp_path, caplog):
    assert finished(make(limit=5)) == 0
    saved = state(tmp_path)
    assert saved.key == 5 and not saved.complete
    assert 'ended by --limit' in caplog.text


def test_a_time_limit_waits_for_what_is_in_hand(make, tmp_path, caplog):
    master = make(lambda last=0: iter(range(last + 1, 1 << 40)),
                  max_runtime=0.05)
    running = Background(master.run)
    slave = Slave(master)
    given = slave.ask(QUICK.wait)
    until(lambda: master.queue.draining)
    assert not master.over()
    last = given.first + given.size - 1
    slave.ask(done=[(given.first, last)])
    assert slave.work() == Over(LIMITED)        # it is no stop by a signal
    assert running.result() == 0
    saved = state(tmp_path)
    assert saved.key == last and not saved.complete
    assert 'ended by --max-runtime; start again to go on' in caplog.text


def test_a_time_limit_that_was_not_reached_says_nothing(make, caplog):
    assert finished(make(max_runtime=LONG)) == 0
    assert 'complete (exit code 0)' in caplog.text


def test_an_error_of_the_source_lets_the_others_finish(make, tmp_path):
    def broken(last=0):
        yield from range(1, 6)
        raise ValueError('a bad row')

    master = make(broken)
    with pytest.raises(OperatorError, match='a bad row'):
        finished(master)
    saved = state(tmp_path)
    assert saved.key == 5 and not saved.complete
    assert master.said is None          # whoever gets it says it


def test_a_stop_waits_for_what_is_in_hand(make, tmp_path):
    master = make()
    running = Background(master.run)
    slave = Slave(master)
    given = slave.ask(QUICK.wait)
    assert (given.first, given.size) == (1, 1)
    master.stop(15)
    until(lambda: master.queue.draining)
    assert not master.over() and running.is_alive()
    assert type(slave.ask()) is Wait    # the job is still in its hands
    assert slave.ask(QUICK.wait, done=[(1, 1)]) == Over(STOPPED)
    slave.door.close()
    assert running.result() == 0
    assert master.stopped_by == 15 and state(tmp_path).key == 1


def test_a_stop_from_afar(make):
    master = make()
    running = Background(master.run)
    slave = Slave(master)
    assert master.control(STOP, None).startswith('stopping')
    assert master.stopped_from_afar
    slave.work()
    assert running.result() == 0


def test_two_errors_the_graver_counts(make):
    master = make()
    master.fail(TooManyFailures('too many'))
    master.fail(TaskmasterError('no slave', 69))
    assert master.said.exit_code == 69
    master.fail(TooManyFailures('too many'))
    with pytest.raises(TaskmasterError) as caught:
        master.run()
    assert caught.value.exit_code == 69


def test_no_slave_is_left(make, tmp_path):
    master = make()
    running = Background(master.run)
    slave = Slave(master)
    slave.work(most=4)
    master.abandon(78)
    assert isinstance(slave.ask(), (Recall, Wait, Over))
    slave.door.close()
    with pytest.raises(TaskmasterError, match='no slave is left') as caught:
        running.result()
    assert caught.value.exit_code == 78
    assert state(tmp_path).key is not None


def test_no_slave_is_left_and_none_is_needed(make):
    master = make()
    assert finished(master) == 0
    master.abandon(78)
    assert master.said is None


def test_two_jobs_with_one_key(make, tmp_path):
    master = make(lambda last=None: iter('aaaaa'))
    with pytest.raises(OperatorError, match='two jobs have the key'):
        running = Background(master.run)
        slave = Slave(master)
        slave.work(most=1)
        until(lambda: (tmp_path / 'mod.state').exists())
        slave.work()
        running.result()
    assert not state(tmp_path).complete


# -- what it writes -------------------------------------------------------

class FullDisk(Recorder):
    """Whose failures file cannot be written while ``full``."""

    full = True

    def record(self, failed):
        if self.full:
            raise OSError(28, 'No space left on device')
        super().record(failed)


def test_what_cannot_be_recorded_ends_a_run_that_is_done_otherwise(
        make, tmp_path):
    master = make(recorder=FullDisk, timing=QUICK._replace(patience=0.1))
    with pytest.raises(SaveError, match='No space left'):
        finished(master, bad={3})
    assert state(tmp_path).key == 2
    assert master.stopped               # its slaves wait for the next


def test_a_disk_without_room_is_the_state_and_said_again(make, caplog,
                                                         tmp_path):
    """On the line, for `tm-ctl status`, `top` and `list`."""
    said = 'nothing is saved: No space left on device; waiting for room'
    master = make(recorder=FullDisk, total=20, timing=QUICK._replace(
        still=0.05, register=0.02))
    assert master.report()['slower'] == 'slaves'
    running = Background(master.run)
    slave = Slave(master, bad={3})
    until(lambda: slave.work(most=1)
          and caplog.text.count('make room; jobs go on') > 1)
    report = master.report()
    assert (report['state'], report['slower']) == (said, None)
    assert master._monitor.status().state == said
    runs = Runs(str(tmp_path / 'config' / 'taskmaster' / 'runs'))
    until(lambda: [run.state for run in runs.read()] == [said])
    master.control(PAUSE, None)
    assert master.report()['state'] == f'{said}; paused'
    master.control(RESUME, None)
    master._recorder.full = False
    until(lambda: 'saving works again' in caplog.text)
    slave.work()
    assert running.result() == 1


def test_saving_works_again(make, tmp_path, caplog):
    master = make(recorder=FullDisk)
    running = Background(master.run)
    slave = Slave(master, bad={3})
    until(lambda: slave.work(most=1) and 'cannot save' in caplog.text)
    master._recorder.full = False
    until(lambda: 'saving works again' in caplog.text)
    slave.work()
    assert running.result() == 1
    assert state(tmp_path).failed == 1


class HungDisk(Recorder):
    """Whose disk does not come back from that write until ``go_on``."""

    def hang_at(self, write):
        self.go_on, self.hung = threading.Event(), threading.Event()
        do = getattr(self, write)

        def hang(*args):
            if self.hangs(*args):
                self.hung.set()
                assert self.go_on.wait(LONG)
            do(*args)
        setattr(self, write, hang)

    def hangs(self, number=0, job=None, complete=False):
        return self.last is None or self.last == complete


@pytest.mark.parametrize('write, last', [
    ('record', None), ('save', False), ('save', True), ('finish', None)])
def test_a_disk_that_hangs_is_said_once_and_when_it_is_over(
        make, tmp_path, caplog, write, last):
    """While jobs go on; a stop waits for it, the last write too."""
    master = make(recorder=HungDisk, timing=QUICK._replace(hung=0.05))
    assert master._saver.reason == ('', '')
    # The real disk may be slower than that.
    clock = master._saver._clock = Clock()
    disk = master._recorder
    disk.last = last
    disk.hang_at(write)
    running = Background(master.run)
    Background(Slave(master, bad={3}).work)
    assert disk.hung.wait(LONG)
    clock.forward(1.0)
    until(lambda: 'the disk has not answered for 0.05 s' in caplog.text)
    assert master._saver.reason == ('the disk does not answer', ', 1 s')
    assert running.is_alive()
    disk.go_on.set()
    assert running.result() == 1
    until(lambda: 'the disk answers again' in caplog.text)
    master.close()
    assert caplog.text.count('the disk') == 2
    assert (state(tmp_path).count, state(tmp_path).failed) == (20, 1)


# -- what it tells --------------------------------------------------------

def test_who_is_slower(make):
    master = make(size=4)
    assert master.report()['slower'] == 'slaves'
    for _ in range(3):
        master._monitor.look()
    assert master.report()['slower'] == 'source'
    for job in range(4):
        master.queue.put(job)
    for _ in range(4):
        master._monitor.look()
    assert master.report()['slower'] == 'slaves'
    master.control(RATE, 5.0)
    assert master.report()['slower'] == 'rate'
    assert master.report()['limit'] == 5.0
    master.control(RATE, None)
    assert master.report()['limit'] is None
    # While nothing is to be handed out nobody is waited for.
    master.control(PAUSE, None)
    assert master.report()['slower'] is None
    master.control(RESUME, None)
    assert master.report()['slower'] == 'slaves'
    master.queue.hold('throttle', 'throttled: lag')
    assert master.report()['slower'] is None
    master.queue.hold('throttle', '')
    master.stop(signal.SIGTERM)
    assert master.report()['slower'] is None


def test_what_is_stuck_is_named(make, caplog):
    master = make(timing=QUICK._replace(stuck=0.01, still=0.02))
    running = Background(master.run)
    slave = Slave(master)
    assert type(slave.ask(QUICK.wait)) is Jobs
    until(lambda: 'is with host:s1' in master._monitor.status().state)
    oldest = master.report()['oldest']
    assert (oldest['number'], oldest['key'], oldest['slave']) == (
        1, '1', 'host:s1')
    until(lambda: 'nothing has finished for a minute: job 1' in caplog.text)
    slave.ask(want=0, done=[(1, 1)])
    slave.work()
    assert running.result() == 0


def test_a_drain_says_what_it_waits_for(make, monkeypatch):
    monkeypatch.setattr(monitor, 'SOON', 0.0)
    master = make(total=20)
    running = Background(master.run)
    first, second = Slave(master), Slave(master, 's2')
    for slave in first, second:
        assert type(slave.ask(QUICK.wait)) is Jobs
    assert not master._monitor.status().halted
    master.stop(15)
    until(lambda: master.queue.draining)
    status = master._monitor.status()
    assert status.halted and state_text(status) == (
        'draining: job 1 (key 1) is with host:s1 for 0 s, and 1 slave '
        'more')
    assert master.report()['eta'] is None
    second.ask(want=0, done=[(2, 2)])
    assert state_text(master._monitor.status()).endswith('host:s1 for 0 s')
    first.ask(want=0, done=[(1, 1)])
    for slave in first, second:
        slave.work()
    assert running.result() == 0


def test_who_has_most_is_named_while_nothing_finishes(make, caplog):
    """A slave that lives, takes all, and finishes nothing."""
    master = make(timing=QUICK._replace(quiet=0.02, stuck=0.02))
    running = Background(master.run)
    one, hoarder = Slave(master), Slave(master, 's2')
    assert type(one.ask(QUICK.wait)) is Jobs        # one job, for long
    lease = hoarder.ask(QUICK.wait, want=1000)
    assert lease.size > 1
    said = f'is with host:s2 for 0 s, as one of {lease.size}'
    until(lambda: said in master.report()['state'])
    # On the line, too.
    assert said in state_text(master._monitor.status())
    master.stop(15)
    until(lambda: master.report()['state'].startswith('draining: job'))
    done = [(1, 1), (lease.first, lease.first + lease.size - 1)]
    one.ask(want=0, done=done)
    one.work()
    hoarder.work()
    assert running.result() == 0


def test_what_is_steered_is_on_record_at_once(make, tmp_path):
    """Not two seconds later, when somebody has looked in vain."""
    master = make(timing=QUICK._replace(register=10 * LONG))
    runs = Runs(str(tmp_path / 'config' / 'taskmaster' / 'runs'))
    running = Background(master.run)
    for command, state in (PAUSE, 'paused'), (RESUME, 'running'):
        master.control(command, None)
        until(lambda: [run.state for run in runs.read()] == [state])
    Background(Slave(master).work)
    assert running.result() == 0


def test_what_is_steered_very_often_is_counted(make, caplog):
    caplog.set_level('INFO')
    master = make()
    for _ in range(3 * LINES):
        master.control(RATE, None)
    assert caplog.text.count('as fast as can be (tm-ctl)') == LINES


def test_it_says_that_it_waits_for_get_jobs(make):
    go_on = threading.Event()

    def slow(last=0):
        go_on.wait(LONG)
        yield 1

    master = make(slow, timing=QUICK._replace(quiet=0.02))
    running = Background(master.run)
    slave = Slave(master)
    until(lambda: 'waiting for get_jobs' in master.report()['state'])
    go_on.set()
    slave.work()
    assert running.result() == 0


@pytest.mark.parametrize('error', [ValueError('no'), SystemExit(0),
                                   KeyboardInterrupt()])
def test_functions_that_raise_are_the_operators(make, caplog, error):
    def raising():
        raise error

    master = make(count_jobs=raising, throttle=raising)
    running = Background(master.run)
    slave = Slave(master)
    until(lambda: 'throttle raised' in master.report()['state'])
    until(lambda: 'count_jobs raised' in caplog.text)
    master.stop(15)
    slave.work()
    assert running.result() == 0


# -- the last word --------------------------------------------------------

def test_finished_is_told_how_it_went(make, tmp_path):
    told = []

    def look(how):
        assert state(tmp_path).complete     # it is saved by now
        told.append(how)

    assert finished(make(finished=look), bad={3, 7}) == 1
    how, = told
    assert how.pop('seconds') > 0
    kind, = how.pop('kinds')
    assert (kind['count'], kind['first_key'], kind['last_key']) == (
        2, '3', '7')
    assert how == {
        'run': 'mod', 'state': 'complete', 'exit_code': 1, 'reason':
        'complete, but for the failed jobs (exit code 1)', 'jobs': 20,
        'done': 18, 'failed': 2, 'twice': 0}


@pytest.mark.parametrize('end, how, code', [
    (lambda master: master.stop(15), 'stopped', 143),
    (lambda master: master.control(STOP, None), 'stopped', 143),
    (lambda master: master.fail(OperatorError('no')), 'failed', 70)])
def test_finished_whatever_the_end(make, end, how, code):
    told = []
    master = make(finished=told.append)
    running = Background(master.run)
    slave = Slave(master)
    end(master)
    slave.work()
    try:
        running.result()
    except OperatorError:
        pass
    assert [(one['state'], one['exit_code']) for one in told] == [(how, code)]


@pytest.mark.parametrize('number, how, code', [
    (None, 'failed', 70), (2, 'stopped', 130)])
def test_a_slave_that_ends_badly_after_all_is_on_record(
        make, tmp_path, number, how, code):
    """What the process ends with, `tm-ctl list` says."""
    master = make()
    master.speaks_last = False
    if number is not None:
        master.stop(number)
    assert finished(master) == 0
    master.close()
    master.finished(70)
    one, = Runs(str(tmp_path / 'config' / 'taskmaster' / 'runs')).read()
    assert (one.how, one.exit_code) == (how, code)


def test_what_finished_raises_is_said_and_changes_nothing(make, caplog):
    def raises(how):
        raise SystemExit('no such channel')

    assert finished(make(finished=raises)) == 0
    assert 'finished raised SystemExit: no such channel' in caplog.text


def test_finished_is_not_waited_for_for_ever(make, caplog):
    go_on = threading.Event()
    master = make(finished=lambda how: go_on.wait(LONG),
                  timing=QUICK._replace(finished=0.02))
    assert finished(master) == 0
    assert 'finished has not returned in 0.02 s' in caplog.text
    go_on.set()


# -- a fault in any thread ------------------------------------------------

class Planted(BaseException):
    """What nobody foresaw."""


def fail(*_):
    raise Planted('nobody foresaw it')


def once(method):
    """As ``method``, but the first call of it raises."""
    calls = []

    def call(*args):
        calls.append(args)
        if len(calls) == 1:
            fail()
        return method(*args)
    return call


def in_saver(master):
    master._recorder.save = once(master._recorder.save)


def in_saver_for_failures(master):
    master._recorder.record = once(master._recorder.record)


def in_expirer(master):
    master.queue.expire = fail


def in_pacer(master):
    master.queue.pace = fail


def in_throttle(master):
    hold = master.queue.hold
    master.queue.hold = lambda who, reason: (
        fail() if who == 'throttle' else hold(who, reason))


def in_counter(master):
    master._monitor.count = fail


def in_feeder(master):
    master.queue.page = fail


def in_feeder_later(master):
    page, calls = master.queue.page, []
    master.queue.page = lambda: (calls.append(1) or page() if len(calls) < 3
                                 else fail())


def in_feeder_waking(master):
    master.queue.waiters.feed_one = fail


def in_accepter(master):
    master._server.listener.accept = fail
    socket.create_connection(master._server.address, LONG).close()


def in_main(master):
    master._progress.update = fail


def in_main_looking(master):
    master._monitor.look = fail


def in_main_deciding(master):
    master.over = once(master.over)


@pytest.mark.parametrize('plant', [
    in_accepter, in_saver, in_saver_for_failures, in_expirer, in_pacer,
    in_throttle, in_counter, in_feeder, in_feeder_later, in_feeder_waking,
    in_main, in_main_looking, in_main_deciding],
    ids=lambda plant: plant.__name__)
def test_a_fault_in_a_thread_ends_the_run(make, tmp_path, caplog, plant):
    """With 70 and the traceback; what is done and what failed is saved."""
    def endless(last=0):
        return iter(range(last + 1, 1 << 40))

    master = make(endless, throttle=lambda: None, count_jobs=lambda: 99,
                  size=50)
    plant(master)
    began = time.monotonic()
    running = Background(master.run)
    slave = Slave(master, bad={2})
    slave.work()
    with pytest.raises(Fault) as caught:
        running.result()
    assert time.monotonic() - began < LONG / 2
    assert caught.value is master.said and caught.value.exit_code == 70
    assert 'Planted' in str(caught.value)
    assert 'nobody foresaw it' in caplog.text and 'in fail' in caplog.text
    assert 'a fault of taskmaster itself (exit code 70)' in caplog.text
    saved = state(tmp_path)
    done = master.queue.counts().finished
    assert (saved.count if saved else 0) == done
    if done >= 2:
        assert saved.failed == 1


def test_a_fault_of_the_last_save_too(make):
    master = make()
    master._recorder.save = fail
    running = Background(master.run)
    Slave(master).work()
    with pytest.raises(Fault):
        running.result()


def test_a_fault_waits_but_briefly_for_what_is_in_hand(make, tmp_path):
    """A slave that says nothing more must not keep the end."""
    master = make(timing=QUICK._replace(farewell=2 * LONG, fault=0.1))
    running = Background(master.run)
    slave = Slave(master)
    slave.work(most=3)
    assert type(slave.ask(QUICK.wait)) is Jobs
    master.fail(Fault('planted', 'Traceback ...'))
    with pytest.raises(Fault):
        running.result()
    assert state(tmp_path).key == 3
    assert slave.ask() == Over(FAILED)
