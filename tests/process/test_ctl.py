"""`tm-ctl`: looking at a master and steering it."""

import json
import signal

import pytest
from faults import launch
from programs import NUMBERS, eventually

pytestmark = pytest.mark.hunt

FIELDS = {'run', 'version', 'state', 'paused', 'current', 'total', 'failed',
          'rate', 'limit', 'eta', 'queued', 'size', 'slower', 'oldest',
          'slaves', 'started', 'elapsed', 'pid', 'host', 'kinds', 'rates',
          'times', 'slave_count', 'in_hand'}
OF_SLAVE = {'name', 'workers', 'connected', 'done', 'failed', 'rate',
            'in_hand', 'oldest'}


@pytest.fixture
def ctl(work):
    """``ctl(master, words...)``: what it printed, having exited with 0."""
    def run(master, *words):
        program = work.finish('ctl', *words, master.host)
        assert program.code() == 0, program.err
        assert program.err == ''
        return program.out
    return run


def status(ctl, master):
    return json.loads(ctl(master, 'status', '--json'))


@pytest.mark.smoke
def test_status(work, ctl):
    work.write('migrate.py', NUMBERS + '''
    if job == 500:
        block('blocked')
''')
    master = work.start('master', 'migrate', '--size=2000')
    slave = work.start('slave', 'migrate', master.host)
    eventually(lambda: work.has('blocked'))
    found = eventually(lambda: (
        now := status(ctl, master))['current'] == 499 and now)
    assert found.keys() == FIELDS
    one, = found['slaves']
    assert one.keys() == OF_SLAVE
    assert one['name'].endswith(f':{slave.pid}') and one['connected']
    assert one['done'] == 499 and one['in_hand'] >= 1
    oldest = found['oldest']
    assert (oldest['number'], oldest['key']) == (500, '500')
    assert oldest['slave'] == one['name'] and 0 <= oldest['age'] < 60
    assert (found['run'], found['state'], found['failed']) == (
        'migrate', 'running', 0)
    said = ctl(master, 'status')
    assert 'run:     migrate\n' in said and '499 finished' in said
    assert f'job 500 (key 500), with {one["name"]}' in said
    work.touch('go')
    assert (master.code(), slave.code()) == (0, 0)


def test_pause_survives_the_master(work, ctl):
    work.write('migrate.py', NUMBERS)
    master = work.start('master', 'migrate')
    assert ctl(master, 'pause') == 'paused\n'
    master.says('^paused ')
    slave = work.start('slave', 'migrate', master.host)
    eventually(lambda: status(ctl, master)['slaves'])
    master.says(r'Slaves: 1 .* paused$')
    eventually(lambda: work.has('migrate.state')
               and work.state()['paused'])
    master.send(signal.SIGKILL)
    master.code()
    again = work.start('master', 'migrate', master.host)
    again.says('^paused, as the last run was; tm-ctl resume goes on')
    eventually(lambda: status(ctl, again)['slaves'])
    assert status(ctl, again)['paused'] and not work.lines('done')
    assert ctl(again, 'resume') == 'going on\n'
    assert (again.code(), slave.code()) == (0, 0)
    assert not work.state()['paused']
    work.check(range(1, 1001))


def test_a_rate_is_lifted(work, ctl):
    """At that rate it would take eleven days."""
    work.write('migrate.py', NUMBERS)
    master = work.start('master', 'migrate', '--rate=0.001')
    slaves = [work.start('slave', 'migrate', master.host) for _ in range(2)]
    eventually(lambda: len(status(ctl, master)['slaves']) == 2)
    assert status(ctl, master)['limit'] == 0.001
    assert ctl(master, 'rate', '0.002') == 'at most 0.002 jobs a second\n'
    assert status(ctl, master)['limit'] == 0.002
    assert not work.lines('done')
    assert ctl(master, 'rate', 'off') == 'as fast as can be\n'
    assert [one.code() for one in (master, *slaves)] == [0, 0, 0]
    work.check(range(1, 1001))


