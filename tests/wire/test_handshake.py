"""The proof of the key: who is let in, and who is between."""

import hashlib
import socket
import struct
from contextlib import closing, suppress

import pytest
from fakes import KEY, LONG, Background, greet, take
from peers import a_slave_is_served, answer_to, frame, said
from relays import Relay

from taskmaster import __version__
from taskmaster.errors import KeyRefused, TaskmasterError
from taskmaster.wire import client, gate, handshake
from taskmaster.wire.connection import Connection
from taskmaster.wire.fields import BadMessage
from taskmaster.wire.handshake import (CLEAR, FIRST_BYTES, FORM, GO_ON, NONCE,
                                       UNIX, First)
from taskmaster.wire.messages import PROTOCOL


@pytest.fixture
def caller(server):
    """Opens bare connections to the server."""
    opened = []

    def open():
        opened.append(Connection(
            socket.create_connection(server.address, LONG)))
        return opened[-1]
    yield open
    for conn in opened:
        conn.close()


# -- the first message ----------------------------------------------------

def test_its_form_is_for_ever():
    """Of all versions: what is compared first must be found."""
    first = handshake.first_message(KEY, CLEAR)
    data = said(first)
    assert len(data) == FIRST_BYTES == 8 + 10 + 2 + 16 + 32 + 32 + 32
    assert data[:18] == b'\0\0\0\0\0\0\0\x7ctaskmaster'
    assert struct.unpack('!H', data[18:20])[0] == PROTOCOL
    assert data[20:36].decode().strip() == __version__
    assert data[68:100] == hashlib.sha256(b'clear').digest()
    assert handshake.read_first(data) == first
    assert handshake.is_proved(first, KEY)


@pytest.mark.parametrize('at', [18, 19, 20, 36, 67, 68, 99, 100, 131])
def test_every_field_is_under_the_mac(at):
    data = bytearray(said(handshake.first_message(KEY, CLEAR)))
    data[at] ^= 1
    changed = handshake.read_first(bytes(data))
    assert changed is not None and not handshake.is_proved(changed, KEY)


def test_no_key_is_used_for_two_things():
    first = handshake.first_message(KEY, CLEAR)
    other = handshake.first_message(KEY, UNIX)
    nonces = b'a' * NONCE, b'b' * NONCE
    found = {handshake.derived(KEY, label, message, nonce)
             for label in ('first', 'refused', 'prove slave', 'prove master',
                           'frames slave', 'frames master')
             for message in (first, other) for nonce in nonces}
    assert len(found) == 6 * 2 * 2


def test_it_is_accepted_once(server):
    first = handshake.first_message(KEY, CLEAR)
    heard = answer_to(server, said(first))
    assert heard[8:].startswith(GO_ON)
    assert answer_to(server, said(first)) == b''
    a_slave_is_served(server)


def test_only_so_many_are_remembered(server, monkeypatch):
    monkeypatch.setattr(gate, 'REMEMBERED', 3)
    guard = server._gate
    firsts = [handshake.first_message(KEY, CLEAR) for _ in range(5)]
    for first in firsts:
        assert guard.judge(said(first), CLEAR, 'x').first == first
    assert guard.judge(said(firsts[-1]), CLEAR, 'x').first is None
    assert len(guard._nonces) == len(guard._in_order) == 3


# -- who does not hold the key --------------------------------------------

def test_a_wrong_key_is_refused(server, caplog):
    for _ in range(3):
        with pytest.raises(KeyRefused, match='--key') as info:
            client.connect(server.address, b'another key')
    assert info.value.exit_code == 77
    lines = [record.message for record in caplog.records
             if 'does not hold the key' in record.message]
    assert len(lines) == 1 and '127.0.0.1:' in lines[0]
    assert not server._connections      # not even a thread
    a_slave_is_served(server)


def test_whoever_is_not_proved_hears_one_fixed_frame(server):
    forged = handshake.first_message(b'another key', CLEAR)
    assert answer_to(server, said(forged)) == frame(b'key')


def test_an_empty_key_is_another(server):
    with pytest.raises(KeyRefused):
        client.connect(server.address, b'')


@pytest.mark.parametrize('answer', [
    b'', frame(b''), frame(bytes(range(16))), frame(b'x' * 257),
    struct.pack('!Q', 1 << 62), b'GET / HTTP/1.1\r\n\r\n'])
