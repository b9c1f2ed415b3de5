"""The master's end of the wire: strangers, wrong keys, slaves that lie."""

import hashlib
import hmac
import logging
import multiprocessing.connection
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import threading
from contextlib import ExitStack, closing, suppress
from multiprocessing import AuthenticationError

import pytest
from fakes import (KEY, LONG, RUN, Background, Clock, greet, introduction,
                   report, take, until)

from taskmaster.wire.connection import Connection
from taskmaster.errors import KeyRefused, Unreachable
from taskmaster.master.jobqueue import JobQueue
from taskmaster.wire import client, handshake
from taskmaster.wire import server as serving
from taskmaster.wire.messages import PREAMBLE, REQUEST_BYTES

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


@pytest.fixture
def queue():
    queue = JobQueue(100, RUN)
    for job in range(1, 11):
        queue.put(job)
    return queue


@pytest.fixture
def server(serve, queue):
    return serve(queue)


@pytest.fixture
def stranger(server):
    """Opens bare sockets to the server."""
    opened = []

    def open():
        sock = socket.create_connection(server.address, LONG)
        opened.append(sock)
        return sock
    yield open
    for sock in opened:
        sock.close()


@pytest.fixture
def member(server):
    """Opens connections that have proved the key, to say anything on."""
    opened = []

    def open():
        conn = Connection(socket.create_connection(server.address, LONG))
        opened.append(conn)
        handshake.prove_to_master(conn, KEY)
        conn.send((None, 'accept_connection', ('slave',), {}))
        assert conn.recv() == ['#RETURN', None]
        return conn
    yield open
    for conn in opened:
        conn.close()


def frame(body):
    return struct.pack('!Q', len(body)) + body


def all_of(sock):
    """All that comes until the connection ends."""
    heard = b''
    with suppress(ConnectionResetError):
        while True:
            chunk = sock.recv(1 << 16)
            if not chunk:
                break
            heard += chunk
    return heard


def finish(sock):
    """Say that this was all."""
    with suppress(OSError):             # the other has gone already
        sock.shutdown(socket.SHUT_WR)


def a_slave_is_served(server, number=1):
    with closing(client.connect(server.address, KEY)) as link:
        greet(link, 'good')
        assert take(link) == (number, [number])


# -- who does not hold the key --------------------------------------------

def test_a_wrong_key_is_refused_on_both_sides(server, caplog):
    for _ in range(3):
        with pytest.raises(KeyRefused, match='--key') as info:
            client.connect(server.address, b'another key')
    assert info.value.exit_code == 77
    until(lambda: not server._unproven)
    said = [record for record in caplog.records if 'key' in record.message]
    assert len(said) == 1 and said[0].levelno == logging.WARNING
    assert '127.0.0.1:' in said[0].message      # who it was
    a_slave_is_served(server)


def test_warnings_that_were_left_out_are_counted(server, caplog):
    for _ in range(3):
        with pytest.raises(KeyRefused):
            client.connect(server.address, b'another key')
    kind = '%s does not hold the key'
    until(lambda: server._quiet._kinds[kind][1] == 2)
    server._quiet.warn('another kind')      # is not left out
    assert 'another kind' in caplog.text
    server._quiet._kinds[kind] = 0.0, 2     # ten seconds later
    with pytest.raises(KeyRefused):
        client.connect(server.address, b'another key')
    until(lambda: '2 more' in caplog.text)


