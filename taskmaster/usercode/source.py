"""Where the jobs come from: the operator's functions, and their arguments."""

from __future__ import annotations

import sys
import threading
import types
from functools import partial
from itertools import chain, islice

from ..errors import ConfigError, OperatorError
from ..records import TYPE_CHECKING
from ..text import summary, traceback_of
from . import naming, signature, targets
from .targets import Target

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, Iterator, Sequence

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
                 arguments: dict[str, str] | None = None,
                 get_key: Callable[[Any], Any] | None = None,
                 resumable: bool = True,
                 count_jobs: Callable[..., Any] | None = None,
                 throttle: Callable[[], Any] | None = None,
                 finished: Callable[[dict[str, Any]], Any] | None = None):
        self.name = name
        self.path = path
        self.state_name = state_name
        self.resumable = resumable
        self.arguments = arguments or {}
        signature.check_arguments(get_jobs, self.arguments)
        self._get_jobs = get_jobs
        self._get_key = get_key or own_key
        self._lock = threading.Lock()
        self._asked: list[tuple[Any, Any]] = []     # jobs, and their keys
        self.throttle = throttle        # a reason to hold back, or nothing
        self.finished = finished        # told how the run has ended
        self.count = (None if count_jobs is None else
                      partial(count_jobs, **self.arguments))

    def check_functions(self) -> None:
        """Raise ConfigError where one could not be called."""
        for name, function, count in (('get_key', self._get_key, 1),
                                      ('throttle', self.throttle, 0),
                                      ('finished', self.finished, 1)):
            if function is not None and not signature.fits(function, count):
                raise signature.misfit(name, count)

    def to_check(self) -> Source:
        """Return it as the source of its check: of another run's name."""
        self.name = naming.check_name(self.name)
        self.state_name = naming.check_state_file(self.state_name)
        return self

    def end(self, how: dict[str, Any], seconds: float) -> None:
        """Call `finished`, if there is one, and wait so long for it."""
        if self.finished is not None:
            from .ending import tell
            tell(self.finished, how, seconds)

    def open(self, **last: Any) -> Iterable[Any]:
        """Call `get_jobs`; ``last=KEY`` is given when a run is resumed."""
        return self._get_jobs(**self.arguments, **last)

    @property
    def takes_last(self) -> bool:
        """Return whether `get_jobs` can be told where to go on."""
        return signature.takes(self._get_jobs, naming.RESERVED)

    def check_takes_last(self, state: str) -> None:
        """Raise ConfigError when `get_jobs` cannot go on from a state."""
        if not self.takes_last:
            raise ConfigError(
                f'{state} says where to go on, but get_jobs takes no `last` '
                'to be told so; give it one, or start over with --reset')

    def ask_now(self, jobs: Sequence[Any]) -> None:
        """Ask for the keys of these jobs before anything is done about them.

        `key` then returns (or raises) what came out now, for these and for
        the last of those before.  It is for who handles jobs where they were
        yielded, as handlers may change what keys are made of.
        """
        self._asked[:-1] = []
        for job in jobs:
            try:
                self._asked.append((job, self.key(job)))
            except OperatorError as error:
                self._asked.append((job, error))

    def key(self, job: Any) -> Any:
        """Return the key of a job; OperatorError when `get_key` raises."""
        for asked, key in self._asked:
            if asked is job:
                if isinstance(key, OperatorError):
                    raise key
                return key
        try:
            with self._lock:        # never twice at once
                return self._get_key(job)
        except BaseException as error:
            raise OperatorError(
                f'get_key raised {summary(error)}; correct it and start '
                'again', traceback_of(error)) from error

    def doubt(self, job: Any) -> str:
        """Return what to say of the first job's key, or ''.

        A row that is its own key is saved whole, and `last` is then a row.
        """
        if self._get_key is not own_key or hasattr(job, 'pk') or not (
                isinstance(job, (tuple, list, dict, set))
                or hasattr(job, 'keys') or hasattr(job, '__dict__')):
            return ''
        return (f'there is no get_key(job), so a whole {type(job).__name__} '
                'is the key of each job, and what get_jobs gets as `last`; '
                'have it return the id, if that is not meant')


def own_key(job: Any) -> Any:
    """Return the primary key of a Django model, or else the job itself."""
    return job.pk if hasattr(job, 'pk') else job


