"""Walks of Django's querysets: which rows, in which order, by which SQL."""

import collections
import uuid

import pytest

from taskmaster.errors import OperatorError
from taskmaster.iterators import RangeQuerySetWrapper

pytest.importorskip('django')
from djangos import (CaptureQueriesContext, connection,  # noqa: E402
                     models)


class Post(models.Model):
    title = models.TextField(unique=True, null=True)
    number = models.IntegerField(null=True)

    class Meta:
        app_label = 'tests'


class Token(models.Model):
    id = models.UUIDField(primary_key=True)

    class Meta:
        app_label = 'tests'


class Country(models.Model):
    code = models.CharField(primary_key=True, max_length=2)

    class Meta:
        app_label = 'tests'


@pytest.fixture(autouse=True, scope='module')
def django_tables():
    with connection.schema_editor() as editor:
        for model in Post, Token, Country:
            editor.create_model(model)
    yield
    connection.close()


@pytest.fixture
def posts():
    """Posts with the keys -2 .. 7, whose titles go the other way."""
    Post.objects.all().delete()
    Post.objects.bulk_create(Post(pk=pk, title=f't{9 - pk:02}')
                             for pk in range(-2, 8))
    yield Post.objects.all()
    Post.objects.all().delete()


@pytest.mark.parametrize('step', [1, 2, 3, 100])
def test_a_queryset(posts, step):
    def walk(last, order_by='pk'):
        return [post.pk for post in RangeQuerySetWrapper(
            posts, min_id=last, step=step, order_by=order_by)]
    every = list(range(-2, 8))
    for last in 0, None, '':
        assert walk(last) == every
        assert walk(last, '-pk') == every[::-1]
        assert walk(last, 'title') == every[::-1]
        assert walk(last, '-title') == every
    assert walk(3) == [3, 4, 5, 6, 7]
    assert walk(-1) == every[1:]
    assert walk(3, '-pk') == [3, 2, 1, 0, -1, -2]
    assert walk('t04', 'title') == [5, 4, 3, 2, 1, 0, -1, -2]
    assert walk(99) == []


def test_a_queryset_can_be_walked_twice(posts):
    walk = RangeQuerySetWrapper(posts.filter(pk__gt=2), min_id=4, step=2)
    assert [post.pk for post in walk] == [post.pk for post in walk] == [
        4, 5, 6, 7]


def test_objects_that_change_or_go_while_they_are_walked(posts):
    found = []
    for post in RangeQuerySetWrapper(posts, step=3):
        found.append(post.pk)
        post.delete()               # this sets its pk to None
    assert found == list(range(-2, 8))
    assert not posts.exists()


def test_values(posts):
    assert [post['id'] for post in RangeQuerySetWrapper(
        posts.values('id', 'title'), 3, step=2, order_by='id')] == [
            3, 4, 5, 6, 7]


@pytest.mark.parametrize('model, keys', [
    (Token, [uuid.UUID(int=7 ** number) for number in range(9)]),
    (Country, ['DE', 'at', 'ch', '-1', '_'])])
def test_keys_that_are_no_numbers(model, keys):
    model.objects.all().delete()
    model.objects.bulk_create(model(pk=key) for key in keys)
    keys = sorted(keys)
    for last, expected in (0, keys), (None, keys), (keys[3], keys[3:]):
        assert [row.pk for row in RangeQuerySetWrapper(
            model.objects.all(), min_id=last, step=2)] == expected


def test_an_order_that_loses_objects_is_refused(posts):
    Post.objects.filter(pk__gt=2).update(number=5)
    with pytest.raises(OperatorError, match='number is NULL'):
        list(RangeQuerySetWrapper(posts, order_by='number'))
    Post.objects.filter(pk__lt=3).update(number=models.F('id'))
    for step in range(1, 9):
        with pytest.raises(OperatorError, match='the key 5 came 5'):
            list(RangeQuerySetWrapper(posts, step=step, order_by='number'))
    with pytest.raises(OperatorError, match='step=-1 is too small'):
        RangeQuerySetWrapper(posts, step=-1)


def test_pages_are_queries_by_primary_key(posts):
    with CaptureQueriesContext(connection) as queries:
        walk = iter(RangeQuerySetWrapper(posts, step=4))
        collections.deque(walk, maxlen=0)
    sql = [query['sql'] for query in queries]
    assert len(sql) == 1 + 3        # is there a NULL?  and the pages
    assert not any('OFFSET' in query for query in sql)
    assert all('WHERE' in query and '> ' in query for query in sql[2:])