def test_a_master_that_does_not_hold_the_key_is_refused():
    """It lets everybody in, to send them its jobs."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        def impostor():
            sock, _ = listener.accept()
            with closing(Connection(sock)) as conn:
                conn.recv_bytes(100)
                conn.send_bytes(b'#CHALLENGE#' + b'x' * 20)
                conn.recv_bytes(256)
                conn.send_bytes(b'#WELCOME#')
                conn.recv_bytes(256)            # now it is to prove itself
                conn.send_bytes(b'no idea')
                with suppress(EOFError, OSError):
                    return conn.recv_bytes(256)

        lying = Background(impostor)
        with pytest.raises(KeyRefused):
            client.connect(listener.getsockname(), KEY)
        assert lying.result() in (b'#FAILURE#', None)


def relay(conn, other):
    """One frame from here to there."""
    data = conn.recv_bytes(256)
    other.send_bytes(data)
    return data


def test_a_slaves_challenge_reflected_is_not_answered(server):
    """An impostor between two slaves: it has one answer the other."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        victims = [Background(client.connect, listener.getsockname(), KEY)
                   for _ in range(2)]
        conns = []
        for _ in victims:
            sock, _ = listener.accept()
            conns.append(Connection(sock))
        one, other = conns
        with closing(one), closing(other):
            for conn in conns:
                assert conn.recv_bytes(100) == PREAMBLE
            # It lets the first in, whatever that answers, ...
            one.send_bytes(b'#CHALLENGE#' + b'x' * 20)
            one.recv_bytes(256)
            one.send_bytes(b'#WELCOME#')
            # ... and has the second one answer the challenge it gets.
            assert relay(one, other).startswith(b'#CHALLENGE#')
            relay(other, one)
            assert one.recv_bytes(256) == b'#FAILURE#'
            other.cut()
        outcomes = []
        for victim in victims:
            with pytest.raises((KeyRefused, EOFError, OSError)) as info:
                victim.result()
            outcomes.append(info.type)
        assert KeyRefused in outcomes


def test_the_librarys_own_handshake_falls_for_that():
    """So that the test above can fail: there, both sides prove one key."""
    with multiprocessing.connection.Listener(('127.0.0.1', 0)) as listener:
        victims = [Background(
            lambda: multiprocessing.connection.Client(
                listener.address, authkey=KEY)) for _ in range(2)]
        one, other = listener.accept(), listener.accept()
        with closing(one), closing(other):
            one.send_bytes(b'#CHALLENGE#' + b'x' * 20)
            one.recv_bytes(256)
            one.send_bytes(b'#WELCOME#')
            assert relay(one, other).startswith(b'#CHALLENGE#')
            relay(other, one)
            assert one.recv_bytes(256) == b'#WELCOME#'
        believed = 0
        for victim in victims:
            with suppress(EOFError, OSError):
                victim.result().close()
                believed += 1
        assert believed == 1


def test_a_masters_challenge_reflected_is_not_answered(server):
    """A stranger has the master itself answer the master's challenge."""
    opened = []
    for _ in range(2):
        opened.append(Connection(socket.create_connection(server.address)))
        opened[-1].send_bytes(PREAMBLE)
    one, other = opened
    with closing(one), closing(other):
        relay(one, other)                   # as if it were an answer
        assert other.recv_bytes(256).startswith(b'#CHALLENGE#')
        assert other.recv_bytes(256) == b'#FAILURE#'    # it was not, and
        gone(other)                                     # answers nothing
    until(lambda: not server._unproven)
    a_slave_is_served(server)


@pytest.mark.parametrize('key', [
    KEY, handshake._derived(KEY, 'master'),
    hmac.new(KEY, b'taskmaster', hashlib.sha256).digest()],
    ids=['as given', "the master's", 'of no side'])
def test_the_key_of_one_side_does_not_prove_the_other(server, stranger, key):
    conn = Connection(stranger())
    conn.send_bytes(PREAMBLE)
    with pytest.raises(AuthenticationError):
        handshake.multiprocessing.connection.answer_challenge(conn, key)


def test_the_slaves_key_proves_a_slave(server, stranger):
    """So that the test above can fail."""
    conn = Connection(stranger())
    conn.send_bytes(PREAMBLE)
    handshake.multiprocessing.connection.answer_challenge(
        conn, handshake._derived(KEY, 'slave'))


def test_empty_keys_differ_from_none(serve, queue):
    with pytest.raises(KeyRefused):
        client.connect(serve(queue).address, b'')


# -- strangers ------------------------------------------------------------

