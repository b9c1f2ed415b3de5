"""Whoever holds the key may say anything: the master stays what it is.

Whatever comes, the master answers or ends that connection, at once; it runs
nothing and opens nothing; its ledger's books agree, and in the end a slave
that behaves is served all that is left.  FUZZ=100000 makes a long hunt of
so many messages.
"""

import json
import os
import random
import socket
import struct
import sys
import threading
from contextlib import suppress

import pytest
from fakes import KEY, LONG, RUN, Background, Direct, check_books, greet, take
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskmaster.master.jobqueue import JobQueue
from taskmaster.master.session import Session
from taskmaster.wire import connection
from taskmaster.wire.client import connect
from taskmaster.wire.handshake import prove_to_master
from taskmaster.wire.fields import BadMessage
from taskmaster.wire.messages import COMPLETE, Over, encoded, reply, request

MESSAGES = int(os.environ.get('FUZZ', 400))
AT_ONCE = 40            # messages of one history
JOBS = 200

# Whatever runs or opens something; the names are CPython's audit events.
FORBIDDEN = ('exec', 'compile', 'import', 'open', 'os.', 'subprocess.',
             'pickle.', 'marshal.', 'ctypes.', 'code.')

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 300), st.integers(),
    st.floats(), st.text(max_size=20),
    st.sampled_from([RUN, 's1', 's2', 'x' * 1001, 1 << 62, -1]))
anything = st.recursive(scalars, lambda inner: st.one_of(
    st.lists(inner, max_size=5),
    st.dictionaries(st.text(max_size=5), inner, max_size=3)), max_leaves=10)


def mostly(strategy):
    """What should be there; one time in eight it is not."""
    return st.integers(0, 7).flatmap(
        lambda n: strategy if n else anything)


number = mostly(st.integers(1, JOBS + 10))
ranges = mostly(st.lists(
    mostly(st.tuples(number, number).map(list)), max_size=4))
text = mostly(st.sampled_from(['ValueError: bad', '', '\ud800', 'x' * 1000]))
failed = mostly(st.lists(
    mostly(st.tuples(number, text, text, number, text).map(list)), max_size=3))
refused = mostly(st.lists(
    mostly(st.tuples(number, number, text).map(list)), max_size=3))
run = mostly(st.just(RUN))
slave = mostly(st.sampled_from(['s1', 's2', 's3']))
hello = st.tuples(mostly(st.tuples(
    slave, text, mostly(st.integers(1, 9)),
    mostly(st.none()), mostly(st.sampled_from([None, RUN])),
    mostly(st.sampled_from([None, 'mod'])), ranges,
    mostly(st.sampled_from([None, 's1', 's2']))).map(list)))
work = st.tuples(
    mostly(st.tuples(run, ranges, failed, refused).map(list)),
    mostly(st.integers(0, 300)), mostly(st.booleans()), st.just(0))
give_back = st.tuples(run, ranges)
messages = st.tuples(st.integers(0, 2), st.one_of(
    st.tuples(st.just('hello'), hello), st.tuples(st.just('exchange'), work),
    st.tuples(st.just('give_back'), give_back),
    st.tuples(anything, st.lists(anything, max_size=5))))


class Watch:
    """Notes what the interpreter is asked to do by the fuzzed thread."""

    def __init__(self):
        self.thread, self.seen = None, []
        sys.addaudithook(self._note)        # for good: there is no other way

    def _note(self, event, arguments):
        if (self.thread == threading.get_ident()
                and event.startswith(FORBIDDEN)):
            self.seen.append((event, arguments))

    def __enter__(self):
        self.thread = threading.get_ident()

    def __exit__(self, *_):
        self.thread = None


watch = Watch()


def served(door):
    """A slave that behaves takes and does all that is left."""
    greet(door, 'good')
    done = []
    while True:
        reply = take(door, 100, 0, done=done)
        if type(reply) is not tuple:        # no more jobs
            return reply
        first, jobs = reply
        done = [(first, first + len(jobs) - 1)]


