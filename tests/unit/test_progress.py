"""The status line: its text alone, then on real terminals and pipes."""

import fcntl
import io
import logging
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading

import pytest

from taskmaster.console.line import (Forecast, Rate, Status, cut_state,
                                     estimate, format_status)
from taskmaster.console.progress import Progress

SEED = 'Current Job: 30421 | Rate:  991.06/s | Elapsed Time: 0:00:40'
FULL = Status(30421, 10000, 3, 2, 'draining', 82000)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


class Terminal:
    """A pty of a given width; `screen` is what it shows, line by line."""

    def __init__(self, columns):
        self.master, slave = pty.openpty()
        self.resize(columns)
        self.stream = os.fdopen(slave, 'w', encoding='utf-8')

    def resize(self, columns):
        self.columns = columns
        size = struct.pack('HHHH', 24, columns, 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def read(self):
        """What was drawn since the last call, as text."""
        data = b''
        while select.select([self.master], [], [], 0)[0]:
            data += os.read(self.master, 65536)
        return data.decode()

    def screen(self):
        """A terminal in twenty lines: carriage return and wrapping."""
        lines, column = [''], 0
        for char in self.read():
            if char == '\r':
                column = 0
            elif char == '\n':
                lines.append('')
            else:
                assert char.isprintable(), repr(char)
                if column == self.columns:
                    lines.append('')
                    column = 0
                line = lines[-1]
                lines[-1] = line[:column] + char + line[column + 1:]
                column += 1
        return [line.rstrip() for line in lines]

    def close(self):
        self.stream.close()
        os.close(self.master)


@pytest.fixture
def terminal():
    opened = []

    def make(columns):
        opened.append(Terminal(columns))
        return opened[-1]
    yield make
    for each in opened:
        each.close()


class Pipe:
    def __init__(self):
        self.end, write = os.pipe()
        os.set_blocking(self.end, False)
        self.stream = os.fdopen(write, 'w')

    def lines(self):
        try:
            return os.read(self.end, 1 << 20).decode().splitlines()
        except BlockingIOError:
            return []


@pytest.fixture
def pipe():
    made = Pipe()
    yield made
    made.stream.close()
    os.close(made.end)


# The text

def test_line_starts_as_in_the_seed():
    status = Status(30421, 10000, 3, 2)
    assert format_status(status, 991.06, 40.9) == (
        SEED + ' | Queue: 10000 | Slaves: 3 | Failed: 2')


def test_line_with_total_and_state():
    assert format_status(FULL, 991.06, 40, 751.9) == (
        SEED + ' | Queue: 10000 | Slaves: 3 | Failed: 2 | 30421/82000 | 37%'
        ' | ETA: 0:12:31 | draining')


def test_unknown_eta():
    assert ' | 37% | ETA: --:--:-- | ' in format_status(FULL, 0, 40, None)


@pytest.mark.parametrize('current, total, percent', [
    (999, 1000, '99%'), (9999, 10000, '99%'), (1000, 1000, '100%'),
    (0, 0, '100%'), (0, 5, '0%')])
def test_per_cent(current, total, percent):
    line = format_status(Status(current, total=total), 0, 0, 0)
    assert f' | {percent} | ETA: 0:00:00' in line


def test_no_per_cent_when_there_is_more_than_the_total():
    line = format_status(Status(1047, total=1000), 0, 0, None)
    assert '%' not in line and 'ETA' not in line


def test_what_matters_least_goes_first():
    full = format_status(FULL, 991.06, 40, 751)
    for width in range(1, len(full) + 2):
        line = format_status(FULL, 991.06, 40, 751, width)
        assert len(line) <= width
        if width >= len('Current Job: 30421'):  # no part is cut but the state
            *parts, state = line.split(' | ')
            assert set(parts) <= set(full.split(' | '))
            assert state in parts or 'draining'.startswith(state) or (
                state in full.split(' | '))
    assert line == full


RATE = 'Current Job: 30421 | Rate:  991.06/s'
LONG = 'throttled: replicas are 9 s behind, db7 the most'


@pytest.mark.parametrize('status, line', [
    (FULL, 'Current Job: 30421 | Failed: 2 | 37% | ETA: 0:12:31 | draining'),
    (FULL._replace(state=''), RATE + ' | Failed: 2 | 37% | ETA: 0:12:31'),
    (FULL._replace(state='', failed=0), RATE + ' | 37% | ETA: 0:12:31'),
    (FULL._replace(state='', total=None, failed=0), SEED + ' | Slaves: 3'),
    (FULL._replace(state='paused', halted=True),
     RATE + ' | Failed: 2 | 37% | paused'),
    (FULL._replace(state=LONG, total=None),
     RATE + ' | Failed: 2 | throttled: replicas are 9...'),
    (FULL._replace(state='job 30422 (key 30422) is with web1:312',
                   since=' for 35 s', total=None),
     RATE + ' | Failed: 2 | job 30422 (key 3... for 35 s')])
def test_of_eighty_columns(status, line):
    assert format_status(status, 991.06, 40, 751, 79) == line


@pytest.mark.parametrize('columns', [80, 100, 132])
@pytest.mark.parametrize('failed', [0, 1, 9999999])
@pytest.mark.parametrize('state', ['', 'paused', 'draining', LONG])
@pytest.mark.parametrize('eta', [None, 40, 86399])
def test_what_never_gives_way(columns, failed, state, eta):
    status = Status(8234567, 10000, 8, failed, state, 9876543)
    line = format_status(status, 123456.78, 40000, eta, columns - 1)
    assert len(line) < columns
    assert line.startswith('Current Job: 8234567 | ')
    assert ' | 83%' in line
    shown = {None: '--:--:--', 40: '0:00:40', 86399: '23:59:59'}[eta]
    assert f' | ETA: {shown}' in line
    assert not failed or f' | Failed: {failed}' in line
    assert not state or f' | {state[:8]}' in line or failed > 1


def test_what_gives_way_first():
    """Queue and slaves, then the elapsed time, and then the rate."""
    status = Status(30421, 10000, 8, 1, '', 2000000)
    gone = []
    for width in range(150, 50, -1):
        line = format_status(status, 991.06, 40, 40, width)
        for part in ('Queue', 'Slaves', '/2000000', 'Elapsed', 'Rate'):
            if part not in line and part not in gone:
                gone.append(part)
    assert gone == ['Queue', 'Slaves', '/2000000', 'Elapsed', 'Rate']


def test_a_reason_is_cut_before_its_age():
    status = Status(state='job 3 (key 3) is with web1:3', since=' for 35 s')
    assert cut_state(status, 40) == 'job 3 (key 3) is with web1:3 for 35 s'
    assert cut_state(status, 30) == 'job 3 (key 3) is w... for 35 s'
    more = status._replace(more=', as one of 198')
    assert cut_state(more, 60) == (
        'job 3 (key 3) is with web1:3 for 35 s, as one of 198')
    assert cut_state(more, 40) == 'job 3 (key 3) is with web1:3 for 35 s'
    assert cut_state(status, 12) == 'job 3 (key 3'
    assert cut_state(status, -1) == ''


def test_wide_characters_count_twice():
    status = Status(1, state='待機中' * 10)
    for width in range(70, 120):
        line = format_status(status, 0, 0, None, width)
        cells = len(line) + sum(char in '待機中' for char in line)
        assert cells <= width and '待機中' in line


def test_state_cannot_control_the_terminal():
    line = format_status(Status(state='\x1b[2Jlag\n35 s\x85'), 0, 0)
    assert line.isprintable() and line.rstrip().endswith('lag 35 s')


# The rate and the ETA

def test_rate_is_recent():
    rate = Rate(5)
    assert rate.per_second() == 0
    for tick in range(40):                  # ten seconds at 100 a second
        rate.add(tick / 4, tick * 25)
    assert rate.per_second() == pytest.approx(100)
    for tick in range(40, 80):              # ten at 4 a second
        rate.add(tick / 4, 1000 + tick - 40)
    assert rate.per_second() == pytest.approx(4)


def test_rate_over_few_samples():
    rate = Rate(5)
    rate.add(0, 7)
    rate.add(0, 7)
    assert rate.per_second() == 0           # no time has passed
    rate.add(60, 67)                        # both older than the window
    assert rate.per_second() == 1


def test_rate_keeps_few_samples():
    rate = Rate(5)
    for tick in range(1000):
        rate.add(tick / 4, tick)
    assert len(rate._samples) == 21


@pytest.mark.parametrize('current, total, rate, eta', [
    (50, None, 5, None), (50, 100, 5, 10), (50, 100, 0, None),
    (100, 100, 0, 0), (150, 100, 5, None), (0, 10 ** 18, 1e-9, None)])
def test_estimate(current, total, rate, eta):
    assert estimate(Status(current, total=total), rate) == eta
    assert estimate(Status(current, total=total, halted=True), rate) is None


def run(progress, clock, seconds, rate, total=None, current=0, step=0.25):
    """Update as a master does; give the last status."""
    status = Status(current, total=total)
    for tick in range(1, int(seconds / step) + 1):
        clock.now += step
        done = current + int(tick * step * rate)
        status = Status(done, total=total)
        progress.update(status)
    return status


def test_eta_after_resume(pipe, clock):
    progress = Progress(pipe.stream, clock=clock)
    progress.start(90000)
    run(progress, clock, 10, 100, total=100000, current=90000)
    line = pipe.lines()[-1]
    assert line.startswith('Current Job: 91000 | Rate:  100.00/s | '
                           'Elapsed Time: 0:00:10 | ')
    assert line.endswith(' | 91000/100000 | 91% | ETA: 0:01:30')


def test_eta_of_jobs_slower_than_its_window(pipe, clock):
    progress = Progress(pipe.stream, clock=clock)
    progress.start(5)
    run(progress, clock, 150, 0.01, total=8, current=5)   # one in 100 s
    # one of three done in this process; the mean is one in 150 s
    progress.finish(Status(6, total=8))
    line = pipe.lines()[-1]
    assert 'Rate:    0.00/s' in line and line.endswith('75% | ETA: 0:05:00')


def eta_after(clock, *parts, total=100_000):
    """Of the line and of `tm-ctl`: ``parts`` are seconds, rate, status."""
    forecast, current = Forecast(), 0.0
    for seconds, rate, more in parts:
        for _ in range(int(seconds * 4)):
            status = Status(int(current), total=total, **more)
            forecast.add(clock(), status)
            clock.now += 0.25
            current += rate / 4
    return forecast.eta(status)


def test_eta_after_a_pause(clock):
    """By the rate before it, at once."""
    going = 60, 1000, {}
    assert eta_after(clock, going) == pytest.approx(40, abs=1)
    paused = 3600, 0, {'halted': True}
    assert eta_after(clock, going, paused) is None
    assert eta_after(clock, going, paused, (0.5, 1000, {})) == pytest.approx(
        40, abs=3)


def test_eta_after_a_change_of_rate(clock):
    """By the rate of the last seconds, and never faster than the limit."""
    fast, slow = (60, 1000, {}), (6, 100, {})
    assert eta_after(clock, fast, slow) == pytest.approx(394, abs=2)
    assert eta_after(clock, (60, 100, {}), (6, 1000, {})) == pytest.approx(
        88, abs=1)
    assert eta_after(clock, fast, (0.25, 1000, {'limit': 10.0})) == (
        pytest.approx(4000, abs=1))
    # So slow that five seconds say little.
    assert eta_after(clock, fast, (6, 1, {})) == pytest.approx(
        40_000, rel=0.3)


def test_eta_while_a_throttle_holds_jobs_back(clock):
    """Not by what was before: it may do so all day."""
    fast, held = (60, 1000, {}), {'held': True}
    assert eta_after(clock, fast, (6, 0, held)) is None
    # Half of the time: as fast as that is.
    assert eta_after(clock, *[(1, 1000, {}), (1, 0, held)] * 30) == (
        pytest.approx(140, abs=30))


def test_a_pause_takes_no_memory(clock):
    forecast = Forecast()
    for current in 0, 1:
        for _ in range(10_000):
            clock.now += 0.25
            forecast.add(clock(), Status(current, halted=True))
    assert len(forecast._steady._samples) < 10


# Plain lines

def test_plain_lines_ever_less_often(pipe, clock):
    progress = Progress(pipe.stream, clock=clock)
    progress.start(0)
    times = []
    for _ in range(4 * 1000):
        clock.now += 0.25
        progress.update(Status(0, 1, 2, 3, 'pau\rsed'))
        lines = pipe.lines()
        assert len(lines) <= 1
        if lines:
            times.append(clock.now - 1000)
            assert lines[0].endswith('Queue: 1 | Slaves: 2 | Failed: 3'
                                     ' | pau sed')
            assert lines[0].isprintable()
    assert times[:10] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    gaps = [b - a for a, b in zip(times, times[1:])]
    assert sorted(gaps) == gaps or max(
        abs(a - b) for a, b in zip(gaps, gaps[1:])) <= 4
    assert gaps[-5:] == [30] * 5
    assert max(gaps) <= 30.25


def test_late_updates_are_not_caught_up(pipe, clock):
    progress = Progress(pipe.stream, clock=clock)
    progress.start(0)
    clock.now += 100
    for _ in range(8):
        progress.update(Status())
        clock.now += 0.25
    assert len(pipe.lines()) == 1


def test_finish_prints_the_last_line_once(pipe, clock):
    progress = Progress(pipe.stream, clock=clock)
    progress.finish(Status())               # never started: nothing to say
    progress.start(0)
    progress.finish(Status(7))
    progress.finish(Status(8))
    progress.update(Status(9))
    line, = pipe.lines()
    assert line.startswith('Current Job: 7 | ')


def test_plain_lines_are_not_cut(pipe, clock):
    progress = Progress(pipe.stream, clock=clock)
    progress.start(0)
    progress.finish(Status(state='x' * 500))
    assert pipe.lines()[0].endswith('x' * 500)


def test_disabled(pipe, terminal, clock):
    term = terminal(80)
    for stream in pipe.stream, term.stream:
        progress = Progress(stream, enabled=False, clock=clock)
        progress.start(0)
        run(progress, clock, 20, 10)
        progress.write_line('a line')
        progress.finish(Status(1))
    assert pipe.lines() == ['a line']
    assert term.read() == 'a line\r\n'


# The bar

@pytest.mark.parametrize('columns, tail', [
    (100, ' | Failed: 2 | 37% | ETA: 0:00:52'),
    (200, ' | Queue: 10000 | Slaves: 3 | Failed: 2 | 30421/82000 | 37%'
          ' | ETA: 0:00:52'),
    (50, None)])
def test_bar(terminal, clock, columns, tail):
    term = terminal(columns)
    before = termios.tcgetattr(term.stream)
    winch = signal.getsignal(signal.SIGWINCH)
    progress = Progress(term.stream, clock=clock)
    progress.start(0)
    clock.now += 0.25
    progress.update(Status(17, state='waiting'))
    # 4955 jobs in 5 s, 40 s after the start; 51579 to go
    full = FULL._replace(state='')
    clock.now = 1035
    progress.update(full._replace(current=30421 - 4955))
    clock.now = 1040
    progress.update(full)
    assert signal.getsignal(signal.SIGWINCH) is winch
    want = SEED.replace('991.06', '991.00') + str(tail)
    if tail is None:
        want = 'Current Job: 30421 | Failed: 2 | 37%'
    raw = term.read()
    assert '\n' not in raw                  # one line, redrawn
    drawn = [line.rstrip() for line in raw.split('\r') if line]
    assert len(drawn) == 3 and drawn[0].startswith('Current Job: 17 |')
    assert drawn[-1] == want
    progress.finish(full)
    assert term.screen() == [want, '']
    assert termios.tcgetattr(term.stream) == before
    assert signal.getsignal(signal.SIGWINCH) is winch


def test_a_reason_that_does_not_fit_is_said_once(terminal, clock):
    term = terminal(80)
    progress = Progress(term.stream, clock=clock)
    progress.start(0)
    other = 'throttled: the office is open, as the calendar says'
    # A number that changes is no other reason, or not for a while.
    for now, lag, said in [(0, LONG, True), (1, LONG, False),
                           (2, LONG.replace('9', '10'), False), (3, '', False),
                           (4, LONG, False), (5, other, True),
                           (6, LONG.replace('9', '11'), True),
                           (40, LONG.replace('9', '12'), True)]:
        clock.now = 1000 + now
        progress.update(Status(30421, failed=1, state=lag))
        lines = term.screen()
        assert (lag in lines[:-1]) == said, (now, lines)
        assert lines[-1].count('throttled') == (lag != '')
    progress.finish(Status())


def test_shorter_line_leaves_nothing_behind(terminal, clock):
    term = terminal(100)
    progress = Progress(term.stream, clock=clock)
    progress.start(0)
    progress.update(Status(state='待機中' * 5))
    progress.finish(Status())
    screen = term.screen()
    assert screen == [format_status(Status(), 0, 0), '']


def test_wide_state_does_not_wrap(terminal, clock):
    term = terminal(110)
    progress = Progress(term.stream, clock=clock)
    progress.start(0)
    for _ in range(2):                      # the first draw is another path
        progress.update(Status(state='待機中'))
        raw = term.read()
        assert '待機中' in raw and len(raw) - 1 + 3 == 109
    progress.finish(Status())


def test_follows_the_size_of_the_terminal(terminal, clock):
    term = terminal(200)
    progress = Progress(term.stream, clock=clock)
    progress.start(0)
    progress.update(FULL)
    assert 'Queue' in term.read()
    term.resize(70)
    progress.update(FULL)
    assert len(term.read()) == 1 + 69       # padded, never wrapped
    progress.finish(FULL)


def test_over_the_total(terminal, clock):
    term = terminal(200)
    progress = Progress(term.stream, clock=clock)
    progress.start(0)
    clock.now += 1
    progress.update(Status(50, total=100))
    progress.update(Status(104, total=100))
    progress.finish(Status(105, total=100))
    line = term.screen()[0]
    assert 'Job: 105 |' in line and '%' not in line and 'ETA' not in line


def test_started_again(terminal, clock):
    term = terminal(80)
    progress = Progress(term.stream, clock=clock)
    for number in 1, 2:
        progress.start(0)
        progress.update(Status())
        progress.finish(Status(number))
    first, second, last = term.screen()
    assert first.startswith('Current Job: 1 ')
    assert second.startswith('Current Job: 2 ') and not last


def test_bar_in_another_thread(terminal, clock):
    term = terminal(80)
    progress = Progress(term.stream, clock=clock)

    def body():
        progress.start(0)
        progress.update(Status(5))
        progress.finish(Status(6))
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert term.screen()[0].startswith('Current Job: 6 | ')


# Other lines beside it

def test_records_and_lines_above_the_bar(terminal, clock):
    term = terminal(80)
    progress = Progress(term.stream, clock=clock)
    handler = progress.handler()
    handler.setFormatter(logging.Formatter('%(levelname)s %(message)s'))
    logger = logging.Logger('test')
    logger.addHandler(handler)
    logger.info('before')
    progress.start(0)
    progress.update(Status(3))
    logger.warning('a slave is %s', 'gone')
    progress.write_line('from a child')
    progress.write_line('two\nlines\n')
    bar = format_status(Status(3), 0, 0)
    assert term.screen() == ['INFO before', 'WARNING a slave is gone',
                             'from a child', 'two', 'lines',
                             bar.replace(' | Failed: 0', '')]
    progress.finish(Status(3))
    term.read()
    logger.error('after')
    assert term.read() == 'ERROR after\r\n'


@pytest.mark.parametrize('debugged', [False, True])
def test_what_is_printed_here_begins_a_line_of_its_own(
        terminal, clock, monkeypatch, debugged):
    """And the bar is not drawn before the next update: a prompt may follow."""
    term = terminal(80)
    other = os.fdopen(os.dup(term.stream.fileno()), 'w')
    monkeypatch.setattr(sys, 'stdout', other)
    monkeypatch.setattr(sys, 'stderr', term.stream)
    if debugged:
        monkeypatch.setitem(sys.modules, 'pdb', os)
    else:
        monkeypatch.delitem(sys.modules, 'pdb', raising=False)
    before = vars(other).copy(), vars(term.stream).copy()
    progress = Progress(term.stream, clock=clock)
    progress.start(0)
    progress.update(Status(3))
    print('> migrate.py(3)', 'handle_job()', flush=True)
    other.write('(Pdb) ')
    other.flush()
    bar = format_status(Status(3), 0, 0, None, 79)
    assert term.screen() == [*[bar] * debugged, '> migrate.py(3) handle_job()',
                             '(Pdb)']
    progress.update(Status(4))
    logging.StreamHandler(term.stream).handle(
        logging.makeLogRecord({'msg': 'theirs', 'levelno': 20}))
    assert 'theirs' in term.screen()
    progress.finish(Status(4))
    assert (vars(other), vars(term.stream)) == before
    other.close()


def test_lines_of_many_threads_come_out_whole(pipe, clock):
    progress = Progress(pipe.stream, clock=clock)
    progress.start(0)
    logger = logging.Logger('test')
    logger.addHandler(progress.handler())

    def body(name):
        for number in range(100):
            logger.info('%s %d', name * 9, number)
            progress.write_line(name * 9)
    threads = [threading.Thread(target=body, args=(c,)) for c in 'abc']
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    want = [line for c in 'abc' for n in range(100)
            for line in (f'{c * 9} {n}', c * 9)]
    assert sorted(pipe.lines()) == sorted(want)


def test_whoever_writes_holds_the_lock(terminal, clock, monkeypatch):
    term = terminal(80)
    progress = Progress(term.stream, clock=clock)
    lock, free = progress.handler().lock, []
    write = progress._sink.write

    def look():
        free.append(lock.acquire(blocking=False))
        if free[-1]:
            lock.release()

    def spy(text):
        other = threading.Thread(target=look)
        other.start()
        other.join()
        write(text)
    monkeypatch.setattr(progress._sink, 'write', spy)
    use(progress, clock)
    assert len(free) > 20 and not any(free)


# Streams that fail

def use(progress, clock):
    progress.start(0)
    run(progress, clock, 5, 10)
    progress.write_line('x')
    progress.handler().handle(logging.makeLogRecord({'msg': 'y'}))
    progress.finish(Status(50))


def test_broken_pipe(clock):
    end, write = os.pipe()
    os.close(end)
    stream = os.fdopen(write, 'w')
    use(Progress(stream, clock=clock), clock)
    with pytest.raises(BrokenPipeError):    # it was really written to
        stream.close()


def test_closed_stream(clock):
    stream = io.StringIO()
    progress = Progress(stream, clock=clock)
    stream.close()
    use(progress, clock)
    use(Progress(stream, clock=clock), clock)
    use(Progress(None, clock=clock), clock)


class Hangup(io.StringIO):
    """A terminal that goes away after some writes."""

    left = 3

    def isatty(self):
        return True

    def write(self, text):
        if not self.left:
            raise OSError(5, 'Input/output error')
        self.left -= 1
        return super().write(text)


def test_terminal_that_goes_away(clock):
    stream = Hangup()
    use(Progress(stream, clock=clock), clock)
    assert stream.left == 0
    assert stream.getvalue().count('\rCurrent Job') == 3


def test_full_stream_is_not_broken(pipe, clock):
    calls = []

    class Full:
        encoding = 'utf-8'
        isatty, flush = pipe.stream.isatty, pipe.stream.flush

        def write(self, text):
            calls.append(text)
            raise BlockingIOError

    progress = Progress(Full(), clock=clock)
    progress.write_line('a')
    progress.write_line('b')
    assert calls == ['a\n', 'b\n']


def test_characters_the_stream_cannot_write(clock):
    data = io.BytesIO()
    stream = io.TextIOWrapper(data, encoding='ascii')
    progress = Progress(stream, clock=clock)
    progress.write_line('M\xfcller \udcff')
    progress.write_line('next')
    assert data.getvalue() == b'M\\xfcller \\udcff\nnext\n'


# progressbar2

def test_progressbar2_is_imported_late():
    code = ('import sys, taskmaster.console.progress as p; '
            'g = p.Progress(sys.stderr); g.start(0); g.finish(p.Status()); '
            'sys.exit("progressbar" in sys.modules)')
    subprocess.run([sys.executable, '-c', code], check=True,
                   stderr=subprocess.DEVNULL)


def test_progressbar2_draws(terminal, clock, monkeypatch):
    import progressbar
    drawn = []
    update = progressbar.ProgressBar.update
    monkeypatch.setattr(
        progressbar.ProgressBar, 'update',
        lambda self, *args, **kwargs: (drawn.append(args),
                                       update(self, *args, **kwargs))[1])
    term = terminal(80)
    before = set(progressbar.streams.listeners)
    progress = Progress(term.stream, clock=clock)
    progress.start(0)
    progress.update(Status(1))
    progress.update(Status(2))
    progress.finish(Status(3))
    assert [args[0] for args in drawn] == [0, 2, 3]
    assert progressbar.streams.listeners == before      # nothing stays
