"""Walks of Django's querysets, on each database that is there."""

import uuid

import pytest
from test_walks import CLOCK, PAIRS_OF_KEYS
from walks import ALL, REFUSED, check

from taskmaster.errors import OperatorError
from taskmaster.iterators import RangeQuerySetWrapper, keyset

pytest.importorskip('django')
from djangos import (add_database, connections, models,  # noqa: E402
                     override_settings, settings)

# Not on every Python: the databases would say the same.
pytestmark = pytest.mark.hunt

COMPOSITE = hasattr(models, 'CompositePrimaryKey')


class Author(models.Model):
    """Ordered so that it is no order of its posts by `author`."""

    name = models.CharField(max_length=20)

    class Meta:
        app_label = 'tests'
        ordering = ['name']


class Story(models.Model):
    number = models.IntegerField(unique=True)
    author = models.OneToOneField(Author, models.CASCADE)
    token = models.UUIDField(unique=True)
    word = models.CharField(max_length=50, unique=True)
    at = models.DateTimeField()
    price = models.DecimalField(max_digits=10, decimal_places=3)
    part, place = models.IntegerField(), models.IntegerField()

    class Meta:
        app_label = 'tests'
        ordering = ['-number']


class ProxyStory(Story):
    class Meta:
        app_label = 'tests'
        proxy = True
        ordering = ['word']


MODELS = [Author, Story]
if COMPOSITE:
    class Pair(models.Model):
        pk = models.CompositePrimaryKey('part', 'place')
        part, place = models.IntegerField(), models.IntegerField()
        number = models.IntegerField()

        class Meta:
            app_label = 'tests'
    MODELS.append(Pair)


def story(number):
    part, place = PAIRS_OF_KEYS[number]
    at = CLOCK[number]
    return Story(pk=number + 1, number=number, author_id=number + 1,
                 token=uuid.UUID(int=7 ** number, version=4),
                 word=f'w{number:02}', price=number / 8, part=part,
                 at=at if settings.USE_TZ else at.replace(tzinfo=None),
                 place=place)


def settings_of(request, kind):
    """What Django is told of a database of this kind."""
    if kind == 'sqlite':
        return {'ENGINE': 'sqlite3', 'NAME': ':memory:'}
    if kind == 'postgresql':
        server = request.getfixturevalue('postgres_server')
        return {'ENGINE': kind, 'NAME': 'walks_of_django', 'USER': 'test',
                'HOST': str(server.folder)}
    pymysql = pytest.importorskip('pymysql')
    pymysql.version_info = (2, 2, 1, 'final', 0)        # as Django wants
    pymysql.install_as_MySQLdb()
    server = request.getfixturevalue('mariadb_server')
    return {'ENGINE': 'mysql', 'NAME': 'walks_of_django', 'USER': 'test',
            'OPTIONS': {'unix_socket': server.socket}}


@pytest.fixture(scope='module', params=[
    'sqlite',
    pytest.param('postgresql', marks=pytest.mark.xdist_group('PostgreSQL')),
    pytest.param('mariadb', marks=pytest.mark.xdist_group('MariaDB'))])
def alias(request):
    """A database with the tables of the models."""
    kind = request.param
    alias = f'walks_{kind}'
    options = settings_of(request, kind)
    if kind != 'sqlite':
        server = request.getfixturevalue(
            'postgres_server' if kind == 'postgresql' else 'mariadb_server')
        server.create(options['NAME'])
    add_database(alias, **{**options, 'ENGINE':
                           f'django.db.backends.{options["ENGINE"]}'})
    with connections[alias].schema_editor() as editor:
        for model in MODELS:
            editor.create_model(model)
    yield alias
    connections[alias].close()


@pytest.fixture
def stories(alias):
    """A queryset of all stories."""
    for model in MODELS[::-1]:
        model.objects.using(alias).all().delete()
    every = range(len(CLOCK))
    Author.objects.using(alias).bulk_create(
        Author(pk=number + 1, name=str(number * 17 % len(CLOCK)))
        for number in every)
    Story.objects.using(alias).bulk_create(map(story, every))
    yield Story.objects.using(alias)


class Rows:
    """The stories as what `check` changes."""

    def __init__(self, stories):
        self._stories = stories
        self.numbers = set(stories.values_list('number', flat=True))

    def insert(self, number):
        story(number).save(using=self._stories.db)
        self.numbers.add(number)

    def delete(self, number):
        self._stories.filter(number=number).delete()
        self.numbers.discard(number)


def steps_of(stories):
    """Pages of one row, a query or three for each, where that is cheap.

    What the servers make of such pages, the walks by their drivers show.
    """
    return [1, 7] if stories.db == 'walks_sqlite' else [7]


def walks(queryset, order_by='pk', number=lambda row: row.number):
    names = [order_by] if isinstance(order_by, str) else order_by
    names = [name.lstrip('-') for name in names]

    def walk(last, step):
        rows = iter(RangeQuerySetWrapper(queryset, last, step, order_by))
        for row in rows:
            key = tuple(getattr(row, {'author': 'author_id'}.get(name, name))
                        for name in names)
            key = key if len(names) > 1 else key[0]
            if key != last:         # as the feeder skips it
                yield key, row.number
    return walk


def order(*names):
    return pytest.param(names if len(names) > 1 else names[0],
                        id=' '.join(names))


@pytest.mark.parametrize('order_by', [
    order('pk'), order('token'), order('word'), order('price'),
    order('author'), order('author_id'), order('part', 'place'),
    order('word', 'pk')])
