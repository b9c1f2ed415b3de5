"""The checks of what a slave says; more of them in test_contract.py."""

import pytest

from taskmaster.wire import messages
from taskmaster.wire.messages import (PROTOCOL, RANGES, TEXT, BadMessage,
                                      FailureReport, Refusal, Report)


def introduction(**fields):
    said = dict(protocol=PROTOCOL, version='1.0', slave='id', name='host:1',
                workers=2, module='mod', start='run', run='mod x=1',
                holds=[[1, 2]], after='before')
    said.update(fields)
    return list(said.values())


def test_an_introduction():
    who = messages.introduction(introduction())
    assert list(who) == [PROTOCOL, '1.0', 'id', 'host:1', 2, 'mod', 'run',
                         'mod x=1', [(1, 2)], 'before']


def test_what_may_be_missing_of_it():
    who = messages.introduction(introduction(
        module=None, start=None, run=None, holds=[], after=None))
    assert (who.module, who.start, who.run, who.after) == (None,) * 4


@pytest.mark.parametrize('protocol', [0, PROTOCOL + 1, 1 << 60])
def test_of_another_protocol_two_fields_are_read(protocol):
    who = messages.introduction([protocol, '9.9', object(), 'what', 'ever'])
    assert (who.protocol, who.version) == (protocol, '9.9')
    assert who.slave == '' and who.holds == []


def test_a_report():
    found = messages.report(['run', [[1, 3], [5, 5]], [[4, 'e', 't', 2]],
                             [[6, 9, 'r']]])
    assert found == Report('run', [(1, 3), (5, 5)],
                           [FailureReport(4, 'e', 't', 2)],
                           [Refusal(6, 9, 'r')])
    assert all(type(one) is tuple for one in found.done)


@pytest.mark.parametrize('value', [
    None, 7, 'x' * (TEXT + 1), b'x', ['x'], True])
def test_what_is_no_text(value):
    with pytest.raises(BadMessage):
        messages.text(value)


@pytest.mark.parametrize('value', ['', 'x' * TEXT, '\ud800', '\0'])
def test_what_is_a_text(value):
    assert messages.text(value) == value


@pytest.mark.parametrize('value', [
    None, '1', 1.0, True, False, -1, messages.NUMBER + 1, 10 ** 30,
    float('nan'), [1]])
def test_what_is_no_number(value):
    with pytest.raises(BadMessage):
        messages.number(value)


@pytest.mark.parametrize('value', [
    None, '1', True, -0.1, 10.01, float('nan'), float('inf'), [1]])
def test_what_is_no_time(value):
    with pytest.raises(BadMessage):
        messages.seconds(value, 10)


@pytest.mark.parametrize('value', [0, 0.0, 10, 9.99])
def test_what_is_a_time(value):
    assert messages.seconds(value, 10) == value


@pytest.mark.parametrize('value', [
    None, 'ab', {'1': 2}, [1, 2], [[1]], [[1, 2, 3]], [(1, 2)], [[2, 1]],
    [[0, 1]], [[-1, 1]], [['1', '2']], [None], ['ab'],
    [[1, 1]] * (RANGES + 1)])
def test_what_are_no_ranges(value):
    with pytest.raises(BadMessage):
        messages.ranges(value)


def test_as_many_ranges_as_may_be():
    apart = [[2 * n, 2 * n] for n in range(1, RANGES + 1)]
    assert len(messages.ranges(apart)) == RANGES


def test_a_bad_message_is_a_value_error():
    """Which is what the wire takes as out of form."""
    assert issubclass(BadMessage, ValueError)


def test_ranges_come_in_order_and_apart():
    """Ten thousand that overlap would each be looked up in all the books."""
    assert messages.ranges([[5, 9], [1, 3], [4, 4], [8, 1 << 60]]) == [
        (1, 1 << 60)]
    assert messages.ranges([[7, 8], [1, 3]]) == [(1, 3), (7, 8)]


def test_refusals_do_not_overlap():
    report = messages.report(['run', [], [], [
        [5, 9, 'b'], [1, 3, 'a'], [6, 6, 'c'], [9, 12, 'd'], [13, 13, 'e']]])
    assert [(one.first, one.last) for one in report.refused] == [
        (1, 3), (5, 9), (13, 13)]


def test_what_is_shown_to_people_cannot_steer_their_terminal():
    bad = 'a\nERROR: b\x1b[2J\x07\u202e'
    report = messages.report(['run', [], [[1, bad, bad, 1]], [[2, 2, bad]]])
    who = messages.introduction([messages.PROTOCOL, bad, 's', bad, 1, None,
                                 None, None, [], None])
    for shown in (report.failed[0].error, report.refused[0].error,
                  who.version, who.name):
        assert shown == 'a?ERROR: b?[2J??'
    assert report.failed[0].traceback == bad    # goes to a file, as JSON
