"""What jobs cost a master that shares its machine with others: counted alone.

    python benchmarks/cost.py [TREE ...]

The least processor time over some hundred rounds, in one thread: of the
feeder for a job (an int, from a generator), and of the queue for a lease of
10,000.  Trees are taken in turn; this one is the default.
"""

import subprocess
import sys
from pathlib import Path

ROUNDS = 5
MEASURE = '''
import sys, time
sys.path.insert(0, sys.argv[1])
from taskmaster.master.feeder import Feeder
from taskmaster.master.jobqueue import JobQueue
from taskmaster.wire.messages import Introduction, Report

def source():
    yield from range(9000)

def feeder():
    run = Feeder(JobQueue(36_000, 'r'), source)._run
    start = time.thread_time()
    run()
    return (time.thread_time() - start) / 9000 * 1e9

queue, session, done = JobQueue(10_000, 'r'), object(), []
queue.dispatcher.hello(
    Introduction('a', 'a', 1, None, None, None, [], None), session)

def lease():
    global done
    while queue.qsize() < 10_000:
        page, room = queue.page()
        page.extend(range(room))
    report = Report('r', done, *[[]] * (len(Report._fields) - 2))
    start = time.thread_time()
    given = queue.dispatcher.exchange('a', report, 10_000, False, 0, session)
    taken = time.thread_time() - start
    done = [(given.first, given.first + given.size - 1)]
    return taken * 1e6

print(min(feeder() for _ in range(300)), min(lease() for _ in range(300)))
'''


def main():
    trees = sys.argv[1:] or [str(Path(__file__).resolve().parent.parent)]
    for _ in range(ROUNDS):
        for tree in trees:
            feeder, lease = map(float, subprocess.run(
                [sys.executable, '-c', MEASURE, tree], check=True,
                stdout=subprocess.PIPE, text=True).stdout.split())
            print(f'{tree}: feeder {feeder:.1f} ns a job, lease of 10,000 '
                  f'{lease:.0f} us')


if __name__ == '__main__':
    main()
