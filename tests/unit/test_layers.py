"""The walls of the house: who may import whom, and how large a room is.

A folder of `taskmaster/` is a process, or a wall between processes.  Every
import counts, also one within a function or for type checkers alone: it is
read from the text, so nothing is loaded here.
"""

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

# The text is the same on any Python.
pytestmark = pytest.mark.hunt

PACKAGE = Path(__file__).resolve().parents[2] / 'taskmaster'
FILES = sorted(PACKAGE.rglob('*.py'))

# From top to bottom.  Each imports of what is below it, and of itself.
LAYERS = [
    ['cli', 'api', '__init__', '__main__', 'example'],
    ['local', 'inline', 'dry_run'],
    ['supervisor', 'master', 'slave'],
    ['wire', 'storage', 'console', 'usercode', 'iterators'],
    ['errors', 'text', 'timing', 'service', 'address', 'settings',
     'converters', 'forks', 'logs', 'sessions', 'records'],
]
RANKS = {room: rank for rank, layer in enumerate(reversed(LAYERS))
         for room in layer}
GROUND = set(LAYERS[-1])

# Doors between rooms of one layer: what is behind them imports but the
# ground, or starts a slave without loading one.
DOORS = {
    'supervisor': {'slave.parent', 'slave.watchdog'},
    'wire': {'storage.files'},
    'iterators': {'storage.codec'},
    '__init__': {'api'},
    '__main__': {'cli'},
}
# Of a lower room only this much: what is saved is the master's.
ONLY = {('slave', 'storage'): {'storage.files'},
        ('supervisor', 'storage'): {'storage.files'}}

# Rules alone, without clock, thread or socket: `now` is passed in.
PURE = {'master.ledger', 'master.leasing', 'master.ordered', 'master.pieces',
        'master.ready', 'master.slaves'}
IMPURE = {'threading', 'time', 'socket'}

# What a script must not load, nor anything that it loads.
APART = [('cli.slave', 'master'), ('cli.spawn', 'master'),
         ('cli.ctl', 'master'), ('cli.ctl', 'slave'),
         ('cli.master', 'slave'), ('cli.master', 'supervisor'),
         ('supervisor.supervisor', 'slave.slave'),
         ('iterators', 'wire'), ('iterators', 'storage.state')]

MOST_OF_A_CLASS = 300       # lines
MOST_OF_A_FILE = 400        # lines


def name_of(path):
    """The module's name below `taskmaster`: 'wire.client', '__init__'."""
    parts = path.relative_to(PACKAGE).with_suffix('').parts
    return '.'.join(parts[:-1] if len(parts) > 1 and parts[-1] == '__init__'
                    else parts)


MODULES = {name_of(path): path for path in FILES}
FOLDERS = {name.partition('.')[0] for name in MODULES if '.' in name}


def room_of(name):
    return name.partition('.')[0]


def imports(name, text):
    """What the module of that name imports: its names, and ours as ours."""
    package = ['taskmaster', *name.split('.')]
    if name not in FOLDERS:             # its package is the folder it is in
        package.pop()
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = ('.'.join(package[:len(package) - node.level + 1])
                     if node.level else None)
            place = '.'.join(filter(None, [start, node.module]))
            for alias in node.names:
                inner = f'{place}.{alias.name}'.partition('.')[2]
                found.add(f'{place}.{alias.name}' if inner in MODULES
                          or place == 'taskmaster' else place)
    return found


def ours(name, text):
    """Our modules that it imports, named below `taskmaster`.

    But for `__version__`, which any may have from the face.
    """
    found = set()
    for place in imports(name, text) - {'taskmaster.__version__'}:
        first, _, inner = place.partition('.')
        if first == 'taskmaster':
            found.add(inner if inner in MODULES else '__init__')
    return found


def breaches(name, text):
    """Which of the walls an import of that module goes through."""
    room, found = room_of(name), []
    for other in sorted(ours(name, text)):
        there = room_of(other)
        if there == room and room in FOLDERS:
            continue
        allowed = RANKS[there] < RANKS[room] or {room, there} <= GROUND
        if any(other == door or there == door
               for door in DOORS.get(room, ())):
            allowed = True
        only = ONLY.get((room, there))
        if not allowed or only and other not in only:
            found.append(f'{name} -> {other}')
    if name in PURE:
        found += [f'{name} -> {place}' for place in sorted(
            imports(name, text) & IMPURE)]
    return found


@functools.lru_cache(maxsize=None)
def next_to(name):
    return ours(name, MODULES[name].read_text())


def reached(name):
    """All of ours that is loaded, or may come to be, by this module."""
    seen, todo = set(), [name]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += next_to(name)
    return seen


