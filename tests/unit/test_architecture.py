"""`docs/architecture.md` names what there is."""

import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / 'taskmaster'
ROOT = PACKAGE.parent
PAGE = ROOT / 'docs' / 'architecture.md'
PATH = re.compile(r'`(\w[\w./]*/[\w.]*|\w+\.py)`')
# `Monitor.report` in `master/monitor.py`, and the like.
PLACE = re.compile(r'`([\w.]+)`\s+(?:\([^)]*\)\s+)?in\s+`([\w/]+\.py)`')


def found(path):
    return next((place for place in (PACKAGE / path, ROOT / path,
                                     ROOT / 'tests' / path)
                 if place.exists()), None)


def test_every_file_that_is_named_is_there():
    paths = PATH.findall(PAGE.read_text())
    assert len(paths) > 40
    assert [path for path in paths if found(path) is None] == []


def test_every_name_is_in_the_file_that_is_said():
    places = PLACE.findall(PAGE.read_text())
    assert len(places) >= 5
    assert [(name, path) for name, path in places
            if name.rpartition('.')[2] not in found(path).read_text()] == []


def test_every_folder_and_the_ground_are_on_the_page():
    text = PAGE.read_text()
    names = [f'`{path.name}/`' for path in PACKAGE.iterdir()
             if path.is_dir() and path.name != '__pycache__']
    names += [f'`{path.name}`' for path in PACKAGE.glob('*.py')
              if path.name not in ('__init__.py', '__main__.py',
                                   'example.py')]
    assert [name for name in names if name not in text] == []
