"""What others wrote never steers the terminal of who looks on."""

import pytest
from programs import eventually

pytestmark = pytest.mark.hunt

MODULE = r'''
import os
from recorder import record

NASTY = '\x1b]0;pwned\x07\x9b2J\u202e\r'


class Job:
    def __init__(self, pk):
        self.pk = f'{pk:04}{NASTY}'

    def __repr__(self):
        return NASTY


class Stuck(Job):
    def __reduce__(self):
        raise ValueError(NASTY)


def get_jobs(last=''):
    yield from (Job(n) for n in range(1, 4))
    yield Stuck(4)
    if os.path.exists('raise'):
        raise KeyError(NASTY)


def handle_job(job):
    raise ValueError(NASTY)
'''


def harmless(program):
    for text in program.err, program.out:
        assert all(char.isprintable() or char == '\n' for char in text), (
            repr(text))
    return True


def test_errors_keys_and_reprs(work):
    work.write('migrate.py', MODULE)
    dry = work.finish('run', 'migrate', '1', '--dry-run')
    assert dry.code() == 70 and harmless(dry)
    assert '\\x1b]0;pwned' in dry.out and 'CANNOT BE PICKLED' in dry.out
    work.touch('raise')
    for more in [], ['--inline']:
        run = work.finish('run', 'migrate', '1', '--reset', *more)
        assert run.code() == 70 and harmless(run)
        assert 'get_jobs raised KeyError' in run.err
        assert 'Traceback' in run.err
        again = work.finish('run', 'migrate', '1', *more)   # at a resume
        assert again.code() == 70 and harmless(again)
        assert 'resuming after key' in again.err


def test_reasons_names_and_locks(work):
    work.write('migrate.py', MODULE + r'''

def throttle():
    return 'wait ' + NASTY
''')
    master = work.start('master', 'migrate')
    status = eventually(lambda: (
        lambda ctl: ctl if 'throttled' in ctl.out else None)(
            work.finish('ctl', 'status', master.host)), 'a reason')
    assert harmless(status) and '\\x1b]0;pwned' in status.out
    (work.path / 'migrate.state.lock').write_text('\x1b[2J pid 1\n')
    second = work.finish('master', 'migrate')
    assert second.code() == 75 and harmless(second)
    other = work.finish('ctl', 'status', '--run=\x1b[2J', master.host)
    assert other.code() == 78 and harmless(other)
    work.finish('ctl', 'stop', master.host)
    master.code()
    assert harmless(master)
