"""Sessions that slaves have left behind: each is kept until it is empty."""

import threading

from taskmaster import sessions
from taskmaster.supervisor.leftovers import Leftovers
from taskmaster.timing import STANDARD


def test_slaves_that_end_together_are_all_remembered(monkeypatch):
    """However long it takes to look who lives."""
    both, killed = threading.Barrier(2), []

    def members(session):
        try:
            both.wait(0.2)      # as long as another one looks too
        except threading.BrokenBarrierError:
            pass
        return [session + 1]

    monkeypatch.setattr(sessions, 'lives', lambda pid: False)
    monkeypatch.setattr(sessions, 'members', members)
    monkeypatch.setattr(sessions, 'end', killed.append)
    leftovers = Leftovers(STANDARD)
    leftovers.add(10)
    threads = [threading.Thread(target=leftovers.add, args=(session,))
               for session in (20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    leftovers.kill()
    assert sorted(killed) == [10, 20, 30]
