"""Slots and successors, with children that are no processes.

Of a child only its pipe is real here; real ones are in the process tests.
"""

import os
import signal
import threading

import pytest
from fakes import Background, until

from taskmaster import logs
from taskmaster.errors import Fault, TaskmasterError
from taskmaster.slave.parent import CONNECTED, OVER, RETIRED
from taskmaster.supervisor.child import ERRORS, Child, Ended, Errors
from taskmaster.supervisor.supervisor import GIVE_UP, Next, Slot, Supervisor
from taskmaster.timing import Timing

QUICK = Timing(restart=0.001, close=0.02, last_words=0.01, fault=0.02)
CRASH = Ended(-signal.SIGSEGV, CONNECTED, why='SIGSEGV')
UNSEEN = Ended(1, why='exit code 1')        # before it could connect
DONE = Ended(0, CONNECTED + OVER)


# -- decisions ------------------------------------------------------------

@pytest.fixture
def slot():
    return Slot(0, Timing(restart=0.5))


@pytest.mark.parametrize('end, step', [
    (DONE, Next(code=0, over=True)),
    (Ended(-signal.SIGKILL, OVER), Next(code=0, over=True)),
    (Ended(70, CONNECTED + OVER), Next(code=70, over=True)),
    (Ended(0, CONNECTED + RETIRED), Next()),
    (CRASH, Next(lost=True)),
    (Ended(0, CONNECTED), Next(lost=True)),     # it is not believed
    (UNSEEN, Next(0.5)),
    (Ended(70), Next(0.5)),
    (Ended(70, CONNECTED), Next(0.5, lost=True)),
    (Ended(78), Next(code=78)),
    (Ended(69, CONNECTED), Next(code=69, lost=True))])
def test_what_follows_an_end(slot, end, step):
    assert slot.ended('a', end, stopping=False) == step


def test_when_the_supervisor_stops_nothing_follows(slot):
    assert slot.ended('a', CRASH, stopping=True) == Next(code=0, over=True)


@pytest.mark.parametrize('end, after', [
    (CRASH, 'a'), (UNSEEN, None), (Ended(0, CONNECTED + RETIRED), None)])
def test_a_successor_names_a_dead_one_that_the_master_knows(slot, end, after):
    slot.ended('a', end, stopping=False)
    assert slot.after == after


def test_the_dead_one_is_named_until_a_successor_was_heard(slot):
    slot.ended('a', CRASH, stopping=False)
    slot.ended('b', UNSEEN, stopping=False)
    assert slot.after == 'a'


@pytest.mark.parametrize('end', [UNSEEN, Ended(70, CONNECTED)])
def test_after_some_in_a_row_a_slot_is_given_up(slot, end):
    steps = [slot.ended('a', end, False) for _ in range(GIVE_UP)]
    assert [step.delay for step in steps] == [0.5, 1.0, 2.0, 4.0, 0.0]
    assert [step.code for step in steps] == 4 * [None] + [70]


def test_one_that_connected_begins_a_new_row(slot):
    for _ in range(3 * GIVE_UP):
        slot.ended('a', UNSEEN, False)
        step = slot.ended('b', CRASH, False)
        assert step == Next(lost=True)


def test_a_bad_end_of_one_that_retired_counts_in_the_end(slot):
    slot.ended('a', Ended(70, CONNECTED + RETIRED), False)
    assert slot.ended('b', DONE, False) == Next(code=70, over=True)


# -- threads, and children that do as they are told -----------------------

class FakeChild:
    """It ends when told so; a signal ends it if it is ``obedient``."""

    def __init__(self, end=None, told=b'', obedient=True):
        self.pid = 17
        self.signals = []
        self._told = told
        self._obedient = obedient
        self._ended = threading.Event()
        self._end = None
        if end is not None:
            self.end(end)

    def end(self, end):
        self._end = end
        self._ended.set()

    def told(self):
        return self._told

    def send_signal(self, number):
        self.signals.append(number)
        if self._obedient:
            self.end(Ended(-number, self._told))

    def kill(self):
        self.signals.append(signal.SIGKILL)
        self.end(Ended(-signal.SIGKILL, self._told))

    def wait(self):
        assert self._ended.wait(30)
        if isinstance(self._end, Exception):
            raise self._end
        return self._end


