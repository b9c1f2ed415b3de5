"""What the operator's functions take, and of which kind they are."""

import functools
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional

from ..errors import UsageError
from .naming import RESERVED

if TYPE_CHECKING:
    import inspect

Function = Callable[..., Any]


def check_arguments(function: Function, arguments: Dict[str, str]) -> None:
    """Raise UsageError unless `arguments` fit `function`.

    They fit when it takes each as a keyword and lacks none (`last` apart).
    A function whose signature cannot be read is taken to fit.
    """
    parameters = _parameters(function)
    if parameters is None:
        return
    label = _label(function)
    names = [p.name for p in parameters
             if _by_keyword(p) and p.name != RESERVED]
    offer = 'it takes: ' + (', '.join(names) or 'none')
    for name in arguments:
        if not takes(function, name):
            raise UsageError(f'{label} takes no argument {name!r}; {offer}')
    for parameter in filter(_required, parameters):
        name = parameter.name
        if not _by_keyword(parameter):
            raise UsageError(f'{label} needs {name!r}, which is positional-'
                             "only and cannot be given; remove the '/'")
        if name != RESERVED and name not in arguments:
            raise UsageError(f'{label} needs the argument {name!r}; {offer}')


def takes(function: Function, name: str) -> bool:
    """Whether `function` can be called with the keyword `name`.

    True when its signature cannot be read: the call itself will tell.
    """
    parameters = _parameters(function)
    return parameters is None or any(
        p.kind is p.VAR_KEYWORD or _by_keyword(p) and p.name == name
        for p in parameters)


def required_positionals(function: Function) -> int:
    """Count the positional parameters without a default (0 if unknown)."""
    return sum(1 for p in _parameters(function) or ()
               if _required(p) and p.kind is not p.KEYWORD_ONLY)


def is_async(function: Function) -> bool:
    """Whether it is an `async def`, with or without a yield."""
    import inspect
    return (inspect.iscoroutinefunction(_called(function))
            or inspect.isasyncgenfunction(_called(function)))


def yields(function: Function) -> bool:
    """Whether a call of it gives a generator, `async` or not."""
    import inspect
    return (inspect.isgeneratorfunction(_called(function))
            or inspect.isasyncgenfunction(_called(function)))


def _called(function: Function) -> Function:
    """What runs when it is called: of an object its class's __call__."""
    import inspect
    if isinstance(function, functools.partial) or inspect.isroutine(function):
        return function
    call: Function = getattr(type(function), '__call__', function)
    return call


def _parameters(function: Function) -> 'Optional[List[inspect.Parameter]]':
    import inspect  # slow to import, and many commands do without
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def _by_keyword(parameter: 'inspect.Parameter') -> bool:
    return parameter.kind in (parameter.POSITIONAL_OR_KEYWORD,
                              parameter.KEYWORD_ONLY)


def _required(parameter: 'inspect.Parameter') -> bool:
    return (parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL,
                                       parameter.VAR_KEYWORD))


def _label(function: Function) -> str:
    return getattr(function, '__name__', None) or type(function).__name__
