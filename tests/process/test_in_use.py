"""Two masters, and state that cannot be used."""

import socket

import pytest
from programs import NUMBERS, eventually

pytestmark = pytest.mark.hunt

WAITS = NUMBERS + '''
def get_jobs(last=0):
    with open('calls', 'a') as file:
        file.write('called\\n')
    block('here')
    return range(last + 1, 11)
'''


def test_two_masters_on_one_state(work):
    """The second ends before it binds, and before get_jobs."""
    work.write('migrate.py', WAITS)
    first = work.start('run', 'migrate', '1')
    eventually(lambda: work.has('here'))
    for second in [
            work.start('master', 'migrate'),
            work.start('run', 'migrate', '1', '--reset'),
            work.start('run', 'migrate', '1', '--state',
                       str(work.path / 'migrate.state'))]:
        assert second.code() == 75
        assert f'pid {first.pid} on {socket.gethostname()}' in second.err
        assert 'server running' not in second.err
    assert work.lines('calls') == ['called']
    work.touch('go')
    assert first.code() == 0
    work.check(range(1, 11))
    assert work.finish('run', 'migrate', '1').code() == 0


def test_two_masters_on_one_port(work):
    work.write('migrate.py', WAITS)
    first = work.start('master', 'migrate')
    eventually(lambda: work.has('here'))
    for second in [
            work.start('master', 'migrate', first.host, '--state=2.state'),
            work.start('run', 'migrate', '1', first.host,
                       '--state=3.state')]:
        assert second.code() == 69
        assert f'127.0.0.1:{first.port}' in second.err
    assert work.lines('calls') == ['called']


def test_damaged_state(work):
    """Never a silent start from zero."""
    work.write('migrate.py', NUMBERS)
    assert work.finish('run', 'migrate', '1').code() == 0
    good = (work.path / 'migrate.state').read_bytes()
    runs = []
    for number, damaged in enumerate([
            b'', good[:-1], good.replace(b'1000', b'2000'), b'\0' * 200]):
        path = work.path / f'damaged{number}.state'
        path.write_bytes(damaged)
        runs.append((path, damaged,
                     work.start('run', 'migrate', '1', f'--state={path}')))
    for path, damaged, run in runs:
        assert run.code() == 78
        assert str(path) in run.err and '--reset' in run.err
        assert path.read_bytes() == damaged
    work.check(range(1, 1001))
    assert work.finish('run', 'migrate', '1', f'--state={path}',
                       '--reset').code() == 0
    assert path.with_suffix('.state.old').read_bytes() == damaged


def test_state_of_another_source(work):
    work.write('migrate.py', NUMBERS)
    assert work.finish('run', 'migrate', '1').code() == 0
    work.write('elsewhere/migrate.py', NUMBERS)
    wrong = work.start('run', 'elsewhere/migrate.py', '1')
    run = work.start('run', 'elsewhere/migrate.py', '1', '--state=b.state')
    assert (wrong.code(), run.code()) == (78, 0)
    assert '--state' in wrong.err
    work.check(range(1, 1001), twice=range(1, 1001))


def test_state_that_cannot_be_written(work):
    """74 before anything is done."""
    work.write('migrate.py', NUMBERS)
    run = work.finish('run', 'migrate', '1', '--state=nowhere/x.state')
    assert run.code() == 74
    assert 'nowhere/x.state' in run.err
    assert not work.handled()
