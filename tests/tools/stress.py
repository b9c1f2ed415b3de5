r"""Random blows at slaves, supervisor and master while numbered jobs run.

    python tests/tools/stress.py --minutes 10 --seed 1
    python tests/tools/stress.py --minutes 10 --fork     handlers that fork
    python tests/tools/stress.py --minutes 2 --gently             none twice
    python tests/tools/stress.py --minutes 2 --break leased       has to fail
    python tests/tools/stress.py --minutes 4 --break unrecorded \
        --failing 4000 --jobs 200000 --slow 0.2            has to fail

A master, `tm-spawn` and one more `tm-slave` are started in a folder of
their own; SIGKILL, SIGSTOP (and SIGCONT), SIGTERM and SIGINT hit them at
random moments, and what is dead is started again, until the jobs are done;
then the next run starts from nothing, until the minutes are over.  The last
one is let end in peace.  What is checked is in `stress_checker`.

With ``--fork`` handlers fork in all ways that there are, and leave children
behind.  At the end of a run nothing of it may be left running.

The master is started by a launcher that shortens how long silence lasts,
slows the disk of every second run, and breaks the ledger for ``--break``;
the package itself is as it is.
"""

import argparse
import os
import platform
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from stress_checker import SECOND, Checker, Death, Stop, Story

ROOT = Path(__file__).resolve().parents[2]
EXPIRY = 6.0                # seconds, instead of 60
PEACE = 180.0               # seconds in which a run in peace must complete
LONG_RUN = 240.0            # seconds of blows, after which it gets its peace
LAST_WORDS = 60.0           # seconds until all have ended after a run
NAP = 5.0                   # seconds that a handler's child may live
FAILING = 20
FORKS = 997                 # every so many jobs, with --fork
MARK = 'TASKMASTER_STRESS'  # in the environment of all that a run starts

MODULE = '''
import concurrent.futures
import multiprocessing
import os
import struct
import subprocess
import sys
import time
import warnings

FAILING = frozenset({failing})
_file = os.open('handled/%d-%d' % (os.getpid(), time.monotonic_ns()),
                os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def get_jobs(last=0):
    return iter(range(max(last + {after}, 1), {jobs} + 1))


def handle_job(number):
    if number % 20 == 0:
        time.sleep(number // 20 % 8 / 1000)
    fails = number in FAILING
    if {fork}:
        fork(number)
    os.write(_file, struct.pack('qq', -number if fails else number,
                                time.monotonic_ns()))
    if fails:
        raise ValueError(number)


def fork(number):
    """In a child too this may return, or raise: it ends there."""
    if number % {forks} == 0:
        warnings.simplefilter('ignore', DeprecationWarning)
        WAYS[number // {forks} % len(WAYS)](number)


def returns(number):
    """The child goes on in the handler, and does its job once more."""
    global _file
    if os.fork() == 0:
        _file = os.open(os.devnull, os.O_WRONLY)


def exits(number):
    if os.fork() == 0:
        sys.exit(0)


def naps(number):
    if os.fork() == 0:
        time.sleep({nap} / 5)
        os._exit(0)


def process(number):
    child = multiprocessing.Process(target=time.sleep, args=({nap},))
    child.start()
    child.terminate()
    child.join()


def pool(number):
    with multiprocessing.Pool(2) as pool:
        assert pool.map(abs, [-number, number]) == [number, number]


def executor(number):
    with concurrent.futures.ProcessPoolExecutor(1) as executor:
        assert executor.submit(abs, -number).result() == number


def program(number):
    subprocess.run(['true'], check=True)


def left(number):
    LEFT.append(subprocess.Popen(['sleep', '{nap}']))


WAYS = returns, exits, naps, process, pool, executor, program, left
LEFT = []
'''

LAUNCHER = '''
import os
import time

from taskmaster import __main__ as cli
from taskmaster.master import jobqueue, ledger
from taskmaster.timing import STANDARD

# Not checked: connections keep their patience.
TIMING = STANDARD._make({{
    **STANDARD._asdict(), 'expiry': {expiry}, 'grace': 1.0, 'reserve': 2.0,
    }}.values())
_fsync = os.fsync


def fsync(fd):
    time.sleep({slow} / 2)
    _fsync(fd)
    time.sleep({slow} / 2)


os.fsync = fsync
{broken}
cli.main(timing=TIMING)
'''

