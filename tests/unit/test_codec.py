"""Keys come back as they were, or are refused."""

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import math
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmaster.errors import ConfigError, OperatorError
from taskmaster.storage import codec
from taskmaster.storage.codec import (decode, decode_key, encode, encode_key,
                                      safe_repr, short)

Point = collections.namedtuple('Point', 'x y')


class Name(str):
    pass


class Look(tuple):
    def __repr__(self):
        return '(1, 2)'


class Colour(enum.IntEnum):
    RED = 1


class NoRepr:
    def __repr__(self):
        raise RuntimeError('no')


class Unequal:
    pass


class NoPickle:
    def __reduce__(self):
        raise RuntimeError('two\nlines')


class NoEquality(Unequal):
    def __eq__(self, other):
        raise RuntimeError('ambiguous')


class Exits:
    def __reduce__(self):
        raise SystemExit('in a pickle')


class Lossy:
    """Equal to all of its kind, so only its pickle tells what is lost."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return True

    def __getstate__(self):
        return {'value': self.value}

    def __setstate__(self, state):
        self.value = state['value'] + 1


def same(a, b):
    """Equal, of the same types all the way down, and of the same sign."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return math.copysign(1, a) == math.copysign(1, b) and a == b
    return a == b


def through_json(value):
    return decode_key(json.loads(json.dumps(encode_key(value))))


scalars = (st.integers() | st.text() | st.binary() | st.booleans()
           | st.floats(allow_nan=False) | st.datetimes() | st.dates()
           | st.uuids() | st.decimals(allow_nan=False))


@given(scalars | st.recursive(scalars, lambda some: st.lists(
    some, max_size=4).map(tuple), max_leaves=10))
def test_a_key_comes_back_with_its_types(key):
    assert same(through_json(key), key)


@pytest.mark.parametrize('key, text', [
    (30421, '30421'), ('a\nb', r"'a\nb'"), (True, 'True'), (1.0, '1.0'),
    (-0.0, '-0.0'), ((), '()'), (('eu', (17,)), "('eu', (17,))"),
    (b'\0', r"b'\x00'"), ('\ud800', r"'\ud800'"), ({1, 2}, '{1, 2}'),
])
def test_what_a_person_can_read_is_literal(key, text):
    assert encode_key(key) == {'literal': text}
    assert same(through_json(key), key)


@pytest.mark.parametrize('key', [
    Name('x'), Point(1, 2), (1, Name('x')), {Name('x')}, {'a': Name('x')},
    {Name('x'): 1}, Look((3, 4)), Colour.RED, math.inf, 10 ** 5000,
    datetime.datetime(2024, 5, 1), uuid.UUID(int=7), decimal.Decimal('1.10'),
], ids=lambda key: type(key).__name__)
def test_what_only_looks_literal_is_pickled(key):
    encoded = encode_key(key)
    assert set(encoded) == {'pickle', 'repr'}
    assert same(through_json(key), key)


def test_a_pickle_has_the_repr_beside_it():
    assert encode_key(Point(1, 2))['repr'] == 'Point(x=1, y=2)'


@pytest.mark.parametrize('key', [
    None, math.nan, (math.nan,), {'a': [math.nan]}, decimal.Decimal('nan'),
    lambda: 0, NoPickle(), NoEquality(), Exits(), Lossy(1),
    'x' * 65536, b'x' * 65536, 'ü' * 60000,
], ids=lambda key: safe_repr(key, 20))
def test_a_key_that_cannot_be_saved_is_refused(key):
    with pytest.raises(OperatorError) as caught:
        encode_key(key)
    text = str(caught.value)
    assert short(safe_repr(key)) in text and 'get_key' in text
    assert '\n' not in text and len(text) < 500


@pytest.mark.parametrize('key', [range, Unequal()],
                         ids=['a class', 'no __eq__'])
def test_an_odd_key_that_can_be_saved(key):
    assert codec.same(through_json(key), key)


# -- which keys are the same ----------------------------------------------

DOUBLED = datetime.datetime(2024, 10, 27, 2)


@dataclasses.dataclass
class Tagged:
    tags: set
    name: str = 'x'


def loop():
    found = [1]
    found.append(found)
    return found


@pytest.mark.parametrize('one, other', [
    (DOUBLED, DOUBLED.replace(fold=1)), (1, True), (1, 1.0), (1.0, True),
    (0.0, -0.0), ((1, 'a'), (True, 'a')), ({1}, {True}), ({1: 1}, {1: 1.0}),
    (Tagged({1}), Tagged({True})), (frozenset({1}), {1}), ((1, 2), [1, 2]),
    (Point(1, 2), (1, 2)), (Colour.RED, 1), (Name('x'), 'x'),
    (decimal.Decimal('1.1'), decimal.Decimal('1.10')),
    ({1: 2}, {2: 1}), ({1, 2}, {1, 3}),
], ids=lambda key: safe_repr(key, 20))
def test_keys_that_python_calls_equal_or_nearly(one, other):
    assert not codec.same(one, other)
    assert codec.same(one, one) and codec.same(other, other)
    assert codec.same(one, through_json(one))


@pytest.mark.parametrize('one, other', [
    ({8, 0}, {0, 8}), (frozenset({8, 0}), frozenset({0, 8})),
    ({'a': {8, 0}, 'b': 1}, {'b': 1, 'a': {0, 8}}),
    (Tagged({8, 0}), Tagged({0, 8})), (Point({8, 0}, 1), Point({0, 8}, 1)),
    (('x' * 9, 'x' * 9), ('x' * 9,) * 2), (10 ** 5000, 10 ** 5000),
    (loop(), loop()), (uuid.UUID(int=7), uuid.UUID(int=7)),
    (Unequal(), Unequal()),
], ids=lambda key: safe_repr(key, 20))
def test_keys_that_are_the_same_whatever_their_history(one, other):
    """In which order they were filled, which parts are one object."""
    assert codec.same(one, other)


@pytest.mark.parametrize('key', [NoPickle(), Exits(), lambda: 0],
                         ids=['raises', 'exits', 'a lambda'])
def test_what_cannot_be_pickled_is_the_same_as_nothing(key):
    assert not codec.same(key, key)


def test_the_largest_key():
    assert through_json('x' * 65000) == 'x' * 65000


def test_a_list_that_holds_itself_is_no_literal():
    loop = [1]
    loop.append(loop)
    encoded = encode(loop)
    assert 'pickle' in encoded
    back = decode(encoded)
    assert back[1] is back


def test_a_pickle_whose_module_is_missing_is_a_config_error():
    encoded = encode_key(Point(1, 2))
    # protocol 4: c is gone, the module's name is in clear text
    import base64
    pickled = base64.b64decode(encoded['pickle'])
    name = __name__.encode()
    gone = pickled.replace(name, b'x' * len(name))
    assert gone != pickled
    encoded['pickle'] = base64.b64encode(gone).decode()
    with pytest.raises(ConfigError) as caught:
        decode_key(encoded)
    text = str(caught.value)
    assert 'Point(x=1, y=2)' in text and 'ModuleNotFoundError' in text
    assert '--reset' in text and '\n' not in text


def test_a_repr_for_a_person_never_raises():
    assert safe_repr(NoRepr()) == '<NoRepr without a repr>'
    assert safe_repr('x' * 50, 10) == "'xxxxxx..."
    assert short('a\n  b\tc') == 'a b c'
