"""What the master allocates for a job and for a lease: counted, not timed.

An int is one itself, whatever we do; one more for each would be a tenth of
the master's time.  The counter is that of `benchmarks/counters.py`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COUNTER = ROOT / 'benchmarks' / 'counters.c'
# Allocations, at most.  There are 1.09, 135 and 0.001, on each Python nearly
# the same; who needs more says why.
A_JOB = 1.2
A_LEASE = 160
A_LEASED_JOB = 0.01

# In a process of its own, in one thread, so that the same is counted each
# time: feeding so many ints, or so many leases of so many.
COUNTED = '''
import glob, os, struct, sys
from taskmaster.master import feeder
from taskmaster.master.feeder import Feeder
from taskmaster.master.jobqueue import JobQueue
from taskmaster.master.session import Session
from taskmaster.wire.messages import Introduction, Report, encoded

feeder.QUICK = float(sys.argv[1])       # no clock decides
file = os.open(glob.glob(f'*{os.getpid()}.allocated')[0], os.O_RDONLY)

def allocated():
    return struct.unpack('@l', os.pread(file, 8, 0))[0]

def ints(count):
    yield from range(1000, 1000 + count)

def fed(count):
    run = Feeder(JobQueue(100_000, 'r'), lambda: ints(count))._run
    before = allocated()
    run()
    return allocated() - before

def leased(leases, size):
    queue = JobQueue(100_000, 'r')
    Feeder(queue, lambda: ints(90_000))._run()
    session, done = Session(queue), []
    session.hello(Introduction('a', 'a', 1, None, None, None, [], None))
    queue._ledger.ended = False         # or they are shared out
    for number in range(leases):
        if number == 1:                 # from the second on all is warm
            before = allocated()
        reply = encoded(session.exchange(
            Report('r', done, [], [], []), size, False, 0))
        assert reply[3] == size, reply
        done = [(reply[2], reply[2] + size - 1)]
    return (allocated() - before) / (leases - 1)

fed(1000), leased(2, 100)               # what is made once
print((fed(80_000) - fed(40_000)) / 40_000, leased(21, 2000), leased(21, 4000))
'''


@pytest.fixture(scope='module')
def counter(tmp_path_factory):
    compiler = shutil.which('cc') or pytest.skip('no C compiler')
    library = tmp_path_factory.mktemp('counter') / 'counters.so'
    subprocess.run([compiler, '-shared', '-fPIC', '-o', library, COUNTER],
                   check=True, timeout=60)
    return library


def counted(library, folder, quick='1e9'):
    """Allocations a job fed, and a lease of 2,000 and of 4,000."""
    environ = {**{name: value for name, value in os.environ.items()
                  if not name.startswith(('PYTHON', 'COV'))},
               'PYTHONPATH': str(ROOT), 'LD_PRELOAD': str(library),
               'PYTHONMALLOC': 'malloc', 'BENCHMARK_FOLDER': str(folder)}
    return map(float, subprocess.run(
        [sys.executable, '-c', COUNTED, quick], cwd=folder, env=environ,
        check=True, stdout=subprocess.PIPE, text=True,
        timeout=60).stdout.split())


def test_a_job_and_a_lease_are_few_allocations(counter, tmp_path):
    job, lease, double = counted(counter, tmp_path)
    assert 1 <= job <= A_JOB
    assert lease <= A_LEASE
    assert (double - lease) / 2000 <= A_LEASED_JOB


def test_one_allocation_more_is_seen(counter, tmp_path):
    """Jobs that come one by one have a clock asked for each."""
    job, _, _ = counted(counter, tmp_path, quick='-1')
    assert job > A_JOB + 1
