"""What handlers have left running when their slaves had ended well.

It may be about to end (a helper of multiprocessing, a mail that is being
sent), so it is waited for, and named; but it does not outlive the run.
"""

from __future__ import annotations

import signal
import threading
import time

from .. import logs, sessions
from ..timing import Timing

log = logs.logger(__name__)

LOOK = 0.02         # seconds between two looks


class Leftovers:
    """The sessions of such slaves.  Any thread may call any method."""

    def __init__(self, timing: Timing):
        self._timing = timing
        self._sessions: list[int] = []
        self._lock = threading.Lock()       # of `add`: slots end together

    def add(self, session: int) -> None:
        """The leader of a session has ended, and was not alone in it."""
        # That of an empty one may become the number of another.
        with self._lock:
            self._sessions = [*self._living(), session]

    def close(self) -> None:
        """Wait for it to end, and end what does not."""
        timing = self._timing
        if self._gone_in(timing.last_words):
            return
        log.info('waiting for what handlers left running: %s', self._named())
        if self._gone_in(timing.close):
            return
        log.warning('what handlers left running has not ended in %g s, and '
                    'ends now: %s; let them wait for it, or start it with '
                    'start_new_session=True if it is to live on',
                    timing.close, self._named())
        for session in self._living():
            sessions.send(session, signal.SIGTERM)
        if not self._gone_in(timing.last_words):
            self.kill()

    def kill(self) -> None:
        """End it at once; also in a signal handler."""
        for session in self._living():
            sessions.end(session)

    def _living(self) -> list[int]:
        """Those that are not empty, and not another's by now."""
        return [session for session in self._sessions
                if not sessions.lives(session) and sessions.members(session)]

    def _gone_in(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._living():
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK)
        return True

    def _named(self) -> str:
        return sessions.named([pid for session in self._living()
                               for pid in sessions.members(session)])
