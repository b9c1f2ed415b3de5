"""`Taskmaster`: a run from a Python program.

    from taskmaster import Taskmaster
    Taskmaster(handle_job, get_jobs, slaves=4).start()
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import Any, Callable, Iterable, Union

from .address import address
from .console.output import new_progress, printer, set_up_logging
from .console.signals import Signals, ignored_now
from .errors import NothingToDo, need_the_gil
from .logs import logger
from .settings import ENV_KEY, TABLE, Settings, from_python
from .usercode import handler, targets
from .usercode.source import from_function, from_iterable
from .wire.key import key_of

Number = Union[int, float, str]     # as text it is read as a flag's value is
File = Union[str, 'os.PathLike[str]']


class Taskmaster:
    """A master here, and slaves that it starts and keeps alive.

    ``callback`` handles one job, or with ``batch`` a list of them.  The
    slaves import it, so it must be a function at the top level of a module.
    ``source`` is a `get_jobs` function, which can be resumed, or any
    iterable, which cannot.  `setup`, `get_key`, `count_jobs` and `throttle`
    are found beside these functions, in their modules.  ``slaves`` is how
    many; the others are what `tm-run --help` says of the flags.

    Raises UsageError for a callback that cannot be imported, TypeError or
    ValueError, which names it, for an option that is not what it must be.
    """

    def __init__(
            self, callback: Callable[[Any], Any],
            source: Iterable[Any] | Callable[..., Iterable[Any]],
            slaves: int | str = 2, *,
            host: str | None = None,
            key: str | None = None,
            key_file: File | None = None,
            tls_cert: File | None = None,
            tls_key: File | None = None,
            tls_ca: File | None = None,
            reset: bool = False,
            state: File | None = None,
            size: int | str = 10_000,
            max_failures: int | str = 100,
            retry_failed: bool | str = False,
            dry_run: bool = False,
            verify: bool = False,
            twice: bool = False,
            limit: int | str | None = None,
            max_runtime: Number | None = None,
            total: int | str | None = None,
            rate: Number | None = None,
            threads: int | str = 1,
            batch: int | str | None = None,
            retries: int | str = 0,
            timeout: Number = 60.0,
            job_timeout: Number | None = None,
            max_jobs_per_slave: int | str | None = None,
            inline: bool = False,
            no_progress: bool = False,
            log_level: str = 'info') -> None:
        given = locals()
        self._settings = from_python({name: value for name, value
                                      in given.items() if name in TABLE})
        self._target = targets.of_function(callback)
        self._source = (from_function(source) if callable(source)
                        else from_iterable(source, self._target))
        if self._settings.verify:
            self._source.to_check()

    def start(self) -> int:
        """Run to the end; return the exit code that `tm-run` would have.

        Raises the TaskmasterError that ends the run.  Signals drain and
        save, then do what they did before (KeyboardInterrupt for Ctrl-C);
        elsewhere than on the main thread they are left alone.
        """
        need_the_gil()
        theirs = os.environ.pop(ENV_KEY, None)
        try:
            return self._start(self._settings)
        except NothingToDo as said:
            logger(__name__).info('%s', said)
            return said.exit_code
        finally:
            if theirs is not None:      # what they start had no need of it
                os.environ[ENV_KEY] = theirs

    def _start(self, settings: Settings) -> int:
        if not logging.getLogger().handlers:
            set_up_logging(settings.log_level)
        target = self._target
        if settings.verify:
            target = handler.checking(target)

        def load() -> handler.Handler:
            return handler.of_target(target, True, settings.retries,
                                     settings.batch, twice=settings.twice,
                                     check=settings.verify)
        if settings.dry_run:
            from .dry_run import rehearse
            return rehearse(self._source, settings, load)
        # Here already: a mistake in it is said once, and not by each slave.
        handle = load()
        progress = new_progress(settings)
        if settings.inline:
            from .inline import run_inline
            return run_inline(self._source, handle, progress, settings)
        from .local import Local
        local = Local(self._source, target.text, address(settings.host),
                      key_of(settings), progress, printer(progress), settings,
                      sys.path)
        if threading.current_thread() is not threading.main_thread():
            return local.run()
        signals = Signals(local.stop, local.tell, local.stopped_from_afar,
                          local.fail, local.kill, ignored_now())
        signals.install()
        try:
            code = local.run()
        finally:
            signals.restore()
        if local.stopped_by is not None:
            sys.stderr.flush()
            os.kill(os.getpid(), local.stopped_by)
        return code