STRANGE = {
    'nothing': b'',
    'http': b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n',
    'tls': bytes.fromhex('1603010200010001fc0303') + os.urandom(501),
    'ssh': b'SSH-2.0-OpenSSH_9.0\r\n',
    'garbage': os.urandom(3000),
    'zeros': bytes(100),
    'a huge frame': struct.pack('!Q', 1 << 62),
    'a negative frame': b'\xff' * 8,
    'an empty frame': frame(b''),
    'half a header': b'\0\0\0',
    'half a preamble': frame(PREAMBLE)[:-1],
    'another preamble': frame(b'taskmister'),
    'a longer preamble': frame(PREAMBLE + b'!'),
    'a pickle': frame(pickle.dumps(print)),
    "the library's own challenge": frame(b'#CHALLENGE#' + bytes(20)),
}


@pytest.mark.parametrize('said', STRANGE.values(), ids=STRANGE.keys())
def test_strangers_hear_nothing(server, stranger, said):
    sock = stranger()
    sock.sendall(said)
    finish(sock)
    assert all_of(sock) == b''
    until(lambda: not server._unproven)
    a_slave_is_served(server)


@pytest.mark.parametrize('said', [
    STRANGE['http'], STRANGE['tls'], STRANGE['a huge frame'],
    STRANGE['another preamble']])
def test_a_stranger_that_says_wrong_things_is_cut(server, stranger, said):
    """At once, without waiting for more of it."""
    sock = stranger()
    sock.sendall(said)
    assert all_of(sock) == b''


@pytest.mark.parametrize('answer', [
    b'', frame(b''), frame(bytes(range(16))), frame(b'x' * 257),
    struct.pack('!Q', 1 << 62), b'GET / HTTP/1.1\r\n\r\n'])
def test_after_the_preamble_there_is_the_challenge_alone(
        server, stranger, answer):
    sock = stranger()
    sock.sendall(frame(PREAMBLE) + answer)
    finish(sock)
    heard = all_of(sock)
    size, = struct.unpack('!Q', heard[:8])
    challenge, rest = heard[8:8 + size], heard[8 + size:]
    assert challenge.startswith(b'#CHALLENGE#')
    assert rest in (b'', frame(b'#FAILURE#'))
    a_slave_is_served(server)


def test_strangers_are_not_slaves(server, stranger, queue):
    sock = stranger()
    sock.sendall(frame(PREAMBLE))
    sock.recv(1)
    assert queue.sessions == 0


@pytest.mark.parametrize('said', [b'', b'\0\0', frame(PREAMBLE)])
def test_silence_before_the_proof_is_cut(serve, queue, monkeypatch, said):
    monkeypatch.setattr(serving, 'HANDSHAKE', 0.05)
    server = serve(queue)
    with socket.create_connection(server.address, LONG) as sock:
        sock.sendall(said)
        all_of(sock)                        # ends
    until(lambda: not server._unproven)
    monkeypatch.undo()
    a_slave_is_served(server)


def test_one_byte_at_a_time_does_not_stretch_the_deadline(
        serve, queue, monkeypatch):
    monkeypatch.setattr(serving, 'HANDSHAKE', 0.1)
    server = serve(queue)
    pause = threading.Event()
    with socket.create_connection(server.address, LONG) as sock:
        with pytest.raises(OSError):
            for _ in range(10_000):
                sock.sendall(b'\0')
                pause.wait(0.005)


def test_the_deadline_is_for_the_proof_alone(serve, queue, monkeypatch):
    """A slave may be silent; the ledger has an eye on that."""
    monkeypatch.setattr(serving, 'HANDSHAKE', 0.3)
    server = serve(queue)
    with closing(client.connect(server.address, KEY)) as link:
        greet(link)
        threading.Event().wait(0.4)
        assert take(link) == (1, [1])


