"""What `tm-ctl status --prometheus` prints: the text format, version 0.0.4.

Names and units are part of what is promised (`docs/reference.md`): once a
name is out it keeps its meaning.  A number that nobody knows is left out.
"""

from __future__ import annotations

import math
from datetime import datetime

from ..records import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any, Iterator, Mapping

# Kinds of failures that are given, at most: the most frequent.
KINDS = 20


class Metric(NamedTuple):
    """One metric: its name below `taskmaster_`, and what it is."""

    name: str
    type: str
    help: str


METRICS = [
    Metric('up', 'gauge', 'Whether the run is live (1) or over (0).'),
    Metric('run_info', 'gauge', 'The version, the host and the process of '
           'the master, as labels.'),
    Metric('state_info', 'gauge', 'The state, or why no job is handed out, '
           'as a label.'),
    Metric('jobs_total', 'counter', 'Jobs finished since the very first '
           'start of the run, the failed ones too.'),
    Metric('jobs_expected', 'gauge', 'Jobs of the whole source, if they were '
           'counted.'),
    Metric('failed_jobs', 'gauge', 'Jobs that are in the failures file.'),
    Metric('failures', 'gauge', 'Failed jobs of this start by kind, the most '
           f'frequent {KINDS}.'),
    Metric('rate_jobs_per_second', 'gauge', 'Jobs a second, of the last '
           'seconds.'),
    Metric('rate_limit_jobs_per_second', 'gauge', 'The most that --rate '
           'allows.'),
    Metric('eta_seconds', 'gauge', 'Until the last job, at the present '
           'rate.'),
    Metric('queued_jobs', 'gauge', 'Jobs ready to be handed out.'),
    Metric('queue_size_jobs', 'gauge', 'The most that may be ready (--size).'),
    Metric('in_hand_jobs', 'gauge', 'Jobs that slaves have.'),
    Metric('slaves', 'gauge', 'Slaves that are connected.'),
    Metric('paused', 'gauge', 'Whether tm-ctl pause holds jobs back.'),
    Metric('oldest_job_age_seconds', 'gauge', 'How long the job that holds '
           'the watermark back has been out.'),
    Metric('job_median_seconds', 'gauge', 'The time of a job, by samples: '
           'half of them take no longer.'),
    Metric('job_p99_seconds', 'gauge', 'The time of a job, by samples: 99 '
           'in 100 take no longer.'),
    Metric('start_time_seconds', 'gauge', 'When this start began, in unix '
           'seconds.'),
    Metric('end_time_seconds', 'gauge', 'When it ended, in unix seconds; '
           'only then.'),
    Metric('exit_code', 'gauge', 'The exit code as a shell shows it; only '
           'at the end.'),
]


def lines(status: Mapping[str, Any]) -> list[str]:
    """Return the metrics of a run, live or over, a line each.

    ``status`` is what `tm-ctl status --json` shows.
    """
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for name, labels, value in _samples(status):
        if value is not None:
            found.setdefault(name, []).append((labels, value))
    said = []
    for metric in METRICS:
        name = f'taskmaster_{metric.name}'
        if metric.name not in found:
            continue
        said += [f'# HELP {name} {metric.help}', f'# TYPE {name} '
                 f'{metric.type}']
        for labels, value in found[metric.name]:
            shown = ','.join(f'{label}="{_escaped(text)}"' for label, text
                             in {'run': status['run'], **labels}.items())
            said.append(f'{name}{{{shown}}} {_number(value)}')
    return said


def _samples(status: Mapping[str, Any]) -> Iterator[
        tuple[str, dict[str, str], float | None]]:
    live = 'slaves' in status
    yield 'up', {}, live
    yield 'run_info', {
        'version': status.get('version', ''), 'host': status['host'],
        'pid': str(status['pid'])}, 1
    yield 'state_info', {'state': status['state']}, 1
    yield 'jobs_total', {}, status['current']
    yield 'jobs_expected', {}, status['total']
    yield 'failed_jobs', {}, status['failed']
    yield 'start_time_seconds', {}, _unix(status['started'])
    if not live:
        yield 'end_time_seconds', {}, _unix(status['ended'])
        yield 'exit_code', {}, status['exit_code']
        return
    for kind in status['kinds'][:KINDS]:
        yield 'failures', {'kind': kind['kind']}, kind['count']
    yield 'rate_jobs_per_second', {}, status['rate']
    yield 'rate_limit_jobs_per_second', {}, status['limit']
    yield 'eta_seconds', {}, status['eta']
    yield 'queued_jobs', {}, status['queued']
    yield 'queue_size_jobs', {}, status['size']
    yield 'in_hand_jobs', {}, status['in_hand']
    yield 'slaves', {}, status['slave_count']
    yield 'paused', {}, status['paused']
    oldest = status['oldest']
    yield 'oldest_job_age_seconds', {}, oldest['age'] if oldest else 0
    times = status['times'] or {}
    yield 'job_median_seconds', {}, times.get('median')
    yield 'job_p99_seconds', {}, times.get('p99')


def _unix(iso: str | None) -> float | None:
    return None if iso is None else datetime.fromisoformat(iso).timestamp()


def _number(value: float) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return 'NaN' if math.isnan(value) else '+Inf'
    return repr(value + 0)          # True is 1


def _escaped(text: str) -> str:
    return (text.replace('\\', r'\\').replace('\n', r'\n')
            .replace('"', r'\"'))
