"""The shell blocks of docs/operating.md, as they are printed."""

import re
import sys
from pathlib import Path

import pytest
from programs import NUMBERS, eventually

pytestmark = pytest.mark.hunt

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs' / 'operating.md').read_text()


def blocks(title):
    part = PAGE.partition(f'## {title}\n')[2].partition('\n## ')[0]
    found = re.findall(r'^```sh\n(.*?)^```$', part, re.M | re.S)
    assert found, title
    return found


@pytest.fixture
def sh(work):
    """``sh(text)``: a shell with our scripts on its path, at its end."""
    bin = work.path / 'bin'
    bin.mkdir()
    for name in 'run', 'ctl', 'master':
        script = bin / f'tm-{name}'
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m taskmaster '
                          f'{name} "$@"\n')
        script.chmod(0o755)

    def run(text):
        program = work.program('sh', '-c', text, environ={
            'PATH': f'{bin}:{work.environ["PATH"]}'})
        program.code()
        return program.out
    return run


def test_the_recipes(work, sh):
    work.write('migrate.py', NUMBERS + '''
    if job == 3:
        block('blocked')
''')
    work.write('check.py', (work.path / 'migrate.py').read_text())
    (work.path / 'metrics').mkdir()
    in_background, = blocks('Several runs side by side')
    by_code, by_state = blocks('Is it well?')
    metrics, = blocks('Metrics and alerts')
    one, = blocks('Under nohup, and from cron')
    assert one in in_background
    sh(in_background)
    eventually(lambda: all(
        sh(f'tm-ctl status --run={name}').count('state:   running')
        for name in ('migrate', 'check')))
    assert sh(by_state) == ''
    sh('tm-ctl pause --run=migrate')
    assert sh(by_state) == 'migrate: paused\n'
    sh(metrics)
    read = Path(work.path, 'metrics', 'migrate.prom').read_text()
    assert 'taskmaster_up{run="migrate"} 1\n' in read
    sh('tm-ctl resume --run=migrate')
    work.touch('go')
    eventually(lambda: 'live' not in sh('tm-ctl list --json | '
                                        'grep \'"live": true\''))
    assert sh(by_state) == ''               # it is complete
    sh(metrics)
    read = Path(work.path, 'metrics', 'migrate.prom').read_text()
    assert 'taskmaster_exit_code{run="migrate"} 0\n' in read
    assert 'complete' in sh(by_code)
