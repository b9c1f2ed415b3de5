"""Somebody between slave and master, who damages what passes.

BETWEEN=1000 damages at so many random places.
"""

import os
import random
import threading
from contextlib import closing, suppress

import pytest
from fakes import KEY, RUN, Background, greet, until
from relays import Frames, Relay, damaged

from taskmaster.errors import KeyRefused, TaskmasterError
from taskmaster.master.jobqueue import JobQueue
from taskmaster.settings import Settings
from taskmaster.slave.link import Identity
from taskmaster.slave.slave import Slave
from taskmaster.timing import STANDARD
from taskmaster.usercode.handler import Handler
from taskmaster.wire import client
from taskmaster.wire.connection import MAC_BYTES

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
