"""Targets, arguments and keys: what is taken, and what is refused."""

import signal

import pytest
from programs import NUMBERS, eventually, free_port

pytestmark = pytest.mark.hunt


def test_arguments_reach_get_jobs(work):
    work.write('migrate.py', NUMBERS + '''
def get_jobs(shard, shards='1', last=None):
    assert last is None
    yield f'{shard}/{shards}'
''')
    runs = [('shard=3', 'shards=8'), ('shards=8', 'shard=4')]
    for arguments in runs:
        run = work.finish('run', 'migrate', '1', *arguments)
        assert run.code() == 0
        assert not run.err.count('resuming')
    work.check(['3/8', '4/8'])
    states = [path.stem for path in work.path.glob('migrate-*.state')]
    assert len(states) == 2
    assert {work.state(name)['run'] for name in states} == {
        'migrate shard=3 shards=8', 'migrate shard=4 shards=8'}
    assert {work.state(name)['key'] for name in states} == {'3/8', '4/8'}


def test_wrong_arguments_stop_it_before_anything_starts(work):
    work.write('migrate.py', '''
def get_jobs(shard, last=0):
    open('started', 'w').close()
    yield 1


def handle_job(job):
    pass
''')
    wrong = {
        ('shard=3', 'colour=red'): "no argument 'colour'",
        (): "needs the argument 'shard'",
        ('shard=3', 'shard=4'): 'given twice',
        ('shard=3', 'last=4'): "'last'",
        ('shard',): 'NAME=VALUE'}
    programs = [(work.start(*command, *arguments), said)
                for arguments, said in wrong.items()
                for command in [('master', 'migrate'),
                                ('run', 'migrate', '1')]]
    for program, said in programs:
        assert program.code() == 2
        assert said in program.err
        assert 'server running' not in program.err
    assert not work.has('started')
    assert not list(work.path.glob('*.state*'))


def test_the_three_ways_not_to_load_a_module(work):
    work.write('broken.py', '''
def helper():
    return {}['the operator']


helper()
''')
    work.write('empty.py', '')
    work.write('missing.py', 'import there_is_no_such_thing\n')
    work.write('leaves.py', 'raise SystemExit(0)\n')
    expected = {
        'nowhere': ['no such module: nowhere'],
        'pkg.nowhere': ['no such module: pkg.nowhere'],
        'nowhere.py': ['no such file: nowhere.py'],
        'empty': ['no function get_jobs in empty', 'empty:FUNCTION'],
        'broken': ['broken.py", line 6, in <module>',
                   "KeyError: 'the operator'", 'broken fails to import'],
        './broken.py': ["KeyError: 'the operator'"],
        'missing': ["No module named 'there_is_no_such_thing'",
                    'missing fails to import'],
        'leaves': ['__main__']}
    programs = [(work.start('master', target), said)
                for target, said in expected.items()]
    programs += [(work.start('slave', target), expected[target])
                 for target in ('nowhere', 'broken')]
    for program, said in programs:
        assert program.code() == 78
        for text in said:
            assert text in program.err
        trace = 'Traceback' in program.err
        assert trace == (len(said) > 2 or 'fails to import' in program.err)
        # The operator's frames, and none of the import system's.
        assert 'importlib' not in program.err


def test_a_file_with_a_class_of_jobs(work):
    """It is imported under its own name, so that its classes pickle."""
    work.write('deep/down/migrate.py', '''
import other
from recorder import record


class Row:
    def __init__(self, pk):
        self.pk = pk


def get_jobs(last=0):
    for pk in range(last + 1, 101):
        yield Row(pk)


def handle_job(row):
    assert type(row) is Row and other.NAME
    record(row.pk)
''')
    work.write('deep/down/other.py', "NAME = 'beside it'")
    run = work.finish('run', 'deep/down/migrate.py', '2')
    assert run.code() == 0
    work.check(range(1, 101))
    assert work.state()['key'] == 100
    master = work.start('master', 'deep/down/migrate.py:get_jobs', '--reset')
    slave = work.start('slave', str(work.path / 'deep/down/migrate.py'),
                       master.host)
    assert (master.code(), slave.code()) == (0, 0)
    work.check(range(1, 101), twice=range(1, 101))