BREAKS = {
    '': '',
    'leased': '''
# The watermark is the last job leased, finished or not.
ledger.Ledger.watermark = lambda self: (
    self.ready.leased, self.ready.before)
''',
    'unrecorded': '''
# A failed job is released at once; recording it can wait.
class Ledger(ledger.Ledger):
    def __init__(self, *args):
        super().__init__(*args)
        self.waiting_list = {}

    def _fail(self, piece, *args):
        super()._fail(piece, *args)
        self.waiting_list[piece.first] = piece.failure
        self._finish(piece)

    def unrecorded(self):
        return list(self.waiting_list.values())

    def recorded(self, numbers):
        for number in numbers:
            del self.waiting_list[number]
            self.failed += 1


jobqueue.Ledger = Ledger
'''}


class Kind(NamedTuple):
    """A kind of blow, and how often it falls."""

    weight: int
    who: str                # child, lone, supervisor, master
    what: str               # KILL, STOP, LONG (a stop), TERM, INT

    def __str__(self):
        return f'{self.who} {self.what}'


KINDS = [Kind(int(weight), who, what) for weight, who, what in (
    line.split() for line in '''\
8 child KILL
6 child STOP
1 child LONG
3 child TERM
2 child INT
4 lone KILL
3 lone STOP
1 lone LONG
2 lone TERM
1 lone INT
3 supervisor KILL
2 supervisor STOP
1 supervisor TERM
1 supervisor INT
6 master KILL
3 master STOP
1 master LONG
2 master TERM
1 master INT
'''.splitlines())]

BOUND = '''
The bound of a slave's death, or silence: the jobs it did in the 2.5 s before
and, when it came back, after.  That of a master's end: the jobs done above
the watermark it had saved, where that was held back by a job in hand or of
the last 2.5 s; and (after) what slaves had begun, and did in the 2.5 s then.
Seconds in which slave or master was stopped do not count.
Each job done twice must be in the bound of a blow.
'''


def now():
    return time.monotonic_ns()


def stat(pid):
    """Parent and starting time of a process, which tell it from others."""
    try:
        text = Path('/proc', str(pid), 'stat').read_text()
    except OSError:
        return None
    fields = text.rpartition(')')[2].split()
    return None if fields[0] == 'Z' else (int(fields[1]), fields[19])


def free_port():
    """One that is not given to outgoing connections, whatever the seed.

    Two that run beside each other with one seed must not meet.
    """
    while True:
        port = 20000 + secrets.randbelow(10000)
        try:
            with socket.create_server(('127.0.0.1', port)):
                return port
        except OSError:
            pass


class Later(NamedTuple):
    """A signal that is due."""

    time: int
    who: str
    pid: int
    started: str
    number: int


