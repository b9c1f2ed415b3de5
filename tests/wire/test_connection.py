"""The connection: frames, limits, deadlines."""

import json
import socket
import struct
import threading
import time
import tracemalloc
from contextlib import suppress
from types import SimpleNamespace

import pytest
from fakes import LONG, Background, Clock

from taskmaster.address import name_of
from taskmaster.timing import STANDARD
from taskmaster.wire import connection
from taskmaster.wire.connection import (BUFFER, CHUNK, JOINED, MAC_BYTES,
                                        NEWS, PARTS, UNPROVED, Connection,
                                        Mac)
from taskmaster.wire.messages import LEASE_BYTES, BadMessage, Payload


@pytest.fixture
def pair():
    """Two ends of one real connection."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    ends = Connection(one, 'one'), Connection(other, 'other')
    yield ends
    for end in ends:
        end.close()


def raw(end):
    return end._sock


def pattern(size):
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@pytest.mark.parametrize('border', [0, CHUNK])
def test_bytes_of_every_size_near_a_border(pair, border):
    one, other = pair
    sizes = [*range(max(border - 40, 0), border + 40)]

    def send():
        for size in sizes:
            one.send(('#RETURN', [size, Payload([pattern(size)][:size])]))

    sending = Background(send)
    for size in sizes:
        if size:
            assert other.recv() == ['#RETURN', [size, pattern(size)]]
        else:       # no bytes: nothing of them is on the wire
            assert other.recv() == ['#RETURN', [0]]
    sending.result()


def test_progress_is_of_time_not_of_each_part(pair):
    """It takes the queue's lock; over TLS each 16 kB would be one."""
    one, other = pair
    raw(one).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
    news = []
    one.progress = lambda: news.append(True)
    begun = time.monotonic()
    sending = Background(one.send_bytes, b'', Payload([bytes(8 << 20)]))
    other.received(8)
    other.received(1 << 20)
    threading.Event().wait(2 * NEWS)        # a reader that is slow
    other.received(7 << 20)
    sending.result()
    took = time.monotonic() - begun
    assert 1 <= len(news) <= took / NEWS


@pytest.mark.parametrize('message', [
    ('#RETURN', None), ('#RETURN', ['wait', 0.1, '']), ('#RETURN', []),
    (None, 'accept_connection', ['slave'], {}),
    ('queue', 'exchange',
     ['\u20ac \ud800 \0 \n', {'a': [1 << 61, -1.5]}], {})])
def test_json_comes_as_it_went(pair, message):
    one, other = pair
    other.limit = 1000
    one.send(message)
    assert other.recv() == list(message)


def test_bytes_are_not_what_json_might_be_taken_for(pair):
    """A newline in the bytes, or bytes that look like a frame."""
    one, other = pair
    for tail in b'\n', b'\n\n["a"]\n', struct.pack('!Q', 3) + b'abc':
        one.send(('#RETURN', ['lease', Payload([tail])]))
        assert other.recv() == ['#RETURN', ['lease', tail]]


def test_bytes_in_parts_are_one(pair):
    """More parts than go in one call, some of them empty, some views."""
    one, other = pair
    whole = pattern(5_000_000)
    cuts = sorted({0, 0, 1, *range(1000, 3_000_000, 1000), 3_000_000})
    parts = [whole[a:b] for a, b in zip(cuts, cuts[1:])]
    parts[7:7] = [b'', bytearray(), memoryview(b'')]
    parts.append(memoryview(whole)[3_000_000:])
    payload = Payload(parts)
    assert payload.size == len(whole) and bytes(payload) == whole
    assert len(parts) > 2 * PARTS
    sending = Background(one.send, ('#RETURN', ['lease', payload]))
    assert other.recv()[1][1] == whole
    sending.result()


def test_ten_megabytes_both_ways(pair):
    one, other = pair
    large = pattern(10_000_000)
    sending = Background(one.send, ('#RETURN', ['lease', Payload([large])]))
    assert other.recv()[1][1] == large
    sending.result()
    sending = Background(other.send_bytes, large)
    assert one.recv_bytes() == large
    sending.result()


