"""The pipes of a child that waits: none is left open, none is another's."""

import os

import pytest

from taskmaster.supervisor.prefork import Held, Waiting


@pytest.fixture
def pipes():
    """Four pipes: the ends that a parent holds, and those of the child."""
    made = [os.pipe() for _ in range(4)]
    ours = [made[0][1], *(reader for reader, _ in made[1:])]
    theirs = [made[0][0], *(writer for _, writer in made[1:])]
    yield ours, theirs
    for fd in theirs:
        os.close(fd)


def waiting(ours):
    return Waiting(1, *map(Held, ours), None)


def test_of_a_child_that_has_gone_nothing_stays_open(pipes):
    """As one has that waited for too long."""
    ours, theirs = pipes
    os.dup2(theirs[1], theirs[0])       # nobody reads the order any more
    child = waiting(ours)
    with pytest.raises(BrokenPipeError):
        child.tell(b'order')
    child.let_go()
    for fd in ours:
        with pytest.raises(OSError):
            os.fstat(fd)


@pytest.mark.parametrize('which', range(4))
def test_what_has_the_number_by_now_is_let_alone(pipes, which, tmp_path):
    """And the child is told nothing."""
    ours, theirs = pipes
    child = waiting(ours)
    with open(tmp_path / 'theirs', 'wb') as file:
        os.dup2(file.fileno(), ours[which])
    with pytest.raises(OSError):
        child.tell(b'order')
    child.let_go()
    os.write(ours[which], b'theirs')        # it is open
    os.close(ours[which])
    assert (tmp_path / 'theirs').read_bytes() == b'theirs'
    os.set_blocking(theirs[0], False)
    assert os.read(theirs[0], 9) == b''     # the order's end, if it is ours
