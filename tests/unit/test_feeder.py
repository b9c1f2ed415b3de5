"""The operator's generator, on its thread."""

import collections
import enum
import os
import threading
from decimal import Decimal
from fractions import Fraction

import pytest
from fakes import LONG, RUN, Background, Direct, greet, take, until

from taskmaster.errors import OperatorError
from taskmaster.master.feeder import SAMPLE, Feeder
from taskmaster.master.jobqueue import JobQueue
from taskmaster.master.lease_size import QUEUE_BYTES
from taskmaster.master.leasing import UNRECORDED
from taskmaster.wire.messages import Wait


def feed(source, size=100, skip=lambda job: False):
    """Feed a queue from ``source()``: the feeder, what a slave gets."""
    queue = JobQueue(size, RUN)
    feeder = Feeder(queue, source, skip)
    feeder.start()
    feeder.join(LONG)
    assert not feeder.is_alive()
    door, jobs = Direct(queue), []
    greet(door)
    while True:
        reply = take(door, 100)
        if type(reply) is Wait:
            return feeder, jobs
        jobs += reply[1]


def failing(error, *jobs):
    def get_jobs():
        yield from jobs
        raise error
    return get_jobs


@pytest.mark.parametrize('source', [
    lambda: iter([1, 2, 3]), lambda: [1, 2, 3], lambda: range(1, 4),
    lambda: (n for n in (1, 2, 3))])
def test_every_job_in_order(source):
    feeder, jobs = feed(source)
    assert jobs == [1, 2, 3]
    assert feeder.error is None


@pytest.mark.parametrize('source', [list, lambda: iter(())])
def test_no_jobs(source):
    feeder, jobs = feed(source)
    assert jobs == [] and feeder.error is None
    assert feeder._queue.complete


def test_it_iterates_on_one_thread_of_its_own():
    threads = set()

    def get_jobs():
        for _ in range(3):
            threads.add(threading.current_thread())
            yield 1

    feeder, _ = feed(get_jobs)
    assert threads == {feeder}


# -- its end --------------------------------------------------------------

@pytest.mark.parametrize('error', [
    ValueError('a bad row'), SystemExit(0), KeyboardInterrupt(),
    GeneratorExit(), MemoryError()], ids=lambda error: type(error).__name__)
def test_whatever_it_raises_is_its_error(error):
    feeder, jobs = feed(failing(error, 1, 2))
    assert jobs == [1, 2]               # these are finished first
    assert isinstance(feeder.error, OperatorError)
    assert type(error).__name__ in str(feeder.error)
    assert 'get_jobs raised' in str(feeder.error)
    assert 'test_feeder.py' in feeder.error.traceback
    assert 'taskmaster' + os.sep + 'feeder.py' not in feeder.error.traceback
    assert feeder.error.exit_code == 70


def test_a_function_that_raises_at_once():
    def get_jobs():
        raise ConnectionError('no database')

    feeder, jobs = feed(get_jobs)
    assert jobs == []
    assert 'no database' in str(feeder.error)


def test_an_iterator_that_raises_stop_iteration_has_ended():
    class Iterator:
        left = 2

        def __iter__(self):
            return self

        def __next__(self):
            if not self.left:
                raise StopIteration
            self.left -= 1
            return self.left

    feeder, jobs = feed(Iterator)
    assert jobs == [1, 0] and feeder.error is None


@pytest.mark.parametrize('result', [None, 7, print])
def test_what_cannot_be_iterated(result):
    feeder, jobs = feed(lambda: result)
    assert jobs == []
    assert type(result).__name__ in str(feeder.error)
    assert 'yield' in str(feeder.error)
    assert feeder.error.exit_code == 70


# -- jobs must not change -------------------------------------------------

class Color(enum.Enum):
    RED = 1


class Row:
    def __init__(self, id=None):
        self.id = id

    def __eq__(self, other):
        return self.id == other.id


class Slots:
    __slots__ = 'id',
    __init__, __eq__ = Row.__init__, Row.__eq__


