"""Failed jobs by kind."""

import json
import os
import sys
import traceback
from collections import namedtuple
from urllib.parse import urlsplit

import pytest

from taskmaster.console.kinds import (LENGTH, MESSAGES, MOST, OTHERS, SHOWN,
                                      TRACEBACK, Kinds, is_of, kind_of,
                                      type_of)
from taskmaster.text import summary, traceback_of

Failure = namedtuple('Failure', 'key error traceback number', defaults=[0])
HERE = os.path.basename(__file__)


def failed(function, *given, key='1'):
    """What is recorded of a job whose handler raised."""
    try:
        function(*given)
    except Exception as error:
        return Failure(key, summary(error), traceback_of(error))
    raise AssertionError('it has not failed')


def bad(job):
    raise ValueError(f'bad {job}')


def other(job):
    raise ValueError(f'bad {job}')


def parse(job):
    return json.loads(job)


def line_of(function, more=1):
    return function.__code__.co_firstlineno + more


def kind(failure):
    return kind_of(failure.error, failure.traceback)


def test_one_line_of_code_is_one_kind():
    kinds = {kind(failed(bad, job)) for job in (500, 1000)}
    assert kinds == {f'ValueError at {HERE}:{line_of(bad)}'}


def test_the_same_error_in_two_places_is_two():
    assert kind(failed(bad, 1)) != kind(failed(other, 1))


def test_the_line_is_the_operators_not_the_librarys():
    assert kind(failed(parse, '{')) == (
        f'JSONDecodeError at {HERE}:{line_of(parse)}')
    assert kind(failed(lambda: urlsplit('http://[::1'))).startswith(
        f'ValueError at {HERE}:')


@pytest.mark.parametrize('path', [
    '/usr/lib/python3/dist-packages/x/db.py',
    '/srv/.venv/lib/python3.9/site-packages/psycopg/cursor.py',
    '/usr/lib64/python3.12/json/decoder.py', '<string>'])
def test_what_is_no_code_of_theirs(path):
    text = ('Traceback (most recent call last):\n'
            '  File "/srv/migrate.py", line 12, in handle_job\n'
            '    db.execute(job)\n'
            f'  File "{path}", line 97, in execute\n'
            '    raise error\nUniqueViolation: no\n')
    assert kind_of('UniqueViolation: no', text) == (
        'UniqueViolation at migrate.py:12')


def test_the_cause_of_an_error_is_not_its_place():
    def cause():
        raise KeyError('x')

    def wrapped():
        try:
            cause()
        except KeyError as error:
            raise RuntimeError('no') from error

    assert kind(failed(wrapped)) == (
        f'RuntimeError at {HERE}:{line_of(wrapped, 4)}')


def test_only_library_code():
    text = '  File "/usr/lib/python3.11/queue.py", line 5, in get\n'
    assert kind_of('Empty', text) == 'Empty at queue.py:5'


@pytest.mark.parametrize('error, name', [
    ('took longer than --job-timeout', 'took longer than --job-timeout'),
    ('lost with its slave 3 times', 'lost with its slave N times'),
    ('cannot be pickled: TypeError: no lock; yield plain values',
     'cannot be pickled: TypeError'),
    ('cannot be unpickled: ModuleNotFoundError: No module named x9',
     'cannot be unpickled: ModuleNotFoundError'),
    ('ValueError: bad 500', 'ValueError'), ('KeyError', 'KeyError'),
    ('', '')])
def test_errors_without_a_traceback(error, name):
    assert kind_of(error) == name


def test_text_that_others_wrote():
    text = '  File "/srv/a\x1b[2J.py", line 12, in x\n'
    assert kind_of('Error\x1b: no', text).isprintable()
    assert len(kind_of('E' * 10_000, '  File "/' + 'x' * 9000
                       + '", line 3, in x\n')) < 300
    assert kind_of('E', '  File "", line , in\n  File "/a", line x\n') == 'E'


def test_counts_keys_and_the_first_traceback():
    kinds = Kinds(failed(bad, n, key=str(n)) for n in (5, 6, 7))
    kinds.add(failed(other, 1, key='9'))
    first, second = kinds.report(True)
    assert (first['count'], first['first_key'], first['last_key']) == (
        3, '5', '7')
    assert 'bad 5' in first['traceback'] and 'bad 7' not in first['traceback']
    assert list(first) == ['kind', 'count', 'first_key', 'last_key',
                           'traceback', 'messages']
    assert first['messages'] == [
        {'message': 'bad 5', 'count': 3, 'key': '5', 'varies': True}]
    assert second['count'] == 1 and kinds.count == 4
    assert list(kinds.report()[0]) == ['kind', 'count', 'first_key',
                                       'last_key']