def test_a_copied_first_message_leads_to_the_challenge_alone(server, answer):
    """One of an earlier start is as good as new, and of no use."""
    copied = said(handshake.first_message(KEY, CLEAR))
    heard = answer_to(server, copied + answer)
    size, = struct.unpack('!Q', heard[:8])
    assert heard[8:].startswith(GO_ON) and size == len(GO_ON) + NONCE
    heard = heard[8 + size:]
    size, = struct.unpack('!Q', heard[:8])
    challenge, rest = heard[8:8 + size], heard[8 + size:]
    assert challenge.startswith(b'#CHALLENGE#')
    assert rest in (b'', frame(b'#FAILURE#'))
    a_slave_is_served(server)


@pytest.mark.parametrize('label', ['prove master', 'frames slave', 'first'])
def test_another_key_of_this_connection_proves_nothing(caller, label):
    conn = caller()
    first = handshake.first_message(KEY, CLEAR)
    conn.send_bytes(FORM.pack(*first))
    nonce = conn.recv_bytes(100)[len(GO_ON):]
    with pytest.raises(handshake.AuthenticationError):
        handshake.library.answer_challenge(
            conn, handshake.derived(KEY, label, first, nonce))


def test_the_right_one_does(caller):
    """So that the test above can fail."""
    conn = caller()
    first = handshake.first_message(KEY, CLEAR)
    conn.send_bytes(FORM.pack(*first))
    nonce = conn.recv_bytes(100)[len(GO_ON):]
    handshake.library.answer_challenge(
        conn, handshake.derived(KEY, 'prove slave', first, nonce))


# -- who is no master -----------------------------------------------------

@pytest.fixture
def squatter():
    """``squatter(*answers)`` says these, one for each frame it hears."""
    listener = socket.create_server(('127.0.0.1', 0))

    def start(*answers):
        def run():
            sock, _ = listener.accept()
            with closing(Connection(sock)) as conn, suppress(
                    EOFError, OSError):
                for answer in answers:
                    conn.recv_bytes(4096)
                    sock.sendall(answer)
                sock.shutdown(socket.SHUT_WR)
                while True:
                    conn.recv_bytes(4096)
        return listener.getsockname(), Background(run)
    yield start
    listener.close()


@pytest.mark.parametrize('answers', [
    [b''], [b'six!!!'], [frame(b'')], [frame(b'keys')],
    [frame(GO_ON)], [frame(GO_ON + b'x' * 31)],
    [frame(b'refused')], [frame(b'refused' + bytes(33))],
    [frame(b'refused' + bytes(31) + b'\0')],
    [frame(GO_ON + bytes(NONCE)) + frame(b'#CHALLENGE#' + bytes(20)),
     frame(b'#WELCOME#'), frame(b'no idea')],
    [frame(GO_ON + bytes(NONCE)) + frame(b'#FAILURE#')],
    [struct.pack('!Q', 1 << 60)], [bytes.fromhex('15030300020246')]],
    ids=range(13))
def test_what_proves_nothing_is_no_master_yet(squatter, answers):
    """It may be one later: so that is never final."""
    address, running = squatter(*answers)
    with pytest.raises((EOFError, OSError)):
        client.connect(address, KEY)
    running.result()


def test_a_refusal_must_be_proved(squatter):
    """Or whoever is at the port could end every slave."""
    with socket.create_server(('127.0.0.1', 0)) as listener:
        def run():
            sock, _ = listener.accept()
            with closing(Connection(sock)) as conn:
                first = First(*FORM.unpack(conn.recv_bytes(4096)))
                conn.send_bytes(handshake.refusal(first, b'another', 76, 'x'))
        Background(run)
        with pytest.raises(EOFError, match='not proved'):
            client.connect(listener.getsockname(), KEY)


@pytest.mark.parametrize('code', [0, 1, 2, 255])
def test_a_refusal_is_no_success(code):
    first = handshake.first_message(KEY, CLEAR)
    answer = handshake.refusal(first, KEY, code, 'done')
    found = handshake._refused(first, KEY, answer[len(b'refused'):])
    assert type(found) is BadMessage


# -- who keeps saying that the key is another -----------------------------

class Places:
    """What `client.connect` meets, one after another."""

    def __init__(self, monkeypatch, *outcomes):
        self.outcomes = list(outcomes)
        self.now = 1000.0
        monkeypatch.setattr(client, 'connect', self.connect)
        monkeypatch.setattr(client.time, 'monotonic', lambda: self.now)

    def connect(self, *_):
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def test_a_refused_key_is_final_after_ten_seconds(monkeypatch):
    meets = Places(monkeypatch, *[KeyRefused('--key')] * 4)
    connector = client.Connector(('x', 1), KEY, None, 60.0)
    for seconds in 0, 4, 5:
        meets.now += seconds
        with pytest.raises(EOFError):
            connector()
    meets.now += 1
    with pytest.raises(KeyRefused):
        connector()


