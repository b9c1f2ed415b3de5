"""How a run and its state file are named, after the operator's target."""

import hashlib
import json
import shlex
from typing import Dict


def run_name(name: str, function: str, arguments: Dict[str, str],
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


def state_file(name: str, function: str, arguments: Dict[str, str],
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