class FakeStarter:
    """Gives these children, one after another; an error is raised."""

    def __init__(self, *children):
        self.started = []           # (id, after)
        self.closed = False
        self._children = list(children)

    def start(self, id, after, failed):
        self.started.append((id, after))
        child = self._children.pop(0)
        if isinstance(child, Exception):
            raise child
        return child

    def close(self):
        self.closed = True


@pytest.fixture
def supervise():
    """``supervise(*children)`` starts a supervisor of one slot for each."""
    made = []

    def start(*children, count=1, **options):
        starter = FakeStarter(*children)
        supervisor = Supervisor(starter, count, timing=QUICK, **options)
        made.append(supervisor)
        supervisor.start()
        return supervisor, starter
    yield start
    for supervisor in made:
        supervisor.close()
        assert supervisor.join(30)


@pytest.fixture
def said(caplog):
    assert logs.are_standard()
    return lambda: [record.getMessage() for record in caplog.records]


def test_one_child_after_another_until_the_end(supervise):
    lost = []
    supervisor, starter = supervise(
        FakeChild(CRASH), FakeChild(UNSEEN), FakeChild(DONE),
        lost=lambda *words: lost.append(words))
    assert supervisor.join(30)
    (first, none), (_, after), (_, still) = starter.started
    assert (none, after, still) == (None, first, first)
    assert lost == [(first, (), True)]
    assert supervisor.codes == [0]


def test_late_jobs_are_told_with_the_loss(supervise):
    lost = []
    supervisor, _ = supervise(
        FakeChild(CRASH._replace(late=[(3, 4)])), FakeChild(DONE),
        lost=lambda id, late, awaited: lost.append(late))
    assert supervisor.join(30)
    assert lost == [[(3, 4)]]


def test_a_loss_that_nobody_follows_is_told_as_that(supervise):
    """Or the end of the run would wait for a successor, in vain."""
    lost = []
    supervisor, starter = supervise(
        FakeChild(CRASH), FakeChild(Ended(78)),
        lost=lambda *words: lost.append(words))
    assert supervisor.join(30)
    (first, _), _ = starter.started
    assert lost == [(first, (), True), (first, (), False)]
    lost.clear()
    supervisor, starter = supervise(
        FakeChild(Ended(69, CONNECTED)),
        lost=lambda *words: lost.append(words))
    assert supervisor.join(30)
    (first, _), = starter.started
    assert lost == [(first, (), False)]


def test_one_that_cannot_be_started_is_said_and_another_tried(supervise,
                                                              said):
    supervisor, _ = supervise(OSError('no more processes'), FakeChild(DONE))
    assert supervisor.join(30)
    assert said()[0] == 'slave 0 cannot be started: no more processes'
    assert supervisor.codes == [0]


def test_the_first_that_hears_of_the_end_ends_those_that_do_not(supervise):
    """They may be looking for a master that is gone."""
    looking = FakeChild()
    supervisor, _ = supervise(looking, FakeChild(DONE), count=2)
    assert supervisor.join(30)
    assert looking.signals == [signal.SIGTERM]
    assert supervisor.codes == [0, 0]


def test_changed_is_called_for_each_that_has_ended_for_good(supervise):
    seen = []
    supervisor, _ = supervise(
        FakeChild(Ended(78)), FakeChild(Ended(77)), count=2,
        changed=lambda: seen.append(True))
    assert supervisor.join(30)
    until(lambda: len(seen) == 2)
    assert sorted(supervisor.codes) == [77, 78]


def test_a_stop_reaches_all_and_none_is_started_after_it(supervise):
    children = FakeChild(), FakeChild()
    supervisor, starter = supervise(*children, count=2)
    until(lambda: len(supervisor.doing()) == 2)
    supervisor.stop()
    assert supervisor.join(30)
    assert [child.signals for child in children] == 2 * [[signal.SIGTERM]]
    assert len(starter.started) == 2


def test_what_children_are_there_for_a_person(supervise):
    child = FakeChild()
    supervisor, _ = supervise(child)
    until(lambda: supervisor.doing() == ['slave 0: pid 17'])
    child.end(DONE)


def test_at_the_end_those_that_never_connected_are_killed(supervise):
    child = FakeChild(obedient=False)
    supervisor, starter = supervise(child)
    until(supervisor.doing)
    supervisor.close()
    assert child.signals == [signal.SIGKILL]
    assert starter.closed and not supervisor.alive


