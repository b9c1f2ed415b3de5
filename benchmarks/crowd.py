"""Many slaves in one process, each the real thing on threads of its own.

    python benchmarks/crowd.py HOST:PORT COUNT

says when all are connected, and when their leases have grown; at the end
when each was served first, and when each lease was begun, of how many jobs.
"""

import os
import secrets
import sys
import threading
import time
from collections import Counter
from functools import partial

import jobs

from taskmaster.address import address
from taskmaster.slave.link import Identity
from taskmaster.slave.slave import Slave
from taskmaster.usercode.handler import Handler
from taskmaster.wire.client import connect

# Leases until a slave has those of 10,000 no-op jobs: each is of 8 times as
# many as the one before.
GROWN = 6

place = address(sys.argv[1])
count = int(sys.argv[2])
key = os.environ['TASKMASTER_KEY'].encode()
connected = set()
served = {}         # when each was served first
had = Counter()     # how many leases each has had
grown = set()
leases = []         # when each was begun, and how many jobs it had


class Noted(Handler):
    def __init__(self, number):
        super().__init__(jobs.noop)
        self._number = number

    def work(self, call, run, ways):
        now, number = time.monotonic(), self._number
        leases.append((now, len(run.jobs)))
        served.setdefault(number, now)
        had[number] += 1
        if had[number] == GROWN:
            grown.add(number)
            if len(grown) == count:
                jobs.sign_in('grown')
        super().work(call, run, ways)


def note(number, news):
    connected.add(number)
    if len(connected) == count:
        jobs.sign_in('connected')


def slave(number):
    Slave(partial(connect, place, key), Noted(number),
          Identity(secrets.token_hex(8), f'slave-{number}'),
          tell=partial(note, number)).run()


if __name__ == '__main__':
    threads = [threading.Thread(target=slave, args=(number,))
               for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    jobs.notes.update(served=list(served.values()), leases=leases)