def repeating(make, change):
    """Yields one object again and again, changed each time."""
    def get_jobs():
        job = make()
        for number in range(10):
            change(job, number)
            yield job
    return get_jobs


@pytest.mark.parametrize('make, change, first', [
    (dict, lambda job, n: job.update(id=n), {'id': 0}),
    (list, lambda job, n: job.append(n), [0]),
    (set, lambda job, n: job.add(n), {0}),
    (bytearray, lambda job, n: job.append(n), bytearray([0])),
    (collections.deque, lambda job, n: job.append(n), collections.deque([0])),
    (Row, lambda job, n: setattr(job, 'id', n), Row(0)),
    (Slots, lambda job, n: setattr(job, 'id', n), Slots(0)),
    (lambda: (1, []), lambda job, n: job[1].append(n), (1, [0]))])
def test_the_same_mutable_twice_is_refused(make, change, first):
    """The one before it, handed out by then, is what it was."""
    feeder, jobs = feed(repeating(make, change))
    assert jobs == [first]
    assert f'the same {type(first).__name__} twice' in str(feeder.error)
    assert feeder.error.exit_code == 70


class Partly(Row):
    def __getstate__(self):
        return {'other': 1}


@pytest.mark.parametrize('make, copied', [(Row, True), (Partly, False)])
def test_of_the_first_job_a_copy_is_kept_if_that_is_whole(make, copied):
    """Its key may be made of what a pickle of it leaves out."""
    job, queue = make(1), JobQueue(10, RUN)
    Feeder(queue, lambda: iter([job])).run()
    door = Direct(queue)
    greet(door)
    take(door)
    take(door, 0, done=[(1, 1)])
    number, kept = queue.watermark()
    assert (number, kept.id) == (1, 1)
    assert (kept is not job) == copied


def test_the_first_job_is_there_before_the_second_is_made():
    """A slow source must not keep its first job back."""
    go_on = threading.Event()

    def get_jobs():
        yield {'id': 1}
        assert go_on.wait(LONG)
        yield {'id': 2}

    queue = JobQueue(10, RUN)
    feeder = Feeder(queue, get_jobs)
    feeder.start()
    until(lambda: queue.qsize() == 1)
    go_on.set()
    feeder.join(LONG)
    assert queue.qsize() == 2 and feeder.error is None


def test_the_same_one_later_is_refused_too():
    later = {'id': 3}
    feeder, jobs = feed(lambda: iter([{'id': 1}, {'id': 2}, later, later]))
    assert jobs == [{'id': 1}, {'id': 2}, {'id': 3}]
    assert 'the same dict twice' in str(feeder.error)


@pytest.mark.parametrize('before', [0, 1, 7, 100, 1000])
@pytest.mark.parametrize('kind', [int, str, float, lambda n: {'id': n}])
def test_wherever_the_same_one_comes_it_is_refused(kind, before):
    """Also among jobs that are fetched many at once, of another kind."""
    later = ['changes']
    jobs = [*map(kind, range(before)), later, later, *map(kind, range(9))]
    feeder, fed = feed(lambda: iter(jobs), size=2000)
    assert fed == jobs[:before + 1]
    assert 'the same list twice' in str(feeder.error)


class Array(list):
    """It can be added to a number, as one of numpy can."""

    def __radd__(self, other):
        return self


def test_one_object_that_can_be_added_to_ints_is_refused_too():
    later = Array()
    feeder, fed = feed(lambda: iter([*range(777), later, later]), size=2000)
    assert fed == [*range(777), []]
    assert 'the same Array twice' in str(feeder.error)


def test_many_at_once_are_fed_until_the_source_raises():
    feeder, jobs = feed(failing(ValueError('bad'), *range(777)), size=2000)
    assert jobs == [*range(777)] and 'bad' in str(feeder.error)


def test_equal_ones_and_immutable_ones_may_come_again():
    text, pair = 'a text', (1, 'two')
    same = [text, pair, (), None, 7, Decimal(7), Fraction(1, 7), Color.RED]
    jobs = [{}, {}, [], [], *(one for one in same for _ in range(2))]
    feeder, fed = feed(lambda: iter(jobs))
    assert fed == jobs and feeder.error is None


