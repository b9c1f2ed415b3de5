"""Somebody between slave and master, who damages what passes.

BETWEEN=1000 damages at so many random places.
"""

import json
import os
import pickle
import random
import socket
import threading
from contextlib import closing, suppress

import pytest
from fakes import KEY, RUN, Background, greet, take, until
from relays import LENGTH, Frames, Relay, damaged

from taskmaster.errors import KeyRefused, TaskmasterError
from taskmaster.master.jobqueue import JobQueue
from taskmaster.master.session import Session
from taskmaster.settings import Settings
from taskmaster.slave.link import Identity
from taskmaster.slave.slave import Slave
from taskmaster.timing import STANDARD
from taskmaster.usercode.handler import Handler
from taskmaster.wire import client
from taskmaster.wire.connection import MAC_BYTES
from taskmaster.wire.listener import UnixListener
from taskmaster.wire.server import Manager
from taskmaster.wire.unix import Name

PLACES = int(os.environ.get('BETWEEN', 12))
JOBS = 300
# What was left out is waited for by both; so not for a minute.
TIMES = {'stall': 0.2, 'user_timeout': 0.2, 'connect': 0.5, 'tried': 0.5,
         'handshake': 0.5}
HASTY = STANDARD._replace(longest_backoff=0.1, **TIMES)


class Meddler:
    """Damages one piece in so many; the others pass."""

    def __init__(self, dice, often):
        self.count = 0
        self._dice, self._often = dice, often
        self._lock = threading.Lock()

    def __call__(self, data, to_master):
        with self._lock:
            if self._dice.randrange(self._often):
                return data
            self.count += 1
            return damaged(data, self._dice)


class WholeFrames:
    """Leaves out, repeats and exchanges whole frames, MAC and all."""

    def __init__(self, dice, often):
        self.count = 0
        self._dice, self._often = dice, often
        self._lock = threading.Lock()
        self._kept = b''

    def __call__(self, data, to_master):
        with self._lock:
            if self._dice.randrange(self._often):
                kept, self._kept = self._kept, b''
                return data + kept if not to_master else data
            frames = [*Frames(MAC_BYTES).of(data)]
            if len(data) < 100 or b''.join(frames) != data:
                return data                 # of the handshake, or not whole
            self.count += 1
            kind = self._dice.choice(('drop', 'repeat', 'keep'))
            if kind == 'keep' and not to_master:
                self._kept = data
            return data * 2 if kind == 'repeat' else b''


@pytest.mark.parametrize('kind, often', [(Meddler, 12), (WholeFrames, 8)])
def test_no_job_is_altered_and_none_is_lost(serve, kind, often):
    dice = random.Random(7)
    meddler = kind(dice, often)
    done = []
    while meddler.count < PLACES:
        queue = JobQueue(JOBS, RUN, 'mod')
        jobs = [(number, f'{number} ' * 20) for number in range(1, JOBS + 1)]
        for job in jobs:
            queue.put(job)
        queue.end()
        server = serve(queue, **TIMES)
        done.clear()

        def handle(job):
            done.append(job)

        with Relay(server.address, meddler) as relay:
            slave = Slave(
                client.Connector(relay.address, KEY, None, 60.0, HASTY),
                Handler(handle), Identity('s1', 'host:1'),
                Settings(timeout=60.0), timing=HASTY)
            working = Background(slave.run)
            until(lambda: queue.complete)
            queue.finish('complete')
            with suppress(TaskmasterError):
                slave.leave()
                working.result()
        server.stop()
        assert set(done) == set(jobs)
        assert queue.counts().failed == 0 and not queue.unrecorded()
        assert queue.watermark()[0] == JOBS


# -- who passes the proof on, and then speaks itself ----------------------

def frame(message):
    body = json.dumps(message).encode()
    return LENGTH.pack(len(body)) + body


@pytest.fixture
def many(serve):
    """The queue of a run with jobs to skip, and its server."""
    queue = JobQueue(100, RUN)
    for job in range(1, 101):
        queue.put(job)
    return queue, serve(queue)


