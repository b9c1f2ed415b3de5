"""All in one thread: what its ends look like from outside."""

import os

import pytest

from taskmaster.console.progress import Progress
from taskmaster.errors import NothingToDo, SaveError
from taskmaster.inline import Inline
from taskmaster.master.recorder import Recorder, RetryRecorder
from taskmaster.settings import Settings
from taskmaster.usercode.handler import Handler
from taskmaster.usercode.source import Source


def start(kind, path, handle):
    source = Source(lambda last=None: iter([1, 2]), 'mod', '', 'mod.state')
    recorder = kind(source, str(path / 'mod.state'))
    return recorder, Inline(recorder, Handler(handle, 0), Progress(None),
                            Settings())


class Full:
    """An os that cannot take a file away."""

    def __getattr__(self, name):
        return getattr(os, name)

    def unlink(self, path):
        raise OSError(30, 'Read-only file system')


def test_a_retry_that_cannot_tidy_its_file_is_a_save_that_failed(
        tmp_path, capsys):
    def fails(job):
        raise ValueError('bad')

    assert start(Recorder, tmp_path, fails)[1].run() == 1
    recorder, run = start(RetryRecorder, tmp_path, str)
    recorder.failures.system = Full()
    with pytest.raises(SaveError, match='Read-only file system') as caught:
        run.run()
    assert caught.value.exit_code == 74
    recorder, run = start(RetryRecorder, tmp_path, str)
    with pytest.raises(NothingToDo):    # none is done again
        run.run()
    assert not recorder.failed
