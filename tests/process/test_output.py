"""What is shown, and where; and that nothing is left behind."""

import os
import re
import signal
import sys
import termios
from pathlib import Path

import pytest
from programs import NUMBERS, eventually

pytestmark = pytest.mark.hunt

BLOCKS = NUMBERS + '''
def handle_job(job):
    if job == 300:
        block('here')
    record(job)
'''

# Makes its standard input the controlling terminal, then is something else.
ON_TERMINAL = '''
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
'''


class Terminal:
    """A pseudo-terminal, and what was written to it."""

    def __init__(self):
        self.mine, self.theirs = os.openpty()
        os.set_blocking(self.mine, False)
        self.text = ''

    def read(self):
        try:
            while True:
                self.text += os.read(self.mine, 65536).decode()
        except BlockingIOError:
            return self.text

    def shows(self, pattern):
        return eventually(lambda: re.search(pattern, self.read()), pattern)

    def settings(self):
        return termios.tcgetattr(self.theirs)

    def close(self):
        os.close(self.mine)
        os.close(self.theirs)


@pytest.fixture
def terminal():
    terminal = Terminal()
    yield terminal
    print(terminal.read())
    terminal.close()


@pytest.mark.smoke
def test_plain_lines_without_a_terminal(work):
    work.write('migrate.py', BLOCKS)
    run = work.start('run', 'migrate', '2')
    eventually(lambda: work.has('here'))
    run.says('^Current Job: ')
    run.stop()
    work.touch('go')
    assert run.code() == -signal.SIGINT
    status = [line for line in run.err.splitlines()
              if line.startswith('Current Job: ')]
    assert len(status) > 1
    for line in status:
        assert re.fullmatch(
            r'Current Job: \d+ \| Rate: +\d+\.\d\d/s \| Elapsed Time: '
            r'\d+:\d\d:\d\d \| Queue: \d+ \| Slaves: \d+ \| Failed: 0'
            r'( \| .*)?', line)
    assert all(c.isprintable() or c == '\n' for c in run.err)
    assert run.out == ''


@pytest.mark.smoke
@pytest.mark.parametrize('command', [('run', 'migrate', '2'),
                                     ('master', 'migrate')])
def test_ctrl_c_on_a_terminal(work, terminal, command):
    """One drain, its settings as before, death by SIGINT."""
    pytest.importorskip('progressbar')
    work.write('migrate.py', BLOCKS)
    before = terminal.settings()
    theirs = terminal.theirs
    run = work.program(
        sys.executable, '-c', ON_TERMINAL, '-m', 'taskmaster', *command,
        '--host=127.0.0.1:0', environ={'TERM': 'xterm'},
        stdin=theirs, stdout=theirs, stderr=theirs)
    port = terminal.shows(r"running on '127.0.0.1:(\d+)'")[1]
    if command[0] == 'master':
        spawn = work.start('spawn', 'migrate', '1', f'--host=127.0.0.1:{port}')
    eventually(lambda: work.has('here'))
    terminal.shows(r'[\r\n]Current Job: +\d+ \| Rate: +[0-9.]+/s \| '
                   r'Elapsed Time: 0:00:\d\d')
    os.write(terminal.mine, b'\x03')
    terminal.shows('stopping: ')
    work.touch('go')
    assert run.code() == -signal.SIGINT
    assert terminal.settings() == before
    text = terminal.read()
    assert text.count('stopping: ') == 1
    assert 'Traceback' not in text
    assert text.endswith('\n')
    assert work.handled()['300'] == 1
    state = work.state()
    assert state['count'] == len(work.lines('done'))
    if command[0] == 'master':
        spawn.send(signal.SIGTERM)
        spawn.code()
    assert work.finish('run', 'migrate', '2').code() == 0
    work.check(range(1, 1001))


def test_what_handlers_print_stands_above_the_line(work, terminal):
    pytest.importorskip('progressbar')
    work.write('migrate.py', BLOCKS + '''

def handle_job(job):
    if job == 300:
        while not os.path.exists('shown'):
            time.sleep(0.01)
        print('user 300 has two addresses')
        block('here')
    record(job)


import os
import time
''')
    theirs = terminal.theirs
    run = work.program(
        sys.executable, '-c', ON_TERMINAL, '-m', 'taskmaster', 'run',
        'migrate', '1', '--host=127.0.0.1:0', environ={'TERM': 'xterm'},
        stdin=theirs, stdout=theirs, stderr=theirs)
    terminal.shows('Current Job: +299 ')
    work.touch('shown')
    terminal.shows(r'\r +\ruser 300 has two addresses\r\n\r?Current Job: ')
    work.touch('go')
    assert run.code() == 0


def test_a_debugger_under_inline(work, terminal):
    """The line ends before its first word, and comes again after it."""
    pytest.importorskip('progressbar')
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 2:
        breakpoint()
    record(job)
