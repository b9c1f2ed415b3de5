"""The saver: all that a run writes, on a thread of its own.

Failures first, then the watermark, which would otherwise pass jobs that are
neither done nor written down.  When the files give trouble, jobs go on, and
what is on disk stays as it is until writing works again.
"""

from __future__ import annotations

import errno
import threading
import time
from contextlib import contextmanager

from .. import logs
from ..errors import OperatorError
from ..records import TYPE_CHECKING
from ..text import summary
from ..timing import Timing
from .jobqueue import JobQueue
from .recorder import Recorder

if TYPE_CHECKING:
    from typing import Callable, Iterator

log = logs.logger(__name__)

# So often a write is looked at until it is said that it does not come back.
LOOKS = 10
# Errors that end when a person makes room.
ROOM = errno.ENOSPC, errno.EDQUOT


class Saver:
    """Saves what is new in ``queue`` with the ``recorder``.

    Its `loop` is for a service thread, until `end`; then whoever has joined
    that saves once more.  Its `watch` is for another, until `close`: it
    says when a write does not come back.  ``failed`` is told of a key that
    cannot be saved.
    """

    def __init__(self, queue: JobQueue, recorder: Recorder,
                 failed: Callable[[OperatorError], None], timing: Timing,
                 clock: Callable[[], float] = time.monotonic):
        self.trouble: OSError | None = None     # with the files
        self._since = self._said = 0.0          # when that began; was said
        self._queue = queue
        self._recorder = recorder
        self._failed = failed
        self._timing = timing
        self._clock = clock
        self._news = threading.Event()
        self._ended = False
        self._writing: float | None = None      # since when
        self._closed = threading.Event()

    def wake(self) -> None:
        """There may be something to record; any thread may call this."""
        self._news.set()

    def end(self) -> None:
        self._ended = True
        self._news.set()

    def loop(self) -> None:
        """Record failures at once, save every second."""
        due = 0.0
        while not self._ended:
            left = due - self._clock()
            self._news.wait(left if left > 0 else self._timing.save)
            self._news.clear()
            if self.trouble is None or self._clock() >= due:
                self._record()
            if self._clock() >= due:
                due = self._clock() + self._timing.save
                self.save()

    def close(self) -> None:
        """Nothing more is written."""
        self._closed.set()

    def watch(self) -> None:
        """Say when a write does not come back, once, and when it has.

        On a thread that writes nothing, and without a lock.
        """
        patience, hung = self._timing.hung, None
        while not self._closed.wait(patience / LOOKS):
            since = self._writing
            if hung is not None and since != hung:
                hung = None
                log.info('the disk answers again')
            if (hung is None and since is not None
                    and self._clock() - since >= patience):
                hung = since
                log.warning('the disk has not answered for %g s; jobs go on, '
                            'but what is on it stays as it is, and a stop '
                            'waits for it', patience)

    @contextmanager
    def _at_the_disk(self) -> Iterator[None]:
        self._writing = self._clock()
        try:
            yield
        finally:
            self._writing = None

    def save(self, complete: bool = False) -> None:
        """Save failures and watermark, if there is anything new in them."""
        self._record()
        try:
            with self._at_the_disk():
                self._recorder.save(*self._queue.watermark(), complete)
        except OperatorError as error:
            self._failed(error)
        except OSError as error:
            self._in_trouble(error)
        else:
            if self.trouble is not None and not self._queue.unrecorded():
                self.trouble = None
                log.info('saving works again')

    def finish(self) -> None:
        """All is saved that can be: put the files in order."""
        if self.trouble is None:
            try:
                with self._at_the_disk():
                    self._recorder.finish()
            except OSError as error:
                self.trouble = error

    @property
    def reason(self) -> tuple[str, str]:
        """Return why nothing is saved, and for how long; '' if it is.

        Any thread may ask.
        """
        trouble, since = self.trouble, self._writing
        if trouble is not None:
            why = trouble.strerror or summary(trouble)
            return (f'nothing is saved: {why}; ' + (
                    'waiting for room' if trouble.errno in ROOM
                    else 'trying again'), '')
        hung = 0.0 if since is None else self._clock() - since
        return (('the disk does not answer', f', {hung:.0f} s')
                if hung >= self._timing.hung else ('', ''))

    @property
    def out_of_patience(self) -> bool:
        """Whether the trouble has lasted too long to lease more jobs."""
        return (self.trouble is not None
                and self._clock() - self._since > self._timing.patience)

    def _record(self) -> None:
        """Write the failed jobs down, which lets the watermark pass them.

        So many at a time as the queue gives out: while the disk is full the
        first of them are rendered in vain, but not all.
        """
        while True:
            failed = self._queue.unrecorded()
            if not failed:
                return
            try:
                with self._at_the_disk():
                    self._recorder.record(failed)
            except OSError as error:
                self._in_trouble(error)
                if self.out_of_patience:
                    self._queue.hold('failures',
                                     'failed jobs cannot be recorded')
                return
            self._queue.recorded([job.number for job in failed])
            self._queue.hold('failures', '')

    def _in_trouble(self, error: OSError) -> None:
        now = self._clock()
        if self.trouble is None:
            self._since = now
        if self.trouble is None or now - self._said >= self._timing.still:
            self._said = now
            log.warning('cannot save (%s); %sjobs go on, but what is on disk '
                        'stays as it is until this works again',
                        summary(error),
                        'make room; ' if error.errno in ROOM else '')
        self.trouble = error