def test_the_oldest_of_too_many_unproven_is_cut(serve, queue, monkeypatch):
    monkeypatch.setattr(serving, 'UNPROVEN', 5)
    monkeypatch.setattr(serving, 'HANDSHAKE', 1000.0)
    server = serve(queue)
    with closing(client.connect(server.address, KEY)) as link:
        greet(link)
        socks = []
        try:
            for _ in range(8):
                socks.append(socket.create_connection(server.address, LONG))
            for sock in socks[:3]:
                assert all_of(sock) == b''
            until(lambda: len(server._unproven) == 5)
            assert take(link) == (1, [1])   # it has proved the key
            a_slave_is_served(server, 2)
        finally:
            for sock in socks:
                sock.close()
    until(lambda: not server._unproven)


def test_strangers_that_say_the_preamble_do_not_keep_slaves_out(
        serve, queue, monkeypatch):
    """It is public.  What has just come in is never what is cut."""
    monkeypatch.setattr(serving, 'UNPROVEN', 5)
    monkeypatch.setattr(serving, 'HANDSHAKE', 1000.0)
    server = serve(queue)
    with ExitStack() as stack:
        for _ in range(12):
            sock = stack.enter_context(closing(
                socket.create_connection(server.address, LONG)))
            sock.sendall(serving.FIRST)
        until(lambda: list(server._unproven.values()) == [True] * 5)
        for number in range(3):
            with closing(client.connect(server.address, KEY)) as link:
                greet(link, f'slave {number}')


def test_strangers_make_room_for_slaves_when_all_is_taken(
        serve, queue, monkeypatch, caplog):
    """And when slaves have taken it all, one more is turned away."""
    server = serve(queue)
    server._most = 4
    with ExitStack() as stack:
        for _ in range(9):
            stack.enter_context(closing(
                socket.create_connection(server.address, LONG)))
        for number in range(1, 5):
            link = stack.enter_context(closing(
                client.connect(server.address, KEY)))
            greet(link, f'member {number}')
            assert take(link) == (number, [number])
        until(lambda: not server._unproven)
        until(lambda: len(server._connections) == 4)
        with pytest.raises((EOFError, OSError)):
            client.connect(server.address, KEY)
    assert 'raise ulimit -n' in caplog.text
    until(lambda: not server._connections)
    a_slave_is_served(server, 5)


def test_a_member_that_never_speaks_is_cut(serve, queue, monkeypatch):
    monkeypatch.setattr(serving, 'STALL', 0.05)
    server = serve(queue)
    with closing(client.connect(server.address, KEY)):
        until(lambda: not server._connections)


def test_many_strangers_then_a_slave(server, caplog):
    for _ in range(300):
        with socket.create_connection(server.address) as sock:
            sock.sendall(os.urandom(50))
    a_slave_is_served(server)
    until(lambda: not server._unproven)
    assert len(caplog.records) <= 2


def test_no_thread_for_a_connection(serve, queue, monkeypatch, caplog):
    """It is closed; the next one is served."""
    server = serve(queue)
    start, failed = threading.Thread.start, []

    def failing(thread):
        if thread.name.startswith('127.') and not failed:
            failed.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, 'start', failing)
    with pytest.raises((EOFError, OSError)):
        client.connect(server.address, KEY)
    a_slave_is_served(server)
    assert failed and 'no thread' in caplog.text
    assert not server._unproven


def test_accept_that_fails_is_tried_again(serve, queue, monkeypatch, caplog):
    server = serve(queue)
    accept, failed = server.listener.accept, []

    def failing():
        conn = accept()
        if not failed:
            failed.append(conn)
            conn.close()
            raise OSError(24, 'Too many open files')
        return conn

    monkeypatch.setattr(server.listener, 'accept', failing)
    with closing(client.connect(server.address, KEY)):    # was in accept()
        pass
    with pytest.raises((EOFError, OSError)):
        client.connect(server.address, KEY)
    a_slave_is_served(server)
    assert 'Too many open files' in caplog.text


# -- who holds the key, and says what is not served -----------------------

