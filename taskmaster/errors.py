"""The errors a person can meet, each with its exit code.

The text of an error is the one line that the person reads: what is wrong,
then what to do.  The codes are those of sysexits.h (``os.EX_*``).
"""

from __future__ import annotations

import os
import sys

from .text import printable, summary

EX_FAILED_JOBS = 1      # complete, but some jobs are in the failures file
EX_USAGE = 2            # what argparse uses; sysexits has 64


class TaskmasterError(Exception):
    """Something that stops a command: ``str()`` is one line for a person.

    ``exit_code`` is for one that another process has decided on; otherwise
    it is that of the class.
    """

    exit_code: int = os.EX_SOFTWARE

    def __init__(self, text: str, exit_code: int | None = None):
        super().__init__(printable(text))
        if exit_code is not None:
            self.exit_code = exit_code


class UsageError(TaskmasterError):
    """The command line asks for something that cannot be."""

    exit_code = EX_USAGE


class NothingToDo(TaskmasterError):
    """What was asked for is done already: a line, and no failure."""

    exit_code = os.EX_OK


class TooManyFailures(TaskmasterError):
    """``--max-failures`` was reached."""

    exit_code = os.EX_DATAERR

    def __init__(self, line: str = '', exit_code: int | None = None):
        super().__init__(line or (
            'stopped by too many failed jobs (--max-failures); start again '
            'to go on after them, and --retry-failed runs them again'),
                         exit_code)


class Unreachable(TaskmasterError):
    """No master answers, or the port to serve on is taken."""

    exit_code = os.EX_UNAVAILABLE


class OperatorError(TaskmasterError):
    """The operator's code is at fault outside of a job.

    ``traceback`` is theirs, to be shown before the line, or ''.
    """

    exit_code = os.EX_SOFTWARE

    def __init__(self, text: str, traceback: str = ''):
        super().__init__(text)
        self.traceback = traceback


class SaveError(TaskmasterError):
    """State, failures, or what was asked for could not be written."""

    exit_code = os.EX_IOERR


class Locked(TaskmasterError):
    """Another master holds this state."""

    exit_code = os.EX_TEMPFAIL


class VersionMismatch(TaskmasterError):
    """The two sides speak different protocols."""

    exit_code = os.EX_PROTOCOL


class KeyRefused(TaskmasterError):
    """The other side does not hold the same key."""

    exit_code = os.EX_NOPERM


class ConfigError(TaskmasterError):
    """A file, a target or an address is not what it must be.

    ``traceback`` is the operator's own, when their module fails to import.
    """

    exit_code = os.EX_CONFIG

    def __init__(self, text: str, traceback: str = ''):
        super().__init__(text)
        self.traceback = traceback


class NoFunction(ConfigError):
    """The operator's module has no function of that name."""


class Fault(TaskmasterError):
    """Something that nobody foresaw: a fault of ours, for a bug report.

    ``traceback`` is ours, to be shown before the line.
    """

    exit_code = os.EX_SOFTWARE

    def __init__(self, text: str, traceback: str = ''):
        super().__init__(text)
        self.traceback = traceback

    @classmethod
    def of(cls, error: BaseException, where: str) -> Fault:
        """Return what to say of an unforeseen error: where it came out."""
        shown = printable(_shown(error), lines=True)
        return cls(f'a fault of taskmaster itself, in {where} '
                   f'({summary(error)}); please report it, with the '
                   'traceback', shown)


def _shown(error: BaseException) -> str:
    """Return its traceback, or as much of that as there is to be had."""
    try:
        import traceback        # it takes a while, and is seldom needed
        try:
            return ''.join(traceback.format_exception(
                type(error), error, error.__traceback__))
        except BaseException:   # its own __str__ or __cause__ is at fault
            return ''.join(traceback.format_tb(error.__traceback__))
    except BaseException:       # somebody has put their own in its place
        return ''


def descriptor_closed(error: OSError) -> OperatorError:
    """Return what to say where a descriptor of ours is gone."""
    return OperatorError(
        'the operator\'s code has closed a descriptor that it did not open '
        f'({error.strerror}; os.closerange?); let it close its own')


def need_the_gil() -> None:
    """Raise ConfigError on a Python that runs without it.

    Lists grow here while other threads read them, and more that is safe
    only where one thread at a time runs Python.
    """
    if not getattr(sys, '_is_gil_enabled', lambda: True)():
        raise ConfigError(
            'this Python runs without its global interpreter lock, and '
            'Taskmaster needs it; set PYTHON_GIL=1, or take another Python')
