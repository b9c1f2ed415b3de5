"""How long a lease should be: plain sums."""

import pytest

from taskmaster.master.lease_size import Weight, share
from taskmaster.slave.pace import GROWTH, Pace
from taskmaster.wire.messages import LEASE_BYTES


@pytest.mark.parametrize('ready, workers, share_', [
    (100, 1, 50), (100, 2, 25), (101, 2, 26), (3, 2, 1), (1, 50, 1),
    (0, 2, 0), (10, 0, 5)])
def test_a_share_is_half_of_an_equal_one(ready, workers, share_):
    assert share(ready, share_ + 1, workers, prefetch=False) == share_


def test_whoever_is_hungry_always_gets_a_job():
    assert all(1 <= share(ready, want, workers, prefetch=False) <= want
               for ready in range(1, 50) for workers in range(50)
               for want in (1, 30, 10_000))


def test_shares_are_never_crumbs():
    """A thousand slaves would ask for five jobs each, of 1 us each."""
    assert share(10_000, 500_000, 1000, prefetch=False) == 25_000
    assert share(100, 60, 1000, prefetch=False) == 3


def test_no_prefetch_once_there_are_fewer_jobs_than_workers():
    assert share(4, 9, 4, prefetch=True) == 1
    assert share(3, 9, 4, prefetch=True) == 0


def test_a_slave_starts_with_one_job_for_each_worker():
    assert Pace().want() == 1
    assert Pace(workers=4).want() == 4


def test_it_grows_by_a_factor_until_a_lease_takes_a_span():
    pace = Pace()
    wants = []
    for _ in range(5):
        wants.append(pace.want())
        pace.observe(wants[-1], wants[-1] * 0.001, span=0.1)
    assert wants == [1, GROWTH, GROWTH ** 2, 100, 100]


def test_it_shrinks_at_once_and_slow_jobs_travel_alone():
    pace = Pace()
    for _ in range(9):
        pace.observe(1000, 0.1, span=0.1)
    assert pace.want() == 1000
    pace.observe(10, 0.2, span=0.1)
    assert pace.want() == 5
    pace.observe(1, 30, span=0.1)
    assert pace.want() == 1


def test_jobs_that_take_no_time_and_no_jobs_at_all():
    pace = Pace()
    pace.observe(1, 0, span=0.1)
    assert pace.want() == GROWTH
    pace.observe(0, 5, span=0.1)
    assert pace.want() == GROWTH


@pytest.mark.parametrize('batch, want', [
    (1, 8), (5, 10), (8, 8), (100, 100)])
def test_whole_batches_are_asked_for(batch, want):
    pace = Pace(workers=3, batch=batch)
    assert pace.want() == 3 * batch
    pace.observe(8, 0.1, span=0.1)
    assert pace.want() == 3 * want


def test_of_unknown_weight_any_number():
    assert Weight().most() >= 1_000_000


def test_a_lease_is_about_a_mebibyte():
    weight = Weight()
    weight.observe(10, 10 * 1024)
    assert weight.most() == LEASE_BYTES // 1024


def test_heavier_jobs_count_at_once_lighter_ones_slowly():
    weight = Weight()
    weight.observe(100, 100 * 1000)
    weight.observe(1, 100_000)
    assert weight.most() == LEASE_BYTES // 100_000
    weight.observe(1, 1000)
    assert weight.most() == LEASE_BYTES // 75_250
    for _ in range(50):
        weight.observe(1, 1000)
    assert weight.most() == LEASE_BYTES // 1000


def test_a_larger_job_travels_alone():
    weight = Weight()
    weight.observe(1, 50 * LEASE_BYTES)
    assert weight.most() == 1
    assert Weight.cut(1, 50 * LEASE_BYTES) == 1


def test_what_is_too_heavy_is_cut():
    assert Weight.cut(100, 2 * LEASE_BYTES) == 100
    assert Weight.cut(100, 4 * LEASE_BYTES) == 25
    assert Weight.cut(3, 400 * LEASE_BYTES) == 1


def test_a_lucky_lease_among_mixed_ones_does_not_count_alone():
    pace = Pace()
    for jobs, seconds in [(10, 0.1)] * 6 + [(10, 0.0002)]:
        pace.observe(jobs, seconds, span=0.1)
    assert 10 <= pace.want() <= 20