def test_in_the_place_of_a_slave_nothing_is_skipped(many):
    """As soon as the slave has its lease, all is said to be done."""
    queue, server = many
    with Relay(server.address) as relay:
        with closing(client.connect(relay.address, KEY)) as link:
            greet(link)
            take(link, 100)
            relay.to_master(frame(['queue', 'exchange', [
                [RUN, [[1, 100]], [], []], 0, False, 0], {}]) + bytes(16))
            with pytest.raises((EOFError, OSError)):
                take(link)
    assert queue.watermark() == (0, None) and queue.counts().finished == 0


@pytest.mark.parametrize('said', [
    frame(['queue', 'control', [None, 'stop', None], {}]),
    frame(['queue', 'hello', [['s', 'n', 1, None, None, None, [], None]],
           {}])])
def test_in_the_place_of_tm_ctl_nothing_is_steered(many, said):
    """It proves the key as slaves do, and so is worth as much."""
    queue, server = many
    steered = []
    queue.control = lambda *what: steered.append(what) or ''
    server._open_session = lambda: Session(queue, queue)
    with Relay(server.address) as relay:
        with closing(client.connect(relay.address, KEY)) as link:
            relay.to_master(said + bytes(16))
            with pytest.raises((EOFError, OSError)):
                link.call('control', None, 'pause', None)
    assert not steered and not queue.sessions


def test_no_answer_of_its_own_to_tm_ctl(many):
    _, server = many
    with Relay(server.address) as relay:
        with closing(client.connect(relay.address, KEY)) as link:
            relay.to_slave(frame(['#RETURN', ['said', 'all is well']])
                           + bytes(16))
            with pytest.raises(EOFError, match='changed'):
                link.call('control', None, 'stop', None)


def test_no_pickle_of_its_own_to_a_slave(many, tmp_path):
    """It lets the slave ask, and answers before the master does."""
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / 'exploded'),)

    _, server = many
    head = json.dumps(['#RETURN', ['lease', 0.1, 1, 1]]).encode()
    body = head + b'\n' + pickle.dumps([Bomb()])

    def meddle(data, to_master):
        if b'"exchange"' in data:
            relay.to_slave(LENGTH.pack(len(body)) + body + bytes(16))
            return b''
        return data

    with Relay(server.address, meddle) as relay:
        with closing(client.connect(relay.address, KEY)) as link:
            greet(link)
            with pytest.raises(EOFError, match='changed'):
                take(link)              # which would unpickle it
    assert not (tmp_path / 'exploded').exists()


def test_who_squats_on_the_port_is_not_even_asked(serve, queue, tmp_path):
    """A relay there leads to the master; but its socket comes first."""
    server = serve(queue, path=tmp_path / 'sock')
    with Relay(server.address) as relay:
        places = [str(tmp_path / 'sock'), relay.address]
        with closing(client.connect(places, KEY)) as link:
            greet(link)
            assert link._conn.is_unix
        assert relay.count == 0


def test_nor_does_it_get_in_while_the_master_is_down(tmp_path, caplog):
    """To another master's socket it is of another channel."""
    queue = JobQueue(10, RUN)
    server = Manager(('127.0.0.1', 0), KEY).get_server()
    server.local = UnixListener(Name(str(tmp_path / 'sock')))
    server.start(lambda: Session(queue))
    try:
        with Relay(str(tmp_path / 'sock')) as relay:
            places = [str(tmp_path / 'not-there'), relay.address]
            with pytest.raises((EOFError, OSError)):
                client.connect(places, KEY)
            assert relay.count == 1
    finally:
        server.stop()
    assert 'is between' in caplog.text and not queue.sessions


def test_localhost_is_never_the_other_family(serve, queue):
    """Where [::1] is somebody else's, at the very same port."""
    server = serve(queue, host='localhost')
    try:
        relay = Relay(server.address, address=('::1', server.address[1]),
                      family=socket.AF_INET6)
    except OSError as error:
        pytest.skip(f'no IPv6 here: {error}')
    with relay:
        with closing(client.connect(('localhost', server.address[1]),
                                    KEY)) as link:
            greet(link)
            assert link._conn.sock.getpeername()[0] == '127.0.0.1'
        assert relay.count == 0


