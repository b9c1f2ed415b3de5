"""The token bucket, and the status as people read it."""

import pytest

from taskmaster.console.status import lines
from taskmaster.master.rate_limit import BATCH, BURST, Bucket


@pytest.mark.parametrize('rate', [0.5, 3, 500, 1_000_000])
@pytest.mark.parametrize('late', [0.0, 0.4])
def test_so_many_a_second_whoever_asks(rate, late):
    """Each time a little too late, as threads are woken."""
    now, jobs = 1000.0, 0
    bucket = Bucket(rate, now)
    end = now + 100 / min(rate, 10)
    while now < end:
        allowed = bucket.allow(1 << 30, now)
        jobs += allowed
        bucket.spend(allowed)
        now += bucket.delay(now) + late * BATCH + 1e-9
    assert jobs == pytest.approx(rate * (end - 1000), rel=0.02, abs=1.1)


def test_jobs_come_in_batches_not_one_by_one():
    bucket = Bucket(1000, 0.0)
    assert bucket.allow(100, 0.001) == 0
    assert bucket.allow(1, 0.001) == 1          # who wants no more gets it
    assert bucket.delay(0.001) == pytest.approx(0.049)
    assert bucket.allow(100, 0.0501) == 50


def test_a_pause_is_not_made_up_for():
    bucket = Bucket(100, 0.0)
    assert bucket.allow(10_000, 3600.0) == 100 * BURST
    assert bucket.delay(3600.0) == 0


def test_a_very_slow_rate_still_lets_one_go():
    bucket = Bucket(0.01, 0.0)
    assert bucket.allow(5, 99.0) == 0
    assert bucket.delay(99.0) == pytest.approx(1.0)
    assert bucket.allow(5, 100.1) == 1


def status(**fields):
    return {'run': 'mod', 'version': '1', 'state': 'running', 'paused': False,
            'current': 10, 'total': None, 'failed': 1, 'rate': 12.345,
            'limit': None, 'eta': None, 'queued': 3, 'size': 9,
            'slower': 'source', 'oldest': None, 'slaves': [], **fields}


def test_the_status_of_nothing_special():
    assert lines(status()) == [
        'run:     mod', 'state:   running', 'jobs:    10 finished, 1 failed',
        'rate:    12.35/s', 'queue:   3 of 9 (bottleneck: source)',
        'slaves:  0']


def test_a_run_that_hands_nothing_out_has_no_bottleneck():
    assert 'queue:   3 of 9' in lines(status(slower=None))


def test_all_there_is_to_say():
    slave = {'name': 'host:1', 'workers': 1, 'connected': True, 'done': 5,
             'failed': 0, 'rate': 2.5, 'in_hand': 0, 'oldest': None}
    said = lines(status(
        total=40, eta=90.4, limit=500.0, slaves=[
            slave, {**slave, 'name': 'host:1234', 'in_hand': 7,
                    'oldest': 61.04}],
        oldest={'number': 11, 'key': "'k'", 'slave': '', 'age': 3.2}))
    assert 'jobs:    10 finished of 40, 1 failed' in said
    assert 'rate:    12.35/s (at most 500/s)' in said
    assert 'ETA:     90 s' in said
    assert "oldest:  job 11 (key 'k'), with nobody for 3 s" in said
    assert said[-3:] == [
        '  slave      done  failed   rate  in hand  oldest',
        '  host:1        5       0  2.5/s        0       -',
        '  host:1234     5       0  2.5/s        7  61.0 s']
