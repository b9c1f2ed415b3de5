"""Fill a new column of a Django project's posts: how many comments each has.

In the folder of the project (SQLite), or with POSTGRES_DB=name (PostgreSQL):

    $ python manage.py migrate
    $ python manage.py fill 10000
    9000 posts, 20000 comments
    $ tm-run count_comments 4
    state: none in .../count_comments.state; starting at the beginning
    Taskmaster server running on '127.0.0.1:3050'
    Current Job: 508 | Rate:  433.93/s | Elapsed Time: 0:00:01 | ...
    ^C
    stopping: jobs in hand are finished and saved first; once more ...
    Current Job: 837 | Rate:  643.35/s | ... | draining
    $ tm-run count_comments 4
    state: .../count_comments.state, resuming after key 929 (837 jobs, ...
    Taskmaster server running on '127.0.0.1:3050'
    Current Job: 4395 | Rate: 1104.17/s | Elapsed Time: 0:00:03 | ...
    Current Job: 9000 | Rate: 1612.48/s | Elapsed Time: 0:00:06 | ...

A job is a post, pickled: master and slaves need the same models, and the same
Django, which warns of another.  Where they differ, yield `post.pk` instead.
Each slave, and each of its threads, makes a connection of its own.
"""

import os

import django

os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'blog.settings')
django.setup()      # before the models are imported, here and in each slave

from django.db import close_old_connections     # noqa: E402

from blog.models import Comment, Post   # noqa: E402
from taskmaster.iterators import RangeQuerySetWrapper   # noqa: E402


def get_jobs(last=0):
    for post in RangeQuerySetWrapper(Post.objects.all(), min_id=last):
        yield post


def handle_job(post):
    close_old_connections()     # a broken one, so that the next job has new
    count = Comment.objects.filter(post=post, spam=False).count()
    Post.objects.filter(pk=post.pk).update(comment_count=count)


def count_jobs():
    return Post.objects.count()
