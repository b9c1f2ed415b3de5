"""`tm-ctl top`: a run on the whole screen, live.

What is shown is in `console.top`; here is the terminal, which is left as it
was found however this ends, and a thread that asks the master, as a call may
wait for longer than a person does.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import sys
import time
from queue import Empty, SimpleQueue
from types import FrameType, TracebackType

from ..console.ending import Stopped
from ..console.output import print_line
from ..console.top import ASCII, BLOCKS, COLUMNS, LINES, View, screen
from ..errors import TaskmasterError, Unreachable, UsageError
from ..records import TYPE_CHECKING
from ..service import Service
from ..settings import Settings
from ..text import NAME, quoted, short
from ..wire.client import Link
from ..wire.messages import PAUSE, RESUME, STOP, Overview, Refused
from . import finding
from .finding import Found

if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn

    Connect = Callable[[], Link]

# Seconds between two looks at the run, at the keyboard and the size of the
# screen, and until what was said is taken away.
EVERY = 1.0
LOOK = 0.25
SAID = 5.0

# The other screen, without a cursor; and back.
ENTER = '\x1b[?1049h\x1b[?25l\x1b[2J'
LEAVE = '\x1b[?25h\x1b[?1049l'

COMMAND_OF = {'p': PAUSE, 'r': RESUME}
SURE = 'stop the run? jobs in hand are finished and saved first   y / n'
OVER = 'the run is over   q quit'
SIGNALS = signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT


class Poller:
    """Asks the master each second, and for what is wanted of it.

    ``view`` is what it said last; ``error`` ends it all.  Its `loop` is for
    a thread.
    """

    def __init__(self, settings: Settings, connect: Connect, link: Link):
        self.view = View()
        self.most = LINES           # slaves to be told of
        self.error: TaskmasterError | None = None
        self._run = settings.run
        self._connect = connect
        self._link: Link | None = link
        self._commands: SimpleQueue[str] = SimpleQueue()
        self._said_at = 0.0

    def ask(self, command: str) -> None:
        self._commands.put(command)

    def loop(self) -> None:
        """Until the run is over, or there is an error."""
        while self.view.over is None:
            try:
                self.step()
            except (OSError, EOFError):
                self._gone()
            try:
                self._command(self._commands.get(timeout=EVERY))
            except Empty:
                pass
            except (OSError, EOFError):
                self._gone()

    def step(self) -> None:
        """Ask once; raises OSError or EOFError where nobody answers."""
        link = self._link = self._link or self._connect()
        reply = link.call('status', self._run, self.most)
        if isinstance(reply, Refused):
            raise TaskmasterError(reply.line, reply.code)
        assert isinstance(reply, Overview)
        note = (self.view.note if time.monotonic() - self._said_at < SAID
                else '')
        self.view = self.view._replace(status=reply.status, note=note)

    def failed(self, error: TaskmasterError) -> None:
        self.error = error

    def _command(self, command: str) -> None:
        if self._link is None:
            return
        reply = self._link.call('control', self._run, command, None)
        self._said_at = time.monotonic()
        self.view = self.view._replace(note=reply.line)

    def _gone(self) -> None:
        """The master does not answer: has its run ended, and how?"""
        if self._link is not None:
            self._link.close()
            self._link = None
        status, here = self.view.status or {}, socket.gethostname()
        for run in finding.runs():
            if not run['live'] and all(run[name] == status.get(name)
                                       for name in ('run', 'pid', 'host')):
                self.view = self.view._replace(over=run, note='', keys=OVER)
                return
        self._said_at = time.monotonic()
        self.view = self.view._replace(note=(
            'the master does not answer; this is what it said last'
            if status.get('host', here) == here else
            # Where its record is; and the screen may be narrow.
            f"no answer; if it has ended, on {short(status['host'], NAME)}: "
            f"tm-ctl status --run={quoted(status['run'])}"))


class Terminal:
    """The terminal while it is ours: entered, drawn on, left as it was."""

    def __init__(self) -> None:
        import termios
        self._termios = termios
        self._in, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        self._before = termios.tcgetattr(self._in)

    def __enter__(self) -> Terminal:
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _stopped)
        signal.signal(signal.SIGTSTP, self._suspend)
        try:
            self.enter()
        except BaseException:       # a signal may come in the midst of it
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None,
                 error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for number in (*SIGNALS, signal.SIGTSTP):   # one of them is enough
            signal.signal(number, signal.SIG_IGN)
        self.leave()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)

    def enter(self) -> None:
        import tty
        tty.setcbreak(self._in)
        self._write(ENTER)

    def leave(self) -> None:
        try:
            self._write(LEAVE)
            self._termios.tcsetattr(self._in, self._termios.TCSANOW,
                                    self._before)
        except (OSError, self._termios.error):      # it has gone
            pass

    @property
    def size(self) -> os.terminal_size:
        try:
            found = os.get_terminal_size(self._out)
        except OSError:
            return os.terminal_size((COLUMNS, LINES))
        return os.terminal_size((found.columns or COLUMNS,
                                 found.lines or LINES))

    def draw(self, lines: list[str]) -> None:
        """Over what is there, so that nothing flickers."""
        self._write('\x1b[H' + '\n'.join(line + '\x1b[K' for line in lines)
                    + '\x1b[J')

    def key(self, seconds: float) -> str:
        """Wait so long for a key; '' is none, and 'q' that it has gone."""
        if not select.select([self._in], [], [], seconds)[0]:
            return ''
        typed = os.read(self._in, 64)
        # An arrow, say, is several bytes and no letter.
        return 'q' if not typed else chr(typed[0]).lower()

    def _write(self, text: str) -> None:
        data = text.encode(sys.stdout.encoding or 'utf-8', 'replace')
        while data:
            data = data[os.write(self._out, data):]

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: the shell gets its terminal, and later we do again."""
        self.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.enter()


