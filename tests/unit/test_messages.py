"""The checks of what is said and replied; more of them in test_contract.py."""

import json

import pytest
from fakes import RUN
from hypothesis import given
from hypothesis import strategies as st

from taskmaster.wire import fields, messages
from taskmaster.wire.fields import RANGES, TEXT, BadMessage
from taskmaster.wire.messages import (FailureReport, Jobs, JobTime, Over,
                                      Overview, Recall, Refusal, Refused,
                                      Report, Said, Stranger, Wait, Welcome)


def introduction(**fields):
    said = dict(slave='id', name='host:1',
                workers=2, module='mod', start='run', run='mod x=1',
                holds=[[1, 2]], after='before')
    said.update(fields)
    return list(said.values())


def test_an_introduction():
    who = messages.introduction(introduction())
    assert list(who) == ['id', 'host:1', 2, 'mod', 'run',
                         'mod x=1', [(1, 2)], 'before']


def test_what_may_be_missing_of_it():
    who = messages.introduction(introduction(
        module=None, start=None, run=None, holds=[], after=None))
    assert (who.module, who.start, who.run, who.after) == (None,) * 4


def test_a_report():
    found = messages.report(['run', [[1, 3], [5, 5]], [[4, 'e', 't', 2, 'c']],
                             [[6, 9, 'r']], [[1, 2, 0.5]]])
    assert found == Report('run', [(1, 3), (5, 5)],
                           [FailureReport(4, 'e', 't', 2, 'c')],
                           [Refusal(6, 9, 'r')], [JobTime(1, 2, 0.5)])
    assert all(type(one) is tuple for one in found.done)


@pytest.mark.parametrize('value', [
    None, 7, 'x' * (TEXT + 1), b'x', ['x'], True])
def test_what_is_no_text(value):
    with pytest.raises(BadMessage):
        fields.text(value)


@pytest.mark.parametrize('value', ['', 'x' * TEXT, '\ud800', '\0'])
def test_what_is_a_text(value):
    assert fields.text(value) == value


@pytest.mark.parametrize('value', [
    None, '1', 1.0, True, False, -1, fields.NUMBER + 1, 10 ** 30,
    float('nan'), [1]])
def test_what_is_no_number(value):
    with pytest.raises(BadMessage):
        fields.number(value)


@pytest.mark.parametrize('value', [
    None, '1', True, -0.1, 10.01, float('nan'), float('inf'), [1]])
def test_what_is_no_time(value):
    with pytest.raises(BadMessage):
        fields.real(value, 10)


@pytest.mark.parametrize('value', [0, 0.0, 10, 9.99])
def test_what_is_a_time(value):
    assert fields.real(value, 10) == value


@pytest.mark.parametrize('value', [
    None, 'ab', {'1': 2}, [1, 2], [[1]], [[1, 2, 3]], [(1, 2)], [[2, 1]],
    [[0, 1]], [[-1, 1]], [['1', '2']], [None], ['ab'],
    [[1, 1]] * (RANGES + 1)])
def test_what_are_no_ranges(value):
    with pytest.raises(BadMessage):
        fields.ranges(value)


def test_as_many_ranges_as_may_be():
    apart = [[2 * n, 2 * n] for n in range(1, RANGES + 1)]
    assert len(fields.ranges(apart)) == RANGES


def test_a_bad_message_is_a_value_error():
    """Which is what the wire takes as out of form."""
    assert issubclass(BadMessage, ValueError)


def test_ranges_come_in_order_and_apart():
    """Ten thousand that overlap would each be looked up in all the books."""
    assert fields.ranges([[5, 9], [1, 3], [4, 4], [8, 1 << 60]]) == [
        (1, 1 << 60)]
    assert fields.ranges([[7, 8], [1, 3]]) == [(1, 3), (7, 8)]


def test_refusals_do_not_overlap():
    report = messages.report(['run', [], [], [
        [5, 9, 'b'], [1, 3, 'a'], [6, 6, 'c'], [9, 12, 'd'], [13, 13, 'e']],
                              []])
    assert [(one.first, one.last) for one in report.refused] == [
        (1, 3), (5, 9), (13, 13)]


def test_what_is_shown_to_people_cannot_steer_their_terminal():
    bad = 'a\nERROR: b\x1b[2J\x07\u202e'
    report = messages.report(['run', [], [[1, bad, bad, 1, bad]],
                              [[2, 2, bad]], []])
    who = messages.introduction(['s', bad, 1, None, None, None, [], None])
    for shown in (report.failed[0].error, report.failed[0].cause,
                  report.refused[0].error, who.name):
        assert shown == 'a?ERROR: b?[2J??'
    assert report.failed[0].traceback == bad    # goes to a file, as JSON


# -- replies --------------------------------------------------------------

SLAVE = dict(name='host:1', workers=1, connected=True, done=5, failed=0,
             rate=1.5, in_hand=3, oldest=None)
