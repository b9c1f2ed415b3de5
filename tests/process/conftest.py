"""Fixtures of the process tests."""

import signal

import pytest
from programs import Workspace, can_listen


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


@pytest.fixture
def default_port():
    """The port that nobody has to ask for; skips where it is taken."""
    if not can_listen('127.0.0.1', 3050):
        pytest.skip('port 3050 is taken on this machine')
    return 3050
