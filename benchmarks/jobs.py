"""What an operator would write: the sources and handlers that are measured.

The peers use the same ones.  Under Taskmaster this module also keeps the
clock, in the folder that `lab.py` names: each process that imports it says
that it is up, a source waits for all of them before its first job, and
whatever is to be known of a process is written when that ends.
"""

import atexit
import json
import os
import random
import sys
import time
from pathlib import Path

SETTLE = 0.5        # seconds from the last import until all are connected
BLOCK = 10_000      # jobs between two looks at the clock

folder = os.environ.get('BENCHMARK_FOLDER')
notes = {}
naps = []           # when each began and ended


def sign_in(what='imported'):
    """Say that this process has come so far."""
    Path(folder, f'{os.getpid()}.{what}').touch()


def come(what):
    """How many processes have come so far."""
    return len(list(Path(folder).glob(f'*.{what}')))


def gate():
    """Start the clock when master and slaves are up and connected."""
    if folder:
        what, count = os.environ['BENCHMARK_GATE'].split()
        while come(what) < int(count):
            time.sleep(0.01)
        time.sleep(SETTLE)
        sys.addaudithook(note_rename)
        notes['start'] = time.monotonic()


def note_rename(event, arguments):
    """Stop the clock: the state was saved, perhaps for the last time."""
    if event == 'os.rename':
        notes['saved'] = time.monotonic()


@atexit.register
def write_notes():
    if folder:
        notes.update(memory(), naps=naps)
        Path(folder, f'{os.getpid()}.json').write_text(json.dumps(notes))


def memory(pid='self'):
    """What a process has in memory, and had at most, in bytes."""
    lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    fields = dict(line.split(':', 1) for line in lines)
    return {name: int(fields[name].split()[0]) * 1024
            for name in ('VmRSS', 'VmHWM')}


# -- sources --------------------------------------------------------------

def numbers(count):
    gate()
    yield from range(1, int(count) + 1)


def timed(grown, **phases):
    """Ints for phases of so many seconds, however many jobs that makes.

    The first begins when so many processes have said that they are `grown`.
    When each has begun, and the last ended, is said and noted down.
    """
    gate()
    number, begun = 0, notes.setdefault('phases', [])
    while come('grown') < int(grown):
        yield from range(number, number + BLOCK)
        number += BLOCK
    for phase, seconds in phases.items():
        begun.append(time.monotonic())
        sign_in(phase)
        while time.monotonic() < begun[-1] + float(seconds):
            yield from range(number, number + BLOCK)
            number += BLOCK
    begun.append(time.monotonic())
    sign_in('ended')


def texts(count):
    gate()
    for number in range(1, int(count) + 1):
        yield {'id': number, 'text': str(number).ljust(1000)}


def megabytes(count):
    gate()
    for number in range(1, int(count) + 1):
        yield number, bytes([number % 256]) * 1_000_000


def naps_of(seconds):
    def source(count):
        gate()
        for number in range(1, int(count) + 1):
            yield number, seconds
    return source


naps_1ms = naps_of(0.001)
naps_10ms = naps_of(0.01)


def naps_mixed(count):
    """One in ten takes a thousand times as long as the others."""
    gate()
    dice = random.Random(4)
    for number in range(1, int(count) + 1):
        yield number, 20e-3 if dice.random() < 0.1 else 20e-6


def waiting():
    """A few jobs, then nothing for a long time."""
    gate()
    yield from range(1, 101)
    time.sleep(3600)


def get_key(job):
    return job[0] if isinstance(job, tuple) else job


# -- handlers -------------------------------------------------------------

def noop(job):
    pass


def nap(job):
    begin = time.monotonic()
    time.sleep(job[1])
    naps.append((begin, time.monotonic()))


if folder:
    sign_in()
