"""What a child tells; all else of a supervisor is in the process tests."""

import os

from taskmaster.slave.parent import CONNECTED, OVER
from taskmaster.supervisor.child import _Child


def test_what_a_child_tells_is_heard_however_often_it_tells_it():
    news, tell = os.pipe()
    child = _Child(None, news)
    assert child.told() == b''
    os.write(tell, CONNECTED * 5000)
    assert child.told() == CONNECTED
    os.write(tell, OVER)
    os.close(tell)
    assert set(child.told()) == set(CONNECTED + OVER)
    assert set(child.told()) == set(CONNECTED + OVER)
    os.close(news)