''')
    before = terminal.settings()
    theirs = terminal.theirs
    run = work.program(
        sys.executable, '-c', ON_TERMINAL, '-m', 'taskmaster', 'run',
        'migrate', '1', 'count=3', '--inline', environ={'TERM': 'xterm'},
        stdin=theirs, stdout=theirs, stderr=theirs)
    terminal.shows(r'\(Pdb\) $')
    assert re.search(r'Current Job: 1 .*\r?\n> .*migrate.py\(.*\r?\n'
                     r'-> .*\r?\n\(Pdb\) $', terminal.read())
    os.write(terminal.mine, b'p job\n')
    terminal.shows(r'2\r?\n\(Pdb\) $')
    os.write(terminal.mine, b'c\n')
    assert run.code() == 0
    assert re.search(r'\(Pdb\) c\r?\n\r?Current Job: 2 ', terminal.read())
    assert terminal.settings() == before


def test_the_terminal_goes_away(work, terminal):
    """As when its window is closed: a drain, for SIGHUP."""
    pytest.importorskip('progressbar')
    work.write('migrate.py', BLOCKS)
    theirs = terminal.theirs
    run = work.program(
        sys.executable, '-c', ON_TERMINAL, '-m', 'taskmaster', 'run',
        'migrate', '1', '--host=127.0.0.1:0', environ={'TERM': 'xterm'},
        stdin=theirs, stdout=theirs, stderr=theirs)
    eventually(lambda: work.has('here'))
    terminal.read()
    terminal.close()
    terminal.mine, terminal.theirs = os.openpty()    # for the fixture
    os.set_blocking(terminal.mine, False)
    work.touch('go')
    assert run.code() == -signal.SIGHUP
    assert work.state()['count'] == len(work.lines('done'))


def test_stdout_of_handlers_passes_through(work):
    work.write('migrate.py', NUMBERS + '''
import sys


def handle_job(job):
    print('out', job)
    print('err', job, file=sys.stderr)
''')
    run = work.finish('run', 'migrate', '2')
    assert run.code() == 0
    assert sorted(run.out.splitlines()) == sorted(
        f'out {job}' for job in range(1, 1001))
    assert len(re.findall(r'^err \d+$', run.err, re.M)) == 1000


@pytest.mark.parametrize('command', ['run', 'spawn'])
def test_a_closed_stdout_does_no_harm(work, command):
    """As with `| head -1`."""
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    print(job, flush=True)
    record(job)
''')
    mine, theirs = os.pipe()
    if command == 'run':
        run = master = work.start('run', 'migrate', '2', stdout=theirs)
    else:
        master = work.start('master', 'migrate')
        run = work.start('spawn', 'migrate', '2', master.host, stdout=theirs)
    os.close(theirs)
    assert os.read(mine, 1)
    os.close(mine)
    assert (run.code(), master.code()) == (0, 0)
    work.check(range(1, 1001))
    assert 'BrokenPipe' not in run.err


@pytest.mark.parametrize('command', ['run', 'spawn', 'master'])
def test_no_orphans(work, command):
    """Children end when their parent was killed, in whatever they are."""
    work.write('migrate.py', BLOCKS)
    if command == 'run':
        run = work.start('run', 'migrate', '3')
        parent = run
        left = 0
    else:
        run = work.start('master', 'migrate')
        parent = work.start('spawn', 'migrate', '3', run.host)
        left = 1
    eventually(lambda: work.has('here'))
    eventually(lambda: len(work.pids()) == 4 + left, 'all of them')
    if command == 'master':
        # Without a master they look for it, and end with their parent.
        run.send(signal.SIGKILL)
        run.code()
        left = 0
    parent.send(signal.SIGKILL)
    parent.code()
    eventually(lambda: len(work.pids()) == left, 'the end of the children')


def test_the_key_is_not_on_any_command_line(work):
    work.write('migrate.py', BLOCKS + '''
import os

assert 'sesame' not in str(os.environ) or 'TASKMASTER_SLAVE' in os.environ


def get_jobs(last=0):
    return range(last + 1, 301)
''')
    work.write('key', 'sesame\n')
    (work.path / 'key').chmod(0o600)
    run = work.start('run', 'migrate', '2', '--key-file=key')
    eventually(lambda: work.has('here'))
    children = [pid for pid in work.pids() if pid != run.pid]
    assert len(children) == 2
    for pid in children:
        command = Path('/proc', str(pid), 'cmdline').read_bytes()
        assert b'migrate' in command
        assert b'sesame' not in command
    work.touch('go')
    assert run.code() == 0


def test_the_key_does_not_reach_what_handlers_start(work):
    work.write('migrate.py', '''
import os
from recorder import record


def get_jobs():
    yield 1


def handle_job(job):
    for name, value in os.environ.items():
        if name != 'TASKMASTER_TEST' and name.startswith('TASKMASTER'):
            record(name)
        assert value != 'sesame'
''')
    run = work.finish('run', 'migrate', '1', '--key=sesame')
    assert run.code() == 0
    assert work.lines('done') == []


LOGGING = NUMBERS + '''
import logging

CONFIG


def setup():
    logging.getLogger(__name__).info('theirs: setup')


def handle_job(job):
    if job == 3:
        logging.getLogger(__name__).info('theirs: info')
        logging.warning('theirs: warning')
        raise ValueError('bad row')
    record(job)
'''


