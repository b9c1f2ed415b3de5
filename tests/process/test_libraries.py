"""What operators use in handlers and sources: all jobs once, nothing left.

Each is started, stopped by SIGTERM in the middle, and resumed.  A job is
recorded when what it had done elsewhere has come back.
"""

import signal

import pytest
from programs import eventually, needs_package

# Modules of other people behave alike on any Python.
pytestmark = pytest.mark.hunt

JOBS = 20

# The handler of each; `{record}` is done once its work is.
HANDLERS = {
    'multiprocessing.Process': '''
import multiprocessing

def square(job, queue):
    queue.put(job * job)

def handle_job(job):
    queue = multiprocessing.SimpleQueue()
    child = multiprocessing.Process(target=square, args=(job, queue))
    child.start()
    assert queue.get() == job * job
    child.join()
    assert child.exitcode == 0
    record(job)
''',
    'Process.terminate': '''
import multiprocessing, time

def handle_job(job):
    child = multiprocessing.Process(target=time.sleep, args=(100,))
    child.start()
    child.terminate()
    child.join()
    assert child.exitcode == -15, child.exitcode
    record(job)
''',
    'Pool': '''
import multiprocessing

def square(n):
    return n * n

def handle_job(job):
    with multiprocessing.Pool(2) as pool:       # its end is a SIGTERM
        assert pool.map(square, [job, 2]) == [job * job, 4]
    record(job)
''',
    'Manager': '''
import multiprocessing

def setup():
    with multiprocessing.Manager() as manager:
        yield manager.dict()

def handle_job(job, shared):
    shared[job] = job * job
    assert shared.pop(job) == job * job
    record(job)
''',
    'ThreadPoolExecutor': '''
from concurrent.futures import ThreadPoolExecutor
pool = ThreadPoolExecutor(4)                    # never shut down

def handle_job(job):
    assert list(pool.map(abs, [-job, 2])) == [job, 2]
    record(job)
''',
    'ProcessPoolExecutor': '''
from concurrent.futures import ProcessPoolExecutor
pool = None

def setup():
    global pool
    pool = ProcessPoolExecutor(2)               # never shut down

def handle_job(job):
    assert list(pool.map(abs, [-job, 2])) == [job, 2]
    record(job)
''',
    'joblib': '''
from joblib import Parallel, delayed

def handle_job(job):
    assert Parallel(n_jobs=2)(delayed(abs)(n) for n in (-job, 2)) == [job, 2]
    record(job)
''',
    'subprocess': '''
import subprocess, sys

def handle_job(job):
    out = subprocess.run(['sh', '-c', f'echo {job}'], stdout=-1, check=True)
    assert int(out.stdout) == job
    record(job)
''',
    'os.fork': '''
import os, sys

def handle_job(job):
    child = os.fork()
    if child == 0:
        if job % 2:
            sys.exit(3)
        return                                  # as bad a way to end
    assert os.waitpid(child, 0)[1] == (3 << 8 if job % 2 else 0)
    record(job)
''',
    'asyncio': '''
import asyncio, signal
heard = []

async def handle_job(job):
    loop = asyncio.get_running_loop()
    if not heard:
        heard.append(loop.add_signal_handler(signal.SIGUSR2, print))
        loop.add_signal_handler(signal.SIGTERM, print)
    process = await asyncio.create_subprocess_exec('true')
    assert await process.wait() == 0
    record(job)
''',
    'asyncio.run': '''
import asyncio, signal

async def work(job):
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)
    await asyncio.sleep(0.01)

def handle_job(job):
    asyncio.run(work(job))
    record(job)
''',
    'uvloop': '''
import asyncio, signal, uvloop

async def work(job):
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)
    process = await asyncio.create_subprocess_exec('true')
    assert await process.wait() == 0

def handle_job(job):
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(work(job))
    finally:
        loop.close()
    record(job)
''',
    'trio': '''
import trio

def handle_job(job):
    trio.run(trio.sleep, 0.01)
    record(job)
''',
    'gevent': '''
import gevent                                   # nothing is patched

def handle_job(job):
    tasks = [gevent.spawn(gevent.sleep, 0.01) for _ in range(3)]
    gevent.joinall(tasks, raise_error=True)
    record(job)
''',
    'signal.alarm': '''
import signal, time

class Late(Exception):
    pass

def late(number, frame):
    raise Late

def handle_job(job):
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        time.sleep(100)
    except Late:
        record(job)
''',
    'SIGINT and SIGTERM ignored': '''
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)

def handle_job(job):
    for number in signal.SIGINT, signal.SIGTERM:
        signal.signal(number, signal.SIG_IGN)
    time.sleep(0.01)
    record(job)
''',
    'numpy': '''
import numpy

def handle_job(job):
    square = numpy.full((100, 100), job)
    assert (square @ square)[0][0] == 100 * job * job
    record(job)
''',
    'a call that holds the GIL': '''
import ctypes

def handle_job(job):
    ctypes.PyDLL(None).usleep(20_000)
    record(job)
''',
    'threads': '''
import threading, time

def handle_job(job):
    threading.Thread(target=time.sleep, args=(0.5,)).start()    # no daemon
    time.sleep(0.01)
    record(job)
''',
    'a daemon left over': '''
import multiprocessing, time
left = []

def handle_job(job):
    if not left:
        left.append(multiprocessing.Process(target=time.sleep, args=(600,),
                                            daemon=True))
        left[0].start()
    time.sleep(0.01)
    record(job)
''',
}