WRONG = {
    'no such method': ('queue', 'steal', [], {}),
    "the library's shutdown": (None, 'shutdown', [], {}),
    "the library's create": (None, 'create', ['queue'], {}),
    "the library's #GETVALUE": ('queue', '#GETVALUE', [], {}),
    'a private method': ('queue', '_refusal', [None], {}),
    "the session's end": ('queue', 'close', [], {}),
    'an attribute': ('queue', 'exposed', [], {}),
    'another object': ('other', 'hello', [introduction('bad')], {}),
    'too few arguments': ('queue', 'exchange', [], {}),
    'too many arguments': ('queue', 'hello', [introduction('bad'), 1], {}),
    'arguments by name': ('queue', 'hello', [introduction('bad')], {'a': 1}),
    'arguments that are none': ('queue', 'hello', 7, {}),
    'a text of arguments': ('queue', 'hello', 'x', {}),
    'a method that is none': ('queue', ['hello'], [1], {}),
    'too few fields': ('queue', 'hello', [introduction('bad')]),
    'out of form': ('queue', 'hello', [['x']], {}),
}
RAW = {
    'no json': frame(b'nonsense'),
    'a pickle': frame(pickle.dumps(('queue', 'hello', (), {}))),
    'bytes with the json': frame(b'["queue","hello",[1],{}]\nabc'),
    'no list': frame(b'7'),
    'an object': frame(b'{"a":1,"b":2,"c":3,"d":4}'),
    'null': frame(b'null'),
    'a number of many digits': frame(b'["queue","hello",[' + b'9' * 3_000_000
                                     + b'],{}]'),
    'deep': frame(b'[' * 1_000_000),
    'too large a frame': struct.pack('!Q', REQUEST_BYTES + 1),
    'a large number': frame(b'["queue","hello",[' + b'9' * 5000 + b'],{}]'),
}


def gone(conn):
    with pytest.raises((EOFError, OSError)):
        conn.recv()


@pytest.mark.parametrize('call', WRONG.values(), ids=WRONG.keys())
def test_a_wrong_call_ends_the_connection(server, member, queue, call):
    conn = member()
    conn.send(('queue', 'hello', [introduction('bad')], {}))
    conn.recv()
    conn.send(call)
    gone(conn)
    until(lambda: queue.sessions == 0)
    a_slave_is_served(server)


@pytest.mark.parametrize('said', RAW.values(), ids=RAW.keys())
def test_a_wrong_frame_ends_the_connection(server, member, queue, said):
    conn = member()
    conn.send(('queue', 'hello', [introduction('bad')], {}))
    conn.recv()
    with suppress(OSError):
        conn._sock.sendall(said)
    gone(conn)
    until(lambda: queue.sessions == 0)
    a_slave_is_served(server)


def test_a_proof_must_be_followed_by_accept_connection(server, queue):
    conn = Connection(socket.create_connection(server.address, LONG))
    with closing(conn):
        handshake.prove_to_master(conn, KEY)
        conn.send((None, 'shutdown', (), {}))
        gone(conn)
    assert not server.stop_event.is_set()
    a_slave_is_served(server)


def test_a_large_report_is_taken(server, connect, queue):
    link = connect(server)
    greet(link)
    take(link, 10)
    trace = 'x' * 10_000
    failed = [[n, 'bad', trace, 1, ''] for n in range(1, 11)]
    link.call('exchange', [RUN, [], failed, []], 0, False, 0)
    assert [job.traceback for job in queue.unrecorded()] == [trace] * 10


def test_a_large_job_comes(serve, connect):
    queue = JobQueue(10, RUN)
    job = os.urandom(10_000_000)
    queue.put(job)
    link = connect(serve(queue))
    greet(link)
    assert take(link) == (1, [job])