def test_fields(stories, order_by):
    if stories.db != 'walks_sqlite' and 'author' in str(order_by):
        pytest.skip('an integer there, as the primary key is')
    rows = Rows(stories)
    check(rows, walks(stories, order_by), ALL, steps=steps_of(stories))
    names = [order_by] if isinstance(order_by, str) else order_by
    down = ['-' + name for name in names]
    check(rows, walks(stories.reverse(),
                      down if len(down) > 1 else down[0]), ALL, steps=[7])


@pytest.mark.parametrize('change', [
    lambda stories: stories.reverse(),
    lambda stories: stories.order_by('-word').reverse(),
    lambda stories: stories.order_by('author__name'),
    lambda stories: ProxyStory.objects.using(stories.db).reverse(),
    lambda stories: stories.select_related('author'),
    lambda stories: stories.only('number')], ids=[
        'reverse', 'order_by and reverse', 'related', 'proxy',
        'select_related', 'only'])
def test_any_ordering_and_kind_of_queryset(stories, change):
    check(Rows(stories), walks(change(stories)), ALL, steps=[7])
    pks = [row.pk for row in RangeQuerySetWrapper(
        change(stories), step=7, order_by='-pk')]
    assert pks == list(range(len(CLOCK), 0, -1))


def test_values(stories):
    every = list(range(1, len(CLOCK) + 1))

    def walk(queryset, *arguments, **options):
        return list(RangeQuerySetWrapper(queryset, *arguments, step=7,
                                         **options))
    for name in 'pk', 'id':
        assert walk(stories.values_list(name, flat=True)) == every
        assert walk(stories.values_list(name, flat=True), 20) == every[19:]
        assert walk(stories.values(name))[0] == {name: 1}
        assert walk(stories.values_list('word', name))[4] == ('w04', 5)
    assert walk(stories.values_list('word', flat=True),
                order_by='-word')[0] == 'w23'
    assert [row.author for row in walk(
        stories.values_list('author', named=True),
        order_by='author')] == every
    assert len(walk(stories.values_list())) == len(walk(
        stories.values())) == len(every)
    for missing in stories.values('word'), stories.values_list('word'):
        with pytest.raises(OperatorError, match='have to hold its key, id'):
            walk(missing)


@pytest.mark.skipif(not COMPOSITE, reason='Django 5.2 has such keys')
def test_a_composite_primary_key(stories):
    pairs = Pair.objects.using(stories.db)
    pairs.bulk_create(Pair(part=a, place=b, number=number)
                      for number, (a, b) in enumerate(PAIRS_OF_KEYS))
    for order_by in 'pk', '-pk':
        every = [row.pk for row in pairs.order_by(order_by)]
        for step in 1, 7, 1000:
            walk = RangeQuerySetWrapper(pairs, step=step, order_by=order_by)
            assert [row.pk for row in walk] == every
            rest = RangeQuerySetWrapper(pairs, every[20], step, order_by)
            assert [row.pk for row in rest] == every[20:]
            assert list(RangeQuerySetWrapper(
                pairs.values_list('pk', flat=True), every[20], step,
                order_by)) == every[20:]


@pytest.mark.parametrize('order_by', ['at', '-at'])
@pytest.mark.parametrize('use_tz', [True, False])
def test_a_clock_that_goes_back(stories, order_by, use_tz):
    """Only a database that keeps UTC gives the local times out of order."""
    rows = Rows(stories)
    connections[stories.db].close()     # the zone is set at the beginning
    if stories.db == 'walks_sqlite':
        pytest.skip('in memory, so it would be gone')
    with override_settings(USE_TZ=use_tz, TIME_ZONE='Europe/Berlin'):
        keeps_utc = stories.db == 'walks_postgresql'
        check(rows, walks(stories, order_by),
              REFUSED if keeps_utc and not use_tz else ALL, steps=[1, 7])
    connections[stories.db].close()


def test_orders_that_make_no_sense(stories):
    for order_by in (), ('pk', '-word'):
        with pytest.raises(OperatorError, match='all ascend, or all'):
            RangeQuerySetWrapper(stories, order_by=order_by)
    with pytest.raises(OperatorError, match='is no key of 2 fields'):
        list(RangeQuerySetWrapper(stories, 5, order_by=('part', 'place')))


def test_a_manager_is_all_of_its_objects(stories):
    manager = Story.objects.db_manager(stories.db)
    assert list(RangeQuerySetWrapper(manager, step=7)) == list(
        RangeQuerySetWrapper(stories, step=7)) != []


@pytest.mark.parametrize('make, why', [
    (lambda stories: Story, "walks a queryset, not <class '.*Story'>"),
    (lambda stories: [1, 2], r'walks a queryset, not \[1, 2\]; give it'),
    (lambda stories: Story.objects.raw('SELECT 1'), 'walks a queryset, not '),
    (lambda stories: stories[:10], 'one that is cut'),
    (lambda stories: stories.union(stories), 'put together')])
def test_what_takes_no_condition_is_refused(make, why):
    with pytest.raises(OperatorError, match=why):
        RangeQuerySetWrapper(make(Story.objects.all()))


def test_the_connection_itself(stories):
    """Before its first query too; `autocommit` says nothing until then."""
    connection = connections[stories.db]
    query = 'SELECT id, word FROM tests_story WHERE id %% 2 = %s'
    walk = keyset(connection, query, key='id', parameters=[1], step=7)
    assert [row[0] for row in walk] == list(range(1, len(CLOCK) + 1, 2))
    from django.db import transaction
    with transaction.atomic(using=stories.db):
        with pytest.raises(OperatorError, match='in autocommit mode'):
            keyset(connection, query, key='id', parameters=[1])