@pytest.mark.hunt
@settings(max_examples=-(-MESSAGES // AT_ONCE),
          suppress_health_check=list(HealthCheck))
@given(st.lists(messages, min_size=AT_ONCE, max_size=AT_ONCE))
def test_nothing_that_is_said_breaks_the_books(history):
    queue = JobQueue(JOBS, RUN, 'mod')
    for job in range(1, JOBS + 1):
        queue.put(job)
    queue.end()
    sessions = [Session(queue) for _ in range(3)]
    watermark = 0
    for who, (method, arguments) in history:
        # As `Server.serve_client` does it.
        arguments = json.loads(json.dumps(arguments))
        session = sessions[who]
        try:
            with watch:
                checked = request(method, arguments)
                said = encoded(getattr(session, method)(*checked))
                reply(method, said)        # it is what it must be
        except BadMessage:
            session.close()
            sessions[who] = Session(queue)
        assert not watch.seen
        check_books(queue._ledger)
        queue.recorded([job.number for job in queue.unrecorded()])
        number, job = queue.watermark()
        assert watermark <= number == (job or 0) <= JOBS
        watermark = number
    for session in sessions:
        session.close()
    queue.dispatcher._clock = lambda: 1e12  # all that they held comes back
    queue.expire()
    last = served(Direct(queue))
    queue.recorded([job.number for job in queue.unrecorded()])
    assert queue.complete and queue.watermark() == (JOBS, JOBS), last


def test_no_bytes_that_are_sent_stop_the_master(serve):
    """Mutated frames, over real connections that have proved the key."""
    queue = JobQueue(JOBS, RUN, 'mod')
    for job in range(1, JOBS + 1):
        queue.put(job)
    queue.end()
    server = serve(queue)
    dice = random.Random(5)
    frames = [json.dumps(['queue', 'hello', [[
        's1', 'x', 1, None, None, None, [], None]], {}]),
        json.dumps(['queue', 'exchange', [
            [RUN, [[1, 5]], [[7, 'e', 't', 1, '']], [[8, 9, 'r']]], 5, True,
            0], {}]),
        json.dumps(['queue', 'give_back', [RUN, [[1, 9]]], {}])]

    def mutated():
        data = bytearray(dice.choice(frames).encode())
        for _ in range(dice.choice((0, 0, 1, 1, 2, 5))):
            at = dice.randrange(len(data))
            data[at:at + dice.randrange(3)] = dice.choice(
                (b'', b'[', b']', b'"', b'9' * 30, b'-1', b'\n', b'null',
                 bytes([dice.randrange(256)]), data[at:at + 20]))
        size = len(data) if dice.random() < 0.95 else dice.getrandbits(64)
        return struct.pack('!Q', size) + data

    def talk():
        conn = connection.Connection(
            socket.create_connection(server.address, LONG))
        try:
            prove_to_master(conn, KEY)
            conn.send((None, 'accept_connection', ('slave',), {}))
            assert conn.recv() == ['#RETURN', None]
            sent = dice.randrange(1, 20)
            with suppress(OSError):         # it was cut
                for _ in range(sent):
                    frame = mutated()
                    conn._sock.sendall(frame + conn._macs[0].next([frame]))
                conn._sock.shutdown(socket.SHUT_WR)
                while conn._sock.recv(1 << 16):
                    pass
            return sent
        finally:
            conn.close()

    sent = 0
    while sent < MESSAGES // 4:
        sent += Background(talk).result()
    check_books(queue._ledger)
    queue.dispatcher._clock = lambda: 1e12
    queue.expire()
    link = connect(server.address, KEY)
    try:
        served(link)
        queue.recorded([job.number for job in queue.unrecorded()])
        assert queue.complete
        queue.finish(COMPLETE)
        assert take(link) == Over(COMPLETE)
    finally:
        link.close()
