"""A NamedTuple of ours is one of the library's, but made quickly."""

import pickle
import typing
from collections import namedtuple

import pytest

from taskmaster import records


def made_by(base):
    class Point(base):
        """Where it is."""

        x: int
        y: int = 7
        tags: tuple = ()

        def total(self):
            return self.x + self.y

        @property
        def twice(self):
            return Point(2 * self.x, 2 * self.y)

        @classmethod
        def origin(cls):
            return cls(0, 0)
    return Point


Ours, Theirs = made_by(records.NamedTuple), made_by(typing.NamedTuple)


class Sent(records.NamedTuple):
    number: int


class Kept(Sent):
    """One with a class of its own below, as `Timing` is."""

    def __init__(self, *values, **named):
        self.seen = values


@pytest.mark.parametrize('name', [
    '__doc__', '__module__', '__qualname__', '__bases__', '_fields',
    '_field_defaults', '__annotations__', '__slots__'])
def test_the_class_is_as_the_librarys(name):
    theirs = getattr(Theirs, name)
    assert getattr(Ours, name) == theirs


def test_its_attributes_are_as_the_librarys():
    assert vars(Ours).keys() == vars(Theirs).keys() - {'__orig_bases__'}


def test_what_is_made_of_it_is_a_tuple_with_its_methods():
    point = Ours(1)
    assert point == (1, 7, ()) and type(point) is Ours
    assert point.total() == 8 and point.twice == (2, 14, ())
    assert Ours.origin() == (0, 0, ()) and point._replace(x=3).x == 3
    assert isinstance(Ours, type(namedtuple('Any', '')))
    with pytest.raises(TypeError):
        Ours()


def test_it_can_be_pickled_and_derived_from():
    assert pickle.loads(pickle.dumps(Sent(5))) == Sent(5)
    kept = Kept(5)
    assert kept.number == 5 and kept.seen == (5,) and type(kept) is Kept
