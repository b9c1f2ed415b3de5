"""From the table of settings to the parser of a script."""

from __future__ import annotations

import argparse
import sys

from .. import __version__
from ..errors import EX_USAGE
from ..records import TYPE_CHECKING
from ..settings import Setting, default_of, flag_of, of_script

if TYPE_CHECKING:
    from typing import Any, Callable, Collection, NoReturn, Sequence


class Parser(argparse.ArgumentParser):
    """``bare`` is what flags mean to which no value need be given.

    ``valued`` are the flags that have one; ``count`` is what is the second
    word, if the second is not digits alone.
    """

    bare: dict[str, str] = {}
    valued: Collection[str] = ()
    count = ''
    hint = ''       # for one who has typed a word too many

    def parse_intermixed_args(self, args: Any = None,
                              namespace: Any = None) -> Any:
        """As ever, but a word after a bare flag is not its value."""
        return super().parse_intermixed_args(
            self._whole(sys.argv[1:] if args is None else args), namespace)

    def _whole(self, arguments: Sequence[str]) -> list[str]:
        """Return the arguments with all that may be left out."""
        found: list[str] = []
        words: list[int] = []
        value = False               # the next one is that of a flag
        for argument in arguments:
            if not value and not argument.startswith('-'):
                words.append(len(found))
            value = not value and argument in self.valued
            found.append(f'{argument}={self.bare[argument]}'
                         if argument in self.bare else argument)
        if self.count and words and not (
                len(words) > 1 and found[words[1]].isdecimal()):
            found.insert(words[0] + 1, self.count)
        return found

    def error(self, message: str) -> NoReturn:
        # They are not required, though the library says so of intermixed ones.
        message = message.replace(', NAME=VALUE', '').replace(', N', '')
        if message.startswith('unrecognized arguments'):
            message += self.hint
        self.exit(EX_USAGE, f'{self.prog}: {message}; see {self.prog} '
                            '--help\n')


def parser_of(script: str, about: str, examples: str) -> Parser:
    """Return the parser of `tm-SCRIPT`; what it parses is for `made`."""
    parser = Parser(
        prog=f'tm-{script}', description=about,
        epilog='examples:\n' + examples, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--version', action='version',
                        version=f'taskmaster {__version__}')
    settings = of_script(script)
    parser.bare = {flag_of(name): setting.bare
                   for name, setting in settings.items()
                   if setting.bare is not None}
    parser.valued = {flag_of(name) for name, setting in settings.items()
                     if not setting.word and setting.convert is not None
                     and setting.bare is None}
    if 'run' in settings:
        parser.hint = '; a run is named with --run=NAME'
    if 'slaves' in settings:
        parser.count = str(default_of('slaves', script))
    groups = {setting.rather: parser.add_mutually_exclusive_group()
              for setting in settings.values() if setting.rather}
    for name, setting in settings.items():
        group = groups.get(name) or groups.get(setting.rather)
        _add(group or parser, name, setting, default_of(name, script))
    return parser


def _add(parser: argparse._ActionsContainer, name: str, setting: Setting,
         default: Any) -> None:
    described = _help(setting, default)
    flag = flag_of(name)
    if setting.convert is None:
        parser.add_argument(flag, action='store_true', help=described)
        return
    kind = _kind(setting.convert)
    if not setting.word:
        parser.add_argument(flag, type=kind, metavar=setting.metavar,
                            default=default, help=described,
                            nargs=None if setting.bare is None else '?')
    elif setting.word == '1':
        parser.add_argument(name, type=kind, metavar=setting.metavar,
                            help=described)
    else:
        parser.add_argument(name, type=kind, metavar=setting.metavar,
                            nargs=setting.word, help=described)


def _kind(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return the converter, whose errors argparse would not show otherwise."""
    def kind(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return kind


def _help(setting: Setting, default: Any) -> str:
    if default is False or setting.word:
        text = setting.help
    else:
        shown = (setting.unset or 'none' if default is None
                 else f'{default:g}' if isinstance(default, float)
                 else str(default))
        unit = f' {setting.unit}' if default is not None else ''
        text = f'{setting.help} (default: {shown}{unit.rstrip()})'
    return text.replace('%', '%%')