def test_jobs_go_on_at_a_rate(work):
    work.write('migrate.py', NUMBERS)
    run = work.finish('run', 'migrate', '3', '--rate=2000')
    assert run.code() == 0
    work.check(range(1, 1001))


def test_stop_is_a_sigterm_from_afar(work, ctl):
    work.write('migrate.py', NUMBERS + '''
    if job == 500 and first('once'):
        block('blocked')
''')
    master = work.start('master', 'migrate')
    slave = work.start('slave', 'migrate', master.host)
    eventually(lambda: work.has('blocked'))
    assert ctl(master, 'stop').startswith('stopping')
    assert ctl(master, 'stop').startswith('stopping')   # asked once more
    assert master.process.poll() is None
    work.touch('go')
    assert master.code() == -signal.SIGTERM
    again = work.start('master', 'migrate', master.host)
    assert (again.code(), slave.code()) == (0, 0)
    work.check(range(1, 1001))


def test_at_the_end_who_has_asked_is_answered(work):
    """However long that takes: no slave is there to be waited for."""
    work.write('migrate.py', NUMBERS)
    master = launch(work, '''
from threading import Event
from taskmaster.master.session import Session

def late(self, *args, control=Session.control):
    said = control(self, *args)
    Event().wait(1.0)
    return said

Session.control = late
''', 'master', 'migrate')
    asked = work.finish('ctl', 'stop', master.host)
    assert (asked.code(), asked.err) == (0, '')
    assert asked.out.startswith('stopping: ')
    assert master.code() == -signal.SIGTERM


def test_only_the_run_that_is_meant(work, ctl):
    work.write('migrate.py', NUMBERS)
    master = work.start('master', 'migrate', 'count=5')
    refused = work.finish('ctl', 'stop', '--run=migrate', master.host)
    assert refused.code() == 78
    line, = refused.err.splitlines()
    assert 'migrate count=5' in line and '--run' in line
    assert ctl(master, 'pause', '--run=migrate count=5') == 'paused\n'
    assert status(ctl, master)['paused']


def test_errors_are_one_line(work):
    work.write('migrate.py', NUMBERS)
    master = work.start('master', 'migrate')
    for words, code, says in [
            (['status', master.host, '--key=another', '--timeout=0'], 77,
             '--key'),
            (['status', '--host=127.0.0.1:1', '--timeout=0'], 69, '--host'),
            (['rate', master.host], 2, 'give a number'),
            (['pause', 'migrate', master.host], 2, '--run=migrate')]:
        ended = work.finish('ctl', *words)
        assert ended.code() == code
        line, = ended.err.splitlines()
        assert says in line and ended.out == ''


def test_a_signal_after_a_stop_from_afar_is_the_second_one(work):
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 300:
        block('here')
    record(job)
''')
    run = work.start('run', 'migrate', '2')
    eventually(lambda: work.has('here'))
    assert work.finish('ctl', 'stop', run.host).code() == 0
    run.says('^stopping: ')
    run.send(signal.SIGTERM)
    assert run.code() == -signal.SIGTERM
    assert run.err.count('stopping: ') == 1
    assert '300' not in work.lines('done')


def test_a_job_that_hangs_leaves_the_state_as_it_is(work):
    """It is named as the oldest; jobs are handed out all the same."""
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 300:
        block('here')
    record(job)
''')
    master = launch(work, 'TIMING = TIMING._replace(stuck=0.1)',
                    'master', 'migrate')
    slave = work.start('slave', 'migrate', master.host)
    master.says(r'\| job 300 \(key 300\) is with ')
    program = work.finish('ctl', 'status', '--json', master.host)
    status = json.loads(program.out)
    assert status['state'] == 'running' and status['oldest']['key'] == '300'
    assert status['slower'] == 'slaves'
    work.touch('go')
    assert (master.code(), slave.code()) == (0, 0)