def test_at_the_end_those_that_do_not_know_of_it_are_told_then_killed(
        supervise, said):
    deaf = FakeChild(told=CONNECTED, obedient=False)
    supervisor, _ = supervise(deaf)
    until(supervisor.doing)
    supervisor.close()
    assert deaf.signals == [signal.SIGTERM, signal.SIGKILL]
    assert said() == ['slaves did not end and were killed: 1']


def test_at_the_end_those_that_know_of_it_are_waited_for(supervise, caplog):
    caplog.set_level('INFO')
    child = FakeChild(told=CONNECTED + OVER)
    supervisor, _ = supervise(child)
    until(supervisor.doing)
    closing = Background(supervisor.close)
    until(lambda: len(caplog.records) >= 2)
    assert child.signals == []
    child.end(DONE)
    closing.result()


def test_all_are_killed_at_once_and_have_no_successors(supervise, said):
    children = FakeChild(obedient=False), FakeChild(obedient=False)
    supervisor, starter = supervise(*children, count=2)
    until(lambda: len(supervisor.doing()) == 2)
    supervisor.kill()
    assert supervisor.join(30)
    assert len(starter.started) == 2
    assert said() == []


def test_a_fault_of_ours_in_a_slot_ends_all(supervise):
    seen = []
    broken, other = FakeChild(ZeroDivisionError('planted')), FakeChild()
    supervisor, _ = supervise(
        other, broken, count=2,
        changed=lambda: seen.append(True))
    assert supervisor.join(30)
    until(lambda: supervisor.error and seen)
    assert isinstance(supervisor.error, Fault)
    assert 'planted' in supervisor.error.traceback
    assert broken.signals == [signal.SIGKILL]
    assert other.signals == [signal.SIGTERM]
    assert 70 in supervisor.codes


def test_after_a_fault_of_ours_no_child_is_waited_for_long(supervise):
    """What they do could be for ever, and nobody restarts them now."""
    deaf = FakeChild(obedient=False)
    supervisor, _ = supervise(deaf)
    until(supervisor.doing)
    supervisor.fail(Fault('planted'))
    assert supervisor.join(30)
    assert deaf.signals == [signal.SIGTERM, signal.SIGKILL]


def test_of_several_faults_the_first_is_kept(supervise):
    supervisor, _ = supervise(FakeChild(DONE))
    one, two = TaskmasterError('one'), TaskmasterError('two')
    supervisor.fail(one)
    supervisor.fail(two)
    assert supervisor.error is one


# -- a child's pipe -------------------------------------------------------

def test_what_a_child_tells_is_heard_however_often_it_tells_it():
    reader, tell = os.pipe()
    os.set_blocking(reader, False)
    with open(reader, 'rb', 0) as news:
        child = Child(None, news, None, QUICK)
        assert child.told() == b''
        os.write(tell, CONNECTED * 5000)
        assert child.told() == CONNECTED
        os.write(tell, OVER)
        os.close(tell)
        assert set(child.told()) == set(CONNECTED + OVER)
        assert set(child.told()) == set(CONNECTED + OVER)
    assert set(child.told()) == set(CONNECTED + OVER)


# -- what children print --------------------------------------------------

def test_one_error_of_many_children_is_shown_once():
    shown = []
    errors = Errors(shown.append)
    said = logs.ERROR + '"Traceback\\ntm-slave: no\\u001b"}'
    for _ in range(10):
        errors(said)
        errors('printed by a handler')
    other = said.replace('no', 'another')
    errors(other)
    assert shown == ['Traceback\ntm-slave: no\\x1b',
                     *['printed by a handler'] * 10,
                     'Traceback\ntm-slave: another\\x1b']
    for number in range(2 * ERRORS):        # no more are known than so many
        errors(said.replace('no', str(number)))
    assert len(shown) == 12 + 2 * ERRORS
    assert len(errors._said) <= ERRORS


def test_what_only_looks_like_an_error_is_shown_as_it_is():
    shown = []
    errors = Errors(shown.append)
    errors(logs.ERROR + 'no JSON')
    assert shown == ['\\x1e{"error": no JSON']


def test_who_has_ended_is_named(caplog):
    Slot(3).ended('a', CRASH._replace(name='web1:312'), False)
    Slot(3).ended('a', CRASH, False)
    assert [record.getMessage() for record in caplog.records] == [
        'slave 3 (web1:312) was ended by SIGSEGV; starting another',
        'slave 3 was ended by SIGSEGV; starting another']
