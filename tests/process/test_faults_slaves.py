"""Slaves that die, stop, or are cut off: their jobs go on elsewhere."""

import os
import re
import signal
import socket

import pytest
from fakes import KEY
from faults import (ALL, NUMBERS, WIRES, Proxy, connections, is_stopped,
                    launch, quick)
from programs import Workspace, eventually, free_port

from taskmaster.wire.client import connect
from taskmaster.wire.messages import PROTOCOL, Introduction

# Job 300 has two sights: 'one' has handled it and cannot report, 'two' is
# the retry, which has not handled it yet.
TWICE = NUMBERS + '''
def handle_job(job):
    if job == 300 and first('sight'):
        record(job)
        block('one', until='go-one')
        return
    if job == 300:
        block('two', until='go-two')
    record(job)
'''


@pytest.mark.smoke
def test_2_a_child_of_a_dead_slave_keeps_its_socket(work):
    """No end of a connection is seen: the lease expires."""
    work.write('migrate.py', NUMBERS + '''
import ctypes
import os
import signal

def handle_job(job):
    if job == 300 and first('killed'):
        # In C: of a fork that Python knows the child has no socket of ours.
        if not ctypes.PyDLL(None).fork():
            block('orphan', until='never')
        while not os.path.exists('orphan'):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
    record(job)
''')
    master = quick(work, 'master', 'migrate')
    slave = quick(work, 'slave', 'migrate', master.host)
    assert slave.code() == -signal.SIGKILL
    assert len(connections(master.port)) == 1
    other = quick(work, 'slave', 'migrate', master.host)
    master.says('lost slave .*, [1-9][0-9]* jobs? back')
    assert (other.code(), master.code()) == (0, 0)
    work.check(ALL, twice=range(1, 300))
    assert work.handled()['300'] == 1


def test_3_a_slave_stops_for_longer_than_its_lease(work):
    """Its jobs go on elsewhere; its late *done* is taken."""
    work.write('migrate.py', TWICE)
    master = quick(work, 'master', 'migrate')
    one = quick(work, 'slave', 'migrate', master.host)
    eventually(lambda: work.has('one'))
    one.send(signal.SIGSTOP)
    two = quick(work, 'slave', 'migrate', master.host)
    master.says('lost slave ')
    eventually(lambda: work.has('two'))
    assert work.state()['key'] < 300
    work.touch('go-one')
    one.send(signal.SIGCONT)
    # The retry is still running, and yet the job is done.
    eventually(lambda: work.state()['key'] >= 300, 'the late report')
    work.touch('go-two')
    assert [p.code() for p in (one, two, master)] == [0, 0, 0]
    work.check(ALL, twice=ALL)
    assert work.handled()['300'] == 2
    assert not work.has('migrate.failures')


def test_4_a_handler_holds_the_gil(work):
    """For longer than the lease: a duplicate, never a loss."""
    os.mkfifo(work.path / 'fifo')
    work.write('migrate.py', NUMBERS + '''
import ctypes
import os


def handle_job(job):
    if job == 300 and first('sight'):
        open('held', 'w').close()
        # Blocks in C until somebody writes, without letting go of the GIL.
        ctypes.PyDLL(None).open(b'fifo', os.O_RDONLY)
    if job == 1000:
        block('last')
    record(job)
''')
    master = quick(work, 'master', 'migrate')
    one = quick(work, 'slave', 'migrate', master.host)
    eventually(lambda: work.has('held'))
    master.says('lost slave ')
    two = quick(work, 'slave', 'migrate', master.host)
    eventually(lambda: work.has('last') and work.handled()['300'])
    os.close(os.open(work.path / 'fifo', os.O_WRONLY | os.O_NONBLOCK))
    eventually(lambda: work.handled()['300'] == 2)
    work.touch('go')
    assert [p.code() for p in (one, two, master)] == [0, 0, 0]
    work.check(ALL, twice=ALL)
    assert not work.has('migrate.failures')


