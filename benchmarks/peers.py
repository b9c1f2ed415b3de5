"""The peers, each in a process of its own.

    python benchmarks/peers.py PEER SOURCE HANDLER COUNT [CHUNK]

prints the seconds from the moment that all processes are up until the last
result is in.  Exit code 3: a peer that is not installed.
"""

import multiprocessing
import queue
import subprocess
import sys
import threading
import time
from multiprocessing.managers import BaseManager

import jobs

SLAVES = 2
KEY = b'benchmark'


def loop(source, handle):
    """What the work itself takes: no processes, no promises."""
    start = time.monotonic()
    for job in source:
        handle(job)
    return time.monotonic() - start


def pool(source, handle, chunk):
    with multiprocessing.Pool(SLAVES) as workers:
        workers.map(abs, range(100))
        start = time.monotonic()
        for _ in workers.imap_unordered(handle, source, int(chunk)):
            pass
        return time.monotonic() - start


# -- one job at a time over a proxy ---------------------------------------

class Manager(BaseManager):
    pass


def proxied(source, handle):
    """A queue in a manager, and a call of its `get` for every job."""
    shared = queue.Queue(10_000)
    Manager.register('jobs', callable=lambda: shared)
    server = Manager(('127.0.0.1', 0), KEY).get_server()
    ready = multiprocessing.Barrier(SLAVES + 1)
    slaves = [multiprocessing.Process(target=_get_jobs, daemon=True,
                                      args=(server.address, ready, handle))
              for _ in range(SLAVES)]
    for slave in slaves:
        slave.start()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ready.wait()
    start = time.monotonic()
    for job in source:
        shared.put(job)
    for slave in slaves:
        shared.put(None)
    for slave in slaves:
        slave.join()
    return time.monotonic() - start


def _get_jobs(address, ready, handle):
    Manager.register('jobs')
    manager = Manager(address, KEY)
    manager.connect()
    get = manager.jobs().get
    ready.wait()
    for job in iter(get, None):
        handle(job)


# -- the ideal of handlers that sleep -------------------------------------

def ideal(source, handle):
    """What the naps really take, shared out evenly without any cost."""
    with multiprocessing.Pool(SLAVES) as workers:
        tasks = list(source)
        taken = workers.map(_nap, [tasks[n::SLAVES] for n in range(SLAVES)],
                            1)
    return sum(taken) / SLAVES


def _nap(tasks):
    for task in tasks:
        jobs.nap(task)
    return sum(end - begin for begin, end in jobs.naps[-len(tasks):])


# -- where installed ------------------------------------------------------

def celery(source, handle):
    """Celery with Redis; acknowledged when done, as ours are."""
    try:
        import redis
        from celery_app import handle as task
        store = redis.Redis()
        store.ping()
    except Exception as error:
        sys.exit(_missing(error))
    store.flushdb()
    worker = subprocess.Popen(
        [sys.executable, '-m', 'celery', '-A', 'celery_app', 'worker', '-c',
         str(SLAVES), '--loglevel=error'], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    try:
        task.delay(0).get(60)
        start = time.monotonic()
        for job in source:
            task.apply_async((job,), ignore_result=True)
        while store.llen('celery') or store.hlen('unacked'):
            time.sleep(0.01)
        return time.monotonic() - start
    finally:
        worker.terminate()
        worker.wait()


def dask(source, handle):
    try:
        from dask.distributed import Client, wait
    except ImportError as error:
        sys.exit(_missing(error))
    with Client(n_workers=SLAVES, threads_per_worker=1,
                dashboard_address=None) as client:
        wait(client.map(abs, range(SLAVES)))
        start = time.monotonic()
        wait(client.map(handle, list(source), pure=False))
        return time.monotonic() - start


def _missing(error):
    print(f'skipped: {error}', file=sys.stderr)
    return 3


if __name__ == '__main__':
    name, source, handler, count, *rest = sys.argv[1:]
    print(globals()[name](getattr(jobs, source)(count),
                          getattr(jobs, handler), *rest))
