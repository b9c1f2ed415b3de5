"""Each script says what it does, with commands to copy."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.hunt


@pytest.mark.smoke
@pytest.mark.parametrize('name', ['master', 'slave', 'spawn', 'run', 'ctl'])
def test_help(name):
    said = subprocess.run([sys.executable, '-m', 'taskmaster', name, '--help'],
                          capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith(f'usage: tm-{name} ')
    assert f'  tm-{name} ' in said.stdout.partition('examples:')[2]
    assert said.stderr == ''
