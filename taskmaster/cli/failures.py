"""`tm-ctl failures`: the failed jobs of a run by kind, with or without it."""

from __future__ import annotations

import json
import os

from ..console.kinds import OTHERS, Kinds, differ, differing
from ..console.output import print_line, to_stderr
from ..errors import KeyRefused, TaskmasterError, Unreachable, UsageError
from ..records import TYPE_CHECKING
from ..settings import Settings
from ..storage.failures import FailuresFile
from ..text import counted, quoted, short
from ..wire.messages import Failures, Refused
from .finding import FAILURES, Found, find

if TYPE_CHECKING:
    from typing import Any, Callable

    # Asks the master that was found; raises Unreachable.
    Ask = Callable[[Settings, Found, str], Any]

# Kinds of which the traceback is shown to a person.
TRACEBACKS = 10


def run(settings: Settings, ask: Ask) -> int:
    """Show them: of a file, of the master that runs, or of what it left."""
    if settings.value is not None and settings.run is not None:
        raise UsageError('give a file of failures or --run, not both')
    found = (_of_file(_path(settings, settings.value))
             if settings.value is not None else _of_run(settings, ask))
    if settings.json:
        print_line(json.dumps({'kinds': found.kinds}, indent=2))
    else:
        for line in _lines(found):
            print_line(line)
    return 0


def _of_run(settings: Settings, ask: Ask) -> Failures:
    name = settings.run
    found = Found()
    try:
        found = find(settings)
        if found.over is None:
            # Where by its record none is live nothing is waited for.
            reply = ask(settings if found.only is None
                        else settings._replace(timeout=0.0), found, FAILURES)
            if isinstance(reply, Refused):
                raise TaskmasterError(reply.line, reply.code)
            assert isinstance(reply, Failures)
            return reply
    except (Unreachable, KeyRefused) as error:
        if found.only is None and (name is None
                                   or isinstance(error, KeyRefused)):
            raise
    over = found.over or found.only
    if over is not None and over['failures_file'] is not None:
        return _of_file(over['failures_file'], needed=False)
    if name is None and over is not None:
        name = over['run']
    assert name is not None
    path = _path(settings, f'{name}.failures')
    if not os.path.exists(path):
        if os.path.exists(_path(settings, f'{name}.state')):
            return Failures(path, [])
        raise Unreachable(f'no master serves {short(name)}, and there is no '
                          f'{short(name)}.failures here; give the file')
    return _of_file(path)


def _of_file(path: str, needed: bool = True) -> Failures:
    """The kinds in a file; without one there are none, if it may lack."""
    try:
        return Failures(path, Kinds(FailuresFile(path).peek(
            lambda row: to_stderr(f'tm-ctl: {path} is damaged in line {row}, '
                                  'which is left out'))).report(True))
    except FileNotFoundError:
        if needed:
            raise UsageError(
                f'there is no file {short(path)}; a run is named with '
                f'--run={quoted(os.path.basename(path))}') from None
        return Failures(path, [])


def _path(settings: Settings, name: str) -> str:
    return os.path.join(settings.folder, name)


def _lines(found: Failures) -> list[str]:
    count = sum(kind['count'] for kind in found.kinds)
    if not count:
        return ['no failed jobs']
    said = [f"{counted(count, 'failed job')} of "
            f"{counted(len(found.kinds), 'kind')} in {found.file}"]
    for place, kind in enumerate(found.kinds):
        said += ['', f"{kind['count']} x {kind['kind']} (first key "
                     f"{kind['first_key']}, last {kind['last_key']})"]
        messages = kind['messages']
        said += differing(kind['count'], messages)
        if place < TRACEBACKS:
            if kind['traceback'] and differ(messages):
                said.append(f"  the traceback of key {kind['first_key']}:")
            said += ['    ' + line
                     for line in kind['traceback'].splitlines()]
    said += ['', 'when the cause is mended and the run is over, start it '
                 'again with one of:', '  --retry-failed']
    return said + ['  --retry-failed=' + quoted(kind['kind'])
                   for kind in found.kinds[:TRACEBACKS]
                   if kind['kind'] != OTHERS]