def _stopped(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(number)


def check(settings: Settings) -> None:
    """Raise UsageError where there is no screen to fill."""
    if not settings.once and not (
            sys.stdin.isatty() and sys.stdout.isatty()
            and os.environ.get('TERM', 'dumb') != 'dumb'):
        raise UsageError('top needs a terminal; --once prints one screen')


def run(settings: Settings, found: Found, connect: Connect | None = None,
        link: Link | None = None) -> int:
    """Show a run, live or over, until it was looked at enough."""
    blocks = (BLOCKS if 'utf' in (sys.stdout.encoding or '').lower()
              else ASCII)
    if settings.once:
        return _once(settings, found, link, blocks)
    if link is None or connect is None:
        with Terminal() as terminal:
            view = View(over=found.over, keys=OVER)
            while True:
                terminal.draw(screen(view, *terminal.size))
                if terminal.key(LOOK) == 'q':
                    return 0
    poller = Poller(settings, connect, link)
    _first(poller)
    Service('poller', poller.loop, poller.failed).start()
    with Terminal() as terminal:
        _show(poller, terminal, blocks)
    if poller.error is not None:
        raise poller.error
    return 0


def _show(poller: Poller, terminal: Terminal, blocks: str) -> None:
    sure = False            # whether to stop the run is being asked
    while poller.error is None:
        size = terminal.size
        poller.most = size.lines
        view = poller.view._replace(blocks=blocks)
        if sure and view.over is None:
            view = view._replace(note='', keys=SURE)
        terminal.draw(screen(view, *size))
        key = terminal.key(LOOK)
        if sure and key:
            sure = False
            if key == 'y':
                poller.ask(STOP)
        elif key == 'q':
            return
        elif key == 's' and view.over is None:
            sure = True
        elif key in COMMAND_OF and view.over is None:
            poller.ask(COMMAND_OF[key])


def _once(settings: Settings, found: Found, link: Link | None,
          blocks: str) -> int:
    width, height = shutil.get_terminal_size((COLUMNS, LINES))
    view = View(over=found.over, keys='')
    if link is not None:
        poller = Poller(settings, lambda: link, link)
        poller.most = height
        _first(poller)
        view = poller.view._replace(keys='', blocks=blocks)
    lines: list[Any] = screen(view, width, height)
    while lines and not lines[-1]:
        lines.pop()
    for line in lines:
        print_line(line)
    return 0


def _first(poller: Poller) -> None:
    try:
        poller.step()
    except (OSError, EOFError) as error:
        raise Unreachable(f'no answer from the master ({error})') from error
