"""How a run and its state file are named, after target and arguments."""

from __future__ import annotations

import functools
import hashlib
import os
import types
from json import dumps

from ..errors import UsageError
from ..records import TYPE_CHECKING
from ..text import quoted, safe_repr

if TYPE_CHECKING:
    from typing import Any, Sequence

RESERVED = 'last'       # what Taskmaster itself passes to get_jobs
CHECK = '.check'        # after the name of a run, of its `--verify`
STATE = '.state'


def run_name(name: str, function: str, arguments: dict[str, str],
             default: str = 'get_jobs') -> str:
    """Name a run: 'migrate', 'migrate:rows', 'migrate shard=3 shards=8'.

    The same run has the same name in whatever order its arguments come.
    """
    words = [name if function == default else f'{name}:{function}']
    words += [f'{key}={quoted(value)}'
              for key, value in sorted(arguments.items())]
    return ' '.join(words)


def check_name(run: str) -> str:
    """Name the check of a run (`--verify`)."""
    return run + CHECK


def check_state_file(name: str) -> str:
    """Name the state of a run's check: 'migrate.check.state'."""
    return name[:-len(STATE)] + CHECK + STATE


def checked(run: str) -> str:
    """Return the name of the run that a check is of."""
    return run[:-len(CHECK)]


def module_of(run: str) -> str:
    """Return the module's part of a run's name."""
    return run.partition(' ')[0].partition(':')[0]


def module_name(module: types.ModuleType) -> str:
    """Name a module as a target would: of a script its file's stem."""
    if module.__name__ != '__main__':
        return module.__name__
    spec = getattr(module, '__spec__', None)
    if spec is not None:                # python -m pkg.start
        name: str = spec.name
        return name
    path = getattr(module, '__file__', None) or module.__name__
    return os.path.splitext(os.path.basename(path))[0]


def as_arguments(given: functools.partial[Any]) -> dict[str, str]:
    """Return what a partial gives its function, by name, as text.

    Text stands for itself, as on the command line.  What has no repr of its
    own is named after its class, or each start would be another run.
    """
    if not given.args and not given.keywords:
        return {}
    import inspect
    try:
        bound = inspect.signature(given.func).bind_partial(
            *given.args, **given.keywords)
    except (TypeError, ValueError):     # it says so when it is called
        return {}
    return {name: _as_text(value) for name, value in bound.arguments.items()}


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    text = safe_repr(value)
    return f'<{type(value).__name__}>' if ' at 0x' in text else text


def state_file(name: str, function: str, arguments: dict[str, str],
               default: str = 'get_jobs') -> str:
    """Name the state file of a run: 'migrate.state', 'migrate-rows.state'.

    Arguments add a digest, 'migrate-1f2e3d4c.state', since their values
    may hold what a file name may not.
    """
    words = [name] if function == default else [name, function]
    if arguments:
        canonical = dumps(arguments, sort_keys=True,
                          separators=(',', ':'))
        words.append(hashlib.sha256(canonical.encode()).hexdigest()[:8])
    return '-'.join(words) + STATE


def parse_arguments(texts: Sequence[str]) -> dict[str, str]:
    """Turn ``['shard=3', ...]`` into ``{'shard': '3', ...}``.

    Raise UsageError for what is not NAME=VALUE, a name given twice, and
    the name `last`.
    """
    arguments: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition('=')
        if not equals or not name.isidentifier():
            raise UsageError(f'{text!r} is no argument of get_jobs, '
                             'NAME=VALUE; the module comes first')
        if name == RESERVED:
            raise UsageError(f'the argument {name!r} is set by Taskmaster '
                             'when it resumes; leave it out')
        if name in arguments:
            raise UsageError(f'the argument {name!r} is given twice; '
                             'give it once')
        arguments[name] = value
    return arguments
