"""What TARGET means on the command line: the module, and loading it.

A target is ``pkg.module``, ``pkg.module:function``, ``path/file.py`` or
``path/file.py:function``.  What is wrong with the way it is written is a
UsageError; what is wrong with the module it names is a ConfigError.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types

from ..errors import ConfigError, NoFunction, UsageError
from ..records import TYPE_CHECKING, NamedTuple
from ..settings import current_folder
from ..text import operators_part, summary, traceback_of
from . import places
from .patches import check_patches

if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn

    from .signature import Function


class Target(NamedTuple):
    """The operator's module, imported, and the name of a function in it."""

    module: types.ModuleType
    name: str           # 'pkg.migrate'; of a file its stem
    function: str
    source: str         # real path of the module's file, or ''

    @property
    def text(self) -> str:
        """Return it as one would type it."""
        return f'{self.name}:{self.function}'

    def find(self, name: str, default: Any = None) -> Any:
        """Return the module's attribute `name`, or `default`."""
        return attribute(self.module, name, default)

    def callable(self) -> Function:
        """Return the function; raise ConfigError when there is none."""
        function = self.find(self.function)
        if callable(function):
            return function  # type: ignore[no-any-return]
        where = f'{self.name} ({self.source})' if self.source else self.name
        raise NoFunction(f'no function {self.function} in {where}; '
                         f'define it or name another: {self.name}:FUNCTION')


def attribute(module: types.ModuleType | None, name: str,
              default: Any = None) -> Any:
    """Return what a module has under a name, or `default`.

    Raises ConfigError where a `__getattr__` of the module raises.
    """
    try:
        return getattr(module, name, default)
    except Exception as error:
        raise ConfigError(
            f'__getattr__ of the module raises {summary(error)} when it is '
            f'asked for {name}; let it raise AttributeError',
            traceback_of(error)) from error


def load(text: str, default: str, folder: str | None = None) -> Target:
    """Import what `text` names; `default` is the function if it names none.

    The target is looked for in `folder` first: None is the current one, ''
    none at all.  That the function exists is for ``Target.callable()`` to
    insist on.  Raise UsageError when `text` is no target, ConfigError when
    its module or file is not there, cannot be used, or fails to import; in
    the last case with the operator's own traceback.
    """
    place, function = _split(text, default)
    if folder is None:
        folder = current_folder()
    places.put_on_path(folder)
    if os.sep in place or place.endswith('.py'):
        name, module = _stem(place), _import_file(place, folder)
    else:
        name, module = place, _import_module(place, folder)
    check_patches(name)
    return Target(module, name, function, source_of(module))


def _split(text: str, default: str) -> tuple[str, str]:
    place, colon, function = text.partition(':')
    if not colon:
        function = default
    if not place.strip() or not function.isidentifier():
        raise UsageError(f'{text!r} is not a target; give pkg.module, '
                         'path/file.py, or one of them and :function')
    return place, function


def source_of(module: types.ModuleType | None) -> str:
    """Return the real path of a module's file, or ''."""
    path = getattr(module, '__file__', None)
    return os.path.realpath(path) if path else ''


def _import_module(name: str, folder: str) -> types.ModuleType:
    if not all(part.isidentifier() for part in name.split('.')):
        raise ConfigError(f'{name!r} cannot be the name of a module; '
                          'rename it, or check the spelling')
    if folder and places.has(folder, name):
        return _guarded(name, lambda: places.import_from(folder, name))
    return _guarded(name, lambda: importlib.import_module(name))


def _import_file(path: str, folder: str) -> types.ModuleType:
    """Import a file under its own name, so that its classes pickle."""
    file = os.path.join(folder, path)
    _check_readable(path, file)
    name, source = _stem(path), os.path.realpath(file)
    _check_name(path, name)
    known = sys.modules.get(name)
    if known is not None and source_of(known) == source:
        return known
    if known is not None or places.in_standard_library(name):
        raise places.would_hide(path, name)
    places.put_on_path(os.path.dirname(source))
    return _guarded(name, lambda: _execute(name, source))


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _check_readable(path: str, file: str) -> None:
    try:
        with open(file, 'rb'):
            pass
    except FileNotFoundError:
        raise ConfigError(f'no such file: {path}; check the path and the '
                          'current directory') from None
    except IsADirectoryError:
        raise ConfigError(f'{path} is a directory; name a .py file in '
                          'it') from None
    except OSError as error:
        raise ConfigError(f'cannot read {path}: {error.strerror}; make it '
                          'readable or name another file') from None


def _check_name(path: str, name: str) -> None:
    if not path.endswith('.py'):
        raise ConfigError(f'{path} is not a .py file; rename it')
    if not name.isidentifier():
        raise ConfigError(f'{path} cannot be imported, as {name!r} cannot be '
                          'the name of a module; rename it')


def _execute(name: str, source: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, source)
    if spec is None or spec.loader is None:     # a link to what is no .py
        raise ImportError(f'{source} is not a .py file', name=name)
    return places.execute(spec)


def _guarded(name: str,
             do: Callable[[], types.ModuleType]) -> types.ModuleType:
    """Call `do`; whatever it raises becomes a ConfigError about `name`."""
    try:
        return do()
    except (KeyboardInterrupt, ConfigError):
        raise
    except BaseException as error:      # SystemExit too: a bare script
        raise _import_error(name, error) from None


def _import_error(name: str, error: BaseException) -> ConfigError:
    missing = _missing_part(name, error)
    # Both are asked: a compiled module's own import leaves no frame.
    if missing and operators_part(error) is None:
        why = '' if missing == name else f' (there is no {missing})'
        return ConfigError(f'no such module: {name}{why}; check the spelling '
                           '(module:function) and the current directory')
    remedy = 'correct it'
    if isinstance(error, SystemExit):
        remedy = "put what it runs under if __name__ == '__main__'"
    return ConfigError(f'{name} fails to import: {summary(error)}; '
                       f'{remedy}', traceback_of(error))


def _missing_part(name: str, error: BaseException) -> str:
    """Return which was not found, the module or a package above it, or ''."""
    if isinstance(error, ModuleNotFoundError):
        if error.name and f'{name}.'.startswith(f'{error.name}.'):
            return error.name
    return ''


def of_function(function: Function) -> Target:
    """Return the target whose text gives `function` in another process.

    Raise UsageError, with the reason, when that could not import it.
    """
    if isinstance(function, types.MethodType):
        _refuse(function.__name__, 'is a bound method')
    name = getattr(function, '__qualname__', None)
    module = getattr(function, '__module__', None)
    if not callable(function) or not name or not module:
        _refuse(f'an object of class {type(function).__name__}',
                'is not a function')
    if name.endswith('<lambda>'):
        _refuse('a lambda', 'has no name')
    if '.' in name:
        inside = 'a function' if '<locals>' in name else 'a class'
        _refuse(name, f'is defined inside {inside}')
    if module == '__main__':
        _refuse(name, 'is defined in the script that runs (__main__)')
    if _imported(module, name) is not function:
        _refuse(name, f'is not what importing {module}:{name} gives')
    loaded = sys.modules[module]
    return Target(loaded, module, name, source_of(loaded))


def _refuse(what: str, why: str) -> NoReturn:
    raise UsageError(f'{what} {why}, so other processes cannot import it; '
                     'use a function at the top level of a module')


def _imported(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name, None)
    except Exception:       # whatever is wrong with it: not importable
        return None