def test_a_first_job_that_cannot_be_copied_is_fed():
    """It fails as a job, by its key."""
    job = {'lock': threading.Lock()}
    feeder, jobs = feed(lambda: iter([job, {'id': 2}]))
    assert jobs == [{'id': 2}] and feeder.error is None
    assert feeder._queue.unrecorded()[0].job is job


@pytest.mark.parametrize('first', [{'id': 1}, 1])
def test_one_job_alone(first):
    feeder, jobs = feed(lambda: iter([first]))
    assert jobs == [first] and feeder.error is None


# -- going on -------------------------------------------------------------

@pytest.mark.parametrize('source, fed', [
    ([7, 8, 9], [8, 9]), ([8, 9], [8, 9]), ([7], []), ([], []),
    ([7, 7, 8], [7, 8]), ([8, 7], [8, 7])])
def test_the_first_job_is_skipped_if_it_is_the_last(source, fed):
    feeder, jobs = feed(lambda: iter(source), skip=lambda job: job == 7)
    assert jobs == fed and feeder.error is None


def test_a_generator_is_closed_when_enough_is_fed(caplog):
    """On its thread; what it raises then is said and changes nothing."""
    closed = []

    def get_jobs():
        try:
            yield from range(1000)
        finally:
            closed.append(threading.current_thread())
            raise ValueError('no connection')

    feeder = Feeder(JobQueue(10, RUN), get_jobs, limit=3)
    feeder.start()
    feeder.join(LONG)
    assert closed == [feeder] and feeder.error is None
    assert 'get_jobs raised ValueError: no connection' in caplog.text


def test_only_the_first_job_is_asked_about():
    asked = []
    feed(lambda: iter([1, 2, 3]), skip=lambda job: asked.append(job))
    assert asked == [1]


def test_one_object_that_is_skipped_first():
    feeder, jobs = feed(repeating(dict, lambda job, n: job.update(id=n)),
                        skip=lambda job: job['id'] == 0)
    assert jobs == [{'id': 1}]
    assert 'the same dict twice' in str(feeder.error)


def test_an_error_of_get_key_is_its_error():
    def skip(job):
        raise OperatorError('get_key raised')

    feeder, jobs = feed(lambda: iter([1, 2]), skip=skip)
    assert jobs == [] and str(feeder.error) == 'get_key raised'


# -- backpressure ---------------------------------------------------------

def test_it_is_never_more_than_a_queue_ahead():
    made, most = [], []
    queue = JobQueue(10, RUN)

    def get_jobs():
        for number in range(1000):
            made.append(number)
            most.append(queue.qsize())
            yield number

    feeder = Feeder(queue, get_jobs)
    feeder.start()
    until(lambda: queue.qsize() == 10)
    queue.drain('draining')
    feeder.join(LONG)
    assert not feeder.is_alive() and feeder.error is None
    assert len(made) == 10 and max(most) < 10
    assert queue.qsize() == 10 and not queue.complete


@pytest.mark.parametrize('close', [
    lambda queue: queue.drain('draining'),
    lambda queue: queue.finish('stopped')])
@pytest.mark.parametrize('job', [1, {'id': 1}])
def test_a_close_lets_it_go(close, job):
    """Whatever it waits at: its first job, its first copy, another."""
    for size in 1, 2, 3:
        queue = JobQueue(size, RUN)
        feeder = Feeder(queue, lambda: (type(job)(job) for _ in range(99)))
        feeder.start()
        until(lambda: queue.qsize() == size)
        close(queue)
        feeder.join(LONG)
        assert not feeder.is_alive() and feeder.error is None
        assert queue.fed == size