def test_a_family_that_the_kernel_lacks_keeps_nobody_from_the_next(
        monkeypatch):
    made = client.Socket

    def lacking(family, *more):
        if family == -1:
            raise OSError(97, 'Address family not supported')
        return made(family, *more)

    with socket.create_server(('127.0.0.1', 0)) as server:
        place = server.getsockname()
        monkeypatch.setattr(client, 'Socket', lacking)
        monkeypatch.setattr(client, 'getaddrinfo', lambda *_: [
            (family, socket.SOCK_STREAM, 0, '', place)
            for family in (-1, socket.AF_INET)])
        with client._dialed(*place, 5.0) as sock:
            assert sock.getpeername() == place


# -- who ends TLS, or leaves it out ---------------------------------------

@pytest.fixture
def queue():
    queue = JobQueue(10, RUN)
    queue.put('job')
    return queue


@pytest.fixture
def elsewhere(contexts, tmp_path):
    """Somebody else's certificate, which a slave may trust too."""
    import subprocess

    from certificates import CERTIFY

    from taskmaster.wire import tls
    subprocess.run(CERTIFY.split(), cwd=tmp_path, check=True,
                   capture_output=True)
    both = tmp_path / 'both.crt'
    both.write_text((tmp_path / 'tls.crt').read_text()
                    + (contexts.folder / 'tls.crt').read_text())
    return (tls.serving(f'{tmp_path}/tls.crt', f'{tmp_path}/tls.key'),
            tls.trusting(str(both)))


def serving(context):
    return lambda sock: context.wrap_socket(sock, server_side=True)


def calling(context):
    return lambda sock: context.wrap_socket(sock,
                                            server_hostname='127.0.0.1')


def test_tls_is_bound_to_the_masters_certificate(serve, queue, contexts):
    server = serve(queue, tls=contexts.serving)
    with Relay(server.address) as relay:        # which only passes it on
        with closing(client.connect(relay.address, KEY,
                                    contexts.trusting)) as link:
            greet(link)
            assert link._conn._macs is None


def test_a_proxy_that_ends_tls_is_refused(serve, queue, contexts, elsewhere,
                                          caplog):
    """Though the slave trusts its certificate, and it the master's."""
    theirs, trusting = elsewhere
    server = serve(queue, tls=contexts.serving)
    with Relay(server.address, wrap=serving(theirs),
               onward=calling(contexts.trusting)) as relay:
        with pytest.raises((EOFError, OSError)):
            client.connect(relay.address, KEY, trusting)
    until(lambda: 'is between' in caplog.text)
    assert queue.sessions == 0


def test_the_same_proxy_before_a_master_in_clear(serve, queue, elsewhere,
                                                 caplog):
    theirs, trusting = elsewhere
    server = serve(queue)
    with Relay(server.address, wrap=serving(theirs)) as relay:
        with pytest.raises((EOFError, OSError)):
            client.connect(relay.address, KEY, trusting)
    until(lambda: 'is between' in caplog.text)


@pytest.mark.parametrize('stripped', [False, True])
def test_a_slave_without_tls_is_refused_however_it_gets_there(
        serve, queue, contexts, stripped):
    """Straight, or by somebody who speaks TLS to the master for it."""
    server = serve(queue, tls=contexts.serving)
    onward = calling(contexts.trusting) if stripped else lambda sock: sock
    with Relay(server.address, onward=onward) as relay:
        with pytest.raises(TaskmasterError, match='--tls-ca') as info:
            client.connect(relay.address, KEY)
    assert info.value.exit_code == 78
    assert queue.sessions == 0


def test_one_without_the_key_hears_no_refusal(serve, queue, contexts):
    server = serve(queue, tls=contexts.serving)
    with pytest.raises(KeyRefused):
        client.connect(server.address, b'another key')
