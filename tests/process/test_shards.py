"""One source, several masters at once, each with a share of it."""

import signal

import pytest
from programs import eventually, free_port

pytestmark = pytest.mark.hunt

LAST = 4000

# Jobs are (number, shard), so that the slaves of a shard can be told apart.
MODULE = '''
from recorder import block, record


def get_jobs(last=(0, 0), shard='0', shards='1'):
    for number in range(last[0] + 1, 4001):
        if number % int(shards) == int(shard):
            yield number, int(shard)


def handle_job(job):
    number, shard = job
    if number >= 2000:
        block(f'half-{shard}', until=f'go-{shard}')
    record(number)
'''


class Shard:
    """A master with a port of its own, and two slaves."""

    def __init__(self, work, number, port):
        self.work, self.number = work, number
        self.host = f'--host=127.0.0.1:{port}'
        self.words = 'migrate', f'shard={number}', 'shards=2', self.host

    def start(self, spawn=True):
        self.master = self.work.start('master', *self.words, '--size=200')
        self.master.says('server running')
        if spawn:
            self.spawn = self.work.start('spawn', 'migrate', '2', self.host)

    def half(self):
        eventually(lambda: self.work.has(f'half-{self.number}'), 'half of it')

    def go_on(self):
        self.work.touch(f'go-{self.number}')

    def codes(self):
        return self.master.code(), self.spawn.code()


@pytest.fixture
def shards(work):
    work.write('migrate.py', MODULE)
    found = []
    for number in range(2):             # the second finds the first's taken
        found.append(Shard(work, number, free_port()))
        found[-1].start()
    for shard in found:
        shard.half()
    return found


def counts(work):
    """How many jobs each state file says are finished."""
    return sorted(work.state(path.stem)['count']
                  for path in work.path.glob('*.state'))


def test_two_masters_each_with_its_shard(work, shards):
    """At the same time, in one folder; each keeps a state of its own."""
    for shard in shards:
        shard.go_on()
    assert [shard.codes() for shard in shards] == [(0, 0), (0, 0)]
    work.check(range(1, LAST + 1))
    assert counts(work) == [LAST // 2, LAST // 2]


def test_one_is_cancelled_and_resumed(work, shards):
    """The other one goes on meanwhile, and nothing is done twice."""
    one, other = shards
    one.master.stop(signal.SIGINT)
    one.go_on()
    assert one.master.code() == -signal.SIGINT
    other.go_on()
    assert other.codes() == (0, 0)
    done = len(work.lines('done'))
    assert LAST // 2 < done < LAST
    one.start(spawn=False)              # its slaves have waited for it
    assert one.codes() == (0, 0)
    assert f'({done - LAST // 2} jobs' in one.master.err
    work.check(range(1, LAST + 1))
    assert counts(work) == [LAST // 2, LAST // 2]


def test_a_slave_keeps_to_its_shard(work, shards):
    """Another one at its master's address is another run: 78."""
    one, other = shards
    for shard in shards:
        shard.master.stop()
        shard.go_on()
        shard.master.code()
    done = len(work.lines('done'))
    moved = work.start('master', *other.words[:-1], one.host)
    assert one.spawn.code() == 78
    assert ('another run (migrate shard=1 shards=2), this slave is of '
            'migrate shard=0 shards=2' in one.spawn.err)
    assert len(work.lines('done')) == done
    # Which a new one takes as it takes any of its module.
    spawn = work.start('spawn', 'migrate', '2', one.host)
    assert (moved.code(), spawn.code()) == (0, 0)
    work.check({*map(int, work.lines('done')), *range(1, LAST, 2)})


def test_a_shard_twice_is_refused(work, shards):
    """Its state is in use, whatever the port."""
    again = work.finish('master', *shards[0].words[:-1])
    assert again.code() == 75
    for shard in shards:
        shard.go_on()
    assert [shard.codes() for shard in shards] == [(0, 0), (0, 0)]
    work.check(range(1, LAST + 1))
