"""What lies in the current folder does not run, but for the target."""

import os
import sys

import pytest
from programs import NUMBERS, PACKAGE

pytestmark = pytest.mark.hunt

# Loaded by Python, by us, and by nearly every program.
PLANTED = ['tempfile', 'traceback', 'random', 'secrets', 'taskmaster',
           'progressbar', 'logging', 'json', 'multiprocessing']
START = f'''
import sys
sys.path.append({str(PACKAGE.parent)!r})
from taskmaster.cli.run import main
main(['migrate', '2', '--host=127.0.0.1:0'])
'''


def plant(work, *names):
    for name in names:
        work.write(f'{name}.py', f"""
open('planted-{name}', 'a').close()
raise SystemExit('{name}.py of the current folder ran')
""")


def planted(work):
    return sorted(path.name for path in work.path.glob('planted-*'))


def drained(terminal):
    shown = b''
    with open(terminal, 'rb', buffering=0) as file:
        try:
            for part in iter(lambda: file.read(4096), b''):
                shown += part
        except OSError:                 # nobody writes to it any more
            pass
    return shown


def test_as_an_installed_script(work):
    """Of which Python puts the own folder in front, not the current one."""
    work.write('bin/tm-run', START)
    work.write('migrate.py', NUMBERS + '''
import tempfile
import traceback

import beside

traceback.format_stack()
assert beside.HERE
''')
    work.write('beside.py', 'HERE = True')
    plant(work, *PLANTED)
    mine, theirs = os.openpty()         # so that there is a status line
    run = work.program(sys.executable, 'bin/tm-run', stderr=theirs,
                       environ={'PYTHONPATH': ''})
    os.close(theirs)
    shown = drained(mine)
    assert run.code() == 0, shown
    assert b'Current Job: 1000' in shown
    assert planted(work) == []
    work.check(range(1, 1001))


def test_as_a_module(work):
    """Python itself looks for taskmaster here; slaves, and the rest, do not.

    What runpy loads before us is nobody's to keep out.
    """
    work.write('migrate.py', NUMBERS + '''
import tempfile
import traceback
''')
    plant(work, 'tempfile', 'traceback', 'secrets', 'random')
    run = work.finish('run', 'migrate', '1')
    assert run.code() == 0 and planted(work) == []


@pytest.mark.parametrize('target', ['migrate', 'app.jobs'])
def test_the_target_is_looked_for_here_first(work, target):
    """Before what is installed, or on PYTHONPATH, under the same name."""
    path = target.replace('.', '/')
    work.write(f'elsewhere/{path}.py', 'raise SystemExit("not this one")')
    work.write('elsewhere/app/__init__.py', '')
    work.write(f'{path}.py', NUMBERS)
    environ = {'PYTHONPATH': f'{work.path}/elsewhere:'
                             f'{work.environ["PYTHONPATH"]}'}
    run = work.finish('run', target, '1', 'count=10', environ=environ)
    assert run.code() == 0
    work.check(range(1, 11))
