"""The first slaves are forked: as programs are, and sooner.

What a slave finds around it is the same, whichever way it was started.
"""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from faults import ALL
from programs import NUMBERS, eventually

pytestmark = [pytest.mark.smoke, pytest.mark.skipif(
    not os.path.isdir('/proc/self/task'), reason='no /proc')]

# The first that is started is killed when it has told; so is no other.
TELLING = NUMBERS + '''
import gc
import json
import os
import resource
import signal
import sys
import threading


def around():
    """What a process finds around it."""
    main = sys.modules['__main__']
    fds = {}
    for fd in os.listdir('/proc/self/fd'):
        try:
            kind = os.readlink('/proc/self/fd/' + fd).partition(':')[0]
        except OSError:         # of the list itself
            continue
        if not kind.startswith('/proc/'):       # nor that one
            fds[kind] = fds.get(kind, 0) + 1
    return {
        'arguments': sys.argv, 'path': sys.path, 'folder': os.getcwd(),
        'environ': dict(os.environ), 'umask': os.umask(0o022),
        'leader': os.getsid(0) == os.getpid(),
        'main': [main.__file__, str(main.__spec__)],
        'flags': str(sys.flags), 'warnings': sys.warnoptions,
        'streams': [[stream.name, stream.encoding, stream.errors,
                     stream.line_buffering, stream.isatty()]
                    for stream in (sys.stdin, sys.stdout, sys.stderr)],
        'signals': [[str(signal.getsignal(number)).partition(' at ')[0],
                     number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]
                    for number in range(1, 32)],
        'threads': sorted(t.name for t in threading.enumerate()),
        'gc': [gc.isenabled(), gc.get_threshold()],
        'fds': fds, 'nice': os.nice(0), 'limits': [
            resource.getrlimit(limit) for limit in range(10)]}


def handle_job(job):
    if not os.path.exists('second'):
        name = 'first' if first('one') else 'second'
        found = around()
        with open(name + '.tmp', 'w') as file:
            json.dump(found, file)
        os.rename(name + '.tmp', name)
        if name == 'first':
            os.kill(os.getpid(), signal.SIGKILL)
    record(job)
'''


@pytest.mark.parametrize('name', ['run', 'spawn'])
def test_a_slave_finds_the_same_around_it_as_a_program(work, name):
    work.write('migrate.py', TELLING)
    words = ['--job-timeout=50']
    if name == 'spawn':
        words.append(work.start('master', 'migrate').host)
    program = work.program(
        'sh', '-c', f'exec {sys.executable} -W error::UserWarning -m '
        f'taskmaster {name} migrate 1 {" ".join(words)} 7<migrate.py'
        + (' --host=127.0.0.1:0' if name == 'run' else ''))
    assert program.code() == 0
    first, second = (json.loads((work.path / which).read_text())
                     for which in ('first', 'second'))
    for found in first, second:
        for name in 'TASKMASTER_SLAVE', 'TASKMASTER_AFTER':
            found['environ'].pop(name, None)
    assert first == second


# The master waits as it loads this; its slaves have not begun to.
SLOW = NUMBERS + '''
import sys

if 'run' in sys.argv:
    block('loading')
'''


def waiting(work, run):
    """The pids of the slaves that wait to be told what to be."""
    return eventually(lambda: [pid for pid in work.pids() if pid != run.pid])


def name_of(pid):
    try:
        return Path(f'/proc/{pid}/comm').read_text()
    except OSError:         # it has ended
        return ''


def command_of(pid):
    return Path(f'/proc/{pid}/cmdline').read_bytes()


def test_the_first_are_forked_and_the_others_programs(work):
    work.write('migrate.py', NUMBERS + '''
import os


def handle_job(job):
    if job > 100 and first('one') or job > 200 and first('two'):
        block(f'here-{os.getpid()}', f'go-{os.getpid()}')
    record(job)
''')
    run = work.start('run', 'migrate', '1')
    one, = eventually(lambda: [*work.path.glob('here-*')])
    pid = int(one.name.rpartition('-')[2])
    assert command_of(pid).startswith(b'tm-slave\0migrate\0')
    assert name_of(pid) == 'tm-slave\n'
    os.kill(pid, signal.SIGKILL)
    two = eventually(lambda: [found for found in work.path.glob('here-*')
                              if found != one])[0]
    pid = int(two.name.rpartition('-')[2])
    assert b'slave' in command_of(pid).split(b'\0')[1:]
    work.touch(f'go-{pid}')
    assert run.code() == 0
    assert set(work.handled()) == {str(job) for job in ALL}


def test_a_mistake_leaves_none_of_them(work):
    work.write('migrate.py', 'import nowhere\n')
    run = work.finish('run', 'migrate', '3')
    assert run.code() == 78 and 'left running' not in run.err
    assert not work.pids()


