"""The Celery application of the optional peer."""

from celery import Celery

app = Celery('celery_app', broker='redis://', backend='redis://')
app.conf.task_acks_late = True


@app.task
def handle(job):
    pass
