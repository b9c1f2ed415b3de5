"""Fixtures of the process tests."""

import signal

import pytest
from programs import Workspace


@pytest.fixture(scope='session', autouse=True)
def signals():
    """Signals ignored here (nohup, `&`) would be ignored by children too."""
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)


@pytest.fixture
def work(tmp_path):
    workspace = Workspace(tmp_path)
    yield workspace
    workspace.close()
