"""The modules of docs/sources.md, as they are printed there."""

import contextlib
import re
import sqlite3
import sys
import types
from itertools import islice
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'sources.md'
MODULES = dict(re.findall(r'^```python\n# (\w+\.py)\n(.*?)^```$',
                          PAGE.read_text(), re.M | re.S))


@pytest.fixture
def load(tmp_path, monkeypatch):
    """``load(name)``: the module of the page, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def load(name):
        module = types.ModuleType(name)
        exec(compile(MODULES[f'{name}.py'], f'{name}.py', 'exec'),
             module.__dict__)
        return module
    return load


def key(module, job):
    return module.get_key(job) if hasattr(module, 'get_key') else job.pk


def check_resume(module, most=20):
    """Each of the first jobs is gone on after; returns all of them."""
    jobs = list(module.get_jobs())
    assert len(jobs) > 1
    for at, job in enumerate(islice(jobs, most), 1):
        assert list(module.get_jobs(last=key(module, job))) == jobs[at:]
    return jobs


@pytest.fixture
def users(tmp_path):
    with contextlib.closing(sqlite3.connect(
            tmp_path / 'app.db', isolation_level=None)) as db:
        db.execute('PRAGMA journal_mode = WAL')
        db.execute('BEGIN')
        db.execute('CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)')
        db.execute('CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT)')
        db.executemany('INSERT INTO users VALUES (?, ?)', [
            (id, f' Ann {id} ') for id in range(2500) if id % 3])
        db.execute('COMMIT')
        yield db


def test_every_module_is_tested_here():
    text = Path(__file__).read_text()
    assert MODULES
    assert [name for name in MODULES if f"'{name[:-3]}'" not in text] == []


def test_a_csv(load, capsys):
    module = load('people')
    Path('people.csv').write_text('id,name\n1,Ann\n2,"Bob\nSmith"\n')
    for job in check_resume(module):
        module.handle_job(job)
    assert capsys.readouterr().out == 'Ann\nBob\nSmith\n'


def test_names(load, capsysbinary):
    module = load('names')
    Path('names.txt').write_bytes(b'a\n\nb\xff c')
    jobs = check_resume(module)
    assert [job.text for job in jobs] == ['a', 'b\udcff c']
    module.handle_job(jobs[0])


def test_ranges(load, users):
    module = load('backfill')
    with closing_connections():
        jobs = check_resume(module)
        assert len(jobs) == 2
        with contextlib.closing(module.setup()) as db:
            module.handle_jobs(jobs, db)
    assert users.execute("SELECT count(*) FROM users WHERE name LIKE ' %'"
                         ).fetchone() == (0,)


def test_a_check(load, users):
    module = load('moved')
    users.execute('DELETE FROM users WHERE id > 60')
    with closing_connections():
        jobs = check_resume(module)
        with contextlib.closing(module.setup()) as db:
            for job in jobs:
                module.handle_job(job, db)
            users.execute('UPDATE people SET name = 0 WHERE id = 7')
            assert [job[0] for job in jobs
                    if module.check_job(job, db) is False] == [7]


@contextlib.contextmanager
def closing_connections():
    """A get_jobs leaves its connection to the end of its process."""
    connect, opened = sqlite3.connect, []

    def remembered(*args, **options):
        opened.append(connect(*args, **options))
        return opened[-1]
    sqlite3.connect = remembered
    try:
        yield
    finally:
        sqlite3.connect = connect
        for db in opened:
            db.close()


def test_ranges_of_django(load, monkeypatch):
    pytest.importorskip('django')
    from djangos import connection, models

    class Post(models.Model):
        title = models.TextField()

        class Meta:
            app_label = 'blog'
    blog = types.ModuleType('blog.models')
    blog.Post = Post
    monkeypatch.setitem(sys.modules, 'blog', types.ModuleType('blog'))
    monkeypatch.setitem(sys.modules, 'blog.models', blog)
    with connection.schema_editor() as editor:
        editor.create_model(Post)
    try:
        Post.objects.bulk_create(Post(title=f' {n} ') for n in range(2200))
        Post.objects.filter(pk__in=[5, 1000, 1001]).delete()
        module = load('trimmed')
        jobs = check_resume(module)
        assert len(jobs) == 3
        module.handle_jobs(jobs[:2])
        assert Post.objects.filter(title__startswith=' ').count() == 197
        Post.objects.filter(pk__range=(jobs[0].first, jobs[1].last)).delete()
        assert Post.objects.count() == 197
    finally:
        with connection.schema_editor() as editor:
            editor.delete_model(Post)


@pytest.mark.hunt
def test_a_bucket(load, monkeypatch, capsys):
    """Names in the order of their bytes, beyond one page."""
    pytest.importorskip('boto3')
    server = pytest.importorskip('moto.server').ThreadedMotoServer(
        '127.0.0.1', 0, verbose=False)
    server.start()
    try:
        for name, value in {
                'AWS_ENDPOINT_URL': 'http://%s:%d' % server.get_host_and_port(
                ), 'AWS_ACCESS_KEY_ID': 'x', 'AWS_SECRET_ACCESS_KEY': 'x',
                'AWS_DEFAULT_REGION': 'us-east-1'}.items():
            monkeypatch.setenv(name, value)
        import boto3
        s3 = boto3.client('s3')
        s3.create_bucket(Bucket='photos')
        names = sorted([f'{n:03}' for n in range(40)]
                       + ['A', 'Z', 'a/b', 'a b', 'ä', '日本', '🙂', '~'],
                       key=str.encode)
        for name in names:
            s3.put_object(Bucket='photos', Key=name, Body=name.encode())
        monkeypatch.setitem(MODULES, 'objects.py', MODULES[
            'objects.py'].replace('step=999', 'step=7'))
        module = load('objects')
        jobs = check_resume(module, 3)
        assert [name for _, name, _ in jobs] == names
        module.handle_job(jobs[0])
        assert '000' in capsys.readouterr().out
    finally:
        server.stop()
