"""One child of the supervisor: its command line, its pipes, its end."""

import os
import signal
import subprocess
import sys
import threading
from typing import IO, Callable, List, Optional, Sequence, Tuple

from ..address import Address, name_of
from ..settings import Settings, flags
from ..slave.watchdog import Watchdog
from ..wire.fields import Range

LOOKS = 10          # at the watchdog, in the time that a job may take
LOOK = 0.5          # seconds between two of them at most

MAIN = os.path.join(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))), '__main__.py')


class _Child:
    """A slave process, and the pipe on which it tells its parent things."""

    def __init__(self, process: 'subprocess.Popen[str]', news: int):
        os.set_blocking(news, False)    # a grandchild may keep it open
        self.process = process
        self._news = news
        self._told = b''

    def told(self) -> bytes:
        """What it has told up to now, each thing once."""
        try:
            while True:
                news = os.read(self._news, 1000)
                if not news:
                    break
                self._told = bytes({*self._told, *news})
        except BlockingIOError:
            pass
        return self._told


def _wait(process: 'subprocess.Popen[str]', shared: Optional[Watchdog]
          ) -> Tuple[int, Optional[List[Range]]]:
    """Wait for the end of a child, and end it when it is late."""
    if shared is None:
        return process.wait(), None
    pause = min(shared.limit / LOOKS, LOOK)
    late: Optional[List[Range]] = None
    while True:
        try:
            code = process.wait(pause)
            shared.close()
            return code, late
        except subprocess.TimeoutExpired:
            late = late or shared.late()
            if late is not None:
                process.kill()


def command(arguments: Sequence[str]) -> List[str]:
    """The command line of a child slave, with this interpreter's flags.

    By the path of the package: `-m` would look in the current folder first.
    """
    # What multiprocessing gives its own children: -O, -X, -W and the like.
    flags: List[str] = (
        subprocess._args_from_interpreter_flags())  # type: ignore
    return [sys.executable, *flags, MAIN, 'slave', *arguments]


def _ending(code: int) -> str:
    if code >= 0:
        return f'exit code {code}'
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f'signal {-code}'


def _pass_on(stream: Optional[IO[str]],
             line: Callable[[str], None]) -> threading.Thread:
    """Give each line of a stream to ``line``, on a thread of its own."""
    def read() -> None:
        assert stream is not None
        with stream:
            for text in stream:
                line(text.rstrip('\n'))
    thread = threading.Thread(target=read, name='printer', daemon=True)
    thread.start()
    return thread


EVERYWHERE = {'0.0.0.0': '127.0.0.1', '::': '::1'}


def slave_command(target: str, address: Address,
                  settings: Settings, quiet: bool = False) -> List[str]:
    """The command line of a child of `tm-run` or `tm-spawn`."""
    host, port = address
    settings = settings._replace(
        host=name_of((EVERYWHERE.get(host, host), port)), key=None,
        key_file=None)
    if quiet and settings.log_level == 'info':
        # The master's own lines say it all.
        settings = settings._replace(log_level='warning')
    return command([target, *flags(settings, 'slave')])
