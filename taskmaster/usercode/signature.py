"""What the operator's functions take, and of which kind they are.

Of a plain function its code object says it all.  Only for another callable
(a class, a partial, a builtin, what a decorator wraps) is `inspect` loaded,
which takes longer than all that a slave does until its first job.
"""

from __future__ import annotations

import types

from ..errors import ConfigError, UsageError
from ..records import TYPE_CHECKING, NamedTuple
from .naming import RESERVED

if TYPE_CHECKING:
    from typing import Any, Callable

    Function = Callable[..., Any]

# What the flags of a code object mean; `inspect.CO_...`.
VARARGS, VARKEYWORDS = 0x04, 0x08
GENERATOR, COROUTINE, ASYNC_GENERATOR = 0x20, 0x80, 0x200


class Parameter(NamedTuple):
    """One parameter, but for ``*args``."""

    name: str
    positional: bool
    keyword: bool
    required: bool
    any: bool = False       # ``**kwargs``


def check_arguments(function: Function, arguments: dict[str, str]) -> None:
    """Raise UsageError unless `arguments` fit `function`.

    They fit when it takes each as a keyword and lacks none (`last` apart).
    A function whose signature cannot be read is taken to fit.
    """
    parameters = _parameters(function)
    if parameters is None:
        return
    label = _label(function)
    names = [p.name for p in parameters if p.keyword and p.name != RESERVED]
    offer = 'it takes: ' + (', '.join(names) or 'none')
    for name in arguments:
        if not takes(function, name):
            raise UsageError(f'{label} takes no argument {name!r}; {offer}')
    for name, _, keyword, required, _ in parameters:
        if required and not keyword:
            raise UsageError(f'{label} needs {name!r}, which is positional-'
                             "only and cannot be given; remove the '/'")
        if required and name != RESERVED and name not in arguments:
            raise UsageError(f'{label} needs the argument {name!r}; {offer}')


def takes(function: Function, name: str) -> bool:
    """Return whether `function` can be called with the keyword `name`.

    True when its signature cannot be read: the call itself will tell.
    """
    parameters = _parameters(function)
    return parameters is None or any(
        p.any or p.keyword and p.name == name for p in parameters)


def required_positionals(function: Function) -> int:
    """Count the positional parameters without a default (0 if unknown)."""
    return sum(p.required and p.positional
               for p in _parameters(function) or ())


def fits(function: Function, count: int) -> bool:
    """Return whether it can be called with so many positional arguments.

    Of a decorated one that is what its wrapper takes, which may give what it
    wraps more.  True when its signature cannot be read.
    """
    if _is_plain(function):
        parameters = _of_plain(function)
        places = [p.required for p in parameters if p.positional]
        return (sum(p.required for p in parameters) == sum(places) <= count
                and (count <= len(places)
                     or bool(_flags(function) & VARARGS)))
    import inspect
    try:
        found = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return True
    try:
        found.bind(*range(count))
    except TypeError:
        return False
    return True


def misfit(name: str, count: int) -> ConfigError:
    """Return what to say of a function that cannot be called like that."""
    return ConfigError(
        f'{name} cannot be called with {count or "no"} '
        f'argument{"s" * (count != 1)}, as it will be; correct what it takes')


def is_async(function: Function) -> bool:
    """Return whether it is an `async def`, with or without a yield."""
    if _is_plain(function):
        return bool(_flags(function) & (COROUTINE | ASYNC_GENERATOR))
    import inspect
    return (inspect.iscoroutinefunction(_called(function))
            or inspect.isasyncgenfunction(_called(function)))


def yields(function: Function) -> bool:
    """Return whether a call of it gives a generator, `async` or not."""
    if _is_plain(function):
        return bool(_flags(function) & (GENERATOR | ASYNC_GENERATOR))
    import inspect
    return (inspect.isgeneratorfunction(_called(function))
            or inspect.isasyncgenfunction(_called(function)))


def _is_plain(function: Function) -> bool:
    """Return whether its code says it all: nothing was hung on it."""
    return type(function) is types.FunctionType and not function.__dict__


def _flags(function: Any) -> int:
    flags: int = function.__code__.co_flags
    return flags


def _called(function: Function) -> Function:
    """Return what runs when it is called: of objects the __call__."""
    import functools
    import inspect
    if isinstance(function, functools.partial) or inspect.isroutine(function):
        return function
    call: Function = getattr(type(function), '__call__', function)
    return call


def _parameters(function: Function) -> list[Parameter] | None:
    if _is_plain(function):
        return _of_plain(function)
    import inspect
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return [Parameter(
        p.name, p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD),
        p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY),
        p.default is p.empty and p.kind is not p.VAR_KEYWORD,
        p.kind is p.VAR_KEYWORD) for p in found
        if p.kind is not p.VAR_POSITIONAL]


def _of_plain(function: Any) -> list[Parameter]:
    code = function.__code__
    count, only = code.co_argcount, code.co_kwonlyargcount
    names = code.co_varnames
    first_default = count - len(function.__defaults__ or ())
    found = [Parameter(name, True, place >= code.co_posonlyargcount,
                       place < first_default)
             for place, name in enumerate(names[:count])]
    found += [Parameter(name, False, True,
                        name not in (function.__kwdefaults__ or ()))
              for name in names[count:count + only]]
    if code.co_flags & VARKEYWORDS:
        at = count + only + bool(code.co_flags & VARARGS)
        found.append(Parameter(names[at], False, False, False, any=True))
    return found


def _label(function: Function) -> str:
    return getattr(function, '__name__', None) or type(function).__name__