TWO_BUGS = NUMBERS + '''
import json

ROWS = {4: '{', 7: '{"age": 5}', 12: '}', 17: '{"age": 5}'}


def get_jobs(last=0):
    for number in range(last + 1, 21):
        yield {'id': number, 'text': ROWS.get(number, '{"name": "x"}')}


def get_key(job):
    return job['id']


def handle_job(job):
    row = json.loads(job['text'])
    name = row['name']
    record(job['id'])
'''


def test_failures_as_a_workflow(work, ctl, tmp_path):
    """Two bugs: found by kind, live and afterwards, and retried by kind."""
    work.write('migrate.py', TWO_BUGS)
    start = work.start('run', 'migrate', '1', '--retries=0')
    assert start.code() == 1
    parse, lookup = (1 + TWO_BUGS.splitlines().index(line) for line in (
        "    row = json.loads(job['text'])", "    name = row['name']"))
    for kind, at in ('JSONDecodeError', parse), ('KeyError', lookup):
        start.says(f'^failed: 2 x {kind} at migrate.py:{at}: ')
    assert [failure['job']['id'] for failure in work.failures()] == [
        4, 7, 12, 17]

    for words in ['migrate.failures'], ['--run=migrate']:
        said = work.finish('ctl', 'failures', *words, '--json')
        assert said.code() == 0
        kinds = json.loads(said.out)['kinds']
        assert {kind['kind']: (kind['count'], kind['first_key'],
                               kind['last_key']) for kind in kinds} == {
            f'JSONDecodeError at migrate.py:{parse}': (2, '4', '12'),
            f'KeyError at migrate.py:{lookup}': (2, '7', '17')}
        assert all(kind['traceback'].startswith('Traceback')
                   for kind in kinds)
    said = work.finish('ctl', 'failures', 'migrate.failures')
    assert '4 failed jobs of 2 kinds in ' in said.out
    assert f'2 x KeyError at migrate.py:{lookup} (first key 7, ' in said.out

    # The one is mended.
    work.write('migrate.py', TWO_BUGS.replace("row['name']",
                                              "row.get('name')"))
    unknown = work.finish('run', 'migrate', '1', '--retry-failed=OSError')
    assert unknown.code() == 2 and 'there are: ' in unknown.err
    again = work.finish('run', 'migrate', '1', '--retry-failed',
                        '--retry-failed=KeyError')
    assert again.code() == 1            # the others are still there
    assert again.err.splitlines()[-1] == (
        'retried 2: 2 done, 0 failed; 2 more in the file, not retried; the '
        'run itself is complete, with 20 jobs')
    assert 'retrying 2 of the 4 failed jobs of ' in again.err
    said = work.finish('ctl', 'failures', '--run=migrate', '--json')
    assert [kind['count'] for kind in json.loads(said.out)['kinds']] == [2]
    with open(work.path / 'migrate.failures', 'a') as file:
        file.write('garbage\n')
    said = work.finish('ctl', 'failures', 'migrate.failures')
    assert said.code() == 0 and '2 failed jobs of 1 kind' in said.out
    assert 'damaged in line ' in said.err


def test_failures_of_a_master_that_runs(work, ctl):
    work.write('migrate.py', TWO_BUGS.replace(
        '    record(', "    if job['id'] == 15:\n        block('here')\n"
        '    record('))
    run = work.start('run', 'migrate', '1')
    eventually(lambda: len(work.failures()) == 3)
    for words in [run.host], [run.host, '--run=migrate'], ['--run=migrate']:
        said = work.finish('ctl', 'failures', *words)
        assert said.code() == 0, said.err
        assert '3 failed jobs of 2 kinds in ' in said.out
    other = work.finish('ctl', 'failures', run.host, '--run=other')
    assert other.code() == 78
    none = work.finish('ctl', 'failures', '--run=other', host=None)
    assert none.code() == 69 and 'there is no other.failures here' in none.err
    both = work.finish('ctl', 'failures', 'a', '--run=other')
    assert both.code() == 2
    work.touch('go')
    assert run.code() == 1
