"""The screen of `tm-ctl top`: what stands on it, and how it is left."""

import signal
from types import SimpleNamespace

import pytest

from taskmaster.cli.top import ENTER, LEAVE, SIGNALS, Terminal
from taskmaster.console.ending import Stopped
from taskmaster.console.line import cells
from taskmaster.console.top import ASCII, View, graph, screen

SLAVE = {'name': 'vm:1', 'workers': 1, 'connected': True, 'done': 5,
         'failed': 0, 'rate': 1.5, 'in_hand': 20, 'oldest': 0.5}
STATUS = {
    'run': 'migrate', 'version': '1.0.0', 'state': 'running',
    'paused': False, 'current': 1_234_567, 'total': 2_000_000, 'failed': 112,
    'rate': 991.5, 'limit': None, 'eta': 40.0, 'queued': 5597,
    'size': 10_000, 'slower': 'slaves', 'rates': [500.0, 0.0, 1000.0],
    'started': '2026-11-26T00:57:22+00:00', 'elapsed': 4000.5, 'pid': 17,
    'host': 'db1', 'kinds': [], 'times': None, 'oldest': {
        'number': 4404, 'key': '4404', 'slave': 'vm:1', 'age': 75.0},
    'slave_count': 1, 'in_hand': 20, 'slaves': [SLAVE]}
LONG = ('throttled: replicas are 9 s behind, and so is the one in the other '
        'building, which has not answered since noon')
OVER = {'run': 'migrate', 'state': 'complete', 'live': False, 'exit_code': 1,
        'current': 10, 'total': 10, 'failed': 1, 'elapsed': 66.0,
        'started': '2026-11-26T00:57:22+00:00',
        'ended': '2026-11-26T00:58:28+00:00', 'seen': '', 'host': 'db1',
        'reason': 'complete, but for the failed jobs (exit code 1)',
        'state_file': '/srv/migrate.state',
        'failures_file': '/srv/migrate.failures'}
SIZES = [(80, 24), (100, 30), (200, 50)]


def test_a_run_that_hands_nothing_out_has_no_bottleneck():
    said = '\n'.join(screen(View({**STATUS, 'slower': None}), 80, 24))
    assert 'bottleneck' not in said and '\nqueue 5597/10000 ' in said


def many(count, **changes):
    return {**STATUS, 'slave_count': count, 'slaves': [
        {**SLAVE, 'name': f'web{n}:{n}'} for n in range(min(count, 60))],
        **changes}


def kinds(count):
    return [{'kind': f'ValueError at migrate.py:{n}', 'count': 100 - n}
            for n in range(count)]


STATUSES = {
    'running': STATUS, 'throttled': {**STATUS, 'state': LONG},
    'paused': {**STATUS, 'state': 'paused', 'eta': None, 'rate': 0.0},
    'uncounted': {**STATUS, 'total': None, 'eta': None},
    'beyond': {**STATUS, 'current': 3_000_000, 'eta': None},
    'forty': many(40), 'thousand': many(1000, kinds=kinds(5)),
    'failing': {**STATUS, 'kinds': kinds(50)},
    'none': {**STATUS, 'slaves': [], 'slave_count': 0, 'oldest': None},
    'wide': {**STATUS, 'run': '移' * 300, 'state': '行' * 300},
    'limited': {**STATUS, 'limit': 1000.0, 'times': {
        'median': 0.0012, 'p99': 0.5,
        'slowest': [{'key': 'k' * 300, 'seconds': 90.0}] * 5}}}


@pytest.mark.parametrize('width, height', [*SIZES, (20, 5), (1, 1), (80, 2)])
@pytest.mark.parametrize('name', STATUSES)
def test_it_fits(name, width, height):
    lines = screen(View(STATUSES[name]), width, height)
    assert len(lines) == height
    assert all(cells(line) <= width for line in lines)


@pytest.mark.parametrize('width, height', SIZES)
@pytest.mark.parametrize('name', STATUSES)
def test_what_matters_is_there_in_any_size(name, width, height):
    status = STATUSES[name]
    said = '\n'.join(screen(View(status), width, height))
    assert f"failed {status['failed']}" in said
    assert f"rate: {status['rate']:.2f}/s" in said
    assert 'bottleneck: slaves' in said and 'q quit' in said
    if name not in ('uncounted', 'beyond'):
        assert '61%' in said and 'ETA ' in said
    else:
        assert '%' not in said and 'ETA' not in said