def test_but_not_if_anything_else_was_met_between(monkeypatch):
    meets = Places(monkeypatch, KeyRefused(''), OSError(), KeyRefused(''),
                   'link', KeyRefused(''))
    connector = client.Connector(('x', 1), KEY, None, 60.0)
    for outcome in EOFError, OSError, EOFError, None, EOFError:
        meets.now += 8
        if outcome is None:
            assert connector() == 'link'
            continue
        with pytest.raises(outcome):
            connector()


def test_it_is_said_at_once_and_within_a_short_timeout(monkeypatch, caplog):
    meets = Places(monkeypatch, *[KeyRefused('give --key')] * 3)
    connector = client.Connector(('x', 1), KEY, None, 2.0)
    with pytest.raises(EOFError):
        connector()
    assert [record.message for record in caplog.records] == ['give --key']
    meets.now += 1.9
    with pytest.raises(KeyRefused):
        connector()
    with pytest.raises(KeyRefused):
        client.Connector(('x', 1), KEY, None, 0)()


# -- versions -------------------------------------------------------------

@pytest.mark.parametrize('theirs', [0, PROTOCOL - 1, PROTOCOL + 1, 65535])
def test_a_slave_of_another_protocol_is_told_both(server, monkeypatch,
                                                  theirs, caplog):
    monkeypatch.setattr(handshake, 'PROTOCOL', theirs)
    monkeypatch.setattr(handshake, '__version__', '7.5')
    with pytest.raises(TaskmasterError) as info:
        client.connect(server.address, KEY)
    assert info.value.exit_code == 76
    line = str(info.value)
    assert f'(protocol {theirs})' in line and '7.5' in line
    assert 'taskmaster' in line and '\n' not in line


OLD = frame(b'taskmaster')


def test_the_old_handshake_is_never_answered(server, caplog):
    """Of protocol 1: it would prove a key that can be carried elsewhere."""
    for _ in range(3):
        assert answer_to(server, OLD) == b''
    lines = [record.message for record in caplog.records
             if 'older version' in record.message]
    assert lines == ['a slave at 127.0.0.1 is of an older version and was '
                     'not answered; upgrade it']
    a_slave_is_served(server)


def test_an_old_master_gets_no_proof_of_the_old_kind(squatter):
    """It sends a challenge as soon as it has heard what it takes for one."""
    address, running = squatter(frame(b'#CHALLENGE#' + bytes(20)))
    with pytest.raises(EOFError):
        client.connect(address, KEY)
    running.result()


# -- who is between -------------------------------------------------------

def test_frames_have_macs_in_clear_and_not_elsewhere(server):
    with closing(client.connect(server.address, KEY)) as link:
        assert link._conn._macs is not None


def test_a_relay_gets_nothing_but_what_it_could_read(server):
    """It passes the handshake on, then wants to say something itself."""
    with Relay(server.address) as relay:
        link = client.connect(relay.address, KEY)
        with closing(link):
            greet(link, 'victim')
            relay.to_slave(frame(b'["#RETURN",["over","complete"]]'))
            with pytest.raises(EOFError, match='changed'):
                take(link)


def test_a_relay_cannot_speak_to_the_master_either(server, queue):
    with Relay(server.address) as relay:
        link = client.connect(relay.address, KEY)
        with closing(link):
            greet(link, 'victim')
            relay.to_master(frame(
                b'["queue","exchange",[["run-1",[[1,9]],[],[]],1,false,0],'
                b'{}]') + bytes(16))
            with pytest.raises((EOFError, OSError)):
                take(link)
    assert queue.counts().finished == 0
    assert queue.watermark() == (0, None)


def test_a_relay_from_one_channel_to_another_is_not_let_in(
        serve, queue, tmp_path, caplog):
    """In clear on one side, a Unix socket on the other."""
    server = serve(queue, path=tmp_path / 'sock')
    with Relay(str(tmp_path / 'sock')) as relay:
        with pytest.raises((EOFError, OSError)):
            client.connect(relay.address, KEY)
    assert 'is between' in caplog.text
    with closing(client.connect(str(tmp_path / 'sock'), KEY)) as link:
        greet(link)
        assert link._conn._macs is None
    a_slave_is_served(server)
