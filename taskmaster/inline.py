"""`tm-run --inline`: everything in one process and one thread.

For a debugger: no server, no slaves, no signals of ours.  State, failures,
`--limit` and `--max-failures` are as ever, so a run may go on inline, or an
inline one with slaves.
"""

from __future__ import annotations

import bdb
import os
import pickle
import signal
import socket
import time
from functools import partial
from itertools import islice

from . import forks, logs
from .console.line import Status
from .console.progress import Progress
from .console.summary import Outcome, Summary
from .errors import (EX_FAILED_JOBS, SaveError, TaskmasterError,
                     TooManyFailures, UsageError)
from .master.pieces import FailedJob
from .master.recorder import Recorder, make_recorder
from .records import TYPE_CHECKING
from .settings import Settings
from .slave.chunk import Chunk, Lease
from .text import summary, traceback_of
from .usercode.handler import Handler
from .timing import STANDARD
from .usercode.source import (Source, after_last, may_change, opened, raised,
                              same_again)
from .wire.messages import PICKLE

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

    from .usercode.signature import Function

log = logs.logger(__name__)

SAVE = 1.0          # seconds between two saves of the state
BATCH = 100         # jobs in a list, where --batch does not say it

# What ends the run, and is no failure of the job: Ctrl-C, `q` in pdb.
ENDING = (KeyboardInterrupt, bdb.BdbQuit)


def run_inline(source: Source, handler: Handler, progress: Progress,
               settings: Settings) -> int:
    """As `Inline.run`, with what the settings say."""
    if settings.rate is not None:
        raise UsageError('--inline is as fast as it is; leave --rate out')
    return Inline(make_recorder(source, settings), handler, progress,
                  settings).run()