def from_target(text: str, arguments: dict[str, str],
                folder: str | None = None) -> Source:
    """Return the source that a TARGET names, as `targets.load`.

    Raises ConfigError or UsageError.
    """
    target = targets.load(text, 'get_jobs', folder)
    found = _optional(target.module, target.name)
    if target.function != 'get_jobs':   # it counts those of get_jobs
        del found['count_jobs']
    return Source(
        target.callable(),
        naming.run_name(target.name, target.function, arguments),
        target.source,
        naming.state_file(target.name, target.function, arguments),
        arguments, **found)


def from_function(function: Callable[..., Iterable[Any]]) -> Source:
    """Return a `get_jobs` function of a Python program as a source.

    It is named after its module and itself, and a partial after what it
    wraps, with what it is given as arguments.  Raises ConfigError.
    """
    partial_of = (function if isinstance(function, partial)
                  else partial(function))
    whole = partial_of.func
    module = sys.modules.get(whole.__module__)
    name = naming.module_name(module) if module else whole.__module__
    called = getattr(whole, '__qualname__', type(whole).__name__)
    arguments = naming.as_arguments(partial_of)
    found = _optional(module, name)
    count = found.pop('count_jobs')
    if count is not None and called == 'get_jobs':
        found['count_jobs'] = partial(count, *partial_of.args,
                                      **partial_of.keywords)
    return Source(function, naming.run_name(name, called, arguments),
                  targets.source_of(module),
                  naming.state_file(name, called, arguments), **found)


def from_iterable(jobs: Iterable[Any], handler: Target) -> Source:
    """Return any iterable as the source for a handler.

    It cannot be resumed, so it keeps no state.
    """
    found = _optional(handler.module, handler.name)
    del found['count_jobs']             # it counts those of get_jobs
    return Source(lambda: jobs, f'{handler.text} (no state)', '',
                  naming.state_file(handler.name, handler.function, {}),
                  resumable=False, **found)


def _optional(module: types.ModuleType | None, name: str) -> dict[str, Any]:
    """Return the operator's optional functions; None where there is none."""
    found = {function: targets.attribute(module, function)
             for function in ('get_key', 'count_jobs', 'throttle',
                              'finished')}
    for function, value in found.items():
        if value is not None and not callable(value):
            raise ConfigError(f'{function} in {name} is no function')
        if value is not None and (signature.is_async(value)
                                  or signature.yields(value)):
            raise ConfigError(f'{function} in {name} is async, or yields, so '
                              'a call of it does nothing; make it a plain '
                              'function that returns')
    return found


MUTABLE = (dict, list, set, bytearray)
VALUES = (str, bytes, int, float)


def may_change(job: Any) -> bool:
    """Whether a source may change this very object after it was yielded.

    What takes items or attributes may, and what holds such a thing; values,
    functions and members of an Enum do not, nor what refuses attributes (a
    frozen dataclass).
    """
    kind = type(job)
    if isinstance(job, MUTABLE) or hasattr(kind, '__setitem__'):
        return True
    if isinstance(job, (tuple, frozenset)):
        return any(map(may_change, job))
    if (isinstance(job, VALUES) or callable(job)
            or hasattr(kind, '__members__')
            or isinstance(kind.__setattr__, types.FunctionType)):
        return False
    # With slots alone it is a value if it says itself when it is the same.
    own: Any = kind.__hash__
    return hasattr(job, '__dict__') or (
        hasattr(kind, '__slots__') and own in (None, object.__hash__))


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
               limit: int | None = None) -> Iterator[Any]:
    """Without the first job, if that is the last of an earlier run."""
    for first in jobs:
        if not skip(first):
            jobs = chain((first,), jobs)
        break
    return jobs if limit is None else islice(jobs, limit)


def raised(error: BaseException) -> OperatorError:
    """Return what to say of whatever came out of the source."""
    if isinstance(error, OperatorError):
        return error
    return OperatorError(
        f'get_jobs raised {summary(error)}; jobs already yielded are '
        'finished and saved, correct it and start again',
        traceback_of(error))


def deaf(key: str) -> OperatorError:
    """Return what to say of a source that begins anew at ``key``, as shown."""
    return OperatorError(
        f'get_jobs began with {key} again, the first key of the run, so it '
        'does not go on from `last`; yield only what comes after `last`, or '
        'start over with --reset')


def same_again(job: Any) -> OperatorError:
    """Return what to say of an object that is yielded twice running."""
    return OperatorError(
        f'get_jobs yielded the same {type(job).__name__} twice; jobs must '
        'not change after they are yielded, so make a new one for each')
