"""A fault of ours in a service thread of a slave or a supervisor.

It is planted in what the thread calls, and comes when the run is under way:
the process ends with 70 and the traceback, and what was done is saved.
"""

import os
import signal
import sys

import pytest
from faults import launch
from programs import NUMBERS, eventually

# What is broken, once the file `here` is there.
BREAK = '''
import os
import {module} as module

def broken(real):
    def function(*args, **options):
        if os.path.exists('here'):
            raise ZeroDivisionError('planted')
        return real(*args, **options)
    return function

module.{name} = broken(module.{name})
'''
# Times that nobody lives to see, but for that of a fault itself.
PATIENT = '''
TIMING = TIMING._replace(expiry=900, grace=600, farewell=600, close=600)
'''
COUNT = BREAK.format(module='taskmaster.console.signals',
                     name='_Count.another')
HANDLERS = {
    'slot': ('taskmaster.supervisor.supervisor', 'Slot.ended',
             'os._exit(3)'),
    'printer': ('taskmaster.console.output', 'pass_on',
                "print('a line')"),
}
# One job is never done, until the test wants that.
ENDLESS = NUMBERS + '''
import os
from time import sleep

def handle_job(job):
    if job > 10 and first('endless'):
        block('blocked')
    while job > 10 and not os.path.exists('blocked'):
        sleep(0.01)
    if job > 10 and first('here'):
        {act}
    record(job)
'''


def fault(program, thread):
    """It ended as it should, and said so once."""
    program.stacks = True               # ours are what is wanted
    assert program.code() == os.EX_SOFTWARE
    said = f'a fault of taskmaster itself, in {thread}'
    assert program.err.count(said) == 1
    assert program.err.count('\nZeroDivisionError: planted\n') == 1


@pytest.mark.parametrize('thread', HANDLERS)
@pytest.mark.parametrize('name', ['run', 'spawn'])
def test_in_a_supervisor(work, name, thread):
    """Whatever a job of another slave is at, the end does not wait for it."""
    module, function, act = HANDLERS[thread]
    work.write('migrate.py', ENDLESS.format(act=act))
    words = ['2']
    if name == 'spawn':
        words.append(work.start('master', 'migrate').host)
    program = launch(work, BREAK.format(module=module, name=function)
                     + PATIENT, name, 'migrate', *words)
    fault(program, f'the {thread}')
    if name == 'run':
        assert work.state()['key'] >= 9     # of those before all that
        assert 'exit code 70' in program.err
        work.touch('go')
        again = work.finish('run', 'migrate', '1')
        assert again.process.returncode == 0
        assert set(work.handled()) == {str(n) for n in range(1, 1001)}


def test_in_the_master_of_a_run(work):
    """The same, where it is not the supervisor that is at fault."""
    work.write('migrate.py', ENDLESS.format(act='pass'))
    program = launch(work, BREAK.format(
        module='taskmaster.master.jobqueue', name='JobQueue.expire')
        + PATIENT, 'run', 'migrate', '2')
    fault(program, 'the expirer')
    assert work.state()['key'] >= 9


@pytest.mark.parametrize('thread, module, function, threads', [
    ('the link', 'taskmaster.slave.link', 'LinkLoop.step', 1),
    ('a worker', 'taskmaster.slave.backlog', 'Backlog.bring', 2)])
def test_in_a_slave(work, thread, module, function, threads):
    """While the main thread, or another worker, is in an endless job."""
    work.write('migrate.py', ENDLESS.format(act='pass').replace(
        "first('endless')", "first('endless') and "
        + ("first('here')" if threads == 1 else 'True')))
    master = work.start('master', 'migrate')
    program = launch(work, BREAK.format(module=module, name=function), 'slave',
                     'migrate', f'--threads={threads}', master.host)
    fault(program, thread)


@pytest.mark.parametrize('name', ['run', 'master', 'slave', 'spawn'])
def test_in_the_signals_thread(work, name):
    work.write('migrate.py', NUMBERS + '''
from time import sleep

def handle_job(job):
    if job == 5:
        open('here', 'w').close()
    sleep(0.01)
    record(job)
''')
    words = ['1'] if name in ('run', 'spawn') else []
    if name in ('slave', 'spawn'):
        words.append(work.start('master', 'migrate').host)
    program = launch(work, COUNT, name, 'migrate', *words)
    if name == 'master':
        work.start('slave', 'migrate', program.host)
    eventually(lambda: work.has('here'), 'job 5')
    program.send(signal.SIGUSR1)
    fault(program, 'the signals')


def test_in_the_thread_that_watches_the_parent(work):
    work.write('program.py', '''
        import os, signal
        from types import SimpleNamespace
        from taskmaster.cli.slave_process import end_at_once
        from taskmaster.slave import parent

        def broken(fd, count):
            raise ZeroDivisionError('planted')

        parent.os = SimpleNamespace(**{**vars(os), 'read': broken})
        reader, writer = os.pipe()
        parent.watch_parent({parent.ENV_PARENT: str(reader),
                             parent.ENV_NEWS: str(writer)}, end_at_once)
        signal.pause()
    ''')
    fault(work.program(sys.executable, 'program.py'), 'the parent')
