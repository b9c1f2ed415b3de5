"""The times, and what must hold between them."""

import pytest

from taskmaster.timing import STANDARD, Timing


def test_the_standard_ones_go_together():
    assert STANDARD == Timing()
    assert STANDARD.expiry == 60 and STANDARD.grace == 5


@pytest.mark.parametrize('slaves', [0, 1, 200, 1000, 12_000, 1_000_000])
def test_one_sign_of_life_may_be_lost(slaves):
    """Whatever the number of slaves, and so the length of a lease."""
    beat = STANDARD.beat(STANDARD.span_of(slaves))
    assert 2 * beat <= STANDARD.expiry


def test_a_lease_takes_longer_where_there_are_very_many_slaves():
    assert STANDARD.span_of(100) == STANDARD.span
    assert STANDARD.span_of(12_000) * STANDARD.calls == 12_000


@pytest.mark.parametrize('times, named', [
    ({'expiry': 20.0}, 'longest_beat'), ({'expiry': -1.0}, 'expiry'),
    ({'longest_beat': 31.0}, 'longest_beat'),
    ({'beats': 1000.0}, 'beats'), ({'wait': 61.0}, 'wait'),
    ({'busy_wait': 11.0}, 'busy_wait'), ({'grace': 61.0}, 'grace'),
    ({'user_timeout': 61.0}, 'user_timeout'),
    ({'expiry': 100.0, 'user_timeout': 90.0}, 'stall'),
    ({'first_backoff': 5.1, 'longest_backoff': 6.0}, 'grace'),
    ({'first_backoff': 2.0, 'longest_backoff': 1.0}, 'longest_backoff'),
    ({'handshake': 11.0}, 'connect'), ({'tried': 11.0}, 'connect'),
    ({'slot': 6.0}, 'handshake'),
    ({'save': 0.0}, 'save'), ({'tick': float('nan')}, 'tick')])
def test_times_that_do_not_go_together(times, named):
    with pytest.raises(ValueError, match=named):
        Timing(**times)
    with pytest.raises(ValueError, match=named):
        STANDARD._replace(**times)


def test_some_times_of_a_test():
    quick = STANDARD._replace(save=0.05)
    assert type(quick) is Timing
    assert quick.save == 0.05 and quick.expiry == STANDARD.expiry
