"""`python -m taskmaster master ...` is the same as `tm-master ...`.

The supervisor starts its slaves by the path of this file instead, so that
this package is found wherever it was installed, and nothing else is in the
folder from which they are started.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import sys

TYPE_CHECKING = False   # as in `records`, which may not be found yet
if TYPE_CHECKING:
    from typing import Any, NoReturn

SCRIPTS = 'master', 'slave', 'spawn', 'run', 'ctl'
PACKAGE = 'taskmaster'


def main(**options: Any) -> NoReturn:
    """Run the script that the command line names; with a ``timing``, say."""
    gc.disable()        # while modules are loaded, see `cli.script.loading`
    _leave_folder()
    script = sys.argv[1] if len(sys.argv) > 1 else ''
    if script not in SCRIPTS:
        output = importlib.import_module(f'{PACKAGE}.console.output')
        output.to_stderr(
            f'usage: python -m {PACKAGE} {{{",".join(SCRIPTS)}}} ...')
        sys.exit(2)
    importlib.import_module(f'{PACKAGE}.cli.{script}').main(
        sys.argv[2:], **options)
    raise AssertionError('a script exits')


def _leave_folder() -> None:
    """Undo what Python put first in `sys.path`: a folder by no choice.

    That is the current one, where the operator's files are (they come after
    the standard library, see `usercode.places`), or else this package.
    """
    if not sys.flags.isolated and not getattr(sys.flags, 'safe_path', False):
        del sys.path[0]
    if PACKAGE not in sys.modules:
        folder = os.path.dirname(os.path.abspath(__file__))
        spec = importlib.util.spec_from_file_location(
            PACKAGE, os.path.join(folder, '__init__.py'),
            submodule_search_locations=[folder])
        assert spec is not None and spec.loader is not None
        module = sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


if __name__ == '__main__':
    main()
