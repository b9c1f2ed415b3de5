"""What a script loads before it does anything: each start pays for it.

Not timed but counted: modules, and which of the library's heavy ones.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# In a process of its own: what is loaded when the script ends, and how often
# the garbage was collected, as JSON in a file, as what the script prints may
# be flushed before or after.
LOADED = '''
import atexit, gc, json, sys
said = open(sys.argv.pop(1), 'w')
def tell():
    json.dump([sorted(sys.modules), gc.isenabled(),
               [stats['collections'] for stats in gc.get_stats()]], said)
    said.close()
atexit.register(tell)
from taskmaster.__main__ import main
main()
'''
TARGET = 'def get_jobs():\n    return iter([1])\n\n\n' \
         'def handle_job(job):\n    pass\n'
# No master is there, and none can be: an address that is not this machine's.
LINES = {
    'slave': ['slave', 'one', '--timeout=0', '--host=127.0.0.1:1'],
    'master': ['master', 'one', '--host=192.0.2.1:1', '--no-progress'],
    'run': ['run', 'one', '1', '--host=192.0.2.1:1', '--no-progress'],
    'inline': ['run', 'one', '--inline', '--no-progress'],
    'help': ['run', '--help'],
}
# No start needs these; some take longer than all that is ours.
NEVER = {'argparse', 'ast', 'asyncio', 'concurrent.futures',
         'dataclasses', 'datetime', 'inspect', 'logging.config',
         'progressbar', 'shlex', 'ssl', 'unicodedata', 'encodings.idna'}
NOT_FOR_HELP = {'logging', 'hashlib', 'hmac', 'random', 'socket',
                'subprocess', 'multiprocessing', 'taskmaster.wire'}
if sys.version_info >= (3, 10):     # before, importlib itself has it
    NEVER.add('typing')
    NOT_FOR_HELP.add('typing')
# What a debugger quits by is of `bdb`, which has the first two.
NOT_INLINE = NEVER - {'ast', 'inspect'} | {'multiprocessing', 'subprocess'}
# Of ours, at most: who needs one more says why in its commit.  `run` loads
# what its first slaves are made of, once for all of them.
MOST = {'slave': 51, 'master': 79, 'run': 102, 'inline': 52,
        'help': 14}
# Collections of garbage in a start: half of what there would be.
COLLECTIONS = 20


def started(line, folder):
    (folder / 'one.py').write_text(TARGET)
    environ = {**os.environ, 'PYTHONPATH': str(ROOT),
               'XDG_CONFIG_HOME': str(folder)}
    said = folder / 'loaded.json'
    subprocess.run(
        [sys.executable, '-S', '-c', LOADED, str(said), *line], cwd=folder,
        env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        timeout=60)
    return json.loads(said.read_text())


def loaded(line, folder):
    return set(started(line, folder)[0])


@pytest.mark.parametrize('script', LINES)
def test_a_start_loads_little(script, tmp_path):
    names = loaded(LINES[script], tmp_path)
    ours = {name for name in names if name.startswith('taskmaster')}
    assert len(ours) <= MOST[script], sorted(ours)
    never = {'help': NOT_FOR_HELP,         # which is argparse's
             'inline': NOT_INLINE}.get(script, NEVER)
    assert names & never == set()


@pytest.mark.parametrize('script', ['slave', 'master', 'run'])
def test_no_garbage_is_looked_for_while_modules_are_loaded(script, tmp_path):
    """It was a fifth of the processor time of a start."""
    _, enabled, collections = started(LINES[script], tmp_path)
    assert enabled              # the operator's code may make some
    assert sum(collections) <= COLLECTIONS


def test_a_module_too_many_is_seen(tmp_path):
    """The counters see what a target imports itself."""
    (tmp_path / 'heavy.py').write_text('import ast, taskmaster.inline\n'
                                       + TARGET)
    line = [*LINES['slave']]
    line[1] = 'heavy'
    assert {'ast', 'taskmaster.inline'} <= loaded(line, tmp_path)
