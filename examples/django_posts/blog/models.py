from django.db import models


class Post(models.Model):
    title = models.CharField(max_length=200)
    # New: it was counted anew each time that the post was shown.
    comment_count = models.IntegerField(null=True)


class Comment(models.Model):
    post = models.ForeignKey(Post, models.CASCADE, related_name='comments')
    text = models.TextField()
    spam = models.BooleanField(default=False)
