"""On one machine: a Unix socket, and who holds the default port first."""

import os
import shutil
import socket
import tempfile

import pytest
from programs import NUMBERS, can_listen, eventually

SLOW = NUMBERS + '''
    if job == 10 and first('once'):
        block('here')
'''


@pytest.fixture
def home(work, default_port):
    """A short one: the path of a socket has 107 bytes."""
    path = tempfile.mkdtemp(prefix='tm')
    work.environ['HOME'] = path
    yield path
    shutil.rmtree(path)


def sockets(home):
    folder = f'{home}/.config/taskmaster/sock'
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def start(work, name, *words):
    return work.start(name, *words, host=None)


def free():
    if not can_listen('127.0.0.1', 3050):
        pytest.skip('port 3050 is taken')


def test_master_and_slaves_meet_at_a_socket(work, home):
    free()
    work.write('migrate.py', SLOW)
    master = start(work, 'master', 'migrate')
    slave = start(work, 'slave', 'migrate')
    eventually(lambda: work.has('here'))
    name = f'{socket.gethostname()}-3050'
    assert sockets(home) == [name, name + '.lock']
    with open('/proc/net/unix') as file:        # listening, and one slave
        assert sum(name in line for line in file) >= 2
    status = work.finish('ctl', 'status')
    assert status.code() == 0 and 'run:     migrate' in status.out
    work.touch('go')
    assert (master.code(), slave.code()) == (0, 0)
    assert sockets(home) == []


def test_a_second_run_takes_another_port_and_says_so(work, home):
    free()
    work.write('migrate.py', SLOW)
    one = start(work, 'run', 'migrate', '1')
    eventually(lambda: work.has('here'))
    two = start(work, 'run', 'migrate', '1', '--state=two.state')
    assert two.code() == 0
    said = two.says(r'^(\S+ )?127\.0\.0\.1:3050 is taken; serving .*')[0]
    assert f'and {home}' in said
    three = start(work, 'master', 'migrate', '--state=three.state')
    assert three.code() == 69
    work.touch('go')
    assert one.code() == 0 and sockets(home) == []


def test_who_squats_on_the_port_keeps_nobody_waiting(work, home):
    """It says nothing; the slave was there before the master."""
    free()
    work.write('migrate.py', NUMBERS)
    with socket.create_server(('127.0.0.1', 3050)):
        slave = start(work, 'slave', 'migrate')
        slave.says('no master there')
        master = start(work, 'master', 'migrate')
        assert (master.code(), slave.code()) == (0, 0)
    assert 'is taken; serving 127.0.0.1:' in master.err
    work.check(range(1, 1001))


def test_a_stale_socket_is_nothing(work, home):
    free()
    work.write('migrate.py', SLOW)
    master = start(work, 'master', 'migrate')
    slave = start(work, 'slave', 'migrate')
    eventually(lambda: work.has('here'))
    master.send(9)
    master.code()
    assert sockets(home)
    work.touch('go')
    again = start(work, 'master', 'migrate')
    assert (again.code(), slave.code()) == (0, 0)
    assert sockets(home) == []


@pytest.mark.parametrize('spoil', ['open to all', 'a link', 'no home'])
def test_without_a_folder_of_our_own_there_is_tcp(work, home, spoil):
    free()
    folder = f'{home}/.config/taskmaster'
    if spoil == 'no home':
        work.environ['HOME'] = '~'
        work.environ['TASKMASTER_KEY'] = 'a1' * 32
    else:
        os.makedirs(folder, 0o700)
        if spoil == 'a link':
            os.mkdir(f'{home}/elsewhere', 0o700)
            os.symlink(f'{home}/elsewhere', f'{folder}/sock')
        else:
            os.mkdir(f'{folder}/sock')
            os.chmod(f'{folder}/sock', 0o777)
    work.write('migrate.py', NUMBERS)
    run = start(work, 'run', 'migrate', '1', '--log-level=debug')
    assert run.code() == 0
    assert 'no Unix socket' in run.err
    assert sockets(home) == [] and not work.has('~')
    work.check(range(1, 1001))