class Inline:
    """One start of one run, with the settings of `Master`."""

    def __init__(self, recorder: Recorder, handler: Handler,
                 progress: Progress, settings: Settings):
        self._recorder = recorder
        self._single: list[bool] = []       # not empty: a list has one job
        recorder.singly = partial(self._single.append, True)
        self._handler = handler
        handler.ending = ENDING
        self._progress = progress
        self._too_many = settings.max_failures.reached
        self._limit = settings.limit
        self._max_runtime = settings.max_runtime
        self._option = ''           # that ended it early
        self._total = settings.total
        self._summary = Summary()
        recorder.recorded = self._summary.add
        self._name = f'{socket.gethostname()}:{os.getpid()}'
        self._finished = 0          # jobs of this start
        self._last: Any = None      # of them
        self._began = self._saved = time.monotonic()
        self._jobs: list[Any] = []          # of the present chunk, as yielded
        self._interrupt: list[bool] = []    # of the present chunk
        forks.call_in_child(self._in_child)

    def run(self) -> int:
        """Run to the end, or to KeyboardInterrupt; return the exit code.

        Raises the TaskmasterError that ends the run.  What is finished is
        saved before.
        """
        recorder = self._recorder
        recorder.open()
        try:
            self._progress.start(recorder.count)
            code, interrupted = None, False
            try:
                if self._handler.is_async:
                    from .usercode.loop import Loop
                    Loop(ENDING).run(self._work_async())
                else:
                    self._work()
                if self._limit is not None and self._finished >= self._limit:
                    self._option = '--limit'
                self._save(complete=not self._option)
                self._put_in_order()
                code = EX_FAILED_JOBS if recorder.failed else 0
                return code
            except (bdb.BdbQuit, KeyboardInterrupt):
                interrupted = True
                raise KeyboardInterrupt from None
            except TaskmasterError as error:
                code = error.exit_code
                raise
            finally:
                try:
                    if code is None or code > EX_FAILED_JOBS:
                        self._save()
                finally:
                    self._progress.finish(self._status())
                    if code is not None or interrupted:
                        self._say(code)
        finally:
            recorder.close()

    def _say(self, code: int | None) -> None:
        """Say how it went; without a code Ctrl-C has ended it."""
        recorder = self._recorder
        outcome = Outcome(
            code or 0, self._finished, recorder.failed,
            recorder.failures.path, option=self._option,
            stopped_by=None if code is not None else signal.SIGINT,
            retried=recorder.retried, earlier=recorder.count,
            resumes=recorder.resumes)
        self._summary.say(outcome)
        if code is None and recorder.saved:
            log.info('%s', recorder.saved)
        recorder.source.end(self._summary.document(
            recorder.source.name, outcome), STANDARD.finished)

    def _work(self) -> None:
        with self._handler.set_up() as tools:
            for chunk in self._chunks():
                self._handler.work(tools, chunk,
                                   _Ways(self, chunk, time.sleep))

    async def _work_async(self) -> None:
        import asyncio      # it takes a while, and few handlers are `async`
        async with self._handler.set_up_async() as tools:
            for chunk in self._chunks():
                await self._handler.work_async(
                    tools, chunk, _Ways(self, chunk, asyncio.sleep))

    def _chunks(self) -> Iterator[Chunk]:
        """A job each, or a list; each is finished when the next is asked."""
        size = (self._handler.batch or BATCH) if self._handler.lists else 1
        error: BaseException | None = None
        try:
            jobs = after_last(opened(self._recorder.jobs),
                              self._recorder.skip, self._limit)
        except ENDING:
            raise
        except BaseException as theirs:
            raise raised(theirs) from theirs
        previous = None
        while error is None:
            if self._out_of_time():
                self._option = '--max-runtime'
                return
            some: list[Any] = []
            try:
                for job in islice(jobs, size):
                    if job is previous and may_change(job):
                        raise same_again(job)
                    previous = job
                    some.append(job)
                    if self._single:
                        break
            except ENDING:
                raise
            except BaseException as theirs:
                error = theirs      # those before it are to be handled
            if some:
                self._recorder.source.ask_now(some)
                yield from self._copies(some)
            elif error is None:
                return
        raise raised(error) from error

    def _out_of_time(self) -> bool:
        return (self._max_runtime is not None
                and time.monotonic() - self._began >= self._max_runtime)

    def _copies(self, jobs: list[Any]) -> Iterator[Chunk]:
        """Hand out what a slave would get: what comes out of a pickle.

        The jobs themselves stay as they were yielded.  If not all of them
        can be pickled together they go one by one.
        """
        what = 'cannot be pickled: '
        try:
            pickled = pickle.dumps(jobs, PICKLE)
            what = 'cannot be unpickled: '
            copies = pickle.loads(pickled)
        except ENDING:
            raise
        except BaseException as error:
            if len(jobs) > 1:
                for job in jobs:
                    yield from self._copies([job])
                return
            self._fail(self._finished + 1, jobs[0], what + summary(error))
        else:
            self._jobs = jobs
            first = self._finished + 1
            chunk = Chunk(first, copies, Lease(first, pickled))
            self._interrupt = chunk.interrupt
            yield chunk
        self._finished += len(jobs)
        self._last = jobs[-1]
        self._look()

    def failed(self, chunk: Chunk, error: BaseException, attempts: int,
               cause: str) -> None:
        """The job that this chunk has begun last has failed."""
        number = chunk.current()
        self._fail(number, self._jobs[number - chunk.first], summary(error),
                   traceback_of(error), attempts, cause)

    def _fail(self, number: int, job: Any, error: str, traceback: str = '',
              attempts: int = 0, cause: str = '') -> None:
        """Record a failed job, and stop the run if it is one too many."""
        failed = FailedJob(number, job, error, traceback, self._name,
                           attempts, cause)
        try:
            self._recorder.record([failed])
        except OSError as trouble:
            raise SaveError('cannot write the failures file '
                            f'({summary(trouble)}); that job and those '
                            'after it will run again') from trouble
        if self._too_many(self._summary.failed, number):
            raise TooManyFailures

    def _in_child(self) -> None:
        """A forked child leaves with the job that it is in."""
        self._interrupt.append(True)

    def _look(self) -> None:
        self._progress.update(self._status())
        if time.monotonic() - self._saved >= SAVE:
            self._save()

    def _save(self, complete: bool = False) -> None:
        try:
            self._recorder.save(self._finished, self._last, complete)
        except OSError as error:
            raise SaveError(f'cannot save the state ({summary(error)}); '
                            'jobs since the last save will run '
                            'again') from error
        self._saved = time.monotonic()

    def _put_in_order(self) -> None:
        try:
            self._recorder.finish()
        except OSError as error:
            raise SaveError('cannot put the failures file in order '
                            f'({summary(error)}); what is in it counts, '
                            'start again once it can be written') from error

    def _status(self) -> Status:
        return Status(self._recorder.count + self._finished, 0, 0,
                      self._recorder.failed, 'inline', self._total)


class _Ways:
    """How a handler speaks with us while it works on a chunk."""

    ending = ENDING

    def __init__(self, run: Inline, chunk: Chunk,
                 pause: Callable[[float], Any]):
        self.interrupt = chunk.interrupt
        self.position = chunk.finished
        self.pause = pause
        self.fail = partial(run.failed, chunk)

    def watch(self, function: Function) -> Function:
        return function