def test_a_slave_that_takes_a_long_lease_is_heard(serve):
    """While it is sent the slave cannot say that it lives."""
    clock = Clock()
    queue = JobQueue(10, RUN, clock=clock)
    queue.put(bytes(60_000_000))
    server = serve(queue)
    with closing(client.connect(server.address, KEY)) as link:
        greet(link, 'slow')
        slave = queue._ledger.slaves['slow']
        link._conn.send(('queue', 'exchange', [report(), 1, False, 0], {}))
        until(lambda: slave.pieces)
        for _ in range(3):
            clock.forward(50)
            have = 0
            while have < 15_000_000:
                have += len(link._conn._sock.recv(1 << 20))
            until(lambda: slave.heard == clock.now)


def test_an_error_of_ours_is_logged_here_and_one_line_there(
        server, connect, queue, caplog):
    link = connect(server)
    greet(link)
    queue.dispatcher.exchange = None               # a bug
    with pytest.raises(EOFError) as info:
        take(link)
    assert 'the master had an error' in str(info.value)
    assert 'NoneType' not in str(info.value)
    assert 'error in exchange for 127.0.0.1' in caplog.text
    until(lambda: queue.sessions == 0)


def test_a_connection_that_drops_ends_its_session(server, queue):
    link = client.connect(server.address, KEY)
    greet(link)
    assert queue.sessions == 1
    link.close()
    until(lambda: queue.sessions == 0)


# -- connecting -----------------------------------------------------------

@pytest.mark.parametrize('said', [
    b'', b'HTTP/1.1 400 Bad Request\r\n\r\n' + b'x' * 300,
    struct.pack('!Q', 1 << 62), frame(b'hello')])
