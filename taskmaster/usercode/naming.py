"""How a run and its state file are named, after target and arguments."""

from __future__ import annotations

import hashlib
import json
import shlex
from typing import Sequence

from ..errors import UsageError

RESERVED = 'last'       # what Taskmaster itself passes to get_jobs


def run_name(name: str, function: str, arguments: dict[str, str],
             default: str = 'get_jobs') -> str:
    """Name a run: 'migrate', 'migrate:rows', 'migrate shard=3 shards=8'.

    The same run has the same name in whatever order its arguments come.
    """
    words = [name if function == default else f'{name}:{function}']
    words += [f'{key}={shlex.quote(value)}'
              for key, value in sorted(arguments.items())]
    return ' '.join(words)


def module_of(run: str) -> str:
    """Return the module's part of a run's name."""
    return run.partition(' ')[0].partition(':')[0]


def state_file(name: str, function: str, arguments: dict[str, str],
               default: str = 'get_jobs') -> str:
    """Name the state file of a run: 'migrate.state', 'migrate-rows.state'.

    Arguments add a digest, 'migrate-1f2e3d4c.state', since their values
    may hold what a file name may not.
    """
    words = [name] if function == default else [name, function]
    if arguments:
        canonical = json.dumps(arguments, sort_keys=True,
                               separators=(',', ':'))
        words.append(hashlib.sha256(canonical.encode()).hexdigest()[:8])
    return '-'.join(words) + '.state'


def parse_arguments(texts: Sequence[str]) -> dict[str, str]:
    """Turn ``['shard=3', ...]`` into ``{'shard': '3', ...}``.

    Raise UsageError for what is not NAME=VALUE, a name given twice, and
    the name `last`.
    """
    arguments: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition('=')
        if not equals or not name.isidentifier():
            raise UsageError(f'{text!r} is not an argument; give NAME=VALUE')
        if name == RESERVED:
            raise UsageError(f'the argument {name!r} is set by Taskmaster '
                             'when it resumes; leave it out')
        if name in arguments:
            raise UsageError(f'the argument {name!r} is given twice; '
                             'give it once')
        arguments[name] = value
    return arguments
