"""Many slaves in one process, each the real thing on threads of its own.

    python benchmarks/crowd.py HOST:PORT COUNT

says when all are connected, and when all have been served; at the end when
each was first, and when each lease was begun, of how many jobs.
"""

import os
import secrets
import sys
import threading
import time
from functools import partial

import jobs

from taskmaster.address import address
from taskmaster.slave.link import Identity
from taskmaster.slave.slave import Slave
from taskmaster.usercode.handler import Handler
from taskmaster.wire.client import connect

place = address(sys.argv[1])
count = int(sys.argv[2])
key = os.environ['TASKMASTER_KEY'].encode()
connected = set()
served = {}         # when each was served first
leases = []         # when each was begun, and how many jobs it had


class Noted(Handler):
    def __init__(self, number):
        super().__init__(jobs.noop)
        self._number = number

    def work(self, call, run, ways):
        leases.append((time.monotonic(), len(run.jobs)))
        if self._number not in served:
            served[self._number] = time.monotonic()
            if len(served) == count:
                jobs.sign_in('served')
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
