"""The points to measure: how each is measured once, and what is wanted."""

import statistics
import time
from typing import Callable, Dict, List, NamedTuple, Optional

from delay import DelayProxy
from jobs import SETTLE, memory
from lab import (HERE, Lab, Missing, cpu_seconds, family, peer,
                 processor_seconds)

from taskmaster.address import address
from taskmaster.wire.client import connect

Measured = Dict[str, float]         # in one round

# Of a pool: swept, as the best is compared with.
CHUNKS = 300, 1000, 3000, 5000, 10_000, 20_000
TCP = '--host=127.0.0.1:0'
CROWD = str(HERE / 'crowd.py')
WARM_UP = 2.0       # seconds, of slow jobs through a slow network
SAMPLES = 5         # of a start, in a round
ALONE = 10.0        # seconds of a crowd that nobody looks at, ...
WATCHED = 5.0       # ... and of one whose status is asked for all the time
IDLE = 10.0         # seconds in which nothing should happen


class Row(NamedTuple):
    what: str
    value: Callable[[Measured], float]
    unit: str
    least: Optional[float] = None       # wanted
    most: Optional[float] = None


class Point(NamedTuple):
    name: str
    measure: Callable[[float], Measured]    # given a scale, 1 or less
    rows: List[Row]


# -- throughput -----------------------------------------------------------

# Another tree to measure in turn with this one, by `--against`.
before: List[str] = []

# Where an operator types it, and with a --host: over TCP, with MACs.
OURS = {'taskmaster': [], 'tcp': [TCP], 'before': [TCP]}


def throughput(source: str, **counts: int) -> Callable[[float], Measured]:
    """Jobs a second: ours, of a pool by its chunks, and of other peers.

    Each round begins with another of them.
    """
    missing = set()
    turns = [*counts]

    def measure(scale: float) -> Measured:
        measured = {}
        turns.append(turns.pop(0))
        for name in turns:
            count = int(counts[name] * scale)
            try:
                if name in OURS:
                    measured.update(ours(name, count))
                elif name not in missing:
                    peers, _, chunk = name.partition('_')
                    taken = peer(peers, source, 'noop', count,
                                 *filter(None, [chunk]))
                    measured[name] = count / taken.seconds
                    measured[name + ' whole'] = count / taken.whole
            except Missing:
                missing.add(name)
        return measured

    def ours(name: str, count: int) -> Measured:
        if name == 'before' and not before:
            return {}
        tree = before[0] if name == 'before' else HERE.parent
        start, used = time.monotonic(), processor_seconds()
        with Lab(tree=tree) as lab:
            lab.run(source, 'noop', count, *OURS[name])
            whole = time.monotonic() - start - SETTLE
            return {name: count / lab.seconds, f'{name} whole': count / whole,
                    f'{name} cpu': (processor_seconds() - used) / count}
    return measure


def pools(count: int, *chunks: int) -> Dict[str, int]:
    return {f'pool_{chunk}': count for chunk in chunks}


def best(measured: Measured, end: str = '') -> float:
    """Of the pool with the chunks that suit it best, in this round."""
    return max(value for name, value in measured.items()
               if name.startswith('pool_') and name.endswith(end)
               and ('whole' in name) == bool(end))


def rates(*names: str) -> List[Row]:
    texts = {'loop': 'plain loop', 'proxied': 'proxied queue, job by job',
             'celery': 'Celery with Redis', 'dask': 'Dask',
             'taskmaster': 'Taskmaster', 'tcp': 'Taskmaster, with a --host',
             'before': 'Taskmaster before, with a --host'}
    return [Row(texts.get(name) or 'Pool.imap_unordered, chunks of '
                + name.partition('_')[2], lambda m, name=name: m[name], '/s')
            for name in names]


def against(name: str, what: str, least: Optional[float] = None,
            ours: str = 'taskmaster') -> Row:
    return Row(f'Taskmaster : {what}', lambda m: m[ours] / m[name],
               'x', least=least)


def against_best(least: float) -> List[Row]:
    """By rate, by the whole; and what a job costs, beside the tree before."""
    return [
        Row('Taskmaster : best Pool', lambda m: m['taskmaster'] / best(m),
            'x', least=least),
        Row('Taskmaster with a --host : best Pool',
            lambda m: m['tcp'] / best(m), 'x'),
        Row('Pool at its best, start to exit', lambda m: best(m, ' whole'),
            '/s'),
        Row('Taskmaster, start to exit', lambda m: m['taskmaster whole'],
            '/s'),
        Row('Taskmaster, processor time a job',
            lambda m: m['taskmaster cpu'] * 1e9, 'ns'),
        against('before', 'before', 0.97),
        against('before', 'before, both with a --host', ours='tcp'),
        *(Row(f'{what}: processor time, before : now', lambda m, name=name:
              m['before cpu'] / m[f'{name} cpu'], 'x', least=0.97)
          for name, what in (('taskmaster', 'Taskmaster'),
                             ('tcp', 'Taskmaster with a --host')))]


