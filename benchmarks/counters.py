"""What jobs and leases cost beside time: system calls, wake-ups, allocations.

    python benchmarks/counters.py       as root, with Linux's `perf`, and `cc`

A real run of `tm-master` and two of `tm-slave`, over the Unix socket, counted
from the source's first job to the end of each process.  The kernel counts its
calls and the switches of threads; a library that is loaded first, what Python
and others allocate (`PYTHONMALLOC=malloc`, or most would be seen by Python's
own allocator alone).  What comes from a free list, as short tuples do, is
none.

Two sizes of the queue make two sizes of a lease; what a job and what a lease
costs is what fits both runs.  A lease is a call of a slave, but for a few.
"""

import os
import struct
import subprocess
import time
from pathlib import Path

from lab import HERE, Lab

ATTACH = 1.0        # seconds that perf may take to look at a process
# (what, the source, jobs, sizes of the queue)
POINTS = (('ints', 'numbers', 5_000_000, (10_000, 1_000)),
          ('1 KB', 'texts', 500_000, (1_000, 100)))
CALLS = 'syscalls:sys_enter_sendmsg'
COUNTED = {'system calls': 'raw_syscalls:sys_enter',
           'those of locks': 'syscalls:sys_enter_futex',
           'switches of threads': 'context-switches',
           'page faults': 'page-faults',
           'allocations': 'allocated'}


def run(source, count, size):
    """What the master, and both slaves together, have counted."""
    with Lab('imported 4') as lab:
        library = lab.folder / 'counters.so'
        subprocess.run(['cc', '-O2', '-shared', '-fPIC', '-o', library,
                        HERE / 'counters.c'], check=True)
        lab.environ.update(LD_PRELOAD=str(library), PYTHONMALLOC='malloc')
        master = lab.taskmaster('master', f'jobs:{source}', f'count={count}',
                                f'--size={size}')
        slaves = [lab.taskmaster('slave', 'jobs:noop') for _ in range(2)]
        lab.wait_for(lambda: lab.up('imported') == 3)
        groups = {'master': [master.pid],
                  'slaves': [slave.pid for slave in slaves]}
        looks = [subprocess.Popen([
            'perf', 'stat', '-x,', '-o', lab.folder / name, '-e',
            ','.join([CALLS, *COUNTED.values()]).replace(',allocated', ''),
            '-p', ','.join(map(str, pids))]) for name, pids in groups.items()]
        time.sleep(ATTACH)
        before = {name: allocated(lab, pids) for name, pids in groups.items()}
        (lab.folder / 'perf.imported').touch()      # the fourth
        lab.finish(master, *slaves)
        for look in looks:
            look.wait()
        return {name: {**events(lab.folder / name),
                       'allocated': allocated(lab, pids) - before[name]}
                for name, pids in groups.items()}


def allocated(lab, pids):
    return sum(struct.unpack('@l', Path(
        lab.folder, f'{pid}.allocated').read_bytes())[0] for pid in pids)


def events(path):
    lines = [line.split(',') for line in path.read_text().splitlines()]
    return {fields[2]: int(fields[0]) for fields in lines if len(fields) > 2}


def fitted(few, many, jobs):
    """What a job and a lease cost: (leases, counted) of each run."""
    (leases, counted), (more, most) = few, many
    lease = (most - counted) / (more - leases)
    return (counted - lease * leases) / jobs, lease


def main():
    if os.geteuid():
        raise SystemExit('perf counts calls of the kernel for root alone')
    print('| jobs | process | counted | a job | a lease |\n' + '| --- ' * 5
          + '|')
    for what, source, count, sizes in POINTS:
        runs = [run(source, count, size) for size in sizes]
        leases = [counts['slaves'][CALLS] for counts in runs]
        for process in runs[0]:
            for name, event in COUNTED.items():
                job, lease = fitted(*(
                    (calls, counts[process][event])
                    for calls, counts in zip(leases, runs)), count)
                print(f'| {what} | {process} | {name} | {job:.3f} '
                      f'| {lease:.1f} |')
        print(f'| {what} | | jobs a lease: '
              + ' and '.join(f'{count / calls:,.0f}' for calls in leases)
              + ' | | |', flush=True)


if __name__ == '__main__':
    main()
