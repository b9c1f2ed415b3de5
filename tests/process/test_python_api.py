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


def test_options_are_as_the_flags_are(work):
    work.write('migrate.py', NUMBERS + '''
def handle_job(job):
    if job > 20:
        raise ValueError
    record(job)
''')
    run = script(work, "migrate.handle_job, migrate.get_jobs, slaves='1', "
                 "max_failures=5, rate='5000', size='10', threads='2'")
    run.stacks = True       # the error comes out of `start`
    assert run.code() == 1
    assert 'TooManyFailures' in run.err and '--max-failures' in run.err
    work.check(range(1, 21))


def test_a_dry_run_does_nothing(work):
    work.write('migrate.py', NUMBERS)
    run = script(work, 'migrate.handle_job, migrate.get_jobs, dry_run=True')
    assert run.code() == 0
    assert 'none was handled, nothing written' in run.out
    assert run.out.endswith('code 0\n')
    assert not work.handled() and not list(work.path.glob('*.state*'))


def test_inline_is_in_this_process(work):
    """With what stands beside the functions, and the state of ever."""
    work.write('migrate.py', NUMBERS + '''
import os


def setup():
    return os.getpid()


def handle_job(job, pid):
    assert pid == os.getpid()
    record(job)


def get_key(job):
    return f'job {job}'


def get_jobs(last='job 0'):
    return iter(range(int(last[4:]) + 1, 101))


def count_jobs():
    return 100
''')
    run = script(work, 'migrate.handle_job, migrate.get_jobs, inline=True, '
                 'limit=40')
    assert run.code() == 0 and run.out == 'code 0\n'
    assert 'server running' not in run.err
    assert work.state()['key'] == 'job 40'
    run = script(work, 'migrate.handle_job, migrate.get_jobs, slaves=1')
    assert run.code() == 0 and '| 100% |' in run.err
    work.check(range(1, 101))


def test_a_program_from_another_folder(work):
    """Slaves have its sys.path and flags, and the key is for us alone."""
    work.write('app/start.py', '''
import os
import sys

sys.path.append(os.path.join(os.path.dirname(__file__), 'lib'))
import jobs
from taskmaster import Taskmaster


def main():
    print('code', Taskmaster(jobs.handle_job, jobs.get_jobs, slaves=1,
                             host='127.0.0.1:0', key='secret').start())
    assert os.environ['TASKMASTER_KEY'] == 'theirs'


if __name__ == '__main__':
    main()
''')
    work.write('app/jobs.py', '''
import os
import sys

from helper import record


def get_jobs(last=0):
    assert False, 'left out by -O'
    if 'TASKMASTER_KEY' in os.environ:
        raise KeyError
    return iter(range(last + 1, 11))


def handle_job(job):
    assert False, 'left out by -O'
    if sys.flags.utf8_mode != 1 or not sys.flags.optimize:
        raise ValueError(sys.flags)
    if 'ignore::ImportWarning' not in sys.warnoptions:
        raise ValueError(sys.warnoptions)
    record(job)
''')
    work.write('app/lib/helper.py', 'from recorder import record')
    work.write('jobs.py', 'raise SystemExit("not this one")')
    work.write('other/recorder.py', (work.path / 'recorder.py').read_text())
    (work.path / 'recorder.py').rename(work.path / 'app/recorder.py')
    run = work.program(sys.executable, '-O', '-X', 'utf8', '-W',
                       'ignore::ImportWarning', 'app/start.py',
                       environ={'TASKMASTER_KEY': 'theirs'})
    assert run.code() == 0
    assert run.out == 'code 0\n'
    work.check(range(1, 11))


def test_a_partial_is_named_after_what_it_wraps(work):
    work.write('migrate.py', NUMBERS + '''
def get_jobs(shard, shards='2', last=0):
    for job in range(last + 1, 11):
        if job % int(shards) == int(shard):
            yield job


def count_jobs(shard, shards='2'):
    return 10 // int(shards)
''')
    for call in ("get_jobs, shard='0'", "get_jobs, '1'"):
        run = script(work, 'migrate.handle_job, __import__("functools")'
                     f'.partial(migrate.{call}), slaves=1')
        assert run.code() == 0
    work.check(range(1, 11))
    again = work.finish('run', 'migrate', '1', 'shard=0')
    assert again.code() == 0
    assert 'complete; looking for new jobs after key 10' in again.err
    assert len(list(work.path.glob('migrate-*.state'))) == 2


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