# -- handlers that take time ----------------------------------------------

def efficiency(source: str, count: int) -> Callable[[float], Measured]:
    """Against naps that are shared out evenly without any cost."""
    def measure(scale: float) -> Measured:
        jobs = int(count * scale)
        ideal = peer('ideal', source, 'nap', jobs).seconds
        with Lab() as lab:
            lab.run(source, 'nap', jobs)
            master, *slaves = lab.notes()
            slaves = [slave['naps'] for slave in slaves]
            ends = [naps[-1][1] for naps in slaves]
            busy = sum(end - begin for naps in slaves for begin, end in naps)
            return {'efficiency': ideal / lab.seconds,
                    'busy': busy / 2 / lab.seconds,
                    'tail': max(ends) - min(ends),
                    'end': master['saved'] - max(ends)}
    return measure


def efficient(least: float) -> List[Row]:
    return [Row('ideal : Taskmaster', lambda m: m['efficiency'], '%',
                least=least),
            Row('slaves in a handler', lambda m: m['busy'], '%'),
            Row('one slave ends before the other',
                lambda m: m['tail'] * 1e3, 'ms'),
            Row('last job to "complete" saved', lambda m: m['end'] * 1e3,
                'ms')]


def far_away(scale: float) -> Measured:
    """10 ms handlers and a round trip of 50 ms."""
    count = int(2000 * max(scale, 0.3))
    ideal = peer('ideal', 'naps_10ms', 'nap', 200).seconds / 200
    with Lab() as lab:
        master, place = lab.master('naps_10ms', f'count={count}')
        proxy = DelayProxy(place, 0.025)
        lab.finish(master, lab.taskmaster('spawn', 'jobs:nap', '2',
                                          f'--host={proxy.address}'))
        master, *slaves = lab.notes()
        ends = [end for slave in slaves for _, end in slave['naps']]
        warm = master['start'] + WARM_UP
        late = sum(end > warm for end in ends)
        return {'warm': late * ideal / (max(ends) - warm),
                'all': count * ideal / lab.seconds}


# -- memory ---------------------------------------------------------------

def master_memory(scale: float) -> Measured:
    measured = {}
    for name, count in ('few', 1e5), ('many', 1e7 * scale):
        with Lab() as lab:
            lab.run('numbers', 'noop', int(count), TCP)
            for field in 'VmRSS', 'VmHWM':
                measured[f'{name} {field}'] = lab.notes()[0][field] / 1e6
    return measured


def slave_memory(scale: float) -> Measured:
    """What one more connected slave takes of the master's memory."""
    more = int(499 * max(scale, 0.2))
    with Lab('imported 1') as lab:
        master, place = lab.master('waiting')
        taken = []
        for count, crowds in (1, 1), (more, 2):
            lab.start(CROWD, place, str(count))
            lab.wait_for(lambda: lab.up('connected') == crowds)
            time.sleep(2)
            taken.append(memory(master.pid)['VmRSS'])
    return {'each': (taken[1] - taken[0]) / more / 1e3}


# -- many slaves ----------------------------------------------------------

def crowds(scale: float) -> Measured:
    """Each time the same seconds, so that it ends however slow they are."""
    measured = {}
    turns.reverse()
    for slaves in turns:
        measured.update({f'{slaves} {what}': value for what, value
                         in crowd(slaves, ALONE * scale, WATCHED).items()})
    return measured


turns = [1000, 2]       # each round begins with the other


