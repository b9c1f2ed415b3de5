"""`Taskmaster(callback, source).start()` in a script."""

import signal
import sys

import pytest
from programs import NUMBERS, eventually

SCRIPT = '''
import migrate
from taskmaster import Taskmaster


if __name__ == '__main__':
    print('code', Taskmaster({}, host='127.0.0.1:0').start())
'''


def script(work, arguments):
    work.write('script.py', SCRIPT.format(arguments))
    return work.program(sys.executable, 'script.py')


@pytest.mark.smoke
def test_a_function_resumes(work):
    work.write('migrate.py', NUMBERS + '''
import os


def handle_job(job):
    if job == 50:
        block('here')
    record(job)
''')
    arguments = 'migrate.handle_job, migrate.get_jobs, slaves=1'
    run = script(work, arguments)
    eventually(lambda: work.has('here'))
    run.stop(signal.SIGTERM)
    work.touch('go')
    assert run.code() == -signal.SIGTERM
    assert work.state()['count'] == len(work.lines('done'))
    run = script(work, arguments)
    assert run.code() == 0
    assert run.out == 'code 0\n'
    assert 'resuming after key' in run.err
    work.check(range(1, 1001))


def test_ctrl_c_is_a_keyboard_interrupt(work):
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job == 50:
        block('here')
    record(job)
''')
    work.write('script.py', '''
import migrate
from taskmaster import Taskmaster

if __name__ == '__main__':
    try:
        Taskmaster(migrate.handle_job, migrate.get_jobs, slaves=1,
                   host='127.0.0.1:0').start()
    except KeyboardInterrupt:
        print('interrupted')
''')
    run = work.program(sys.executable, 'script.py')
    eventually(lambda: work.has('here'))
    run.stop()
    work.touch('go')
    assert run.code() == 0
    assert run.out == 'interrupted\n'
    assert work.state()['count'] == len(work.lines('done'))


def test_an_iterable_keeps_no_state(work):
    work.write('migrate.py', NUMBERS)
    for jobs in ('range(1, 101)', 'iter(range(1, 101))'):
        run = script(work, f'migrate.handle_job, {jobs}, slaves=1')
        assert run.code() == 0
        assert 'plain iterable' in run.err
    assert set(work.handled().values()) == {2}
    assert not list(work.path.glob('*.state'))


def test_failed_jobs_are_in_the_code(work):
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    raise ValueError
''')
    run = script(work, 'migrate.handle_job, [1, 2], slaves=1')
    assert run.code() == 0
    assert run.out == 'code 1\n'


def test_what_is_refused(work):
    """What slaves could not import, and options that there are not."""
    work.write('migrate.py', NUMBERS)
    work.write('script.py', '''
import migrate
from taskmaster import Taskmaster, TaskmasterError


def here(job):
    pass


def closure():
    def inside(job):
        pass
    return inside


for callback in lambda job: None, here, closure(), [].append, 7:
    try:
        Taskmaster(callback, [1])
    except TaskmasterError as error:
        print(type(error).__name__, error)
try:
    Taskmaster(migrate.handle_job, [1], sizes=3)
except TypeError as error:
    print(error)
''')
    run = work.program(sys.executable, 'script.py')
    assert run.code() == 0
    *callbacks, option = run.out.splitlines()
    for line, said in zip(callbacks, [
            'a lambda has no name', '__main__', 'inside a function',
            'builtin_function_or_method', 'not a function']):
        assert line.startswith('UsageError ') and said in line
        assert 'at the top level of a module' in line
    assert len(callbacks) == 5
    assert "unexpected keyword argument 'sizes'" in option
