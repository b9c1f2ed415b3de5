"""Where the operator's modules are looked for: `sys.path`, and before it.

The current folder may be everybody's (/tmp), or full of old scripts.  So it
stands after the standard library, and before what is installed; only the
target itself is looked for there first, by its file.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from importlib.machinery import ModuleSpec, PathFinder

from ..errors import ConfigError

# Taken from where it is installed, whatever lies in the current folder.
OURS = __name__.partition('.')[0]


def put_on_path(folder: str) -> None:
    """Make a folder importable, unless it is already; '' is none."""
    if folder and folder not in sys.path:
        sys.path.insert(_after_library(), folder)


def has(folder: str, name: str) -> bool:
    """Return whether a folder holds the module ``name``, by its file."""
    places, spec = [folder], None
    for part in name.split('.'):
        spec = PathFinder.find_spec(part, places)
        if spec is None:
            return False
        places = list(spec.submodule_search_locations or ())
    return spec is not None and spec.has_location


def import_from(folder: str, name: str) -> types.ModuleType:
    """Import a module that a folder `has`, whatever else has that name.

    Raises ConfigError for one that would hide a module that Python has.
    """
    top = name.partition('.')[0]
    spec = PathFinder.find_spec(top, [folder])
    known = sys.modules.get(top)
    if top != OURS and spec is not None and not _is(known, spec):
        if known is not None or in_standard_library(top):
            raise would_hide(os.path.join(folder, top), top)
        execute(spec)
    return importlib.import_module(name)


def execute(spec: ModuleSpec) -> types.ModuleType:
    """Import what was found, as an import statement does."""
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module     # first: dataclasses look there
    try:
        if spec.loader is not None:     # or else it is a namespace
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(spec.name, None)
        raise
    return module


def in_standard_library(name: str) -> bool:
    # sys.stdlib_module_names would tell, but only from Python 3.10 on.
    return (name in sys.builtin_module_names
            or PathFinder.find_spec(name, _library()) is not None)


def would_hide(path: str, name: str) -> ConfigError:
    return ConfigError(f'{path} would hide the module {name} that Python '
                       'already has; rename it')


def _library() -> list[str]:
    folder = os.path.dirname(os.path.realpath(os.__file__))
    return [folder, os.path.join(folder, 'lib-dynload')]


def _after_library() -> int:
    """Return the place in `sys.path` that follows the standard library."""
    library = set(_library())
    return max((place for place, entry in enumerate(sys.path, 1)
                if os.path.realpath(entry) in library), default=0)


def _is(module: types.ModuleType | None, spec: ModuleSpec) -> bool:
    """Return whether a module is what was found."""
    if spec.has_location:
        path = getattr(module, '__file__', None)
        return bool(path) and (os.path.realpath(str(path))
                               == os.path.realpath(str(spec.origin)))
    return (set(getattr(module, '__path__', ()))
            >= set(spec.submodule_search_locations or ()))