STATUS = dict(run='mod', version='1.0', state='running', paused=False,
              current=5, total=None, failed=0, rate=0.0, limit=None, eta=None,
              queued=10, size=100, slower='source', rates=[1.5, 0],
              started='2026-11-26T00:57:22+00:00', elapsed=1.5, pid=17,
              host='vm', slave_count=1, in_hand=5,
              kinds=[{'kind': 'ValueError', 'count': 2}],
              times={'median': 0.1, 'p99': 0.2, 'slowest': [
                  {'key': '7', 'seconds': 0.3}]},
              oldest=dict(number=6, key='6', slave='host:1', age=1.5),
              slaves=[SLAVE])
REPLIES = {
    'hello': [Welcome(RUN, 'mod', 0.1, [(1, 2), (5, 5)], False),
              Refused(76, 'another version')],
    'exchange': [Jobs(0.1, 7, 2, b'pickle'), Wait(0.1, 'paused'),
                 Recall(0.1, ''), Over('complete'), Over('stopped'),
                 Stranger()],
    'give_back': [Wait(0.1, ''), Stranger()], 'lost': [Said('')],
    'status': [Overview(STATUS), Refused(78, 'another run')],
    'control': [Said('paused'), Refused(78, 'another run')]}
MALFORMED = [
    ('exchange', None), ('exchange', []), ('exchange', 7), ('exchange', 'w'),
    ('exchange', {}), ('exchange', [None]), ('exchange', [[]]),
    ('exchange', ['steal']), ('exchange', ['welcome', RUN, 'mod', 1, []]),
    ('exchange', ['wait']), ('exchange', ['wait', 0.1]),
    ('exchange', ['wait', 0.1, '', '']), ('exchange', ['wait', 0, '']),
    ('exchange', ['wait', -1, '']), ('exchange', ['wait', '1', '']),
    ('exchange', ['wait', float('nan'), '']), ('exchange', ['wait', 1e9, '']),
    ('exchange', ['wait', 0.1, None]), ('exchange', ['over']),
    ('exchange', ['over', 'soon']), ('exchange', ['stranger', 1]),
    ('exchange', ['lease', 0.1, 1, 1]),
    ('exchange', ['lease', 0.1, 0, 1, b'']),
    ('exchange', ['lease', 0.1, 1, 0, b'']),
    ('exchange', ['lease', 0.1, 1, True, b'']),
    ('exchange', ['lease', 0.1, 1, 1, 'text']),
    ('hello', ['welcome', RUN, 'mod', 0.1]),
    ('hello', ['welcome', None, 'mod', 0.1, []]),
    ('hello', ['welcome', RUN, 'mod', 0.1, [[2, 1]]]),
    ('hello', ['welcome', RUN, 'mod', 0.1, [[1, 2], [2, 3]]]),
    ('hello', ['refused', 0, 'complete?']), ('hello', ['refused', 1, '']),
    ('hello', ['refused', '76', '']), ('hello', ['refused', 76, None]),
    ('hello', ['refused', True, '']), ('hello', ['refused', 300, '']),
    ('control', ['said']), ('control', ['said', 7]),
    ('control', ['refused', 0, 'done']),
    ('status', ['status', None]), ('status', ['status', {}]),
    ('status', ['status', {**STATUS, 'rate': None}]),
    ('status', ['status', {**STATUS, 'oldest': {}}]),
    ('status', ['status', {**STATUS, 'slaves': [None]}]),
    ('status', ['status', {**STATUS, 'kinds': [{'kind': 'a'}]}]),
    ('status', ['status', {**STATUS, 'rates': [-1]}]),
    ('status', ['status', {**STATUS, 'times': {'median': 1}}]),
    ('status', ['status', {**STATUS, 'more': 1}])]


@pytest.mark.parametrize('method, reply', [
    (method, reply) for method, replies in REPLIES.items()
    for reply in replies])
def test_a_reply_comes_as_it_went(method, reply):
    said = messages.encoded(reply)
    if type(reply) is not Jobs:
        said = json.loads(json.dumps(said))
    found = messages.reply(method, said)
    assert type(found) is type(reply) and found == reply


@pytest.mark.parametrize('method, said', MALFORMED)
def test_a_malformed_reply_is_refused(method, said):
    with pytest.raises(BadMessage):
        messages.reply(method, said)


@given(st.sampled_from(list(REPLIES)), st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(),
              st.text(max_size=5), st.binary(max_size=3), st.sampled_from([
                  'welcome', 'refused', 'lease', 'wait', 'give back', 'over',
                  'stranger', 'said', 'status'])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=10))
def test_whatever_comes_is_a_reply_or_refused(method, said):
    try:
        found = messages.reply(method, said)
    except BadMessage:
        return
    assert type(found) in map(type, REPLIES[method])


def test_a_status_cannot_steer_a_terminal():
    bad = {**STATUS, 'state': 'a\x1b[2J', 'slaves': [
        {**SLAVE, 'name': 'b\nc'}]}
    found = messages.reply('status', ['status', bad]).status
    assert found['state'] == 'a?[2J'
    assert found['slaves'][0]['name'] == 'b?c'