def test_they_end_with_their_parent(work):
    work.write('migrate.py', SLOW)
    run = work.start('run', 'migrate', '2')
    eventually(lambda: work.has('loading'))
    eventually(lambda: len(waiting(work, run)) == 2)
    run.process.kill()
    eventually(lambda: not work.pids(), 'the end of the slaves')


def test_one_is_killed_before_it_is_anything(work):
    """Then a program comes in its place."""
    work.write('migrate.py', SLOW)
    run = work.start('run', 'migrate', '1')
    eventually(lambda: work.has('loading'))
    os.kill(waiting(work, run)[0], signal.SIGKILL)
    work.touch('go')
    assert run.code() == 0
    work.check(ALL)


def test_a_signal_while_they_wait(work):
    """It is for the run, which they do not outlive."""
    work.write('migrate.py', SLOW)
    run = work.start('run', 'migrate', '2')
    eventually(lambda: work.has('loading'))
    os.killpg(run.pid, signal.SIGINT)
    assert run.code() == -signal.SIGINT
    eventually(lambda: not work.pids(), 'the end of the slaves')


CLOSING = NUMBERS + '''
import os
import sys

if {who}:
    os.closerange(3, 256)
    mine = [open(f'mine-{{os.getpid()}}-{{n}}', 'w') for n in range({files})]
import recorder
recorder._done = os.open('done', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
'''


@pytest.mark.parametrize('files', [0, 30])
@pytest.mark.parametrize('who', ['True', '"run" in sys.argv'],
                         ids=['all', 'the master'])
def test_a_module_that_closes_all_descriptors(work, who, files):
    """Their numbers are others' by then, and are neither used nor closed."""
    work.write('migrate.py', CLOSING.format(who=who, files=files))
    run = work.finish('run', 'migrate', '2', '--job-timeout=50')
    assert run.code() == 0
    work.check(ALL)
    mine = [*work.path.glob('mine-*')]
    assert bool(files) is bool(mine)
    assert not any(path.read_bytes() for path in mine)


def test_a_module_that_waits_for_all_children(work):
    """It has none that it knows of: those that wait end before long."""
    work.write('migrate.py', NUMBERS + '''
import os
import subprocess

true = subprocess.Popen(['true'])
try:
    while True:
        os.wait()
except ChildProcessError:
    true.wait()
''')
    run = work.finish('run', 'migrate', '2')
    assert run.code() == 0
    work.check(ALL)


@pytest.mark.parametrize('closed', ['<&-', '2>&-', '<&- >&- 2>&-'])
def test_closed_streams_are_there_for_a_slave(work, closed):
    work.write('migrate.py', NUMBERS + '''
import sys


def handle_job(job):
    assert sys.stdin.read() == sys.__stdin__.read() == ''
    assert sys.stdout.line_buffering and sys.stderr.line_buffering
    record(job)
''')
    run = work.program(
        'sh', '-c', f'exec {sys.executable} -m taskmaster run migrate 1 '
        f'--host=127.0.0.1:0 {closed}')
    assert run.code() == 0
    work.check(ALL)


def test_the_folder_of_an_installed_script_is_not_on_the_path(work):
    work.write('bin/tm-run', 'from taskmaster.cli.run import main\nmain()\n')
    work.write('migrate.py', NUMBERS + '''
import sys


def handle_job(job):
    assert not any(path.endswith('/bin') for path in sys.path), sys.path
    record(job)
''')
    run = work.program(sys.executable, 'bin/tm-run', 'migrate', '1',
                       '--host=127.0.0.1:0')
    assert run.code() == 0
    work.check(ALL)


SITES = {
    'a thread': '''
import threading
import time
threading.Thread(target=time.sleep, args=(9,), daemon=True).start()
''', 'a profiler': '''
import sys
sys.setprofile(lambda *what: None)
''', 'no fork': '''
import os
def fork():
    raise OSError(11, 'no more processes')
os.fork = fork
'''}


@pytest.mark.parametrize('site', SITES)
def test_where_none_can_be_forked_they_are_programs(work, site):
    (work.path / 'site').mkdir()
    (work.path / 'site' / 'sitecustomize.py').write_text(SITES[site])
    work.write('migrate.py', NUMBERS + '''
from pathlib import Path


def handle_job(job):
    if job == 1:
        Path('command').write_bytes(Path('/proc/self/cmdline').read_bytes())
    record(job)
''')
    places = f'{work.path}/site:{work.environ["PYTHONPATH"]}'
    run = work.finish('run', 'migrate', '2', environ={'PYTHONPATH': places})
    assert run.code() == 0
    work.check(ALL)
    assert b'slave' in (work.path / 'command').read_bytes().split(b'\0')
