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
COUNT = BREAK.format(module='taskmaster.console.signals',
                     name='_Count.another')
HANDLERS = {
    'slot': ('taskmaster.supervisor.supervisor', 'Slot.ended',
             'os._exit(3)'),
    'printer': ('taskmaster.console.output', 'pass_on',
                "print('a line')"),
}


def fault(program, thread):
    """It ended as it should, and said so once."""
    program.stacks = True               # ours are what is wanted
    assert program.code() == os.EX_SOFTWARE
    said = f'a fault of taskmaster itself, in the {thread}'
    assert program.err.count(said) == 1
    assert program.err.count('\nZeroDivisionError: planted\n') == 1


@pytest.mark.parametrize('thread', HANDLERS)
@pytest.mark.parametrize('name', ['run', 'spawn'])
def test_in_a_supervisor(work, name, thread):
    module, function, act = HANDLERS[thread]
    work.write('migrate.py', NUMBERS + f'''
import os
from time import sleep

def handle_job(job):
    if job == 5 and first('here'):
        {act}
    sleep(0.01)
    record(job)
''')
    words = ['1']
    if name == 'spawn':
        words.append(work.start('master', 'migrate').host)
    program = launch(work, BREAK.format(module=module, name=function), name,
                     'migrate', *words)
    fault(program, thread)
    if name == 'run':
        assert work.has('migrate.state')
        assert 'exit code 70' in program.err
        again = work.finish('run', 'migrate', '1')
        assert again.process.returncode == 0
        assert set(work.handled()) == {str(n) for n in range(1, 1001)}


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
    fault(program, 'signals')


def test_in_the_thread_that_watches_the_parent(work):
    work.write('program.py', '''
        import os, signal
        from types import SimpleNamespace
        from taskmaster.slave import parent

        def broken(fd, count):
            raise ZeroDivisionError('planted')

        parent.os = SimpleNamespace(**{**vars(os), 'read': broken})
        reader, writer = os.pipe()
        parent.watch_parent({parent.ENV_PARENT: str(reader),
                             parent.ENV_NEWS: str(writer)})
        signal.pause()
    ''')
    fault(work.program(sys.executable, 'program.py'), 'parent')
