"""The door; most of what it does is in tests/wire/test_contract.py."""

import inspect

import pytest
from fakes import RUN, Direct, greet, introduction, report

from taskmaster.master.jobqueue import JobQueue
from taskmaster.master.session import Session
from taskmaster.wire import messages
from taskmaster.wire.fields import BadMessage
from taskmaster.wire.messages import Refused


@pytest.fixture
def queue():
    return JobQueue(10, RUN, 'pkg.mod:rows shard=3')


def hello(session, **fields):
    return session.hello(messages.introduction(introduction(**fields)))


def test_what_is_served_has_as_many_arguments():
    for name, checks in messages.REQUESTS.items():
        method = getattr(Session, name)
        assert len(inspect.signature(method).parameters) == len(checks) + 1


def test_nothing_else_is_served():
    assert sorted(messages.REQUESTS) == ['control', 'exchange', 'failures',
                                         'give_back', 'hello', 'lost',
                                         'status']


@pytest.mark.parametrize('module, welcome', [
    (None, True), ('pkg.mod', True), ('pkg', False), ('mod', False),
    ('pkg.mod:rows', False)])
def test_the_module_that_a_slave_wants(queue, module, welcome):
    reply = hello(Session(queue), module=module)
    assert (type(reply) is not Refused) == welcome


@pytest.mark.parametrize('name, welcome', [
    (None, True), ('pkg.mod:rows shard=3', True), ('pkg.mod:rows', False),
    ('pkg.mod:rows shard=4', False), ('', False)])
def test_the_run_that_a_slave_keeps_to(queue, name, welcome):
    reply = hello(Session(queue), run=name)
    assert (type(reply) is not Refused) == welcome


def test_a_refused_slave_is_no_slave(queue):
    session = Session(queue)
    hello(session, module='other')
    session.close()
    assert queue.counts().slaves == 0


def test_one_connection_is_of_one_slave(queue):
    """Or the first would stay connected for ever."""
    session = Direct(queue)
    greet(session, 's1')
    with pytest.raises(BadMessage):
        greet(session, 's2')
    greet(session, 's1')
    session.close()
    assert queue.sessions == 0


def test_close_before_hello(queue):
    Session(queue).close()
    assert queue.sessions == 0


def test_close_is_goodbye_once(queue):
    session = Direct(queue)
    greet(session)
    assert queue.sessions == 1
    session.close()
    session.close()
    assert queue.sessions == 0


def test_a_bad_report_changes_nothing(queue):
    queue.put('job')
    session = Direct(queue)
    greet(session)
    session.call('exchange', report(), 1, False, 0)
    bad = report(done=[(1, 1)])
    bad[3] = 'not a list'
    with pytest.raises(BadMessage):
        session.call('exchange', bad, 1, False, 0)
    assert queue.counts().finished == 0
