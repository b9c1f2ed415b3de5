"""`python -m taskmaster master ...` is the same as `tm-master ...`."""

import importlib
import sys
from typing import NoReturn

from .console.output import to_stderr
from .errors import UsageError

SCRIPTS = 'master', 'slave', 'spawn', 'run', 'ctl'


def main() -> NoReturn:
    name = sys.argv[1] if len(sys.argv) > 1 else ''
    if name not in SCRIPTS:
        to_stderr(f'usage: python -m taskmaster {{{",".join(SCRIPTS)}}} ...')
        sys.exit(UsageError.exit_code)
    script = importlib.import_module(f'.cli.{name}', __package__)
    script.main(sys.argv[2:])
    raise AssertionError('a script exits')


if __name__ == '__main__':
    main()
