"""What the operator's code has left running."""

import os

from taskmaster import sessions


def test_without_waitid_nobody_looks(monkeypatch):
    """As on macOS, where older Pythons do not have it."""
    monkeypatch.delattr(os, 'waitid')
    assert sessions.children() == []