def size(node):
    return node.end_lineno - node.lineno + 1


def too_long(name, text):
    """(what, lines) of the file, and of its classes, above the limits."""
    lines = text.count('\n')
    if lines > MOST_OF_A_FILE:
        yield name, lines
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and size(node) > MOST_OF_A_CLASS:
            yield f'{name}.{node.name}', size(node)


# -- imports --------------------------------------------------------------

def test_imports_go_down_and_through_no_wall():
    assert [breach for name, path in MODULES.items()
            for breach in breaches(name, path.read_text())] == []


@pytest.mark.parametrize('name, text, breach', [
    ('slave.slave', 'from ..master import ledger',
     'slave.slave -> master.ledger'),
    ('slave.slave', 'from ..master.ledger import Ledger',
     'slave.slave -> master.ledger'),
    ('slave.slave', 'import taskmaster.master.ledger',
     'slave.slave -> master.ledger'),
    ('slave.slave', 'def later():\n    from ..master import master',
     'slave.slave -> master.master'),
    ('slave.slave', 'if TYPE_CHECKING:\n    from ..master import master',
     'slave.slave -> master.master'),
    ('slave.slave', 'from ..storage.state import StateFile',
     'slave.slave -> storage.state'),
    ('master.master', 'from ..slave import pace',
     'master.master -> slave.pace'),
    ('wire.server', 'from ..master.session import Session',
     'wire.server -> master.session'),
    ('storage.state', 'from ..wire import messages',
     'storage.state -> wire.messages'),
    ('console.status', 'from ..master.jobqueue import JobQueue',
     'console.status -> master.jobqueue'),
    ('supervisor.supervisor', 'from ..slave.slave import Slave',
     'supervisor.supervisor -> slave.slave'),
    ('master.ledger', 'import time', 'master.ledger -> time'),
    ('master.ledger', 'from threading import Lock',
     'master.ledger -> threading'),
    ('text', 'from .wire import messages', 'text -> wire.messages'),
    ('text', 'from . import api', 'text -> api'),
    ('text', 'from . import TaskmasterError', 'text -> __init__'),
])
def test_an_import_through_a_wall_is_seen(name, text, breach):
    assert breaches(name, text) == [breach]


@pytest.mark.parametrize('name, text', [
    ('slave.slave', 'from .. import __version__'),
    ('slave.slave', 'from . import pace\nfrom ..wire.client import connect'),
    ('slave.watchdog', 'from ..storage.files import write_all'),
    ('supervisor.supervisor', 'from ..slave import watchdog'),
    ('wire.key', 'from ..storage import files'),
    ('local', 'from .master.master import Master'),
    ('errors', 'from . import text\nimport time'),
])
def test_an_import_that_goes_down_is_none_of_them(name, text):
    assert breaches(name, text) == []


@pytest.mark.parametrize('name, never', APART)
def test_nothing_leads_there(name, never):
    """However many imports away: a slave loads nothing of the master."""
    assert [one for one in reached(name)
            if one == never or one.startswith(f'{never}.')] == []


def test_every_file_stands_in_a_layer():
    assert {room_of(name) for name in MODULES} <= RANKS.keys()


# -- folders --------------------------------------------------------------

def test_the_init_of_a_folder_is_empty():
    """Or who asks for one of its files would load the others."""
    assert [folder for folder in sorted(FOLDERS - {'iterators'})
            if (PACKAGE / folder / '__init__.py').read_text()] == []


def test_names_of_iterators_are_loaded_when_they_are_asked_for():
    said = subprocess.run(
        [sys.executable, '-c', 'import sys, taskmaster.iterators as it\n'
         'before = sorted(n for n in sys.modules if n.startswith(it.__name__))'
         '\nfor name in it.__all__: getattr(it, name)\nprint(before)'],
        cwd=PACKAGE.parent, check=True, capture_output=True, text=True)
    assert said.stdout == "['taskmaster.iterators']\n"


def test_setup_names_every_folder():
    text = (PACKAGE.parent / 'setup.py').read_text()
    named = set(re.findall(r"'(taskmaster(?:\.\w+)?)'", text))
    assert named == {'taskmaster', *(f'taskmaster.{name}'
                                     for name in FOLDERS)}


# -- sizes ----------------------------------------------------------------

def test_no_file_and_no_class_is_too_long():
    assert [found for name, path in MODULES.items()
            for found in too_long(name, path.read_text())] == []


def test_what_is_too_long_is_seen():
    text = 'class Large:\n' + '    x = 1\n' * 400
    assert dict(too_long('wire.large', text)) == {
        'wire.large': 401, 'wire.large.Large': 401}
