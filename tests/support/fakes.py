"""Small parts that tests pass in where the real one is a process or a day.

Everything else in the tests is real: queues, sessions, sockets, threads.
"""

import json
import pickle
import threading
import time
from queue import SimpleQueue

from taskmaster.master.jobqueue import JobQueue
from taskmaster.master.ledger import BATCH
from taskmaster.master.session import Session
from taskmaster.slave.chunk import Chunk, Lease
from taskmaster.wire.fields import BadMessage
from taskmaster.wire.messages import Jobs, Welcome, encoded, reply, request

LONG = 30.0         # seconds in which anything must have happened
RUN = 'run-1'
KEY = b'0123456789abcdef' * 4      # as good as random: never stretched

LEASE = encoded(Jobs(1, 1, 1, b''))[0]
BEFORE, AFTER = 'before', 'after'       # the master executed the call


def until(condition, timeout=LONG):
    """Wait until ``condition()`` is true, and give what it gave."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, 'waited in vain'
        pause.wait(0.002)


def chunk_of(jobs, first=1):
    """A whole lease of these jobs, in a worker's hands."""
    pickled = pickle.dumps([*jobs])
    return Chunk(first, pickle.loads(pickled), Lease(first, pickled))


def add(backlog, first, jobs):
    """A lease for a backlog, as its link takes it in."""
    backlog.add(first, jobs, pickle.dumps(jobs))


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def forward(self, seconds):
        self.now += seconds


class Background(threading.Thread):
    """Runs ``function``; `result` waits and gives or raises its outcome."""

    def __init__(self, function, *args):
        super().__init__(daemon=True)
        self._function, self._args = function, args
        self._outcome = self._error = None
        self.start()

    def run(self):
        try:
            self._outcome = self._function(*self._args)
        except BaseException as error:
            self._error = error

    def result(self, timeout=LONG):
        self.join(timeout)
        assert not self.is_alive(), 'still running'
        if self._error is not None:
            raise self._error
        return self._outcome


def introduction(slave='s1', start=None, holds=(), after=None, workers=1,
                 module=None, run=None):
    """What a slave says of itself, as JSON would carry it."""
    return [slave, f'host:{slave}', workers, module, start,
            run, [list(pair) for pair in holds], after]


def report(done=(), failed=(), refused=(), start=RUN):
    return [start, [list(pair) for pair in done],
            [[number, 'ValueError: bad', 'Traceback ...', 1, '']
             for number in failed],
            [list(one) for one in refused], []]


def take(door, want=1, wait=0.0, prefetch=False, **finished):
    """One round trip: (first number, jobs), or the reply if no lease."""
    given = door.call('exchange', report(**finished), want, prefetch, wait,
                      wait=wait)
    if not isinstance(given, Jobs):
        return given
    jobs = pickle.loads(bytes(given.pickled))
    assert given.span > 0 and len(jobs) == given.size
    return given.first, jobs


def greet(door, slave='s1', **fields):
    """Say hello, and give what the master believes this slave to hold."""
    welcome = door.call('hello', introduction(slave, **fields))
    assert type(welcome) is Welcome
    return welcome.holds


def answer(session, method, args):
    """Of a session, checked as the wire does it."""
    return getattr(session, method)(*request(method, args))


class Direct:
    """Calls on a session of a queue, as `wire.Link` makes them."""

    def __init__(self, queue):
        self._session = Session(queue)

    def call(self, method, *args, wait=0):
        return answer(self._session, method, args)

    def close(self):
        self._session.close()


class MemoryLink:
    """A link to a `MemoryMaster`: a connection without a socket."""

    def __init__(self, master):
        self._master = master
        self._requests, self._replies = SimpleQueue(), SimpleQueue()
        self._dead = False
        threading.Thread(target=self._serve, daemon=True,
                         args=(Session(master.queue),)).start()

    def call(self, method, *args, wait=0):
        fault = self._master.said(method, args)
        if fault == BEFORE:
            self.cut()
        if not self._dead:
            self._requests.put((method, json.loads(json.dumps(args)), fault))
            got = self._replies.get()
            if got is not None:
                return reply(method, got)
        raise EOFError('the peer has gone')

    def cut(self):
        self._dead = True
        self._requests.put(None)
        self._replies.put(None)

    close = cut

    def _serve(self, session):
        try:
            for method, args, fault in iter(self._requests.get, None):
                given = encoded(answer(session, method, args))
                if fault == AFTER:
                    break
                *rest, last = given
                self._replies.put([*json.loads(json.dumps(rest)), bytes(last)]
                                  if given[0] == LEASE
                                  else json.loads(json.dumps(given)))
        except BadMessage:
            pass                        # ends a connection, as on the wire
        finally:
            session.close()
            self.cut()