def crowd(slaves: int, alone: float, watched: float) -> Measured:
    """So many slaves for two phases of so many seconds.

    Nobody asks for the status in the first: with a thousand slaves in it
    that is a load of its own.
    """
    with Lab('connected 2') as lab:
        master, place = lab.master('timed', 'grown=2', f'alone={alone}',
                                   f'watched={watched}')
        start = time.monotonic()
        halves = [lab.start(CROWD, place, str(slaves // 2)) for _ in range(2)]
        lab.wait_for(lambda: lab.up('connected') == 2)
        connect = time.monotonic() - start
        pids = [process.pid for process in (master, *halves)]
        used = []
        for phase in 'alone', 'watched':
            lab.wait_for(lambda: lab.up(phase))
            used.append([cpu_seconds([pid]) for pid in pids])
        answers = look_in(lab, place)
        lab.finish(master, *halves)
        begin, *others = lab.notes()
        served = [at for note in others for at in note['served']]
        phases = begin['phases']
        done, watched = (
            sum(size for note in others for at, size in note['leases']
                if first <= at < last)
            for first, last in zip(phases, phases[1:]))
        cpu = [(after - before) / done for before, after in zip(*used)]
        return {'connect': connect, 'all': len(served),
                'served': max(served) - begin['start'],
                'grown': phases[0] - begin['start'],
                'rate': done / (phases[1] - phases[0]),
                'watched': watched / (phases[2] - phases[1]),
                'master cpu': cpu[0], 'slaves cpu': cpu[1] + cpu[2],
                'answer': statistics.median(answers),
                'slowest': max(answers)}


def look_in(lab: Lab, place: str) -> List[float]:
    """Seconds for a connection and the whole status; until the end."""
    taken: List[float] = []
    while not lab.up('ended'):
        start = time.monotonic()
        try:
            link = connect(address(place), lab.key.encode())
            link.call('status', None, None)
        except (OSError, EOFError):     # it is over
            break
        taken.append(time.monotonic() - start)
        link.close()
        time.sleep(0.05)
    return taken


# -- TLS ------------------------------------------------------------------

def tls(scale: float) -> Measured:
    measured = {}
    for source, count in ('numbers', 5e6), ('texts', 1e6), ('megabytes', 1e3):
        for name in 'plain', 'tls':
            with Lab() as lab:
                jobs = int(count * scale)
                lab.run(source, 'noop', jobs, TCP,
                        *(lab.certificate() if name == 'tls' else []))
                measured[f'{source} {name}'] = jobs / lab.seconds
    return measured


# -- nothing to do --------------------------------------------------------

def idle(scale: float) -> Measured:
    with Lab('imported 11') as lab:
        master, place = lab.master('waiting')
        spawn = lab.taskmaster('spawn', 'jobs:noop', '10', f'--host={place}')
        lab.wait_for(lambda: lab.up('imported') == 11)
        time.sleep(3)
        everybody = family(master.pid, spawn.pid)
        before = cpu_seconds(everybody)
        time.sleep(IDLE)
        return {'processes': len(everybody),
                'cpu': (cpu_seconds(everybody) - before) / IDLE}


def start(scale: float) -> Measured:
    one = ['-m', 'taskmaster', 'run', 'taskmaster.example', '1', 'count=1']
    commands = {'python': ['-c', 'pass'],
                'help': ['-m', 'taskmaster', 'master', '--help'],
                'run': one, 'tcp': [*one, TCP],
                **({'before': [*one, TCP]} if before else {})}
    taken: Dict[str, List[float]] = {
        name + what: [] for name in commands for what in ('', ' cpu')}
    for sample in range(SAMPLES + 1):
        for name, command in commands.items():
            tree = before[0] if name == 'before' else HERE.parent
            with Lab(tree=tree) as lab:
                begin, used = time.monotonic(), processor_seconds()
                lab.finish(lab.start(*command))
                if sample:              # the first compiles
                    taken[name].append(time.monotonic() - begin)
                    taken[name + ' cpu'].append(processor_seconds() - used)
    taken['slave'] = [until_first_job() for _ in range(SAMPLES)]
    return {name: statistics.median(times) for name, times in taken.items()}


def until_first_job() -> float:
    """Seconds from the start of a `tm-slave`, whose job is there."""
    with Lab('imported 1') as lab:
        master, place = lab.master('naps_1ms', 'count=1')
        time.sleep(2 * SETTLE)
        begin = time.monotonic()
        lab.finish(master, lab.taskmaster('slave', 'jobs:nap',
                                          f'--host={place}'))
        return lab.notes()[1]['naps'][0][0] - begin


# -- all of them ----------------------------------------------------------

POINTS = [
    Point('noop', throughput(
        'numbers', taskmaster=20_000_000, **pools(20_000_000, *CHUNKS),
        tcp=20_000_000, before=20_000_000, **pools(2_000_000, 100),
        **pools(100_000, 1), proxied=50_000, loop=20_000_000, celery=5_000,
        dask=5_000), [
        *rates('loop', *pools(0, 1, 100, *CHUNKS), 'proxied', 'celery',
               'dask', 'taskmaster', 'tcp', 'before'),
        *against_best(1.0),
        against('proxied', 'proxied queue', 100),
        against('loop', 'plain loop'),
        against('celery', 'Celery with Redis'),
        against('dask', 'Dask')]),
    Point('1 KB', throughput(
        'texts', taskmaster=1_000_000, **pools(1_000_000, *CHUNKS[:4]),
        tcp=1_000_000, before=1_000_000, **pools(100_000, 1),
        loop=1_000_000), [
        *rates('loop', *pools(0, 1, *CHUNKS[:4]), 'taskmaster', 'tcp',
               'before'),
        *against_best(1.25)]),
    Point('1 ms', efficiency('naps_1ms', 10_000), efficient(0.97)),
    Point('mixed', efficiency('naps_mixed', 4_000), efficient(0.95)),
    Point('far', far_away, [
        Row('ideal : Taskmaster, after 2 s', lambda m: m['warm'], '%',
            least=0.95),
        Row('ideal : Taskmaster, from the first job', lambda m: m['all'],
            '%')]),
    Point('memory', master_memory, [
        *(Row(f'master, {jobs} jobs, {when}',
              lambda m, key=f'{name} {field}': m[key], 'MB')
          for name, jobs in (('few', '100,000'), ('many', '10,000,000'))
          for field, when in (('VmHWM', 'peak'), ('VmRSS', 'end'))),
        *(Row(f'difference, {when}', lambda m, field=field:
              m[f'many {field}'] - m[f'few {field}'], 'MB', most=5)
          for field, when in (('VmHWM', 'peak'), ('VmRSS', 'end')))]),
    Point('slaves', slave_memory, [
        Row('one more connected slave', lambda m: m['each'], 'kB',
            most=100)]),
    Point('crowd', crowds, [
        Row('2 slaves', lambda m: m['2 rate'], '/s'),
        Row('1000 slaves', lambda m: m['1000 rate'], '/s'),
        Row('1000 slaves : 2 slaves',
            lambda m: m['1000 rate'] / m['2 rate'], 'x', least=0.85),
        *(Row(f'{slaves} slaves, processor time a job of {whose}',
              lambda m, key=f'{slaves} {whose} cpu': m[key] * 1e9, 'ns')
          for whose in ('master', 'slaves') for slaves in (2, 1000)),
        Row('1000 slaves, while the status is asked for',
            lambda m: m['1000 watched'], '/s'),
        Row('1000 slaves, from their start until connected',
            lambda m: m['1000 connect'], 's'),
        Row('1000 slaves, those served', lambda m: m['1000 all'], ''),
        Row('1000 slaves, until all were served',
            lambda m: m['1000 served'], 's', most=5),
        Row('1000 slaves, until their leases had grown',
            lambda m: m['1000 grown'], 's'),
        Row('1000 slaves, connection and status',
            lambda m: m['1000 answer'] * 1e3, 'ms', most=100),
        Row('1000 slaves, slowest status',
            lambda m: m['1000 slowest'] * 1e3, 'ms')]),
    Point('tls', tls, [
        row for source, what, least in (
            ('numbers', 'no-op', None), ('texts', '1 KB', 0.75),
            ('megabytes', '1 MB', 0.6))
        for row in (
            Row(f'{what}, over TLS',
                lambda m, source=source: m[f'{source} tls'], '/s'),
            Row(f'{what}, TLS : plain', lambda m, source=source:
                m[f'{source} tls'] / m[f'{source} plain'], 'x',
                least=least))]),
    Point('idle', idle, [
        Row('master, 10 slaves, their parent: of a core',
            lambda m: m['cpu'], '%', most=0.01)]),
    Point('start', start, [
        Row('python -c pass', lambda m: m['python'] * 1e3, 'ms'),
        Row('tm-master --help : python -c pass',
            lambda m: m['help'] / m['python'], 'x', most=4),
        Row('tm-run with one job : python -c pass',
            lambda m: m['run'] / m['python'], 'x', most=12),
        Row('tm-slave until its first job : python -c pass',
            lambda m: m['slave'] / m['python'], 'x'),
        *(Row(f'{what}, processor time : python -c pass', lambda m, name=name:
              m[f'{name} cpu'] / m['python cpu'], 'x')
          for name, what in (
              ('help', 'tm-master --help'), ('run', 'tm-run with one job'),
              ('tcp', 'tm-run with one job and a --host'),
              ('before', 'before: tm-run with one job and a --host')))]),
]
