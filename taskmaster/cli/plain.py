"""Command lines of plain words, read without argparse.

Which takes as long to load and to fill as all that a slave does before it
connects.  What is here is for the command lines that have nothing to ask and
no mistake in them; a person who needs help, or an answer, gets argparse's.
"""

from __future__ import annotations

from ..records import TYPE_CHECKING
from ..settings import Setting, default_of, is_for, of_script

if TYPE_CHECKING:
    from typing import Any, Sequence


def plain(script: str, arguments: Sequence[str]) -> dict[str, Any] | None:
    """Return what argparse would, by name; or None, and argparse is to say.

    A plain line has words, switches, ``--name=value`` and ``--name value``.
    """
    settings = of_script(script)
    typed: dict[str, str] = {}
    words: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith('-'):
            words.append(argument)
            continue
        flag, equals, value = argument.partition('=')
        name = flag[2:].replace('-', '_')
        setting = settings.get(name)
        if (setting is None or setting.word
                or flag != '--' + name.replace('_', '-')
                or setting.convert is None and equals):
            return None
        if setting.bare is not None and not equals:
            value = setting.bare
        elif setting.convert is not None and not equals:
            value = next(rest, '-')
            if value.startswith('-'):
                return None
        typed[name] = value
    values: dict[str, Any] = {}
    try:
        for name, setting in settings.items():
            if setting.word == '*':
                values[name] = [_converted(setting, word) for word in words]
                words = []
            elif setting.word and words and is_for(setting, words[0]):
                values[name] = _converted(setting, words.pop(0))
            elif setting.word == '1' or typed.keys() >= {name, setting.rather}:
                return None
            elif name in typed:
                values[name] = _converted(setting, typed[name])
            else:
                values[name] = default_of(name, script)
    except ValueError:
        return None
    return None if words else values


def _converted(setting: Setting, text: str) -> Any:
    return True if setting.convert is None else setting.convert(text)
