"""`Taskmaster`: a run from a Python program, as in the seed.

    from taskmaster import Taskmaster
    Taskmaster(handle_job, get_jobs, slaves=4).start()
"""

import logging
import os
import sys
import threading
from typing import Any, Callable, Iterable, Union

from .address import address
from .cli import options as parsers
from .console.output import new_progress, printer, set_up_logging
from .console.signals import Signals
from .local import Local
from .usercode import targets
from .usercode.source import from_function, from_iterable
from .wire.key import key


class Taskmaster:
    """A master here and slaves as `tm-spawn` starts them.

    ``callback`` handles one job.  The slaves import it, so it must be a
    function at the top level of a module.  ``source`` is a `get_jobs`
    function, which can be resumed, or any iterable, which cannot.
    ``slaves`` is how many; the options are `tm-run`'s, named as its flags
    are: ``host``, ``key``, ``state``, ``size``, ``reset``, ``threads`` ...

    Raises UsageError for a callback that cannot be imported and TypeError
    for an option that there is not.
    """

    def __init__(self, callback: Callable[[Any], Any],
                 source: Union[Iterable[Any], Callable[..., Iterable[Any]]],
                 slaves: int = 2, **options: Any):
        self._handler = targets.callable_target(callback)
        self._source = (from_function(source) if callable(source)
                        else from_iterable(source, self._handler))
        self._options = parsers.run_parser().parse_args(['', str(slaves)])
        for name, value in options.items():
            if name not in vars(self._options) or name in ('target', 'count'):
                raise TypeError(f'Taskmaster takes no option {name!r}')
            setattr(self._options, name, value)

    def start(self) -> int:
        """Run to the end; gives the exit code that `tm-run` would have.

        Raises the TaskmasterError that ends the run.  Signals drain and
        save, then do what they did before (KeyboardInterrupt for Ctrl-C);
        elsewhere than on the main thread they are left alone.
        """
        if not logging.getLogger().handlers:
            set_up_logging(self._options.log_level)
        progress = new_progress(self._options)
        local = Local(self._source, self._handler,
                      address(self._options.host),
                      key(self._options.key, self._options.key_file),
                      progress, printer(progress), self._options)
        if threading.current_thread() is not threading.main_thread():
            return local.run()
        signals = Signals(local.stop, local.tell, local.stopped_from_afar)
        signals.install()
        try:
            code = local.run()
        finally:
            signals.restore()
        if local.stopped_by is not None:
            sys.stderr.flush()
            os.kill(os.getpid(), local.stopped_by)
        return code
