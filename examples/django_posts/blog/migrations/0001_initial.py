import django.db.models.deletion
from django.db import migrations, models

ID = models.BigAutoField(auto_created=True, primary_key=True,
                         serialize=False, verbose_name='ID')


class Migration(migrations.Migration):

    initial = True

    operations = [
        migrations.CreateModel('Post', [
            ('id', ID),
            ('title', models.CharField(max_length=200)),
            ('comment_count', models.IntegerField(null=True)),
        ]),
        migrations.CreateModel('Comment', [
            ('id', ID),
            ('text', models.TextField()),
            ('spam', models.BooleanField(default=False)),
            ('post', models.ForeignKey(
                'blog.post', django.db.models.deletion.CASCADE,
                related_name='comments')),
        ]),
    ]
