"""Several runs on one machine, and what is left of them: `tm-ctl --run`."""

import json
import signal

import pytest
from programs import NUMBERS, eventually

pytestmark = pytest.mark.hunt

BLOCKING = NUMBERS + '''
    block(f'blocked-{__name__}')
'''


@pytest.fixture
def ctl(work):
    """``ctl(words...)``: code, stdout and stderr of a plain `tm-ctl`."""
    def run(*words):
        program = work.finish('ctl', *words)
        return program.code(), program.out, program.err
    return run


def test_runs_side_by_side(work, ctl):
    for name in 'one', 'two':
        work.write(f'{name}.py', BLOCKING)
    runs = {}
    for name in 'one', 'two':       # nobody has to say where
        runs[name] = work.start('run', name, '1', host=None)
        eventually(lambda: work.has(f'blocked-{name}'))
    code, out, err = ctl('status')
    assert (code, out) == (2, '') and 'one, two; give --run' in err
    for name in 'one', 'two':
        code, out, _ = ctl('status', f'--run={name}', '--json')
        assert json.loads(out)['run'] == name
    code, _, err = ctl('pause', '--run=three')
    assert code == 69 and 'no run three of yours' in err
    assert ctl('pause', '--run=two')[:2] == (0, 'paused\n')
    eventually(lambda: 'paused' in ctl('list')[1])
    listed = {run['run']: run for run in json.loads(ctl('list', '--json')[1])}
    assert [listed[name]['pid'] for name in ('one', 'two')] == [
        runs[name].pid for name in ('one', 'two')]

    # One is killed, and the other is the only one from then on.
    runs['two'].send(signal.SIGKILL)
    runs['two'].code()
    code, out, _ = ctl('status', '--run=two')
    assert code == 0 and 'state:    crashed' in out
    code, _, err = ctl('resume', '--run=two')
    assert code == 69 and 'two is not live: crashed' in err
    assert ctl('stop')[0] == 0
    work.touch('go')
    assert runs['one'].code() == -signal.SIGTERM
    code, out, _ = ctl('status', '--run=one', '--json')
    found = json.loads(out)
    assert code == 0 and (found['state'], found['exit_code']) == (
        'stopped', 143)
    assert found['ended'] and found['elapsed'] > 0