def test_what_is_no_master_is_no_master(said):
    """Nothing is taken for a jobs' source, and no memory for its word."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        def answer():
            sock, _ = listener.accept()
            with sock:
                sock.sendall(said)
                finish(sock)
                all_of(sock)

        answering = Background(answer)
        with pytest.raises((EOFError, OSError, KeyRefused)):
            client.connect(listener.getsockname(), KEY)
        answering.result()


@pytest.mark.parametrize('answer', [b'', frame(b'nonsense'), frame(b'{}')[:9],
                                    frame(b'["#TRACEBACK","x"]')])
def test_a_master_that_breaks_down_is_a_lost_connection(answer):
    with socket.create_server(('127.0.0.1', 0)) as listener:
        def master():
            sock, _ = listener.accept()
            with closing(Connection(sock)) as conn:
                handshake.prove_to_slave(conn, KEY)
                conn.recv()
                conn.send(('#RETURN', None))
                conn.recv()
                sock.sendall(answer)

        breaking = Background(master)
        with closing(client.connect(listener.getsockname(), KEY)) as link:
            with pytest.raises(EOFError):
                link.call('exchange')
        breaking.result()


def test_a_master_that_is_silent_is_given_up(monkeypatch):
    monkeypatch.setattr(client, 'CONNECT', 0.05)
    with socket.create_server(('127.0.0.1', 0)) as listener:
        with pytest.raises(OSError):
            client.connect(listener.getsockname(), KEY)


def test_nobody_there():
    with socket.create_server(('127.0.0.1', 0)) as listener:
        address = listener.getsockname()
    with pytest.raises(ConnectionRefusedError):
        client.connect(address, KEY)


def test_a_call_on_a_link_that_was_cut(server, connect):
    link = connect(server)
    greet(link)
    link.cut()
    with pytest.raises((EOFError, OSError)):
        take(link)


def test_a_call_that_waits_is_cut(serve, connect):
    queue = JobQueue(10, RUN)
    link = connect(serve(queue))
    greet(link)
    waiting = Background(take, link, 1, 10.0)
    until(lambda: queue.waiters)
    link.cut()
    with pytest.raises((EOFError, OSError)):
        waiting.result(LONG / 6)


def test_two_servers_on_one_port(server):
    with pytest.raises(Unreachable, match=r'127.0.0.1:\d+.*--host') as info:
        serving.Manager(server.address, KEY).get_server()
    assert info.value.exit_code == 69


def test_a_port_is_free_when_its_server_has_stopped(serve, queue):
    server = serve(queue)
    a_slave_is_served(server)
    server.stop()
    serving.Manager(server.address, KEY).get_server().listener.close()


def test_a_stopped_server_ends_its_accepter(serve, queue):
    before = set(threading.enumerate())
    server = serve(queue)
    accepter, = [thread for thread in threading.enumerate()
                 if thread.name == 'accepter' and thread not in before]
    server.stop()
    accepter.join(LONG)
    assert not accepter.is_alive()


@pytest.mark.skipif(not socket.has_ipv6, reason='no IPv6 in this Python')
def test_ipv6(serve, queue):
    try:
        server = serve(queue, host='::1')
    except Unreachable as error:
        pytest.skip(str(error))
    a_slave_is_served(server)


def test_many_slaves_at_once(serve):
    queue = JobQueue(1000, RUN)
    for job in range(1, 201):
        queue.put(job)
    server = serve(queue)

    def slave(number):
        with closing(client.connect(server.address, KEY)) as link:
            greet(link, f's{number}')
            first, jobs = take(link, wait=10.0)
            link.call('exchange', report(done=[(first, first)]), 0, False, 0)
            return jobs

    slaves = [Background(slave, number) for number in range(200)]
    assert sorted(sum((one.result() for one in slaves), [])) == [
        *range(1, 201)]
    assert queue.counts().finished == 200


# -- other Pythons --------------------------------------------------------

SLAVE = '''
import pickle, sys
sys.path.insert(0, sys.argv[1])
from taskmaster.slave import link, slave
from taskmaster.usercode.handler import Handler
from taskmaster.wire import client
from functools import partial
address = ('127.0.0.1', int(sys.argv[2]))
seen = []
slave.Slave(lambda: client.connect(address, b'a key for tests'),
            Handler(seen.append, 0), link.Identity('s1', 'host:1')).run()
assert seen == [{'n': n, 'text': 'x' * 1000} for n in range(3000)], seen
print(sys.version_info[:2])
'''
MASTER = '''
import sys, threading
sys.path.insert(0, sys.argv[1])
from taskmaster.master.jobqueue import JobQueue
from taskmaster.master.session import Session
from taskmaster.wire import server as serving
done = threading.Event()
queue = JobQueue(5000, 'run-1', changed=done.set)
for n in range(3000):
    queue.put({'n': n, 'text': 'x' * 1000})
server = serving.Manager(('127.0.0.1', 0), b'a key for tests').get_server()
server.start(lambda: Session(queue))
print(server.address[1], flush=True)
queue.end()
while not queue.complete:
    assert done.wait(60)
    done.clear()
queue.finish('complete')
while queue.sessions:
    assert done.wait(60)
    done.clear()
print(sys.version_info[:2])
'''


@pytest.fixture(params=['3.9', '3.13'])
def other_python(request):
    """An interpreter of that version."""
    if request.param == '%d.%d' % sys.version_info[:2]:
        return sys.executable
    path = shutil.which(f'python{request.param}')
    if path is None:
        pytest.skip(f'no python{request.param} here')
    tried = subprocess.run([path, '-c', 'import sys; print(sys.version)'],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           encoding='utf-8')
    if not tried.stdout.startswith(request.param):
        pytest.skip(f'{path} does not work: {tried.stderr.strip()[:100]}')
    return path


def start(python, program, *args):
    return subprocess.Popen([python, '-W', 'error', '-c', program, ROOT,
                             *args], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, encoding='utf-8',
                            start_new_session=True)


def ended(process):
    try:
        out, err = process.communicate(timeout=LONG)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    return out


def test_a_slave_on_another_python(other_python):
    with start(sys.executable, MASTER) as master:
        port = master.stdout.readline().strip()
        ended(start(other_python, SLAVE, port))
        ended(master)


def test_a_master_on_another_python(other_python):
    with start(other_python, MASTER) as master:
        port = master.stdout.readline().strip()
        ended(start(sys.executable, SLAVE, port))
        ended(master)
