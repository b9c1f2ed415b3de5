"""Strangers: what they cost, and whom they keep out."""

import os
import pickle
import socket
import struct
import threading
import time
from contextlib import ExitStack, closing, suppress

import pytest
from fakes import KEY, LONG, greet, take, until
from peers import a_slave_is_served, all_of, finish, first, frame, opened

from taskmaster.timing import STANDARD
from taskmaster.wire import accepter, client
from taskmaster.wire import server as serving

# Nobody is cut for being slow.
PATIENT = {'handshake': 1000.0, 'connect': 1000.0}


def idle(server):
    return not (server._unproven or server._accepter.waiting
                or server._accepter._slots)


STRANGE = {
    'nothing': b'',
    'http': b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n',
    'tls': bytes.fromhex('1603010200010001fc0303') + bytes(501),
    'ssh': b'SSH-2.0-OpenSSH_9.0\r\n',
    'garbage': bytes(range(256)) * 12,
    'zeros': bytes(100),
    'a huge frame': struct.pack('!Q', 1 << 62),
    'a negative frame': b'\xff' * 8,
    'an empty frame': frame(b''),
    'half a header': b'\0\0\0',
    'half a first message': first()[:-1],
    'another preamble': first().replace(b'taskmaster', b'taskmister'),
    'a pickle': frame(pickle.dumps(print)),
    "the library's own challenge": frame(b'#CHALLENGE#' + bytes(20)),
}


@pytest.mark.parametrize('said', STRANGE.values(), ids=STRANGE.keys())
def test_strangers_hear_nothing(server, said):
    with opened(server) as sock:
        sock.sendall(said)
        finish(sock)
        assert all_of(sock) == b''
    until(lambda: idle(server))
    a_slave_is_served(server)


@pytest.mark.parametrize('said', [
    STRANGE['http'], STRANGE['tls'], STRANGE['a huge frame'],
    STRANGE['another preamble']], ids=range(4))
def test_a_stranger_that_says_wrong_things_is_cut(server, said):
    """At once, without waiting for more of it."""
    with opened(server) as sock:
        sock.sendall(said)
        assert all_of(sock) == b''


def test_strangers_get_no_thread(server, queue):
    before = threading.active_count()
    with ExitStack() as stack:
        for said in b'', b'\0\0', first()[:-1], first(b'another key'):
            sock = stack.enter_context(opened(server))
            sock.sendall(said)
        until(lambda: server._accepter.waiting >= 2)
        assert not server._connections and queue.sessions == 0
        assert threading.active_count() == before


@pytest.mark.parametrize('said', [b'', b'\0\0', first()[:50], first()],
                         ids=range(4))
def test_silence_before_the_proof_is_cut(serve, queue, said):
    server = serve(queue, handshake=0.05, slot=0.05)
    with opened(server) as sock:
        sock.sendall(said)
        all_of(sock)                        # ends
    until(lambda: idle(server))
    server._accepter._timing = STANDARD
    a_slave_is_served(server)


def test_one_byte_at_a_time_does_not_stretch_the_deadline(serve, queue):
    server = serve(queue, handshake=0.1, slot=0.1)
    pause = threading.Event()
    with opened(server) as sock:
        with pytest.raises(OSError):
            for byte in first() * 100:
                sock.sendall(bytes([byte]))
                pause.wait(0.005)


def test_a_first_message_in_single_bytes_is_heard(server):
    with opened(server) as sock:
        for byte in first():
            sock.sendall(bytes([byte]))
        assert sock.recv(8) == struct.pack('!Q', 5 + 32)


def test_the_deadline_is_for_the_proof_alone(serve, queue):
    """A slave may be silent; the ledger has an eye on that."""
    server = serve(queue, handshake=0.3)
    with closing(client.connect(server.address, KEY)) as link:
        greet(link)
        threading.Event().wait(0.4)
        assert take(link) == (1, [1])


def test_the_oldest_of_the_speechless_is_cut(serve, queue, monkeypatch):
    monkeypatch.setattr(accepter, 'SPEECHLESS', 5)
    server = serve(queue, **PATIENT)
    with ExitStack() as stack:
        socks = []
        for _ in range(8):
            socks.append(stack.enter_context(opened(server)))
            socks[-1].sendall(b'\0')
        for sock in socks[:3]:
            assert all_of(sock) == b''
        until(lambda: server._accepter.waiting == 5)
        a_slave_is_served(server)       # it says all at once
    until(lambda: idle(server))


