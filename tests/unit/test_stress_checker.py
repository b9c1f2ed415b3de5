"""The checker of the stress test sees what it is there to see."""

import json
import struct

import pytest
from stress_checker import SECOND, Checker, Death, Handling, Stop, Story

EXPIRY = 6.0


@pytest.fixture
def run(tmp_path):
    """Ten jobs, of which the fourth always fails."""
    (tmp_path / 'handled').mkdir()
    return Checker(tmp_path / 'handled', tmp_path / 'n.state',
                   tmp_path / 'n.failures', 10, {4})


def handle(run, *numbers, pid=1, time=1):
    with open(run.folder / f'{pid}-0', 'ab') as file:
        for number in numbers:
            file.write(struct.pack('qq', number, time * SECOND))


def save(run, key, count=None, complete=False):
    run.state.write_text(json.dumps({
        'key': {'literal': repr(key)}, 'complete': complete,
        'count': key if count is None else count}))


def fail(run, number, error='ValueError'):
    with open(run.failures_path, 'a') as file:
        file.write(json.dumps({'number': number, 'key': str(number),
                               'error': error}) + '\n')


def test_a_state_that_is_true(run):
    assert run.check(0) == 0            # there is none yet
    handle(run, 1, 2, 3, 5)
    save(run, 3)
    assert run.check(2 * SECOND) == 3
    handle(run, -4)
    fail(run, 4)
    save(run, 5)
    assert run.check(2 * SECOND) == 5
    assert not run.problems


def test_a_state_ahead_of_a_job(run):
    handle(run, 1, 3)
    save(run, 3)
    run.check(2 * SECOND)
    assert 'saved 3, but job 2 is not handled' in run.problems[0]


def test_a_job_that_was_handled_only_after_the_state_was_saved(run):
    handle(run, 1, 2)
    handle(run, 3, time=5)
    save(run, 3)
    run.check(2 * SECOND)
    assert run.ahead == 1


def test_a_state_ahead_of_a_failed_job(run):
    handle(run, 1, 2, 3, -4, 5)
    save(run, 5)
    run.check(2 * SECOND)
    assert 'job 4 is not recorded as failed' in run.problems[0]


def test_a_key_and_a_count_that_differ(run):
    handle(run, 1, 2, 3)
    save(run, 3, count=2)
    run.check(2 * SECOND)
    assert run.problems


def test_what_is_lost(run):
    handle(run, 1, 2, 3, -4, 5, 6, 8, 9)
    fail(run, 9, 'lost with its slave 3 times')
    assert run.lost() == [4, 7, 10]
    assert run.blamed == 1 and not run.problems
    fail(run, 8)
    run.lost()
    assert 'job 8 is no failing one' in run.problems[0]


# -- what may be handled twice --------------------------------------------

@pytest.fixture
def story():
    return Story(EXPIRY)


def reason(story, number, first, second):
    """``first`` and ``second`` are seconds and pid."""
    return story.reason(number, *(Handling(time * SECOND, pid)
                                  for time, pid in (first, second)))


def test_a_killed_slave_explains_what_it_had_not_reported(story):
    story.kills[1].append((20 * SECOND, 'kill'))
    assert reason(story, 5, (19, 1), (22, 2)) == 'kill'
    assert reason(story, 5, (16, 1), (22, 2)) == ''     # reported by then
    assert reason(story, 5, (19, 2), (22, 1)) == ''     # not the killed one
    # As its master was stopped, nothing could be reported.
    story.stops[Story.MASTER].append(Stop(16 * SECOND, 19 * SECOND, 'stop'))
    assert reason(story, 5, (16, 1), (22, 2)) == 'kill'


def test_a_dead_master_explains_what_is_above_the_watermark(story):
    story.deaths.append(Death(20 * SECOND, 100, 'master'))
    assert reason(story, 101, (15, 1), (22, 2)) == 'master'
    assert reason(story, 100, (15, 1), (22, 2)) == ''
    assert reason(story, 101, (15, 1), (16, 2)) == ''   # both before
    # A slave went on with what it had begun.
    assert reason(story, 101, (21, 1), (22, 2)) == 'master, after'
    assert reason(story, 101, (30, 1), (32, 2)) == ''


def test_a_long_stop_explains_what_was_in_hand(story):
    story.stops[1].append(Stop(20 * SECOND, 30 * SECOND, 'stop'))
    assert reason(story, 5, (19, 1), (28, 2)) == 'stop'
    assert reason(story, 5, (28, 2), (31, 1)) == 'stop'     # it went on
    assert reason(story, 5, (28, 2), (40, 1)) == ''
    story = Story(EXPIRY)
    story.stops[1] = [Stop(20 * SECOND, 22 * SECOND, 'stop')]
    assert reason(story, 5, (19, 1), (28, 2)) == ''         # too short


def test_duplicates_are_counted_by_blow(run, story):
    handle(run, 1, 2, 3, pid=1, time=10)
    handle(run, 3, 4, 5, pid=2, time=12)
    handle(run, 1, pid=2, time=20)
    story.kills[1].append((11 * SECOND, 'kill'))
    explained, others = run.duplicates(story)
    assert explained == {'kill': 2} and not others
    assert run.unreported(story) == {'kill': 3}
    handle(run, 5, pid=3, time=30)
    assert [number for number, *_ in run.duplicates(story)[1]] == [5]


def test_a_state_that_stays_behind(run, story):
    handle(run, 1, 2, 3, -4, 5, pid=1, time=20)
    story.deaths += [Death(1, 0, 'one'), Death(40 * SECOND, 2, 'another')]
    run.duplicates(story)
    assert 'state behind: saved 2' in run.problems[0]
