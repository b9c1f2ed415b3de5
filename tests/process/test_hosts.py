"""Several hosts, whose network and power fail: nothing is lost."""

import json
import signal
import sys
from collections import defaultdict

import pytest
from faults import quick
from hosts import TAPS, Network, jobs_back, repeats
from programs import eventually

pytestmark = pytest.mark.hunt

# The children of tm-spawn get the same constants.
FAR = '''
from taskmaster.supervisor import child

TIMING = TIMING._replace(expiry=2.0, user_timeout=2.0)
child.MAIN = __file__
'''

# Dead connections are noticed as fast, and attempts to connect take no longer.
# For slaves: a master that notices before the lease expires blames nobody.
NOTICE = '''
TIMING = TIMING._replace(
    keepalive_idle=1, keepalive_every=1, keepalive_probes=1,
    user_timeout=1.0, connect=0.5, tried=0.5, handshake=0.5)
'''

# Each line of 'done' says what, where, and by whom. Where `STOPS` has the
# host, each slave waits in the middle of its jobs until there is 'go-HOST'.
MODULE = '''
import os
import time

from recorder import block, record

HOST, STOPS = os.uname().nodename, {stops!r}
taken = 0


def get_jobs(last=0):
    block('here', until='start')
    yield from range(last + 1, 2001)
    block('half', until='go-on')
    yield from range(2001, {last} + 1)


def handle_job(job):
    global taken
    taken += 1
    time.sleep(0.001)           # a lease is some dozens of them
    if HOST in STOPS and taken == 20:
        block(f'at-{{HOST}}-{{os.getpid()}}', until=f'go-{{HOST}}')
    if job > 2000 and HOST == 'slow':
        block('waits', until='go-slow')
    record(f'{{job}} {{HOST}} {{os.getpid()}}')
'''


@pytest.fixture
def network(work):
    """Torn down first: what it kills, the workspace waits for."""
    try:
        network = Network()
    except OSError as error:
        pytest.skip(f'no network namespaces here ({error})')
    yield network
    network.close()


class Cluster:
    """A master on its host, and tm-spawn with two slaves on each other."""

    def __init__(self, work, network, also='', **delays):
        self.work = work
        self.delays = delays
        self.hosts = {name: network.host(name, delay)
                      for name, delay in delays.items()}
        self.at = network.host('master')
        self.host = f'--host={self.at.address}:3050'
        self.master = quick(work, 'master', 'migrate', self.host,
                            also=FAR + also, on=self.at.command)
        self.master.says('server running')
        self.spawns = {
            name: quick(work, 'spawn', 'migrate', '2', self.host,
                        also=FAR + NOTICE + also, on=host.command)
            for name, host in self.hosts.items()}
        for spawn in self.spawns.values():
            spawn.says('connected to the run', times=2)
        work.touch('start')

    def in_the_middle(self, name):
        """Both slaves of a host wait within their leases."""
        eventually(lambda: len(list(
            self.work.path.glob(f'at-{name}-*'))) == 2, f'{name} at work')

    def status(self):
        """As tm-ctl has it."""
        ctl = self.work.program(*self.at.command, sys.executable, '-m',
                                'taskmaster', 'ctl', 'status', '--json',
                                self.host)
        assert ctl.code() == 0
        return json.loads(ctl.out)

    def handled(self, above=0):
        """The hosts that each job was handled on."""
        found = defaultdict(list)
        for line in self.work.lines('done'):
            job, host, _ = line.split()
            if int(job) > above:
                found[int(job)].append(host)
        return found

    def check(self, last, cuts):
        """None lost; twice those alone that came back from dead hands."""
        handled = self.handled()
        lost = set(range(1, last + 1)) - handled.keys()
        twice = {job: hosts for job, hosts in handled.items()
                 if len(hosts) > 1}
        back = jobs_back(self.master.err)
        print(f'hosts {len(self.hosts) + 1}, cuts {cuts}, '
              f'jobs {len(handled)}, lost {len(lost)}, '
              f'twice {len(twice)}, of {dict(back)} in dead hands, '
              f'delays {self.delays}')
        assert not lost
        assert len(handled) == last
        assert len(twice) <= sum(back.values())
        assert all(len(hosts) == 2 for hosts in twice.values())
        assert all(back.keys() & set(hosts) for hosts in twice.values())
        assert not self.work.has('migrate.failures')
        return back, twice


