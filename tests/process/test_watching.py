"""`tm-ctl top` on a terminal, which is left as it was found."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

import pytest
from programs import LONG, NUMBERS, eventually

pytestmark = pytest.mark.hunt

BLOCKING = NUMBERS + '''
    if job == 3:
        block('blocked')
'''


class Top:
    """It runs on a terminal; ``screen`` is what stands there."""

    def __init__(self, work, *words, size=(80, 24)):
        self._ours, theirs = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        self.said = ''
        self.program = work.program(
            sys.executable, '-m', 'taskmaster', 'ctl', 'top', *words,
            stdin=theirs, stdout=theirs,
            environ={'TERM': 'xterm', 'PYTHONIOENCODING': 'utf-8'})

    def resize(self, columns, lines):
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ,
                    struct.pack('4H', lines, columns, 0, 0))

    def press(self, keys):
        os.write(self._ours, keys.encode())

    def read(self):
        while select.select([self._ours], [], [], 0)[0]:
            self.said += os.read(self._ours, 65536).decode()

    @property
    def screen(self):
        self.read()
        frame = self.said.rpartition('\x1b[H')[2].partition('\x1b[J')[0]
        return frame.replace('\x1b[K', '').replace('\r', '').split('\n')

    def shows(self, pattern):
        def look():
            return (re.search(pattern, '\n'.join(self.screen), re.M)
                    or self.program.process.poll() is not None)
        found = eventually(look, pattern)
        assert found is not True, self.said + self.program.err

    def ended(self):
        """Wait for the end: its code, and the terminal is as it was."""
        deadline = time.monotonic() + LONG
        while self.program.process.poll() is None:
            assert time.monotonic() < deadline
            self.read()             # or it could not write
            select.select([self._ours], [], [], 0.02)
        self.read()
        assert self.said.endswith('\x1b[?25h\x1b[?1049l')
        assert termios.tcgetattr(self._theirs) == self.before
        return self.program.code()

    def close(self):
        os.close(self._ours)
        os.close(self._theirs)


@pytest.fixture
def top(work):
    opened = []

    def start(*words, **options):
        opened.append(Top(work, *words, **options))
        return opened[-1]
    yield start
    for one in opened:
        one.close()


def test_top(work, top):
    work.write('migrate.py', BLOCKING)
    run = work.start('run', 'migrate', '1')
    eventually(lambda: work.has('blocked'))
    one, two = top(), top('--run=migrate', size=(100, 30))
    for each, lines in (one, 24), (two, 30):
        each.shows('^migrate +.* up 0:')
        each.shows('^oldest: job 3 ')
        assert len(each.screen) == lines
    one.press('p')
    one.shows('^paused$')
    two.shows('^paused$')
    one.resize(120, 40)
    eventually(lambda: len(one.screen) == 40)
    one.press('s')
    one.shows('^stop the run')
    one.press('n')
    one.shows('q quit$')
    one.press('r')
    two.shows('^running$')
    one.press('q')
    assert one.ended() == 0
    two.program.send(signal.SIGTERM)
    assert two.ended() == -signal.SIGTERM

    three = top()
    three.shows('^migrate +.* up 0:')
    run.send(signal.SIGKILL)
    run.code()
    three.shows('^state:    crashed, last heard of ')
    three.program.send(signal.SIGINT)
    assert three.ended() == -signal.SIGINT

    once = work.finish('ctl', 'top', '--once', '--run=migrate')
    assert once.code() == 0 and 'state:    crashed' in once.out
    assert '\x1b' not in once.out
    nowhere = work.finish('ctl', 'top', '--run=migrate')
    assert nowhere.code() == 2 and 'top needs a terminal' in nowhere.err