@pytest.mark.parametrize('command', ['run', 'slave'])
@pytest.mark.parametrize('config', ['', 'logging.basicConfig()'],
                         ids=['unconfigured', 'configured'])
def test_a_log_without_a_terminal(work, command, config):
    """As cron, nohup and Docker keep it: each line has its time."""
    work.write('migrate.py', LOGGING.replace('CONFIG', config))
    words = ['count=5', '--rate=1000']
    if command == 'run':
        run = master = work.start('run', 'migrate', '1', *words)
    else:
        master = work.start('master', 'migrate', *words)
        run = work.start('slave', 'migrate', master.host)
    assert (run.code() == master.code()) == (command == 'run')
    lines = [line for each in {run, master} for line in each.log.splitlines()]
    stamp = r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 '
    bare = {re.sub(f'^{stamp}', '', line) for line in lines}
    assert 'warning: failed: job 3: ValueError: bad row' in bare
    theirs = ({'theirs: setup', 'theirs: info', 'warning: theirs: warning'}
              if not config else
              {'INFO:migrate:theirs: info', 'WARNING:root:theirs: warning'})
    assert theirs <= bare
    for line in lines:
        assert re.match(stamp, line) or config and ':theirs: ' in line
    assert any(re.match(stamp + r'Current Job: \d+ \| Rate: ', line)
               for line in lines)


def test_journald_has_times_of_its_own(work):
    work.write('migrate.py', LOGGING.replace('CONFIG', ''))
    mine, theirs = os.pipe()
    there = os.fstat(theirs)
    run = work.start('run', 'migrate', '1', 'count=5', stderr=theirs, environ={
        'JOURNAL_STREAM': f'{there.st_dev}:{there.st_ino}'})
    os.close(theirs)
    assert run.code() == 1
    with open(mine) as said:
        lines = said.read().splitlines()
    assert 'warning: theirs: warning' in lines
    assert not [line for line in lines if re.match(r'\d{4}-', line)]


def test_debug_tells_what_goes_on(work):
    work.write('migrate.py', LOGGING.replace('CONFIG', ''))
    run = work.finish('run', 'migrate', '1', 'count=5', '--retries=1',
                      '--log-level=debug')
    assert run.code() == 1
    for pattern in (r'slave \S+ is here, for 1 job at a time$',
                    r'leased: jobs 1 to 1 of this start \(slave \S+\)$',
                    r'slave \S+: \d+ done, 0 failed; leased: jobs \d+ to ',
                    r'attempt 2 of 2 in 0.\d s: ValueError: bad row '
                    r'\(slave \S+\)$',
                    r'no more is asked of get_jobs, after 5 jobs',
                    r'saved: 5 jobs up to key 5, 1 failed$'):
        run.says('^debug: ' + pattern)


def test_one_error_of_setup_is_shown_once(work):
    work.write('migrate.py', NUMBERS + '''
def setup():
    raise ValueError('no such database')
''')
    run = work.finish('run', 'migrate', '2')
    assert run.code() == 70
    assert run.err.count('tm-slave: setup raised ValueError: no such') == 1
    assert run.err.count('Traceback') == 1


def test_a_second_signal_says_up_to_where_it_is_saved(work):
    work.write('migrate.py', BLOCKS)
    run = work.start('run', 'migrate', '1')
    eventually(lambda: work.has('here'))
    eventually(lambda: work.has('migrate.state')
               and work.state()['key'] == 299)
    run.stop()
    run.send(signal.SIGINT)
    assert run.code() == -signal.SIGINT
    run.says('^stopped by SIGINT; start again to go on; saved up to key 299$')


def test_ctrl_c_under_inline_says_up_to_where_it_is_saved(work):
    work.write('migrate.py', BLOCKS + '''

def finished(summary):
    print(summary['state'], summary['exit_code'], summary['jobs'])
''')
    run = work.start('run', 'migrate', '1', '--inline', host=None)
    eventually(lambda: work.has('here'))
    run.send(signal.SIGINT)
    assert run.code() == -signal.SIGINT
    assert run.err.splitlines()[-2:] == [
        'stopped by SIGINT; start again to go on', 'saved up to key 299']
    assert run.out == 'stopped 130 299\n'


@pytest.mark.parametrize('words, end', [
    ((), 'the run is complete'),
    (('--limit=3',), 'the run has ended before its source; start it again'),
    (('--max-failures=1',), 'the run has failed; its master says why')])
def test_spawn_says_how_the_run_ended(work, words, end):
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 5:
        raise ValueError('bad row')
    record(job)


def finished(summary):
    record(summary['state'])
''')
    master = work.start('master', 'migrate', 'count=10', *words)
    spawn = work.finish('spawn', 'migrate', '1', master.host)
    master.code()
    assert spawn.code() == 0
    assert spawn.err.splitlines()[-1].startswith(end)
    assert work.lines('done')[-1] == {
        '': 'complete', '--limit=3': 'stopped', '--max-failures=1': 'failed'}[
            ''.join(words)]