class Run:
    """One run, from no state to its end, in ``folder``."""

    def __init__(self, folder, options, randomly, number, log):
        self.folder, self.options, self.random = folder, options, randomly
        self.log = log
        self.blows = Counter()
        self.starts = Counter()
        self.may = Counter()        # so many jobs twice, by kind of blow
        self.problems = []
        self.left = 0               # processes
        self.interrupted = 0        # by SIGINT while it was imported
        self.programs = {}          # by who
        self.children = {}          # pid: starting time, all there ever were
        self.later = []
        self.asked = set()          # pids that were asked to stop
        self.stopped = {}           # pid: (since, until, kind)
        self.story = Story(EXPIRY)
        self.over = False           # the state has said so
        self.code = None            # of the master, when complete
        self.began = now()
        (folder / 'handled').mkdir(parents=True)
        (folder / 'logs').mkdir()
        step = options.jobs // options.failing
        failing = {randomly.randrange(first, first + step)
                   for first in range(1, options.jobs, step)}
        slow = options.slow if options.slow is not None else number % 2 * 0.05
        (folder / 'numbers_.py').write_text(MODULE.format(
            failing=failing, jobs=options.jobs, after=number // 2 % 2,
            fork=options.fork, forks=FORKS, nap=NAP))
        (folder / 'launcher.py').write_text(LAUNCHER.format(
            expiry=EXPIRY, slow=slow, broken=BREAKS[options.breaks]))
        self.checker = Checker(folder / 'handled', folder / 'n.state',
                               folder / 'n.failures', options.jobs, failing)
        host = f'--host=127.0.0.1:{free_port()}'
        package = [sys.executable if not options.python else options.python]
        self.commands = {
            'master': [*package, 'launcher.py', 'master', 'numbers_', host,
                       '--state=n.state', '--max-failures=1000000000'],
            'supervisor': [*package, '-m', 'taskmaster', 'spawn', 'numbers_',
                           str(options.slaves), host],
            'lone': [*package, '-m', 'taskmaster', 'slave', 'numbers_',
                     host]}
        self.environ = {
            **os.environ, 'TASKMASTER_KEY': secrets.token_hex(),
            MARK: str(folder),
            'PYTHONPATH': os.pathsep.join(filter(None, (
                str(ROOT), os.environ.get('PYTHONPATH'))))}
        for who in self.commands:
            self.start(who)

    # -- processes --------------------------------------------------------

    def start(self, who):
        self.starts[who] += 1
        name = self.folder / 'logs' / f'{who}-{self.starts[who]}'
        with open(name, 'wb') as log:
            self.programs[who] = subprocess.Popen(
                self.commands[who], cwd=self.folder, env=self.environ,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)

    def find_children(self):
        """The pids of the supervisor's children."""
        supervisor = self.programs['supervisor'].pid
        found = []
        for entry in os.listdir('/proc'):
            status = stat(entry) if entry.isdigit() else None
            if status and status[0] == supervisor:
                found.append(int(entry))
                self.children[int(entry)] = status[1]
        return found

    def revive(self):
        """Start again what has died; False when the run is complete."""
        self.over = self.over or self.checker.complete
        for who, program in self.programs.items():
            code = program.poll()
            if code is None:
                continue
            # Python itself ends with 1 when it is interrupted while it starts.
            blown = (-code in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
                     or code == 1 and program.pid in self.asked
                     and not self.over)
            if who == 'master':
                saved = self.checker.check(now())
                if code in (0, 1) and not blown:
                    self.code = code
                    return False
                kind = next((kind for kind in reversed(self.recent)
                             if re.match('master [KTI]', kind)), 'master ?')
                before = max((death.time for death in self.story.deaths),
                             default=0)
                self.may[kind] += self.checker.above(saved, before)
                self.story.deaths.append(Death(now(), saved, kind))
            elif code == 0 and self.over:
                continue            # it was told before the master ended
            self.log(f'{who} ended with {code}; started again')
            if not blown and not (who == 'supervisor' and code == 0):
                self.problems.append(f'{who} ended with {code}')
            self.end_session(who)
            self.start(who)
        return True

    def end_session(self, who):
        """What a lone slave that was killed had started: no one else can.

        Its supervisor would, or the unit that it runs in.
        """
        program = self.programs[who]
        if who == 'lone' and program.returncode < 0:
            try:
                os.killpg(program.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def send(self, pid, started, number):
        """Only to a process of ours that is still there."""
        status = stat(pid)
        if status and (not started or status[1] == started):
            try:
                os.kill(pid, number)
                return True
            except ProcessLookupError:
                pass
        return False

    # -- blows ------------------------------------------------------------

    recent = ()

    def strike(self):
        kinds = [kind for kind in KINDS if not self.options.gently
                 or kind.what in ('TERM', 'INT')
                 and kind.who != 'supervisor']
        kind = self.random.choices(
            kinds, [kind.weight for kind in kinds])[0]
        if kind.who == 'child':
            children = self.find_children()
            if not children:
                return
            pid = self.random.choice(sorted(children))
        else:
            if self.programs[kind.who].poll() is not None:
                return
            pid = self.programs[kind.who].pid
        status = stat(pid)
        if status is None or pid in self.stopped and kind.what in (
                'STOP', 'LONG'):
            return
        if pid not in self.asked or kind.what not in ('TERM', 'INT'):
            self.recent = (*self.recent[-20:], str(kind))
            self.blows[str(kind)] += 1
        getattr(self, kind.what.lower())(kind, pid, status[1])

    def kill(self, kind, pid, started):
        killed = [pid]
        if kind.who == 'supervisor':        # its children end with it
            killed += self.find_children()
        self.send(pid, started, signal.SIGKILL)
        if kind.who != 'child':
            self.programs[kind.who].wait()
        self.killed(killed, kind)

    def killed(self, pids, kind):
        """The first is hit; the others, its children, end with it.

        One of these that is stopped does so when it is continued.
        """
        for pid in pids:
            self.story.kills[pid].append((now(), str(kind)))
        self.end_stop(pids[0])

    def stop(self, kind, pid, started):
        self.pause(kind, pid, started, self.random.uniform(0.02, 2))

    def long(self, kind, pid, started):
        self.pause(kind, pid, started,
                   EXPIRY + self.random.uniform(-1, 3))

    def pause(self, kind, pid, started, seconds):
        if self.send(pid, started, signal.SIGSTOP):
            since = now()
            self.stopped[pid] = (since, str(kind))
            self.later.append(Later(since + int(seconds * SECOND), kind.who,
                                    pid, started, signal.SIGCONT))

    def term(self, kind, pid, started, number=signal.SIGTERM):
        if pid in self.asked:
            if not self.options.gently:
                self.again(kind.who, pid, started, number)
            return
        self.asked.add(pid)
        self.send(pid, started, number)
        if self.random.random() < 0.25 and not self.options.gently:
            self.later.append(Later(
                now() + self.random.randrange(SECOND), kind.who, pid,
                started, number))

    def again(self, who, pid, started, number):
        """The second signal of those that ask to stop: it kills."""
        hit = [pid] + (self.find_children() if who == 'supervisor' else [])
        if self.send(pid, started, number):
            kind = f'{who} {signal.Signals(number).name[3:]} twice'
            self.recent = (*self.recent[-20:], kind)
            self.blows[kind] += 1
            self.killed(hit, kind)

    def int(self, kind, pid, started):
        self.term(kind, pid, started, signal.SIGINT)

    def end_stop(self, pid):
        if pid in self.stopped:
            since, kind = self.stopped.pop(pid)
            master = pid == self.programs['master'].pid
            self.story.stops[Story.MASTER if master else pid].append(
                Stop(since, now(), kind))

    def send_due(self, everything=False):
        due = [one for one in self.later
               if everything or one.time <= now()]
        for one in due:
            self.later.remove(one)
            if one.number == signal.SIGCONT:
                there = self.send(one.pid, one.started, one.number)
                self.end_stop(one.pid)
                kills = self.story.kills[one.pid]
                if there and kills:     # its parent's end meets it only now
                    kills.append((now(), kills[-1][1]))
            else:
                self.again(one.who, one.pid, one.started, one.number)

    # -- the way of a run -------------------------------------------------

    def go(self, deadline):
        """Strike until the run is complete, or time is up; then peace."""
        least = self.began + int(LONG_RUN * SECOND)
        strike = now() + SECOND // 2
        while self.revive():
            self.send_due()
            if now() >= min(deadline, least):
                return self.peace()
            if now() >= strike:
                self.strike()
                self.checker.check(now())
                strike = now() + int(SECOND * (
                    self.random.uniform(0, 0.02)
                    if self.random.random() < 0.25
                    else self.random.expovariate(1 / 0.8)))
            time.sleep(0.02)
        self.took = (now() - self.began) / SECOND
        return True

    def peace(self):
        """No more blows: the run must complete.  Says whether it did."""
        self.send_due(everything=True)
        began = now()
        while self.revive():
            if now() - began > PEACE * SECOND:
                self.problems.append(f'not complete after {PEACE} s of peace')
                return False
            self.checker.check(now())
            time.sleep(0.2)
        self.took = (now() - self.began) / SECOND
        self.peace_took = (now() - began) / SECOND
        return True

    took = peace_took = 0.0

    def close(self, peaceful):
        """All end by themselves when the run is over, unless just hit."""
        self.send_due(everything=True)
        for pid in list(self.stopped):
            self.end_stop(pid)
        self.find_children()
        deadline = time.monotonic() + LAST_WORDS
        for who in ('supervisor', 'lone'):
            try:
                if peaceful:
                    code = self.programs[who].wait(
                        deadline - time.monotonic())
                    if code:
                        self.problems.append(f'{who} ended with {code}')
            except subprocess.TimeoutExpired:
                self.problems.append(f'{who} did not end')
        self.find_children()
        for program in self.programs.values():
            if program.poll() is None:
                program.kill()
            program.wait()
        self.end_session('lone')
        for pid, started in self.children.items():
            self.send(pid, started, signal.SIGKILL)
        self.end_left()
        self.read_logs()

    def end_left(self):
        """What a handler's child has not ended by itself is left running."""
        deadline = time.monotonic() + 2 * NAP
        while self.all_left() and time.monotonic() < deadline:
            time.sleep(0.1)
        for pid, started, name in self.all_left():
            self.left += 1
            self.problems.append(f'left running: {name}')
            self.send(pid, started, signal.SIGKILL)

    def all_left(self):
        """Pid, starting time and name of all that this run has started."""
        mark, found = f'{MARK}={self.folder}'.encode(), []
        for entry in filter(str.isdigit, os.listdir('/proc')):
            status = stat(entry)
            try:
                folder = Path('/proc', entry)
                environ = (folder / 'environ').read_bytes().split(b'\0')
                if status and mark in environ:
                    words = (folder / 'cmdline').read_bytes()
                    found.append((int(entry), status[1],
                                  words.replace(b'\0', b' ').decode()))
            except OSError:
                pass            # it has gone, or is not ours
        return found

    def read_logs(self):
        for path in sorted((self.folder / 'logs').iterdir()):
            text = path.read_text(errors='replace')
            for block in re.findall(
                    r'^Traceback \(most.*\n(?: .*\n)*.*', text, re.M):
                if (', in _main\n' not in block and (
                        block.endswith('\nKeyboardInterrupt')
                        or '\n ' not in block)):     # cut short
                    self.interrupted += 1   # before it had a say in it
                else:
                    self.problems.append(f'{path.name}: {block}')
            for pattern in ('internal error', 'Exception ignored',
                            'Exception in thread', 'Segmentation',
                            'Fatal Python error: (?!init)'):
                for line in re.findall(f'.*{pattern}.*', text):
                    self.problems.append(f'{path.name}: {line}')


class Stress:
    """Run after run until the minutes are over; then the table."""

    def __init__(self, options):
        self.options = options
        self.random = random.Random(options.seed)
        self.folder = Path(tempfile.mkdtemp(prefix='stress-'))
        self.began = now()
        self.runs = self.jobs = self.lost = self.ahead = self.checks = 0
        self.blamed = self.interrupted = self.left = 0
        self.worst = self.worst_peace = 0.0
        self.blows, self.starts = Counter(), Counter()
        self.twice, self.may = Counter(), Counter()
        self.unexplained = []
        self.problems = []

    def log(self, text):
        print(f'{(now() - self.began) / SECOND:7.2f}  {text}', flush=True)

    def go(self):
        deadline = self.began + int(self.options.minutes * 60 * SECOND)
        while now() < deadline and not (
                self.lost if self.options.breaks else self.problems):
            self.run(deadline)
        self.table()
        bad = self.lost or self.problems or self.unexplained
        if bad:
            print(f'FAILED; all there is, is in {self.folder}')
        else:
            shutil.rmtree(self.folder)
        return int(bool(bad))

    def run(self, deadline):
        self.runs += 1
        run = Run(self.folder / str(self.runs), self.options, self.random,
                  self.runs, self.log if self.options.verbose
                  else lambda text: None)
        complete = False
        try:
            complete = run.go(deadline)
        finally:
            run.close(peaceful=bool(complete and run.peace_took))
        checker = run.checker
        lost = checker.lost() if complete else []
        explained, others = checker.duplicates(run.story)
        self.may += run.may + checker.unreported(run.story)
        if self.options.gently and explained:
            run.problems.append(f'done twice: {dict(explained)}')
        if lost:
            self.problems.append(f'run {self.runs}: lost {len(lost)} jobs: '
                                 f'{lost[:10]}')
        if complete and run.code != 1:
            self.problems.append(f'complete with {run.code}, not 1')
        self.problems += [f'run {self.runs}: {text}'
                          for text in checker.problems + run.problems]
        self.jobs += checker.jobs
        self.lost += len(lost)
        self.ahead += checker.ahead
        self.checks += checker.checks
        self.blamed += checker.blamed if complete else 0
        self.interrupted += run.interrupted
        self.left += run.left
        self.blows += run.blows
        self.starts += run.starts
        self.twice += explained
        self.unexplained += others
        self.worst = max(self.worst, run.took)
        self.worst_peace = max(self.worst_peace, run.peace_took)
        self.log(f'run {self.runs}: {run.took:.0f} s, '
                 f'{sum(run.blows.values())} blows, lost {len(lost)}, '
                 f'twice {sum(explained.values())}, '
                 f'of these unexplained {len(others)}')
        if not (lost or others or checker.problems or run.problems):
            shutil.rmtree(run.folder)

    def table(self):
        python = subprocess.run(
            [self.options.python or sys.executable, '-c',
             'import platform; print(platform.python_version())'],
            stdout=subprocess.PIPE, text=True).stdout.strip()
        rows = [
            ('Python', f'{python}, {platform.system()}'),
            ('seed', self.options.seed),
            ('minutes', f'{(now() - self.began) / 60 / SECOND:.1f}'),
            ('runs', self.runs),
            ('jobs', self.jobs),
            ('blows', sum(self.blows.values())),
            ('starts', ', '.join(f'{who} {count}' for who, count
                                 in self.starts.items())),
            ('states checked', f'{self.checks}, ahead {self.ahead}'),
            ('lost', self.lost),
            ('twice', f'{sum(self.twice.values())} within bounds, '
             f'{len(self.unexplained)} not'),
            ('left running', self.left),
            ('failed for three losses', self.blamed),
            ('interrupted imports', self.interrupted),
            ('worst completion', f'{self.worst:.0f} s under blows, '
             f'{self.worst_peace:.0f} s in peace')]
        print()
        for name, value in rows:
            print(f'{name:24} {value}')
        print(f'\n{"blow":24} {"times":>6} {"jobs twice":>11} {"bound":>11}')
        for kind in sorted(self.blows.keys() | self.twice.keys()):
            print(f'{kind:24} {self.blows[kind] or "":6} '
                  f'{self.twice[kind]:11} {self.may[kind] or "":11}')
        print(BOUND)
        for text in list(dict.fromkeys(self.problems))[:20]:
            print(f'PROBLEM: {text}')
        for number, first, second in self.unexplained[:20]:
            print(f'UNEXPLAINED: job {number} {first} {second}')


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--minutes', type=float, default=10)
    parser.add_argument('--jobs', type=int, default=1_000_000)
    parser.add_argument('--failing', type=int, default=FAILING,
                        help='how many of them always fail')
    parser.add_argument('--slaves', type=int, default=4)
    parser.add_argument('--seed', type=int,
                        default=secrets.randbelow(1_000_000))
    parser.add_argument('--python', help='to run Taskmaster with')
    parser.add_argument('--slow', type=float, help='seconds that each fsync '
                        'takes (default: 0.05 in every second run)')
    parser.add_argument('--gently', action='store_true', help='SIGTERM and '
                        'SIGINT alone, once, to master and single slaves: '
                        'no job may be done twice')
    parser.add_argument('--fork', action='store_true', help='handlers fork, '
                        f'at every job of {FORKS}, in eight ways')
    parser.add_argument('--break', dest='breaks', choices=BREAKS, default='',
                        help='break the ledger, to see that it is found')
    parser.add_argument('--verbose', action='store_true')
    sys.exit(Stress(parser.parse_args()).go())


if __name__ == '__main__':
    main()
