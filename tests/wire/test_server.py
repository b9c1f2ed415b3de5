"""The master's end of the wire: strangers, wrong keys, slaves that lie."""

import os
import pickle
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
from contextlib import closing, suppress

import pytest
from fakes import (KEY, LONG, RUN, Background, Clock, greet, introduction,
                   report, take, until)
from peers import a_slave_is_served, all_of, finish, frame

from taskmaster.wire.connection import Connection
from taskmaster.errors import Unreachable
from taskmaster.master.jobqueue import JobQueue
from taskmaster.timing import STANDARD
from taskmaster.wire import client, handshake, large
from taskmaster.wire import server as serving
from taskmaster.wire.messages import REQUEST_BYTES

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))


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
        client.dispatch(conn, None, 'accept_connection', ('slave',))
        return conn
    yield open
    for conn in opened:
        conn.close()


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
        conn._sock.sendall(said + conn._macs[0].next([said]))
    gone(conn)
    until(lambda: queue.sessions == 0)
    a_slave_is_served(server)


def test_json_of_many_items_is_refused_before_it_is_read(server, member):
    """In memory it would be forty times as large."""
    conn = member()
    conn.send_bytes(b'["queue","exchange",[' + b'[[]],' * 700_000
                    + b'0],{}]')
    gone(conn)
    a_slave_is_served(server)


def test_half_messages_are_cut_when_there_are_too_many(
        server, member, monkeypatch):
    """The oldest are: an honest one is under way for a moment."""
    monkeypatch.setattr(large, 'MOST', 2_500_000)
    half = struct.pack('!Q', 1_000_000) + b'x' * 500_000
    conns = [member() for _ in range(5)]
    for conn in conns:
        conn._sock.sendall(half)
    socks = [conn._sock for conn in conns]
    until(lambda: len(select.select(socks, [], [], 0)[0]) == 3)     # ended
    assert len(server._large._under_way) == 2
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
        # What the kernel has taken is said of no more: not all of it may be.
        link._conn._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF,
                                    1 << 18)
        link._conn.send(('queue', 'exchange', [report(), 1, False, 0], {}))
        until(lambda: slave.pieces)
        for _ in range(3):
            clock.forward(50)
            have = 0
            while have < 8_000_000:
                have += len(link._conn._sock.recv(1 << 20))
            # It goes on a little: this is said at most so often (`NEWS`).
            until(lambda: link._conn._sock.recv(1 << 14)
                  and slave.heard == clock.now)


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
        with pytest.raises((EOFError, OSError)):
            client.connect(listener.getsockname(), KEY)
        answering.result()


@pytest.mark.parametrize('answer', [b'', frame(b'nonsense'), frame(b'{}')[:9],
                                    frame(b'["#TRACEBACK","x"]')])
def test_a_master_that_breaks_down_is_a_lost_connection(answer):
    with socket.create_server(('127.0.0.1', 0)) as listener:
        def master():
            sock, _ = listener.accept()
            with closing(Connection(sock)) as conn:
                first = handshake.read_first(
                    conn.received(handshake.FIRST_BYTES))
                handshake.prove_to_slave(conn, KEY, first)
                conn.recv()
                conn.send(('#RETURN', None))
                conn.recv()
                sock.sendall(answer + conn._macs[0].next([answer]))

        breaking = Background(master)
        with closing(client.connect(listener.getsockname(), KEY)) as link:
            with pytest.raises(EOFError):
                link.call('exchange')
        breaking.result()


def test_a_master_that_is_silent_is_given_up():
    quick = STANDARD._replace(connect=0.05, tried=0.05, handshake=0.05,
                              slot=0.05)
    with socket.create_server(('127.0.0.1', 0)) as listener:
        with pytest.raises(OSError):
            client.connect(listener.getsockname(), KEY, None, quick)


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