class MemoryMaster:
    """A queue, the jobs to put into it, and the end of the run.

    ``fault(call number, method)`` says whether a connection drops in that
    call: BEFORE or AFTER the master has executed it.
    """

    def __init__(self, jobs=(), size=10_000, run=RUN, name='mod', fault=None,
                 **options):
        self._news = threading.Event()
        self.queue = JobQueue(size, run, name, changed=self._news.set,
                              **options)
        self.calls = []             # (method, arguments)
        self.failed = []
        self._fault = fault or (lambda number, method: None)
        for job in jobs:
            assert self.queue.put(job)

    def said(self, method, args):
        self.calls.append((method, args))
        return self._fault(len(self.calls) - 1, method)

    def connect(self):
        return MemoryLink(self)

    def finish(self):
        """End the source; tell the slaves when all is finished."""
        self.queue.end()
        return Background(self._finish)

    def _finish(self):
        while not self.queue.complete:
            assert self._news.wait(LONG)
            self._news.clear()
            unrecorded = self.queue.unrecorded()
            if unrecorded:
                self.failed += unrecorded
                self.queue.recorded([job.number for job in unrecorded])
        self.queue.finish('complete')


def check_books(ledger):
    """What a ledger keeps about its pieces agrees with the pieces."""
    books = ledger.pieces
    pieces = {piece.first: piece for piece in books}
    assert list(pieces) == sorted(pieces) == sorted(books._at)
    waiting = [piece for first, piece in pieces.items()
               if piece.holder is None and first not in books.failed]
    assert [piece.first for piece in waiting] == [
        first for first, piece in pieces.items() if piece.turn]
    plain = [piece for piece in waiting if not piece.refused]
    assert list(books._isolated) == [p.first for p in plain if p.isolated]
    assert list(books._suspect) == [
        p.first for p in plain if p.suspect and not p.isolated]
    assert list(books._innocent) == [
        p.first for p in plain if not p.suspect]
    refused = [piece for piece in waiting if piece.refused]
    for line, isolated in ((books._refused, False),
                           (books._refused_isolated, True)):
        assert sorted(p.first for p in line) == [
            p.first for p in refused if p.isolated == isolated]
    assert books.waiting == len(waiting)
    assert books.returned_jobs == sum(
        piece.size for piece in waiting if not piece.isolated)
    assert sorted(pieces) == sorted(
        [piece.first for slave in ledger.slaves.values()
         for piece in slave.pieces] + [piece.first for piece in waiting]
        + list(books.failed))
    for who, those in books._refused_by.items():
        assert those and all(who <= piece.refused.keys()
                             for piece in those.values())
    for piece in refused:
        for who in piece.refused:
            assert books._refused_by[frozenset([who])][piece.first] is piece
        assert books._refused_by[frozenset(piece.refused)]
        assert piece.size == 1
    for slave in ledger.slaves.values():
        assert all(piece.holder is slave for piece in slave.pieces)
        assert slave.in_hand == sum(piece.size for piece in slave.pieces)
        assert slave.isolated == sum(p.isolated for p in slave.pieces)
        assert list(slave.leases) == sorted(slave.leases)
        assert all(piece.since == since for since, lease in
                   slave.leases.items() for piece in lease)
        assert slave.claims == {p for p in waiting if p.claim is slave}
        assert (slave.id not in ledger.leasing.reserved
                or books.isolated_wait)
    assert [job.number for job in ledger.unrecorded()] == [
        *books.failed][:BATCH]
    for first, piece in books.failed.items():
        assert (piece.first, piece.size) == (first, 1)
        assert piece.failure.job == piece.job
    assert books.jobs == sum(piece.size for piece in pieces.values())
    assert all(piece.size == len(piece.jobs) <= len(piece._list)
               < 2 * piece.size or piece.size == len(piece._list)
               for piece in pieces.values())