def test_what_a_quick_source_has_yielded_is_there_when_it_stops():
    """However many are fetched at once; and who waits for it has it."""
    queue = JobQueue(10_000, RUN)
    go_on = threading.Semaphore(0)

    def get_jobs():
        yield from range(777)
        for _ in range(12):
            assert go_on.acquire(timeout=LONG)
            yield 0

    feeder = Feeder(queue, get_jobs)
    feeder.start()
    door = Direct(queue)
    greet(door)
    until(lambda: queue.qsize() == 777)
    assert take(door, 777) == (1, [*range(777)])
    for number in range(778, 790):
        waiting = Background(take, door, 777, 10.0)
        until(lambda: len(queue.waiters))
        go_on.release()
        until(lambda: queue.qsize() or not waiting.is_alive())
        queue.expire()                  # as every `Timing.tick`
        assert waiting.result() == (number, [0])
    feeder.join(LONG)
    assert not feeder.is_alive() and feeder.error is None


def test_a_closed_queue_asks_for_no_more_jobs():
    """Not even for the rest of a page, when they come one by one."""
    queue = JobQueue(10_000, RUN)
    go_on = threading.Semaphore(0)
    made, closed = [], []

    def get_jobs():
        try:
            while True:
                assert go_on.acquire(timeout=LONG)
                made.append(len(made))
                yield len(made)
        finally:
            closed.append(len(made))

    feeder = Feeder(queue, get_jobs)
    feeder.start()
    go_on.release(2)
    until(lambda: queue.qsize() == 2)
    queue.drain('draining')
    go_on.release(300)
    feeder.join(LONG)
    assert not feeder.is_alive()
    assert len(made) < 10           # the few that it was at
    assert closed == [len(made)]


def test_a_source_that_blocks_delays_nobody():
    queue = JobQueue(10, RUN)
    go_on = threading.Event()

    def get_jobs():
        go_on.wait(LONG)
        yield 1

    feeder = Feeder(queue, get_jobs)
    feeder.start()
    assert feeder.daemon
    Background(queue.drain, 'draining').result()
    assert queue.at_rest()
    go_on.set()
    feeder.join(LONG)
    assert queue.fed == 0


# -- forks ----------------------------------------------------------------

@pytest.mark.filterwarnings('ignore:This process')
@pytest.mark.parametrize('leave', ['yields', 'returns', 'raises'])
@pytest.mark.parametrize('when', [0, 1, 50, 555])
def test_a_child_that_leaves_get_jobs_ends_there(leave, when):
    """It feeds nothing, runs nothing more of the source, and is no zombie."""
    children = []
    read, write = os.pipe()

    def get_jobs():
        for number in range(when + 9):
            if number == when:
                children.append(os.fork())
                if not children[-1] and leave == 'returns':
                    return
                if not children[-1] and leave == 'raises':
                    raise SystemExit(3)
            if children and not children[-1] and number > when:
                os.write(write, b'!')
            yield number

    feeder, jobs = feed(get_jobs, size=2000)
    _, status = os.waitpid(children[0], 0)
    assert os.WEXITSTATUS(status) == (3 if leave == 'raises' else 0)
    assert jobs == list(range(when + 9)) and feeder.error is None
    os.close(write)
    assert os.read(read, 1) == b''
    os.close(read)


# -- memory ---------------------------------------------------------------

def filled(queue, source):
    """Feed it until the queue takes no more: how many jobs that were."""
    feeder = Feeder(queue, source)
    feeder.start()
    until(lambda: queue._wanted or not feeder.is_alive())
    return feeder, queue.qsize()


def said_to_weigh(queue, size):
    """From now on, whatever the feeder finds; gives what corrects it."""
    learn = queue.weight.observe
    learn(1, size)
    queue.weight.observe = lambda jobs, size: None
    return learn


@pytest.mark.parametrize('first', [0, 1, 37, 300])
@pytest.mark.parametrize('size', [500_000, 5_000_000])
def test_heavy_jobs_fill_a_queue_sooner(size, first):
    """Be it the first of them or the three hundredth that is heavy."""
    heavy = bytes(size)

    def get_jobs():
        yield from range(first)
        for number in range(100_000):
            yield number, heavy         # one object: it costs nothing here

    queue = JobQueue(10_000, RUN)
    feeder, jobs = filled(queue, get_jobs)
    # Until one of a hundred is weighed nobody knows.
    assert first < jobs <= first + QUEUE_BYTES / size + SAMPLE
    queue.drain('enough')
    feeder.join(LONG)