# The source of each: numbers after `last`, that come from elsewhere.
SOURCES = {
    'multiprocessing.Process': '''
import multiprocessing

def read(queue, last):
    for n in range(last + 1, JOBS + 1):
        queue.put(n)
    queue.put(None)

def get_jobs(last=0):
    queue = multiprocessing.Queue(10)
    multiprocessing.Process(target=read, args=(queue, last),
                            daemon=True).start()
    yield from iter(queue.get, None)
''',
    'Pool': '''
import multiprocessing

def get_jobs(last=0):
    with multiprocessing.Pool(2) as pool:
        yield from pool.imap(abs, range(last + 1, JOBS + 1))
''',
    'ProcessPoolExecutor': '''
from concurrent.futures import ProcessPoolExecutor

def get_jobs(last=0):
    with ProcessPoolExecutor(2) as pool:
        yield from pool.map(abs, range(last + 1, JOBS + 1))
''',
    'ThreadPoolExecutor': '''
from concurrent.futures import ThreadPoolExecutor

def get_jobs(last=0):
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(abs, range(last + 1, JOBS + 1))
''',
    'joblib': '''
from joblib import Parallel, delayed

def get_jobs(last=0):
    for first in range(last + 1, JOBS + 1, 10):
        yield from Parallel(n_jobs=2)(delayed(abs)(n) for n in range(
            first, min(first + 10, JOBS + 1)))
''',
    'subprocess': '''
import subprocess

def get_jobs(last=0):
    with subprocess.Popen(['seq', str(last + 1), str(JOBS)],
                          stdout=-1) as process:
        yield from map(int, process.stdout)
''',
    'os.fork': '''
import os

def get_jobs(last=0):
    for n in range(last + 1, JOBS + 1):
        if n % 10 == 0:
            child = os.fork()
            if child == 0:
                return                          # the child: no more jobs
            assert os.waitpid(child, 0)[1] == 0
        yield n
''',
    'asyncio.run': '''
import asyncio

async def double(n):
    await asyncio.sleep(0.001)
    return n

def get_jobs(last=0):
    for n in range(last + 1, JOBS + 1):
        yield asyncio.run(double(n))
''',
    'trio': '''
import trio

async def double(n):
    await trio.sleep(0.001)
    return n

def get_jobs(last=0):
    for n in range(last + 1, JOBS + 1):
        yield trio.run(double, n)
''',
    'SIGINT and SIGTERM ignored': '''
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, lambda number, frame: None)

def get_jobs(last=0):
    yield from range(last + 1, JOBS + 1)
''',
}

PACKAGES = {'joblib', 'uvloop', 'trio', 'gevent', 'numpy'}


HEAD = f'''
from recorder import block, record
JOBS = {JOBS}
'''
# Jobs that do nothing.
IDLE = '''
def handle_job(job):
    record(job)
'''
# Whatever the source, it is stopped in the middle.
STOPPED = '''
source = get_jobs

def get_jobs(last=0):
    for n in source(last):
        if n == 12:
            block('half')
        yield n
'''
# A source that is stopped in the middle.
PLAIN = '''
def get_jobs(last=0):
    for n in range(last + 1, JOBS + 1):
        if n == 12:
            block('half')
        yield n
'''


def stopped_and_resumed(work):
    """Two runs: one stopped in the middle by SIGTERM, and one to the end.

    One slave is enough: it is the guests of a process that may be in its way.
    """
    first = work.start('run', 'migrate', '1')
    eventually(lambda: work.has('half') and len(work.handled()) >= 5,
               'the fifth job')
    first.stop(signal.SIGTERM)
    work.touch('go')
    assert first.code() == -signal.SIGTERM
    # A tracker of resources (multiprocessing's, loky's) ends after us.
    eventually(lambda: not work.pids(), 'the end of all processes')
    assert len(work.handled()) < JOBS
    last = work.finish('run', 'migrate', '1')
    assert last.process.returncode == 0
    eventually(lambda: not work.pids(), 'the end of all processes')
    work.check(range(1, JOBS + 1))
    for run in first, last:
        assert 'starting another' not in run.err
        assert 'did not end' not in run.err
        assert 'Traceback' not in run.err


def needs(name):
    package = name.partition('.')[0]
    if package in PACKAGES:
        needs_package(package)


@pytest.mark.parametrize('name', HANDLERS)
def test_in_handlers(work, name):
    needs(name)
    work.write('migrate.py', HEAD + PLAIN + HANDLERS[name])
    stopped_and_resumed(work)


@pytest.mark.parametrize('name', SOURCES)
def test_in_sources(work, name):
    needs(name)
    work.write('migrate.py', HEAD + IDLE + SOURCES[name] + STOPPED)
    stopped_and_resumed(work)