@pytest.mark.parametrize('width, height', SIZES)
def test_the_whole_reason(width, height):
    lines = screen(View({**STATUS, 'state': LONG}), width, height)
    assert LONG in ' '.join(lines)


def test_a_job_that_hangs():
    said = '\n'.join(screen(View(STATUS), 80, 24))
    assert 'oldest: job 4404 (key 4404), with vm:1 for 0:01:15' in said


def test_slaves_get_what_is_left_of_the_screen():
    lines = screen(View(STATUSES['thousand']), 80, 24)
    shown = [line for line in lines if line.startswith('  web')]
    assert f'  and {1000 - len(shown)} slaves more' in lines
    assert len(shown) >= 3 and lines[-2].startswith('  and ')
    more = screen(View(STATUSES['thousand']), 80, 50)
    assert sum(line.startswith('  web') for line in more) > len(shown) + 20


def test_so_do_the_kinds_of_failures():
    lines = screen(View(STATUSES['failing']), 80, 24)
    said = '\n'.join(lines)
    assert '100 x ValueError at migrate.py:0' in said
    shown = sum(' x ValueError' in line for line in lines)
    assert f'and {50 - shown} kinds more' in said and shown >= 2
    assert '  vm:1' in said             # and a slave is there still


def test_nothing_that_others_wrote_steers_the_terminal():
    status = {**STATUS, 'run': 'a\x1b[2J', 'state': 'b\x1b[2J\nc', 'kinds': [
        {'kind': 'd\x1b[2J', 'count': 1}], 'slaves': [
        {**SLAVE, 'name': 'e\x9b2J'}]}
    lines = screen(View(status, note='f\x1b[2J'), 100, 30)
    assert all(line.isprintable() for line in lines)


def test_a_run_that_is_over_says_how():
    for status in None, {**STATUS, 'kinds': kinds(2)}:
        lines = screen(View(status, OVER, keys='q quit'), 80, 24)
        said = '\n'.join(lines)
        assert 'complete at 2026-11-26T00:58:28+00:00, but' in said
        assert '(exit code 1)' in ' '.join(said.split())    # its end too
        assert '/srv/migrate.failures' in said and lines[-1] == 'q quit'
        assert ('ValueError' in said) == (status is not None)


def test_what_was_said_stands_above_the_keys():
    assert screen(View(STATUS, note='paused'), 80, 24)[-2] == 'paused'


def test_the_line_of_rates():
    assert graph([0, 1, 50, 100], 10, ASCII) == ' .=@'
    assert graph([0, 1, 50, 100], 2, ASCII) == '=@'
    assert graph([0, 0], 9, ASCII) == '..'
    assert graph([], 9) == graph([1.0], 0) == ''


# -- the terminal ---------------------------------------------------------

@pytest.fixture
def done(monkeypatch):
    """What is done to a terminal, in order; there is none."""
    done = []
    monkeypatch.setattr('termios.tcgetattr', lambda fd: 'before')
    monkeypatch.setattr('termios.tcsetattr',
                        lambda fd, when, what: done.append(what))
    monkeypatch.setattr('tty.setcbreak', lambda fd: done.append('ours'))
    monkeypatch.setattr('sys.stdin', SimpleNamespace(fileno=lambda: 0))
    monkeypatch.setattr('sys.stdout', SimpleNamespace(fileno=lambda: 1))
    monkeypatch.setattr(Terminal, '_write', lambda _, text: done.append(text))
    numbers = *SIGNALS, signal.SIGTSTP
    handlers = [signal.getsignal(number) for number in numbers]
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)
    yield done
    for number, handler in zip(numbers, handlers):
        signal.signal(number, handler)


WHOLE = ['ours', ENTER, LEAVE, 'before']


def test_ctrl_backslash_leaves_the_terminal_as_it_was(done):
    with pytest.raises(Stopped):
        with Terminal():
            assert signal.getsignal(signal.SIGQUIT) != signal.SIG_DFL
            raise Stopped(signal.SIGQUIT)
    assert done == WHOLE


def test_also_where_a_signal_comes_while_it_is_entered(done, monkeypatch):
    def interrupted(self, text):
        done.append(text)
        if text == ENTER:
            raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(Terminal, '_write', interrupted)
    with pytest.raises(Stopped):
        with Terminal():
            pass
    assert done == WHOLE