def test_5_a_host_vanishes(work, tmp_path_factory):
    """It neither answers nor says goodbye: whoever notices first."""
    other = Workspace(tmp_path_factory.mktemp('network'))
    settings = {work: '', other: '''
TIMING = TIMING._replace(
    expiry=1000.0, keepalive_idle=1, keepalive_every=1, keepalive_probes=1,
    user_timeout=1.0)
'''}
    try:
        for place, network in settings.items():
            place.write('wires.py', WIRES)
            place.write('migrate.py', NUMBERS + '''
import os
import signal
from wires import cut


def handle_job(job):
    if job == 300 and first('cut'):
        cut()
        os.kill(os.getpid(), signal.SIGSTOP)
    record(job)
''')
            master = quick(place, 'master', 'migrate', also=network)
            quick(place, 'slave', 'migrate', master.host)
        for place in settings:
            master, one = place.programs
            eventually(lambda: place.has('cut') and is_stopped(one.pid))
            quick(place, 'slave', 'migrate', master.host)
        for place, network in settings.items():
            master, one, two = place.programs
            assert (two.code(), master.code()) == (0, 0)
            place.check(ALL, twice=range(1, 300))
            assert ('lost slave' in master.err) == (not network)
    finally:
        other.close()


def test_6_a_partition_heals(work):
    """The same run: *done* counts, *failed* does not; nobody is blamed."""
    work.write('wires.py', WIRES)
    work.write('migrate.py', NUMBERS + '''
from wires import cut, heal


def handle_job(job):
    if job == 300 and first('sight'):
        cut()
        record(job)
        block('one', until='go-one')
        return
    if job == 300:
        block('two', until='go-two')
    if job == 301 and first('late'):
        heal()
        raise ValueError('too late')
    record(job)
''')
    # One of the leases is of 281 to 350; and the slave keeps to the
    # connection that is cut, however long this takes.
    sizes = ('from taskmaster.slave import pace\n'
             'pace.Pace.want = lambda _: 70\n'
             'TIMING = TIMING._replace(expiry=1000.0, user_timeout=60.0)\n')
    master = quick(work, 'master', 'migrate')
    one = quick(work, 'slave', 'migrate', master.host, also=sizes)
    eventually(lambda: work.has('one'))
    two = quick(work, 'slave', 'migrate', master.host)
    master.says('lost slave ')
    eventually(lambda: work.has('two'))
    assert work.state()['key'] < 300
    work.touch('go-one')
    eventually(lambda: work.state()['key'] >= 300, 'the late report')
    work.touch('go-two')
    assert [p.code() for p in (one, two, master)] == [0, 0, 0]
    work.check(ALL, twice=ALL)
    assert not work.has('migrate.failures')


def test_6_a_partition_heals_after_the_master_was_restarted(work):
    """Another run: the same numbers mean other jobs, and nothing counts.

    `one` has done 51 to 75 of the first run, in which it is cut off; of the
    second `two` holds 60 to 75 when that is reported, and then it dies.
    """
    work.write('wires.py', WIRES)
    work.write('migrate.py', '''
import os
from recorder import block, record
from wires import cut, heal


def get_jobs(last=0):
    with open('round') as file:
        round = int(file.read())
    for number, job in enumerate(range(last + 1, 1001), 1):
        yield job, round, number


def get_key(job):
    return job[0]


def handle_job(job):
    key, round, number = job
    if (round, number) == (1, 75):
        cut()
    if (round, number) == (2, 60) and not os.path.exists('two'):
        block('two', until='never')
    record(f'{key} {round}')
    if (round, number) == (1, 75):
        block('one', until='go-one')
        heal()
''')
    sizes = ('from taskmaster.slave import pace\n'
             'pace.Pace.want = lambda _: 50\n')
    host = f'--host=127.0.0.1:{free_port()}'
    work.write('round', '1')
    master = quick(work, 'master', 'migrate', host)
    one = quick(work, 'slave', 'migrate', host, also=sizes)
    eventually(lambda: work.has('one'))
    master.send(signal.SIGKILL)
    master.code()
    last = (work.state()['key'] or 0) if work.has('migrate.state') else 0
    work.write('round', '2')
    master = quick(work, 'master', 'migrate', host)
    two = quick(work, 'slave', 'migrate', host, also=sizes)
    eventually(lambda: work.has('two'))
    work.touch('go-one')
    one.says('connected to the run', times=2)
    two.send(signal.SIGKILL)
    assert (one.code(), master.code()) == (0, 0)
    again = [int(line.split()[0]) for line in work.lines('done')
             if line.endswith(' 2')]
    assert set(again) == set(range(last + 1, 1001))
    assert work.state()['count'] == 1000


