"""Fill a new column of a Django project's posts: how many comments each has.

In the folder of the project (SQLite), or with POSTGRES_DB=name (PostgreSQL):

    $ python manage.py migrate
    $ python manage.py fill 10000
    9000 posts, 20000 comments
    $ tm-run count_comments 4
    state: none in .../count_comments.state; starting at the beginning
    Taskmaster server running on '127.0.0.1:3050'
    Current Job: 1078 | Rate:  906.00/s | Elapsed Time: 0:00:01 | ...
    ^C
    stopping: jobs in hand are finished and saved first; once more ...
    Current Job: 1520 | Rate: 1146.55/s | ... | draining
    1520 jobs in 0:00:01 (1142.88/s): 1520 done, 0 failed, ...
    stopped by SIGINT; start again to go on
    $ tm-run count_comments 4
    state: ..., resuming after key 1688 (1520 jobs, 0 failed)
    Taskmaster server running on '127.0.0.1:3050'
    Current Job: 9000 | Rate: 1929.14/s | Elapsed Time: 0:00:03 | ...
    7480 jobs in 0:00:03 (1926.19/s): 7480 done, 0 failed, ...
    complete (exit code 0)

A job is a post, pickled: master and slaves need the same models, and the same
Django, which warns of another.  Where they differ, yield `post.pk` instead.
Each slave, and each of its threads, makes a connection of its own.
"""

import os

import django

os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'blog.settings')
django.setup()      # before the models are imported, here and in each slave

from blog.models import Comment, Post  # noqa: E402
from django.db import close_old_connections  # noqa: E402

from taskmaster.iterators import RangeQuerySetWrapper  # noqa: E402


def get_jobs(last=0):
    for post in RangeQuerySetWrapper(Post.objects.all(), min_id=last):
        yield post


def handle_job(post):
    close_old_connections()     # a broken one, so that the next job has new
    count = Comment.objects.filter(post=post, spam=False).count()
    Post.objects.filter(pk=post.pk).update(comment_count=count)


def count_jobs():
    return Post.objects.count()
