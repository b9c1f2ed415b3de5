"""A queue with ten jobs, and its server, unless a test has its own."""

import pytest
from fakes import RUN

from taskmaster.master.jobqueue import JobQueue


@pytest.fixture
def queue():
    queue = JobQueue(100, RUN)
    for job in range(1, 11):
        queue.put(job)
    return queue


@pytest.fixture
def server(serve, queue):
    return serve(queue)
