from blog.models import Comment, Post
from django.core.management.base import BaseCommand
from django.db.models import F


class Command(BaseCommand):
    help = 'Make posts and comments; one post in ten is deleted again.'

    def add_arguments(self, parser):
        parser.add_argument('posts', type=int)

    def handle(self, posts, **options):
        Post.objects.bulk_create(
            (Post(title=f'Post {number}') for number in range(posts)),
            batch_size=1000)
        Post.objects.alias(rest=F('pk') % 10).filter(rest=0).delete()
        left = Post.objects.values_list('pk', flat=True)
        Comment.objects.bulk_create(
            (Comment(post_id=pk, text='Hello', spam=number == 3)
             for pk in left for number in range(pk % 5)), batch_size=1000)
        print(f'{len(left)} posts, {Comment.objects.count()} comments')
