"""Leases are cut off while the feeder fills, and shortens, the last list."""

import pytest

from taskmaster.master.ready import Ready


class Shortened(list):
    """Whose feeder finds the fault between two looks of another thread."""

    looks = -1

    def __len__(self):
        return self._looked(super().__len__())

    def __getitem__(self, at):
        return self._looked(super().__getitem__(at))

    def _looked(self, found):
        self.looks -= 1
        if self.looks == 0:
            del self[2:]
        return found


@pytest.mark.parametrize('looks', range(1, 10))
def test_a_lease_ends_before_an_object_that_comes_again(looks):
    """And loses nothing of the lists before, whoever finds it first."""
    again = {'id': 0}
    ready = Ready()
    ready.extend(['a', 'b', 'c'])
    page = Shortened(['x', again])
    ready.extend(page)
    ready.unsure = 2
    page.extend([again, again])
    page.looks = looks
    assert ready.take(5) == ['a', 'b', 'c', 'x', again]
    assert ready.leased == 5
    assert ready.take(2) == []