def test_the_line_for_a_person():
    kinds = Kinds([failed(bad, 5, key='5')])
    place = f'{HERE}:{line_of(bad)}'
    assert lines(kinds) == [f'1 x ValueError at {place}: bad 5 (key 5)']
    kinds.add(failed(bad, 5, key='7'))
    assert lines(kinds) == [f'2 x ValueError at {place}: bad 5 (keys 5 to 7)']
    kinds.add(failed(bad, 7, key='8'))
    assert lines(kinds) == [
        f'3 x ValueError at {place}: first: bad 5 (keys 5 to 8)']
    kinds = Kinds([Failure('1', 'took longer than --job-timeout', '')])
    assert lines(kinds) == ['1 x took longer than --job-timeout (key 1)']


def lines(kinds):
    """What a person is told of the most frequent one."""
    return kinds.frequent()[0].lines()


def at(number, message, key=None):
    """A failure at one line of code."""
    return Failure(key or str(number), f'AttributeError: {message}',
                   '  File "/srv/m.py", line 18, in f\n    job.lower()\n'
                   f'AttributeError: {message}\n', number)


def test_two_causes_in_one_line_of_code_are_both_told():
    """And neither is told as that of all; with whom to look at."""
    none, digits = (f"{what!r} object has no attribute 'lower'"
                    for what in ('NoneType', 'int'))
    kinds = Kinds([at(3, digits), *(at(n, none) for n in range(10, 17)),
                   at(2, none), at(20, digits)])
    assert lines(kinds) == [
        f'10 x AttributeError at m.py:18: first: {none} (keys 2 to 20)',
        f'  8 x {none} (first key 2)', f'  2 x {digits} (first key 3)']
    # Of the first of the source, as its key is.
    report, = kinds.report(True)
    assert none in report['traceback'] and report['first_key'] == '2'
    assert report['messages'] == [
        {'message': none, 'count': 8, 'key': '2', 'varies': False},
        {'message': digits, 'count': 2, 'key': '3', 'varies': False}]


def test_numbers_alone_make_no_other_message():
    kinds = Kinds(at(n, f'{n} <x.Y object at 0x7{n:x}f>') for n in (9, 10, 11))
    assert lines(kinds) == [
        '3 x AttributeError at m.py:18: first: 9 <x.Y object at 0x79f> (keys 9'
        ' to 11)']
    kinds.add(at(5, 'gone', key='e'))
    assert lines(kinds)[1:] == [
        '  3 x first: 9 <x.Y object at 0x79f> (key 9)', '  1 x gone (key e)']
    assert lines(Kinds([at(1, ''), at(2, 'gone')]))[1] == (
        '  1 x no message (key 1)')


def test_messages_that_all_differ_take_no_memory_and_few_lines():
    kinds = Kinds(at(n, chr(0x100 + n) * 10_000) for n in range(1000))
    head, *told, others = lines(kinds)
    assert len(told) == SHOWN and others == f'  {1000 - SHOWN} x others'
    report, = kinds.report(True)
    assert len(report['messages']) == MESSAGES
    assert all(len(each['message']) <= LENGTH for each in report['messages'])


def test_kinds_that_all_differ_take_no_memory():
    kinds = Kinds(Failure(str(n), 'ValueError: x', f'  File "/m.py", line {n},'
                          ' in f\n' + 'x' * 100_000) for n in range(1000))
    assert len(kinds.frequent()) == MOST + 1
    assert kinds.frequent()[0].name == OTHERS
    assert kinds.frequent()[0].count == 1000 - MOST
    assert all(len(k.traceback) <= TRACEBACK for k in kinds.frequent())


def test_a_kind_by_its_name_or_by_the_type():
    failure = failed(bad, 1)
    assert is_of(kind(failure), failure) and is_of('ValueError', failure)
    assert not is_of('KeyError', failure)
    assert not is_of(kind(failed(other, 1)), failure)
    assert type_of(failure.error) == 'ValueError'


@pytest.mark.skipif(sys.version_info < (3, 11), reason='no groups before')
def test_a_group_of_errors():
    def group():
        raise ExceptionGroup('two', [KeyError(1), ValueError(2)])  # noqa: F821

    text = failed(group)
    assert kind(text) == f'ExceptionGroup at {HERE}:{line_of(group)}'
    assert 'KeyError' in text.traceback and traceback


def test_the_first_and_the_last_are_of_the_source_not_of_the_reports():
    kinds = Kinds(Failure(str(n), 'lost with its slave 3 times', '', n)
                  for n in (500, 111, 7777, 5000))
    assert lines(kinds)[0].endswith('(keys 111 to 7777)')
