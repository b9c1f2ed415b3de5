"""The Django project of the examples, on SQLite and on PostgreSQL."""

import contextlib
import os
import signal
import sqlite3
import sys
from pathlib import Path

import pytest
from programs import eventually, needs_package

PROJECT = Path(__file__).resolve().parents[2] / 'examples' / 'django_posts'
PKS = [pk for pk in range(1, 301) if pk % 10]   # one in ten is deleted
POSTS = len(PKS)

# The example, which waits in the middle and says which it has handled.
STOPPING = '''
import count_comments
from count_comments import get_jobs
from recorder import block, record


def handle_job(post):
    if post.pk >= 30:
        block('there')
    count_comments.handle_job(post)
    record(post.pk)
'''


class Posts:
    """What is in the database of the project."""

    def __init__(self, work, connect):
        self.work = work
        self._connect = connect

    def manage(self, *words):
        program = self.work.program(
            sys.executable, str(PROJECT / 'manage.py'), *words)
        assert program.code() == 0
        return program.out

    def select(self, query):
        with contextlib.closing(self._connect()) as db:
            return db.execute(query).fetchall()

    def check(self):
        """Every post has as many comments as were counted."""
        counts = self.select('SELECT id, comment_count FROM blog_post')
        good = dict(self.select('SELECT post_id, count(*) FROM blog_comment'
                                ' WHERE NOT spam GROUP BY post_id'))
        assert len(counts) == POSTS
        assert counts == [(pk, good.get(pk, 0)) for pk, _ in counts]


@pytest.fixture(params=['SQLite', pytest.param('PostgreSQL',
                                               marks=pytest.mark.hunt)])
def posts(request, work):
    needs_package('django')
    work.environ['PYTHONPATH'] += f'{os.pathsep}{PROJECT}'
    # Django leaves the connections of threads to the end of the process.
    work.environ['PYTHONWARNINGS'] = 'error,ignore::ResourceWarning'
    if request.param == 'SQLite':
        posts = Posts(work, lambda: sqlite3.connect(work.path / 'posts.db'))
        posts.manage('makemigrations', '--check')   # they are as the models
    else:
        import psycopg
        server = request.getfixturevalue('postgres_server')
        database = request.getfixturevalue('database')
        name = psycopg.conninfo.conninfo_to_dict(database)['dbname']
        work.environ.update(server.environ, POSTGRES_DB=name)
        posts = Posts(work, lambda: psycopg.connect(database))
    posts.manage('migrate')
    assert posts.manage('fill', '300').startswith(f'{POSTS} posts')
    return posts


def test_a_run_that_is_stopped_and_killed_in_the_middle(work, posts):
    work.write('stopping.py', STOPPING)
    run = work.start('run', 'stopping', '2')
    eventually(lambda: work.has('there'), 'the post')
    run.stop()
    work.touch('go')
    assert run.code() == -signal.SIGINT
    stopped = set(work.handled())
    assert 0 < len(stopped) < POSTS
    for name in ('there', 'go'):
        (work.path / name).unlink()
    again = work.start('run', 'stopping', '2')
    again.says('^state: .*stopping.state, resuming after key ')
    eventually(lambda: work.has('there'), 'the post')
    for pid in work.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    work.touch('go')
    assert again.code() == -signal.SIGKILL
    killed = set(work.handled()) - stopped
    assert work.finish('run', 'stopping', '2').code() == 0
    work.check(PKS, twice=killed)
    posts.check()
    state = work.state('stopping')
    assert (state['key'], state['count']) == (299, POSTS)