def test_18_a_segfault(work):
    """One job of 1,000: it alone is in the failures file."""
    work.write('migrate.py', NUMBERS + '''
import ctypes


def handle_job(job):
    if job == 300:
        ctypes.string_at(0)
    record(job)
''')
    run = work.finish('run', 'migrate', '2')
    assert run.code() == 1
    assert 'was ended by SIGSEGV' in run.err
    failure, = work.failures()
    assert (failure['key'], failure['attempts']) == ('300', 3)
    assert work.handled().keys() == {str(job) for job in ALL if job != 300}
    assert work.state()['complete']


def test_18_a_job_that_kills_slaves_that_have_no_supervisor(work):
    """As where memory runs out in a container: something starts another."""
    work.write('migrate.py', NUMBERS + '''
import os
import signal


def handle_job(job):
    if job == 300:
        os.kill(os.getpid(), signal.SIGKILL)
    record(job)
''')
    master = quick(work, 'master', 'migrate')
    starts = 0
    while master.process.poll() is None:
        assert starts < 60, master.err
        quick(work, 'slave', 'migrate', master.host, '--timeout=1').code()
        starts += 1
    assert master.code() == 1
    assert re.search(r'warning: slave \S+ is cut off, \d+ jobs? back',
                     master.err)
    failure, = work.failures()
    assert (failure['key'], failure['attempts']) == ('300', 3)
    assert work.handled().keys() == {str(job) for job in ALL if job != 300}


def test_21_every_job_fails_in_no_time(work):
    """It is stopped before it eats the table, and can be gone on with."""
    work.write('migrate.py', NUMBERS.replace('1000', '1000000') + '''
import os


def handle_job(job):
    if not os.path.exists('mended'):
        raise ValueError(job)
    record(job)
''')
    command = 'run', 'migrate', '2'
    run = work.finish(*command)
    assert run.code() == 65
    assert '--max-failures' in run.err
    assert 'line' not in run.err        # no traceback of theirs, either
    state, failed = work.state(), work.failures()
    assert 100 <= len(failed) < 1000
    numbers = {int(record['key']) for record in failed}
    # What was given back is a hole, above which all runs again.
    assert numbers >= set(range(1, state['key'] + 1))
    assert state['key'] == state['count'] <= len(numbers) == len(failed)
    work.touch('mended')
    run = work.start(*command)
    eventually(lambda: len(work.lines('done')) > 1000, 'the work')
    run.stop()
    assert run.code() == -signal.SIGINT
    work.check(range(state['key'] + 1, work.state()['key'] + 1))


def test_22_a_slave_that_cannot_import_its_handler(work):
    """It ends before it connects, with no master to be seen."""
    work.write('migrate.py', 'import there_is_no_such_thing\n')
    host = f'--host=127.0.0.1:{free_port()}'
    slave = work.start('slave', 'migrate', host)
    spawn = work.start('spawn', 'migrate', '2', host)
    assert (slave.code(), spawn.code()) == (78, 78)
    for program in slave, spawn:
        assert 'there_is_no_such_thing' in program.err
        assert 'no master there' not in program.err