def test_light_jobs_fill_it_as_ever():
    queue = JobQueue(10_000, RUN)
    feeder, jobs = filled(queue, lambda: iter(range(100_000)))
    assert jobs == 10_000
    queue.drain('enough')
    feeder.join(LONG)


def test_jobs_in_hand_count():
    """What slaves have in hand is in the master's memory too."""
    queue = JobQueue(10_000, RUN)
    learn = said_to_weigh(queue, QUEUE_BYTES // 20)
    door = Direct(queue)
    greet(door)
    feeder, jobs = filled(queue, lambda: iter(range(1000)))
    assert jobs == 20
    assert len(take(door, 12)[1]) + queue.qsize() == 20
    # As they are light in truth, that is learned, and there is room.
    for _ in range(100):
        learn(100, 500)
    first, done = 1, 12
    take(door, 0, done=[(first, done)])
    until(lambda: not feeder.is_alive())
    assert queue.fed == 1000


def test_each_worker_may_have_one_however_heavy_it_is():
    """Or one that is stuck would stall the others."""
    queue = JobQueue(10_000, RUN)
    said_to_weigh(queue, 2 * QUEUE_BYTES)
    doors = []
    for name in 'abc':
        doors.append(Direct(queue))
        greet(doors[-1], name)
    feeder, jobs = filled(queue, lambda: iter(range(1000)))
    assert jobs == 4                    # one more, to be there at once
    for number, door in enumerate(doors, 1):
        assert take(door, 5, wait=1.0)[0] == number
    queue.drain('enough')
    feeder.join(LONG)


def test_the_first_jobs_are_weighed_then_some():
    weighed = []

    class Job:
        def __init__(self, number):
            self.number = number

        def __reduce__(self):
            weighed.append(self.number)
            return Job, (self.number,)

    queue = JobQueue(1000, RUN)
    feeder, _ = filled(queue, lambda: map(Job, range(1, 1001)))
    assert weighed[:8] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert 15 < len(weighed) < 20
    queue.drain('enough')
    feeder.join(LONG)


def test_a_job_that_cannot_be_weighed_is_fed():
    class Job:
        def __reduce__(self):
            raise SystemExit('not now')

    queue = JobQueue(1000, RUN)
    feeder, jobs = filled(queue, lambda: (Job() for _ in range(100)))
    feeder.join(LONG)
    assert feeder.error is None and queue.fed == 100


# -- failed jobs that are not recorded ------------------------------------

def test_leases_stop_while_very_many_wait_to_be_recorded():
    """And their tracebacks take no more memory than they must."""
    queue = JobQueue(2 * UNRECORDED, RUN)
    feeder = Feeder(queue, lambda: iter(range(10 * UNRECORDED)))
    feeder.start()
    door = Direct(queue)
    greet(door)
    until(lambda: queue.qsize() >= 2 * UNRECORDED)
    leased = [take(door, UNRECORDED - 1) for _ in range(2)]
    for first, jobs in leased:
        long = [[number, 'ValueError: bad', 'x' * 10_000, 1, '']
                for number in range(first, first + len(jobs))]
        given = door.call('exchange', [RUN, [], long, []], 0, False, 0.0)
        assert type(given) is Wait
    assert queue.behind and type(take(door, 10)) is Wait
    kept = [piece.failure.traceback
            for piece in queue._ledger.pieces.failed.values()]
    assert sum(map(len, kept)) <= (10_000 + 500) * UNRECORDED
    while queue.unrecorded():
        waiting = Background(take, door, 10, 10.0)
        queue.recorded([job.number for job in queue.unrecorded()])
        assert waiting.result()[1]
    queue.drain('enough')
    feeder.join(LONG)