def test_the_oldest_of_too_many_unproven_is_cut(serve, queue, monkeypatch):
    """Copies of what slaves said to an earlier start get that far."""
    monkeypatch.setattr(serving, 'UNPROVEN', 5)
    server = serve(queue, **PATIENT)
    with closing(client.connect(server.address, KEY)) as link:
        greet(link)
        with ExitStack() as stack:
            socks = []
            for _ in range(8):
                socks.append(stack.enter_context(opened(server)))
                socks[-1].sendall(first())
                socks[-1].recv(1)
            for sock in socks[:3]:
                all_of(sock)
            assert len(server._unproven) == 5
            assert take(link) == (1, [1])   # it has proved the key
            a_slave_is_served(server, 2)
    until(lambda: idle(server))


def test_strangers_make_room_for_slaves_when_all_is_taken(
        serve, queue, caplog):
    """And when slaves have taken it all, one more is turned away."""
    server = serve(queue)
    server._most = 4
    with ExitStack() as stack:
        for _ in range(9):
            stack.enter_context(opened(server)).sendall(b'\0')
        for number in range(1, 5):
            link = stack.enter_context(closing(
                client.connect(server.address, KEY)))
            greet(link, f'member {number}')
            assert take(link) == (number, [number])
        until(lambda: idle(server))
        until(lambda: len(server._connections) == 4)
        with pytest.raises((EOFError, OSError)):
            client.connect(server.address, KEY)
    assert 'raise ulimit -n' in caplog.text
    until(lambda: not server._connections)
    a_slave_is_served(server, 5)


def test_a_member_that_never_speaks_is_cut(serve, queue):
    server = serve(queue, stall=0.05, user_timeout=0.05)
    with closing(client.connect(server.address, KEY)):
        until(lambda: not server._connections)


def test_many_strangers_then_a_slave(server, caplog):
    for _ in range(300):
        with socket.create_connection(server.address) as sock:
            sock.sendall(os.urandom(50))
    a_slave_is_served(server)
    until(lambda: idle(server))
    assert len(caplog.records) <= 2


def test_a_flood_in_clear_keeps_nobody_out(server):
    """Each makes a first message of another key; the port is never silent."""
    ended = threading.Event()

    def flood():
        while not ended.is_set():
            with suppress(OSError), socket.create_connection(
                    server.address, LONG) as sock:
                sock.sendall(first(b'another key'))

    crowd = [threading.Thread(target=flood) for _ in range(2)]
    for one in crowd:
        one.start()
    try:
        for number in range(3):
            with closing(client.connect(server.address, KEY)) as link:
                greet(link, f'slave {number}')
    finally:
        ended.set()
        for one in crowd:
            one.join()


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
    until(lambda: idle(server))


def test_accept_that_fails_is_tried_again(server, monkeypatch, caplog):
    accept, failed = server.listener.accept, []

    def failing():
        conn = accept()
        if conn is not None and not failed:
            failed.append(conn)
            conn.close()
            raise OSError(24, 'Too many open files')
        return conn

    monkeypatch.setattr(server.listener, 'accept', failing)
    with pytest.raises((EOFError, OSError)):
        client.connect(server.address, KEY)
    a_slave_is_served(server)
    assert 'Too many open files' in caplog.text


# -- over TLS, where the handshake comes first ----------------------------

HELLO = bytes.fromhex('16030100c5010000c10303') + bytes(32)


def test_silent_handshakes_have_so_many_slots(serve, queue, monkeypatch,
                                              contexts):
    monkeypatch.setattr(accepter, 'SLOTS_OF_ONE', 3)
    server = serve(queue, tls=contexts.serving, **PATIENT)
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(opened(server)).sendall(HELLO)
        until(lambda: len(server._accepter._slots) == 3)
        begin = time.monotonic()
        with closing(client.connect(server.address, KEY,
                                    contexts.trusting)) as link:
            greet(link)
        # It waits until the oldest has had its time, not for its end.
        assert time.monotonic() - begin < LONG
        assert len(server._accepter._slots) <= 3
    until(lambda: idle(server))


def test_others_have_slots_when_one_address_has_all_of_its_own(
        serve, queue, monkeypatch, contexts):
    monkeypatch.setattr(accepter, 'SLOTS_OF_ONE', 3)
    server = serve(queue, host='0.0.0.0', tls=contexts.serving, slot=1000.0,
                   **PATIENT)
    port = server.address[1]
    with ExitStack() as stack:
        for _ in range(9):
            sock = stack.enter_context(closing(socket.create_connection(
                ('127.0.0.1', port), LONG, source_address=('127.0.0.9', 0))))
            sock.sendall(HELLO)
        until(lambda: server._accepter.waiting == 6)
        with closing(client.connect(('127.0.0.1', port), KEY,
                                    contexts.trusting)) as link:
            greet(link)


def test_who_says_nothing_has_no_slot(serve, queue, contexts):
    server = serve(queue, tls=contexts.serving)
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(opened(server))
        with closing(client.connect(server.address, KEY,
                                    contexts.trusting)) as link:
            greet(link)
        assert not server._accepter._slots