def test_23_jobs_that_unpickle_only_on_some_slaves(work):
    """They are offered elsewhere; nothing has failed."""
    work.write('migrate.py', NUMBERS + '''
import os


def made(number):
    if 'BAD' in os.environ:
        open('refused', 'w').close()
        raise ImportError('no such model')
    return Picky(number)


class Picky(int):
    def __reduce__(self):
        return made, (int(self),)


def get_jobs(last=0):
    for job in range(last + 1, 1001):
        yield Picky(job) if job % 10 == 0 else job


def get_key(job):
    return int(job)


def handle_job(job):
    if job == 1:
        block('here')
    record(job)
''')
    master = work.start('master', 'migrate')
    good = work.start('slave', 'migrate', master.host)
    eventually(lambda: work.has('here'))
    bad = work.start('slave', 'migrate', master.host, environ={'BAD': '1'})
    eventually(lambda: work.has('refused'))
    work.touch('go')
    assert [p.code() for p in (good, bad, master)] == [0, 0, 0]
    work.check(ALL)
    assert not work.has('migrate.failures')


def test_25_another_protocol(work):
    work.write('migrate.py', NUMBERS)
    master = work.start('master', 'migrate')
    other = 'from taskmaster.wire import messages\nmessages.PROTOCOL += 1\n'
    slave = launch(work, other, 'slave', 'migrate', master.host)
    assert slave.code() == 76
    line = slave.err.splitlines()[-1]
    assert f'(protocol {PROTOCOL})' in line
    assert f'(protocol {PROTOCOL + 1})' in line
    master.says(f'warning: .*protocol {PROTOCOL + 1}')
    assert not work.handled()
    newer = launch(work, other, 'master', 'migrate', '--state=newer.state',
                   '--host=127.0.0.1:0')
    assert work.finish('slave', 'migrate', newer.host).code() == 76
    assert work.finish('slave', 'migrate', master.host).code() == 0


def test_26_a_name_that_cannot_be_resolved(work):
    """One line, another try until the timeout, one line."""
    work.write('migrate.py', NUMBERS)
    slave = work.finish('slave', 'migrate', '--timeout=0.3',
                        '--host=no-such-host.invalid:3050')
    assert slave.code() == 69
    looks, gives_up = slave.err.splitlines()
    assert 'looking for it for 0.3 s' in looks
    assert '--host' in gives_up and '--timeout' in gives_up


@pytest.mark.hunt
def test_27_a_thousand_slaves_at_once(work):
    """Each holds a job before any of them goes on."""
    work.write('migrate.py', NUMBERS)
    limit = '''
import resource

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 20000), most))
'''
    work.write('crowd.py', limit + '''
import sys
import threading
from functools import partial
from recorder import record
from taskmaster.usercode.handler import Handler
from taskmaster.slave.link import Identity
from taskmaster.slave.slave import Slave
from taskmaster.wire.client import connect

threading.stack_size(256 * 1024)
sys.setswitchinterval(0.1)      # or so many threads only fight for the GIL
together = threading.Barrier(1000, timeout=50)
KEY = sys.argv[2].encode()      # one that is not stretched
mine = threading.local()


def handle(job):
    if not hasattr(mine, 'job'):
        mine.job = job
        together.wait()
    record(job)


def work(number):
    Slave(lambda: connect(('127.0.0.1', int(sys.argv[1])), KEY),
          Handler(handle, 0), Identity(f'slave {number}', f'crowd:{number}')
          ).run()


threads = [threading.Thread(target=work, args=(number,))
           for number in range(1000)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
''')
    master = launch(work, limit, 'master', 'migrate', 'count=2100',
                    f'--key={KEY.decode()}')
    crowd = work.program(
        master.command[0], 'crowd.py', str(master.port), KEY.decode())
    assert (crowd.code(), master.code()) == (0, 0)
    work.check(range(1, 2101))
    assert 'Traceback' not in crowd.err
    assert 'lost slave' not in master.err


