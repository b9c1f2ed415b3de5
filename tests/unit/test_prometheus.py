"""The metrics, read by Prometheus' own parser."""

import pytest

from taskmaster.console.prometheus import METRICS, lines

parser = pytest.importorskip('prometheus_client.parser')

SLAVE = {'name': 'vm:1', 'workers': 1, 'connected': True, 'done': 5,
         'failed': 0, 'rate': 1.5, 'in_hand': 20, 'oldest': 0.5}
LIVE = {
    'run': 'migrate name="a\\b"\nc', 'version': '1.0.0', 'state': 'running',
    'paused': False, 'current': 4403, 'total': 100_000, 'failed': 2,
    'rate': 991.5, 'limit': 1000.0, 'eta': 96.4, 'queued': 5597,
    'size': 10_000, 'slower': 'slaves', 'rates': [990.0, 991.5],
    'started': '2026-11-26T00:57:22+00:00', 'elapsed': 4.5, 'pid': 17,
    'host': 'vm', 'kinds': [
        {'kind': f'ValueError "{n}"', 'count': 2} for n in range(25)],
    'times': {'median': 0.001, 'p99': 0.02, 'slowest': []},
    'oldest': {'number': 4404, 'key': '4404', 'slave': 'vm:1', 'age': 0.5},
    'slave_count': 1, 'in_hand': 40,
    'slaves': [SLAVE, {**SLAVE, 'connected': False}]}
OVER = {
    'run': 'migrate', 'state': 'complete', 'exit_code': 1, 'current': 10,
    'total': None, 'failed': 1, 'started': '2026-11-26T00:57:22+00:00',
    'ended': '2026-11-26T00:58:22+00:00', 'pid': 17, 'host': 'vm'}


def parsed(status):
    """Return the families by name, and the samples by theirs."""
    text = '\n'.join(lines(status)) + '\n'
    families = list(parser.text_string_to_metric_families(text))
    samples = {}
    for family in families:
        for sample in family.samples:
            assert sample.labels.pop('run') == status['run']
            samples.setdefault(sample.name, []).append(sample)
    return families, samples


def values(samples):
    return {name: found[0].value for name, found in samples.items()
            if len(found) == 1}


def test_a_live_run():
    families, samples = parsed(LIVE)
    found = values(samples)
    assert found['taskmaster_up'] == 1
    assert found['taskmaster_jobs_total'] == 4403
    assert found['taskmaster_rate_jobs_per_second'] == 991.5
    assert found['taskmaster_oldest_job_age_seconds'] == 0.5
    assert found['taskmaster_slaves'] == 1
    assert found['taskmaster_in_hand_jobs'] == 40
    assert found['taskmaster_start_time_seconds'] == 1795654642
    kinds = samples['taskmaster_failures']
    assert len(kinds) == 20 and kinds[0].labels == {'kind': 'ValueError "0"'}
    types = {family.name: family.type for family in families}
    assert types['taskmaster_jobs'] == 'counter'
    assert {kind for name, kind in types.items()
            if name != 'taskmaster_jobs'} == {'gauge'}
    assert all(family.documentation for family in families)


def test_one_that_is_over():
    found = values(parsed(OVER)[1])
    assert (found['taskmaster_up'], found['taskmaster_exit_code']) == (0, 1)
    assert found['taskmaster_end_time_seconds'] - found[
        'taskmaster_start_time_seconds'] == 60
    assert 'taskmaster_rate_jobs_per_second' not in found


def test_what_nobody_knows_is_left_out():
    status = {**LIVE, 'total': None, 'limit': None, 'eta': None,
              'times': None, 'oldest': None}
    found = values(parsed(status)[1])
    assert found['taskmaster_oldest_job_age_seconds'] == 0
    for name in 'jobs_expected', 'eta_seconds', 'job_median_seconds':
        assert f'taskmaster_{name}' not in found


def test_each_metric_has_its_samples():
    names = {sample for status in (LIVE, OVER)
             for sample in parsed(status)[1]}
    assert names == {f'taskmaster_{metric.name}' for metric in METRICS}