class Counted(socket.socket):
    calls = 0

    def sendmsg(self, *arguments):
        self.calls += 1
        return super().sendmsg(*arguments)


def test_a_lease_goes_through_a_unix_socket_in_few_calls():
    """After each the thread waits for the GIL, which the feeder may have."""
    one, other = socket.socketpair(socket.AF_UNIX)
    usual = one.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    counted = Counted(fileno=one.detach())
    one, other = Connection(counted), Connection(other)
    granted = counted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    parts = Payload([pattern(1 << 16)] * (LEASE_BYTES >> 16))
    sending = Background(one.send_bytes, b'', parts)
    assert len(other.recv_bytes()) == LEASE_BYTES
    sending.result()
    one.close()
    other.close()
    assert granted > usual
    assert counted.calls <= max(1, -(-2 * LEASE_BYTES // granted))


class Traced(socket.socket):
    """It notes each call of the kernel."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.calls = []


for name in 'sendmsg', 'recv_into', 'setsockopt', 'settimeout':
    def traced(self, *arguments, name=name):
        self.calls.append(name)
        return getattr(socket.socket, name)(self, *arguments)
    setattr(Traced, name, traced)


@pytest.mark.parametrize('keys', [None, (b'a' * 32, b'b' * 32)])
def test_a_lease_of_ints_is_one_call_each_way(keys):
    """A timeout of Python's would be a `poll` more for each, or two."""
    one, other = map(lambda end: Traced(fileno=end.detach()),
                     socket.socketpair(socket.AF_UNIX))
    master = Connection(one)
    slave = Connection(other, buffer=BUFFER)
    if keys:
        master.seal(*keys)
        slave.seal(*keys[::-1])
    lease = 'lease', 0.1, 1, 10_000, Payload([pattern(50_000)])
    for calls in range(3):
        del one.calls[:], other.calls[:]
        slave.send(['queue', 'exchange', [[[1, 10_000]], 20_000], {}])
        assert master.recv()[1] == 'exchange'
        master.send(['#RETURN', [*lease]])
        assert slave.recv()[1][4] == lease[4][0]
    assert one.calls == ['recv_into', 'sendmsg']
    assert other.calls == ['sendmsg', 'recv_into']
    assert one.gettimeout() is other.gettimeout() is None
    master.close()
    slave.close()


@pytest.mark.parametrize('size', [LEASE_BYTES, 2 * LEASE_BYTES])
def test_a_lease_is_taken_in_without_a_copy(pair, size):
    one, other = pair
    parts = Payload([pattern(1 << 16)] * (size >> 16))
    sending = Background(one.send, ('#RETURN', ['lease', parts]))
    tracemalloc.start()
    try:
        assert len(other.recv()[1][1]) == size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    sending.result()
    assert peak < 1.3 * size


def test_a_frame_as_long_as_the_limit_comes(pair):
    one, other = pair
    other.limit = 10_000
    text = 'x' * (10_000 - len('["",0]'))
    one.send((text, 0))
    assert other.recv() == [text, 0]
    one.send((text + 'x', 0))
    with pytest.raises(BadMessage, match='10001'):
        other.recv()


def test_a_huge_frame_is_refused_by_its_header(pair):
    one, other = pair
    other.limit = 1000
    raw(one).sendall(struct.pack('!Q', 1 << 63))
    with pytest.raises(BadMessage):
        other.recv()
    raw(one).sendall(struct.pack('!Q', 1 << 63))
    with pytest.raises(BadMessage):
        other.recv_bytes(256)


def test_no_more_memory_is_taken_than_has_come(pair):
    """A header that lies costs a chunk, not what it says."""
    one, other = pair
    raw(one).sendall(struct.pack('!Q', 1 << 50) + b'x' * 100)
    one.cut()
    with pytest.raises(EOFError):
        other.recv()


@pytest.mark.parametrize('frame', [
    b'', b'{', b'nothing', b'\xff\xfe', b'[' * 100_000, b'[1,2]\nbytes',
    b'1' * 100_000, b'"\xff"'])
def test_what_is_not_json_is_out_of_form(pair, frame):
    one, other = pair
    other.limit = 1 << 20
    one.send_bytes(frame)
    if frame == b'1' * 100_000:     # some Pythons have no bound for these
        try:
            assert other.recv() == int(frame)
        except (BadMessage, ValueError):
            pass
        return
    with pytest.raises(BadMessage):
        other.recv()


def test_every_cut_of_a_frame_is_an_end():
    frame = struct.pack('!Q', 9) + b'["a",123]'
    for size in range(len(frame)):
        near, far = socket.socketpair(socket.AF_UNIX)
        with near, far:
            near.sendall(frame[:size])
            near.shutdown(socket.SHUT_WR)
            conn = Connection(far)
            with pytest.raises(EOFError):
                conn.recv()


def test_a_frame_in_single_bytes_comes(pair):
    one, other = pair
    receiving = Background(other.recv)
    for byte in struct.pack('!Q', 9) + b'["a",123]':
        raw(one).sendall(bytes([byte]))
    assert receiving.result() == ['a', 123]


def test_the_deadline_counts_in_the_middle_of_a_frame(pair, monkeypatch):
    """Each byte resets a timeout; the deadline is of them all."""
    one, other = pair
    clock = Clock()
    monkeypatch.setattr(connection, 'time', SimpleNamespace(monotonic=clock))
    other.deadline = clock.now + 5
    raw(one).sendall(struct.pack('!Q', 100))
    receiving = Background(other.recv)
    with suppress(OSError):         # it has gone, as it should
        for _ in range(99):     # it never is complete
            clock.forward(0.1)
            raw(one).sendall(b'x')
    with pytest.raises(OSError):
        receiving.result()


@pytest.mark.parametrize('begun', [b'\0\0\0', struct.pack('!Q', 100),
                                   struct.pack('!Q', 100) + b'x'])
def test_silence_within_a_frame_ends(pair, begun):
    one, other = pair
    other.stall = 0.05
    other.patience = None       # the frame itself may take its time to come
    raw(one).sendall(begun)
    receiving = Background(other.recv)
    with pytest.raises(OSError):
        receiving.result()


def test_patience_is_for_the_first_byte_alone(pair):
    one, other = pair
    other.stall = LONG
    other.patience = 0.05
    with pytest.raises(OSError):
        other.recv()
    raw(one).sendall(struct.pack('!Q', 9))
    receiving = Background(other.recv)
    raw(one).sendall(b'["a",123]')
    assert receiving.result() == ['a', 123]


def test_a_peer_that_reads_nothing_ends_a_send(pair):
    one, other = pair
    one.stall = 0.05
    with pytest.raises(OSError):
        one.send_bytes(b'', Payload([pattern(50_000_000)]))


def test_a_slow_peer_may_take_longer_than_a_stall(pair):
    """What must not stand still is the frame; it may take its time."""
    one, other = pair
    one.stall = 0.3
    size = 30_000_000
    sending = Background(one.send_bytes, b'', Payload([pattern(size)]))
    pause, have = threading.Event(), 0
    raw(other).settimeout(LONG / 3)
    while have < size + 8:
        have += len(raw(other).recv(size // 20))
        pause.wait(1 / 20)          # a second for all, and more
    sending.result()


@pytest.mark.parametrize('family', [socket.AF_INET, socket.AF_UNIX])
@pytest.mark.parametrize('wait', [
    lambda end: end.recv(),
    lambda end: end.send_bytes(b'', Payload([bytes(50_000_000)]))],
    ids=['recv', 'send'])
def test_cut_wakes_who_waits(pair, family, wait):
    one, other = pair
    if family == socket.AF_UNIX:
        one, other = map(Connection, socket.socketpair(family))
    receiving = Background(wait, other)
    other.cut()
    with pytest.raises((EOFError, OSError)):
        receiving.result()
    other.cut()                 # again does no harm, nor when closed
    other.close()
    other.cut()
    one.close()


@pytest.mark.parametrize('sizes', [
    [66_049] * 16, [100, 1_000_000, 3], [100, 50_000], [1 << 18] * 2,
    [(1 << 18) - 1, 1, 1], [1]])
def test_parts_are_joined_into_the_records_of_tls(pair, contexts, sizes):
    one, other = pair
    greeting = Background(other.start_tls, contexts.trusting, '127.0.0.1')
    one.start_tls(contexts.serving)
    greeting.result()
    parts = Payload(map(pattern, sizes))
    sending = Background(one.send_bytes, b'', parts)
    assert other.recv_bytes() == bytes(parts)
    sending.result()
    joined = [*connection._joined(parts)]
    assert b''.join(joined) == bytes(parts)
    assert len(joined) <= sum(sizes) / JOINED + 2
    # What is long is not copied.
    assert {id(part) for part in parts if len(part) >= JOINED} <= {
        *map(id, joined)}


def test_a_cut_is_not_lost_while_tls_begins(pair):
    """There is no socket to end then: TLS takes it out of our hands."""
    one, other = pair

    class Context:
        def wrap_socket(self, sock, **options):
            self.wrapped = socket.socket(fileno=sock.detach())
            one.cut()
            self.wrapped.do_handshake = lambda: None
            return self.wrapped

    class Socket(socket.socket):
        do_handshake = None

    context = Context()
    context.wrapped = None
    socket_class, socket.socket = socket.socket, Socket
    try:
        one.start_tls(context)
    finally:
        socket.socket = socket_class
    with pytest.raises(EOFError):
        other.recv()


def test_a_closed_connection_fails(pair):
    one, other = pair
    one.close()
    with pytest.raises(EOFError):
        other.recv()
    with pytest.raises(OSError):
        one.recv()


@pytest.mark.parametrize('address, name', [
    (('host', 3050), 'host:3050'), (('::1', 3050, 0, 0), '[::1]:3050')])
def test_the_name_of_an_address(address, name):
    assert name_of(address) == name


def test_small_messages_are_not_held_back(pair):
    """Without TCP_NODELAY they wait for the other's acknowledgement."""
    for end in pair:
        assert raw(end).getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert raw(end).getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    if hasattr(socket, 'TCP_USER_TIMEOUT'):
        assert raw(pair[0]).getsockopt(
            socket.IPPROTO_TCP,
            socket.TCP_USER_TIMEOUT) == 1000 * STANDARD.user_timeout


def test_a_message_of_no_bytes_is_plain_json(pair):
    one, other = pair
    one.send(('#RETURN', ['x', Payload()]))
    size, = struct.unpack('!Q', raw(other).recv(8))
    assert json.loads(raw(other).recv(size)) == ['#RETURN', ['x']]


# -- MACs -----------------------------------------------------------------

def sealed(pair):
    one, other = pair
    one.seal(b'a' * 32, b'b' * 32)
    other.seal(b'b' * 32, b'a' * 32)
    return pair


def test_frames_of_all_sizes_are_proved(pair, monkeypatch):
    """A length above the limit has a MAC of its own."""
    monkeypatch.setattr(connection, 'UNPROVED', 100)
    one, other = sealed(pair)
    for size in 0, 50, 99, 100, 101, 5000, 10, 2 * CHUNK, 1:
        sending = Background(one.send_bytes, b'', Payload([pattern(size)]))
        assert other.recv_bytes() == pattern(size)
        sending.result()


@pytest.mark.parametrize('size', [UNPROVED + 1, 1 << 40, (1 << 64) - 1])
def test_a_large_length_is_proved_before_anything_is_taken_in(pair, size):
    """Whoever is between may say any, and send as much."""
    one, other = sealed(pair)
    raw(one).sendall(struct.pack('!Q', size) + bytes(MAC_BYTES))
    receiving = Background(other.recv)      # and waits for no more
    with pytest.raises(BadMessage, match='changed'):
        receiving.result()


def test_the_mac_of_a_length_is_not_that_of_a_frame(pair, monkeypatch):
    """Each has a number of its own: none fits in another's place."""
    one, other = sealed(pair)
    monkeypatch.setattr(connection, 'UNPROVED', 100)
    head = struct.pack('!Q', 200)
    raw(one).sendall(head + Mac(b'a' * 32).next([head, pattern(200)]))
    with pytest.raises(BadMessage, match='changed'):
        other.recv()
