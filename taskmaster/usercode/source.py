"""Where the jobs come from: the operator's functions, and their arguments."""

import os
import threading
from functools import partial
from itertools import chain, islice
from typing import Any, Callable, Dict, Iterable, Iterator, Optional

from ..errors import ConfigError, OperatorError
from ..text import summary, traceback_of
from . import naming, signature, targets
from .targets import Target

Opener = Callable[[], Iterable[Any]]


class Source:
    """What a run iterates, and how its jobs are called.

    ``name`` is the run's; ``path`` the real path of its file, or '';
    ``state_name`` the file name that its state has by default.
    ``resumable`` says whether there is a sense in keeping state.  The
    others are the operator's optional functions.
    """

    def __init__(self, get_jobs: Callable[..., Iterable[Any]], name: str,
                 path: str, state_name: str,
                 arguments: Optional[Dict[str, str]] = None,
                 get_key: Optional[Callable[[Any], Any]] = None,
                 resumable: bool = True,
                 count_jobs: Optional[Callable[..., Any]] = None,
                 throttle: Optional[Callable[[], Any]] = None):
        self.name = name
        self.path = path
        self.state_name = state_name
        self.resumable = resumable
        self.arguments = arguments or {}
        signature.check_arguments(get_jobs, self.arguments)
        self._get_jobs = get_jobs
        self._get_key = get_key or own_key
        self._lock = threading.Lock()
        self.throttle = throttle        # a reason to hold back, or nothing
        self.count = (None if count_jobs is None else
                      partial(count_jobs, **self.arguments))

    def open(self, **last: Any) -> Iterable[Any]:
        """Call `get_jobs`; ``last=KEY`` is given when a run is resumed."""
        return self._get_jobs(**self.arguments, **last)

    def check_takes_last(self, state: str) -> None:
        """Raise ConfigError when `get_jobs` cannot go on from a state."""
        if not signature.takes(self._get_jobs, naming.RESERVED):
            raise ConfigError(
                f'{state} says where to go on, but get_jobs takes no `last` '
                'to be told so; give it one, or start over with --reset')

    def key(self, job: Any) -> Any:
        """The key of a job; raises OperatorError when `get_key` raises."""
        try:
            with self._lock:        # never twice at once
                return self._get_key(job)
        except BaseException as error:
            raise OperatorError(
                f'get_key raised {summary(error)}; correct it and start '
                'again', traceback_of(error)) from error


def own_key(job: Any) -> Any:
    """The primary key of a Django model, or else the job itself."""
    return job.pk if hasattr(job, 'pk') else job


def from_target(text: str, arguments: Dict[str, str]) -> Source:
    """The source that a TARGET names.

    Raises ConfigError or UsageError.
    """
    target = targets.load(text, 'get_jobs')
    found = {name: target.find(name)
             for name in ('get_key', 'count_jobs', 'throttle')}
    for name, function in found.items():
        if function is not None and not callable(function):
            raise ConfigError(f'{name} in {target.name} is no function')
    if target.function != 'get_jobs':   # it counts those of get_jobs
        del found['count_jobs']
    return Source(
        target.callable(),
        naming.run_name(target.name, target.function, arguments),
        target.source,
        naming.state_file(target.name, target.function, arguments),
        arguments, **found)


def from_function(function: Callable[..., Iterable[Any]]) -> Source:
    """A `get_jobs` function of a Python program, with state of its own."""
    name = function.__module__
    code = getattr(function, '__code__', None)
    path = os.path.realpath(code.co_filename) if code else ''
    called = getattr(function, '__qualname__', type(function).__name__)
    beside = function.__globals__ if code else {}
    return Source(function, naming.run_name(name, called, {}), path,
                  naming.state_file(name, called, {}),
                  get_key=beside.get('get_key'),
                  throttle=beside.get('throttle'))


def from_iterable(jobs: Iterable[Any], handler: Target) -> Source:
    """Any iterable, for that handler.

    It cannot be resumed, so it keeps no state.
    """
    return Source(lambda: jobs, f'{handler.text} (no state)', '',
                  naming.state_file(handler.name, handler.function, {}),
                  resumable=False)


MUTABLE = (dict, list, set, bytearray)


def opened(source: Opener) -> Iterator[Any]:
    """Call the source; raises OperatorError if that cannot be iterated."""
    jobs = source()
    try:
        return iter(jobs)
    except TypeError:
        raise OperatorError(
            f'get_jobs returned {type(jobs).__name__}, which cannot be '
            'iterated; let it yield the jobs') from None


def after_last(jobs: Iterator[Any], skip: Callable[[Any], bool],
               limit: Optional[int] = None) -> Iterator[Any]:
    """Without the first job, if that is the last of an earlier run."""
    for first in jobs:
        if not skip(first):
            jobs = chain((first,), jobs)
        break
    return islice(jobs, limit)


def raised(error: BaseException) -> OperatorError:
    """What to say of whatever came out of the source."""
    if isinstance(error, OperatorError):
        return error
    return OperatorError(
        f'get_jobs raised {summary(error)}; jobs already yielded are '
        'finished and saved, correct it and start again',
        traceback_of(error))


def same_again(job: Any) -> OperatorError:
    """What to say of an object that is yielded twice running."""
    return OperatorError(
        f'get_jobs yielded the same {type(job).__name__} twice; jobs must '
        'not change after they are yielded, so make a new one for each')