def test_a_slave_of_another_run(work):
    work.write('migrate.py', NUMBERS)
    work.write('duplicate.py', NUMBERS)
    master = work.start('master', 'migrate', 'count=10')
    stranger = work.start('slave', 'duplicate', master.host)
    spawn = work.start('spawn', 'duplicate', '1', master.host)
    assert (stranger.code(), spawn.code()) == (78, 78)
    assert 'the master serves migrate count=10' in stranger.err
    assert not work.handled()
    # A function that is named is taken at its word.
    slave = work.finish('slave', 'duplicate:handle_job', master.host)
    assert (slave.code(), master.code()) == (0, 0)
    work.check(range(1, 11))


def test_another_run_on_the_same_address(work):
    """A slave keeps to the first run it meets."""
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 5:
        block('here')
    record(job)
''')
    host = f'--host=127.0.0.1:{free_port()}'
    master = work.start('master', 'migrate', 'count=10', host)
    slave = work.start('slave', 'migrate', host)
    eventually(lambda: work.has('here'))
    master.send(signal.SIGKILL)
    master.code()
    other = work.start('master', 'migrate', 'count=20', host)
    other.says('server running')
    work.touch('go')
    assert slave.code() == 78
    assert 'the master now serves another run (migrate count=20)' in slave.err
    assert work.handled().keys() <= {str(job) for job in range(1, 11)}


def test_a_wrong_key(work):
    work.write('migrate.py', NUMBERS)
    master = work.start('master', 'migrate', '--key=right')
    slaves = [
        work.start('slave', 'migrate', master.host, '--key=wrong'),
        work.start('slave', 'migrate', master.host),
        work.start('spawn', 'migrate', '1', master.host, '--key=wrong')]
    for slave in slaves:
        assert slave.code() == 77
        assert '--key' in slave.err
    assert not work.handled()
    master.says('^warning: 127.0.0.1:.*does not hold the key')
    right = work.finish('slave', 'migrate', master.host,
                        environ={'TASKMASTER_KEY': 'right'})
    assert (right.code(), master.code()) == (0, 0)


def test_a_key_that_can_be_guessed_is_said_on_both_sides(work):
    """Once each, on loopback too; children are not stretched again."""
    work.write('migrate.py', NUMBERS + '''
import subprocess
import sys

SEEN = [sys.executable, '-c',
        'import os; raise SystemExit("TASKMASTER_KEY" in os.environ)']


def get_jobs(last=0):
    assert subprocess.call(SEEN) == 0, 'the key is seen'
    return iter(range(last + 1, 11))


def handle_job(job):
    assert subprocess.call(SEEN) == 0, 'the key is seen'
    record(job)
''')
    environ = {'TASKMASTER_KEY': 'foo'}
    run = work.finish('run', 'migrate', '2', environ=environ)
    assert run.code() == 0 and run.err.count('key can be guessed') == 1
    inline = work.finish('run', 'migrate', '2', '--inline', '--reset',
                         environ=environ)
    assert inline.code() == 0
    master = work.start('master', 'migrate', '--reset', environ=environ)
    spawn = work.start('spawn', 'migrate', '1', '--key=foo', master.host)
    assert (spawn.code(), master.code()) == (0, 0)
    for program in master, spawn:
        assert program.err.count('key can be guessed') == 1
    master = work.start('master', 'migrate', '--reset', '--key=bar')
    slave = work.start('slave', 'migrate', '--key=foo', master.host)
    assert slave.code() == 77 and 'key can be guessed' in slave.err


def test_empty_and_open_keys(work):
    work.write('migrate.py', NUMBERS)
    work.write('key', 'secret\n')
    (work.path / 'key').chmod(0o644)
    empty = work.start('master', 'migrate', '--key=')
    master = work.start('master', 'migrate', '--key-file=key')
    assert (empty.code(), master.code()) == (2, 78)
    assert 'chmod 600 it' in master.err


def test_the_first_commands_of_all(work, default_port):
    work.write('do_something.py', NUMBERS)
    master = work.start('master', 'taskmaster.example', '--reset',
                        '--key=foo', '--host=')
    assert master.port == default_port
    slave = work.start('slave', 'do_something:handle_job', '--host=')
    assert slave.code() == 77
    assert '--key' in slave.err
    slave = work.start('slave', 'do_something:handle_job', '--host=',
                       '--key=foo')
    assert (slave.code(), master.code()) == (0, 0)
    work.check(range(1, 100001))