def test_29_clocks_jump(work):
    """Wall clocks are for people; they end no lease and lose no job."""
    jumps = '''
import random
import time

time.time = lambda: random.choice([1.0, 1e9, 4e9])
'''
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 300:
        block('here')
    record(job)
    assert job != 400
''')
    master = launch(work, jumps, 'master', 'migrate')
    slaves = [launch(work, jumps, 'slave', 'migrate', master.host)
              for _ in range(2)]
    for slave in slaves:        # or one could end the run before the other
        slave.says('^connected to the run ')
    eventually(lambda: work.has('here'))
    eventually(lambda: work.has('migrate.state'), 'a save')
    work.touch('go')
    assert [p.code() for p in (*slaves, master)] == [0, 0, 1]
    work.check(ALL)
    assert 'lost slave' not in master.err


def test_33_and_34_one_job_is_stuck(work):
    """The others go on; it holds one job more at most, and is named."""
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 1:
        block('stuck')
    record(job)
''')
    master = launch(work, 'TIMING = TIMING._replace(stuck=0.5)',
                    'master', 'migrate', 'count=10000')
    one = work.start('slave', 'migrate', master.host)
    eventually(lambda: work.has('stuck'))
    two = work.start('slave', 'migrate', master.host)
    eventually(lambda: len(work.lines('done')) >= 9998, 'the others')
    name = f'{socket.gethostname()}:{one.pid}'
    master.says(rf'job 1 \(key 1\) is with {name} for \d+ s')
    work.touch('go')
    assert [p.code() for p in (one, two, master)] == [0, 0, 0]
    work.check(range(1, 10001))


def test_35_a_slave_reads_nothing(work):
    """What it is sent gets stuck; the others are served meanwhile."""
    work.write('migrate.py', NUMBERS + '''
def get_jobs():
    for job in range(1, 1001):
        yield job, bytes(12 << 20 if job < 4 else 0)


def get_key(job):
    return job[0]


def handle_job(job):
    if job[0] == 1:
        block('here')
    record(job[0])
''')
    master = quick(work, 'master', 'migrate', f'--key={KEY.decode()}', also='''
TIMING = TIMING._replace(expiry=1000.0, user_timeout=1.5)
''')
    slave = quick(work, 'slave', 'migrate', f'--key={KEY.decode()}',
                  master.host)
    eventually(lambda: work.has('here'))
    names = {}
    exec(WIRES, names)
    link = connect(('127.0.0.1', master.port), KEY)
    try:
        welcome = link.call('hello', Introduction(
            'deaf', 'deaf:1', 1, None, None, None, [], None))
        link._conn._sock.setsockopt(
            socket.SOL_SOCKET, names['SO_ATTACH_FILTER'], names['DROP_ALL'])
        link._conn.send(['queue', 'exchange', [
            [welcome.start, [], [], [], []], 1, False, 0.0], {}])
        eventually(lambda: max(connections(master.port)) > 1 << 20,
                   'a reply that is stuck')
        work.touch('go')
        eventually(lambda: len(work.lines('done')) == 999, 'the others')
        assert max(connections(master.port)) > 1 << 20
        assert (slave.code(), master.code()) == (0, 0)
    finally:
        link.close()
    work.check(ALL)


def test_39_a_connection_is_dropped_and_comes_back(work):
    """Three times in one long job, which goes on where it is."""
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 300:
        block('here')
    record(job)
''')
    master = work.start('master', 'migrate')
    proxy = Proxy(master.port)
    try:
        slave = quick(work, 'slave', 'migrate',
                      f'--host=127.0.0.1:{proxy.port}')
        eventually(lambda: work.has('here'))
        for times in range(1, 4):
            proxy.connected(times)
            proxy.reset()
        proxy.connected(4)
        work.touch('go')
        assert (slave.code(), master.code()) == (0, 0)
    finally:
        proxy.close()
    assert len(proxy.pairs) == 4
    work.check(ALL)
    assert 'lost slave' not in master.err
    assert not work.has('migrate.failures')
