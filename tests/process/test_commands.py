"""The four commands: a run end to end, together and apart."""

import socket

import pytest
from programs import NUMBERS, can_listen, eventually, free_port

pytestmark = pytest.mark.hunt

ALL = range(1, 1001)


@pytest.mark.smoke
def test_run_does_every_job_once(work):
    work.write('migrate.py', NUMBERS)
    run = work.finish('run', 'migrate', '2')
    assert run.code() == 0
    work.check(ALL)
    assert run.out == ''
    state = work.state()
    assert (state['key'], state['count'], state['failed'],
            state['complete']) == (1000, 1000, 0, True)
    assert state['source'] == str((work.path / 'migrate.py').resolve())
    assert f'state: none in {work.path}/migrate.state' in run.err
    assert not work.has('migrate.failures')
    # The user's own key, made for it: nobody else can read it.
    key = work.home / '.config' / 'taskmaster' / 'key'
    assert key.stat().st_mode & 0o777 == 0o600
    assert len(key.read_text()) > 32


@pytest.mark.smoke
def test_master_slave_and_spawn_apart(work):
    # No slave goes on before all three have a job.
    work.write('migrate.py', NUMBERS + '''
import os


def handle_job(job):
    block(f'here-{os.getpid()}')
    record(job)
''')
    master = work.start('master', 'migrate')
    slave = work.start('slave', 'migrate', master.host)
    spawn = work.start('spawn', 'migrate', '2', master.host)
    eventually(lambda: len([*work.path.glob('here-*')]) == 3, 'three slaves')
    work.touch('go')
    assert [p.code() for p in (master, slave, spawn)] == [0, 0, 0]
    work.check(ALL)
    assert 'connected to the run migrate' in slave.err
    assert spawn.err.count('connected to the run migrate') == 2


def test_a_slave_waits_for_its_master(work):
    work.write('migrate.py', NUMBERS)
    port = free_port()
    slave = work.start('slave', 'migrate', f'--host=127.0.0.1:{port}')
    slave.says('^no master there')
    master = work.start('master', 'migrate', f'--host=127.0.0.1:{port}')
    assert (master.code(), slave.code()) == (0, 0)
    work.check(ALL)
    assert slave.err.count('no master there') == 1


def test_a_slave_gives_up(work):
    work.write('migrate.py', NUMBERS)
    slave = work.finish('slave', 'migrate', '--timeout=0',
                        f'--host=127.0.0.1:{free_port()}')
    assert slave.code() == 69
    assert '--timeout' in slave.err


def test_one_worker_is_the_main_thread(work):
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    import threading
    assert threading.current_thread() is threading.main_thread()
    record(job)
''')
    assert work.finish('run', 'migrate', '1').code() == 0
    work.check(ALL)


def test_four_threads_work_at_a_time(work):
    work.write('migrate.py', '''
import threading
from recorder import record

together = threading.Barrier(4, timeout=60)


def get_jobs():
    return range(1, 9)


def handle_job(job):
    together.wait()
    record(job)
''')
    master = work.start('master', 'migrate')
    slave = work.start('slave', 'migrate', master.host, '--threads', '4')
    assert (master.code(), slave.code()) == (0, 0)
    work.check(range(1, 9))


def test_addresses(work):
    work.write('migrate.py', NUMBERS)
    runs = {}
    for number, host in enumerate(['0.0.0.0', '::', '::1']):
        if can_listen(host, 0):         # not every machine has IPv6
            name = f'[{host}]' if ':' in host else host
            runs[name] = work.start('run', 'migrate', '1',
                                    f'--host={name}:0',
                                    f'--state={number}.state')
    for name, run in runs.items():
        assert run.code() == 0
        assert f"server running on '{name}:{run.port}'" in run.err
    assert set(work.handled().values()) == {len(runs)}


def test_the_default_port_is_taken(work, default_port):
    """`tm-run` takes another one; `tm-master` says so."""
    work.write('migrate.py', NUMBERS)
    with socket.create_server(('127.0.0.1', default_port)):
        run = work.start('run', 'migrate', '1', host=None)
        master = work.start('master', 'migrate', '--state=2.state',
                            host=None)
        given = work.start('run', 'migrate', '1', '--state=3.state',
                           '--host=127.0.0.1')
        codes = [program.code() for program in (run, master, given)]
    assert codes == [0, 69, 69]
    assert run.port != default_port
    work.check(ALL)
    assert '127.0.0.1:3050' in master.err
    assert '--host' in given.err


def test_other_functions(work):
    work.write('migrate.py', NUMBERS.replace('get_jobs', 'rows')
               .replace('handle_job', 'copy'))
    run = work.start('run', 'migrate', '1', '--get-jobs=rows',
                     '--handle-job=copy')
    wrong = work.start('run', 'migrate:rows', '1')
    assert (run.code(), wrong.code()) == (0, 2)
    assert '--get-jobs' in wrong.err
    work.check(ALL)
    assert work.state('migrate-rows')['run'] == 'migrate:rows'


def test_a_large_job_and_the_queue(work):
    """Jobs of megabytes go alone; more than --size of them go through."""
    work.write('migrate.py', NUMBERS + '''
def get_jobs():
    for number in range(20):
        yield number, b'x' * (3 << 20)


def get_key(job):
    return job[0]


def handle_job(job):
    assert len(job[1]) == 3 << 20
    record(job[0])
''')
    assert work.finish('run', 'migrate', '2', '--size=5').code() == 0
    work.check(range(20))