def test_one_host_is_cut_off_one_is_killed_one_is_slow(work, network):
    """What was in dead hands goes on elsewhere; late reports count."""
    work.write('migrate.py', MODULE.format(stops=['cut', 'dead'], last=4000))
    here = Cluster(work, network, cut=0, dead=0, slow=0.05 if TAPS else 0)
    cut, dead = here.hosts['cut'], here.hosts['dead']
    for host in cut, dead:
        here.in_the_middle(host.name)
        host.cut()
        before = len(work.lines('done'))
        # They do what they have in hand, and cannot say so.
        work.touch(f'go-{host.name}')
        eventually(lambda: any(f' {host.name} ' in line for line in
                               work.lines('done')[before:]), 'a job there')
    dead.kill()
    eventually(lambda: not dead.pids())
    here.master.says('lost slave dead:', times=2)
    here.master.says('lost slave cut:', times=2)
    eventually(lambda: len(here.handled()) == 2000, 'the work of the others')
    cut.heal()
    work.touch('go-on')
    eventually(lambda: len({line.split()[2] for line in work.lines('done')
                            if int(line.split()[0]) > 2000
                            and ' cut ' in line}) == 2, 'both at work again')
    work.touch('go-slow')
    codes = {name: spawn.code() for name, spawn in here.spawns.items()}
    assert codes == {'cut': 0, 'dead': -signal.SIGKILL, 'slow': 0}
    assert here.master.code() == 0
    back, twice = here.check(4000, cuts=2)
    assert back.keys() == {'cut', 'dead'} and twice
    assert any('slow' in hosts for hosts in here.handled(2000).values())


def test_a_host_is_cut_off_for_less_than_the_grace(work, network):
    """Once unnoticed, once until both sides have given up a connection."""
    work.write('migrate.py', MODULE.format(stops=['cut'], last=2000))
    here = Cluster(work, network, cut=0, other=0, also='''
TIMING = TIMING._replace(
    expiry=60.0, grace=30.0, keepalive_idle=1, keepalive_every=1,
    keepalive_probes=1, user_timeout=3.0)
''')
    cut, spawn = here.hosts['cut'], here.spawns['cut']
    here.in_the_middle('cut')
    cut.cut()
    eventually(lambda: min(repeats(spawn.pid, 3050)) >= 2, 'silence')
    cut.heal()
    eventually(lambda: not any(repeats(spawn.pid, 3050)), 'an answer')
    assert 'no master there' not in spawn.err
    cut.cut()
    spawn.says('no master there', times=2)
    eventually(lambda: sum(
        not slave['connected'] for slave in here.status()['slaves']) == 2)
    cut.heal()
    work.touch('go-on')
    eventually(lambda: all(
        slave['connected'] for slave in here.status()['slaves']))
    work.touch('go-cut')
    assert [program.code() for program in work.programs[:3]] == [0, 0, 0]
    back, twice = here.check(2000, cuts=2)
    assert not back and not twice


def test_the_masters_host_is_cut_off(work, network):
    """From all its slaves, for longer than a lease; then they go on."""
    work.write('migrate.py', MODULE.format(stops=['one', 'two'], last=3000))
    here = Cluster(work, network, one=0, two=0)
    for name in here.hosts:
        here.in_the_middle(name)
    here.at.cut()
    for name, spawn in here.spawns.items():
        work.touch(f'go-{name}')
        spawn.says('no master there', times=2)
    here.master.says('lost slave ', times=4)
    assert len(here.handled()) < 2000
    here.at.heal()
    work.touch('go-on')
    assert [program.code() for program in work.programs] == [0, 0, 0]
    back, twice = here.check(3000, cuts=1)
    assert back.keys() == {'one', 'two'}
