"""The checker of the stress test: what was handled, and what may be twice.

Handlers append records to files of their own, one for each call: the number
of the job (negative when it is one that always fails) and the time of a
clock that all processes share.  Nothing here asks Taskmaster anything; the
state file and the failures file are read as any operator could.
"""

import ast
import json
from array import array
from bisect import bisect
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

SECOND = 10 ** 9
RECENT = 2.5 * SECOND       # what a slave may have finished and not reported
BEAT = 1.2 * SECOND         # between two signs of life
SLACK = SECOND // 2         # between a signal and our note of it


class Handling(NamedTuple):
    time: int               # nanoseconds, monotonic
    pid: int


class Death(NamedTuple):
    """A master ended; ``saved`` is the count in its state file."""

    time: int
    saved: int
    kind: str


class Stop(NamedTuple):
    start: int
    end: int
    kind: str


class Story:
    """All blows of one run, in order, and what each may cause."""

    MASTER = 0              # the pid, in `stops`, of every master

    def __init__(self, expiry):
        self.least = (expiry - 2) * SECOND  # of a stop that may expire
        self.deaths = []
        self.kills = defaultdict(list)      # pid: (time, kind)
        self.stops = defaultdict(list)      # pid: Stop
        self._sorted = {}

    def awake(self, start, end, pid):
        """The nanoseconds in which neither master nor slave was stopped."""
        total, upto = end - start, start
        for stop in self._ordered(pid):
            a, b = max(stop.start, upto), min(stop.end, end)
            if a < b:
                total -= b - a
                upto = b
        return total

    def _ordered(self, pid):
        """All stops of that slave and of the masters."""
        mine, masters = self.stops[pid], self.stops[self.MASTER]
        key = pid, len(mine), len(masters)
        if key not in self._sorted:         # asked for every job done twice
            self._sorted[key] = sorted(mine + masters)
        return self._sorted[key]

    def silences(self, pid):
        """Stops, one after another, that are long enough to expire."""
        merged = []
        for stop in self._ordered(pid):
            if merged and stop.start - merged[-1].end < BEAT:
                last = merged.pop()
                stop = Stop(last.start, max(last.end, stop.end), last.kind)
            merged.append(stop)
        return [stop for stop in merged
                if stop.end - stop.start >= self.least]

    def unreported(self, handling):
        """The blow after which this may never have been reported, or ''."""
        time, pid = handling
        for when, kind in self.kills[pid]:
            if (time <= when + SLACK
                    and self.awake(time, when, pid) <= RECENT):
                return kind
        return self.around(handling)

    def around(self, handling, upto=float('inf')):
        """The silence that this was just before or after, or ''."""
        time, pid = handling
        for start, _, kind in self.silences(pid):
            if start <= upto and self.awake(
                    *sorted((start, time)), pid) <= RECENT:
                return kind
        return ''

    def reason(self, number, first, second):
        """The blow that explains why ``number`` was handled twice, or ''."""
        late = ''
        for time, saved, kind in self.deaths:
            if number > saved and second.time >= time - SLACK:
                if first.time <= time:
                    return self.unreported(first) or kind
                if any(self.awake(time, one.time, one.pid) <= RECENT
                       for one in (first, second)):
                    late = f'{kind}, after'
        # Or the second had it in hand when it was stopped, and went on.
        return (self.unreported(first) or late
                or self.around(second, upto=first.time))


class Checker:
    """One run of the jobs 1 .. ``jobs``, of which ``failing`` always fail.

    ``folder`` has the handlers' files; ``state`` and ``failures`` are
    Taskmaster's.
    """

    def __init__(self, folder, state, failures, jobs, failing):
        self.folder, self.state = Path(folder), Path(state)
        self.failures_path = Path(failures)
        self.jobs, self.failing = jobs, failing
        self.problems = []
        self.ahead = 0                      # states that were ahead
        self.checks = 0
        self._first = array('q', [0]) * (jobs + 1)  # when handled first
        self._failed = set()                # numbers seen in the failures
        self._read = {}                     # bytes read of each file
        self._finished = 0                  # all up to it are

    def check(self, now):
        """Is the state on disk true?  ``now`` is before it was looked at.

        Every job up to the saved key has to be handled, or recorded as
        failed, at this moment already.  Gives the saved count.
        """
        saved = self._load()['count']
        failures = self._load_failures()
        self._read_handled()
        self.checks += 1
        self._failed.update(failures)
        first, number = self._first, self._finished + 1
        while number <= self.jobs and (
                0 < first[number] <= now or number in failures):
            number += 1
        if number <= saved:
            self.ahead += 1
            self._problem(
                f'state ahead: saved {saved}, but job {number} is not '
                + ('recorded as failed' if number in self.failing
                   else 'handled'))
            return saved                    # do not look past it
        self._finished = number - 1
        return saved

    @property
    def complete(self):
        """Whether the state on disk says so."""
        return self._load()['complete']

    def lost(self):
        """After a complete run: the numbers neither handled nor failed."""
        self._read_handled()
        failures = self._load_failures()
        for number, error in failures.items():
            if number not in self.failing and 'lost with' not in error:
                self._problem(f'job {number} is no failing one: {error}')
        self.blamed = len(failures.keys() - self.failing)
        first = self._first
        return [number for number in range(1, self.jobs + 1)
                if number not in failures
                and (number in self.failing or not first[number])]

    def duplicates(self, story):
        """Those explained, by kind of blow, and those that nothing explains.

        The second is a list of (number, handling, handling).
        """
        times = Counter()
        for pid, numbers in self._handled():
            times.update(numbers[::2])
        wanted = {number for number, count in times.items() if count > 1}
        wanted.update(death.saved + 1 for death in story.deaths)
        handlings = defaultdict(list)
        for pid, numbers in self._handled():
            for number, time in zip(numbers[::2], numbers[1::2]):
                if number in wanted:
                    handlings[number].append(Handling(time, pid))
        explained, others = Counter(), []
        for number, several in handlings.items():
            several.sort()
            for first, second in zip(several, several[1:]):
                kind = story.reason(abs(number), first, second)
                if kind:
                    explained[kind] += 1
                else:
                    others.append((number, first, second))
        for one, another in zip(story.deaths, story.deaths[1:]):
            self._check_fresh(story, one, another,
                              handlings.get(another.saved + 1, ()))
        return explained, others

    def above(self, saved, since):
        """How many jobs above that one have been handled since then."""
        return sum(time > since for time in self._first[saved + 1:])

    def unreported(self, story):
        """How many handlings each kind of blow may have kept from us."""
        may = Counter()
        for pid, numbers in self._handled():
            times = numbers[1::2]
            windows = [(when, when + SLACK, kind)
                       for when, kind in story.kills[pid]]
            windows += [(start, end + RECENT, kind)
                        for start, end, kind in story.silences(pid)]
            for start, end, kind in windows:
                low, high = 0, bisect(times, start)
                while low < high:       # the first of the recent ones
                    middle = (low + high) // 2
                    if story.awake(times[middle], start, pid) > RECENT:
                        low = middle + 1
                    else:
                        high = middle
                may[kind] += bisect(times, end) - low
        return may

    # -- the files --------------------------------------------------------

    def _check_fresh(self, story, before, death, handlings):
        """What held the state back when that master died?"""
        for handling in handlings:
            if (before.time + 4 * SECOND < handling.time < death.time
                    and not story.unreported(handling)
                    and story.awake(handling.time, death.time,
                                    handling.pid) > RECENT):
                self._problem(
                    f'state behind: saved {death.saved} at {death.time}, '
                    f'but the next job was done at {handling}')

    def _load(self):
        try:
            state = json.loads(self.state.read_text())
        except FileNotFoundError:
            return {'count': 0, 'complete': False}
        key = state['key'] and ast.literal_eval(state['key']['literal'])
        if (key or 0) != state['count']:
            self._problem(f'key {key} is saved with count {state["count"]}')
        return state

    def _load_failures(self):
        try:
            text = self.failures_path.read_text()
        except FileNotFoundError:
            return {}
        records = map(json.loads, text.split('\n')[:-1])
        failures = {}
        for record in records:
            failures[record['number']] = record['error']
            if str(record['number']) != record['key']:
                self._problem(f'number and key differ: {record}')
        return failures

    def _handled(self):
        """Pid and records of each file, from its beginning."""
        for path in self.folder.iterdir():
            yield int(path.name.split('-')[0]), _records(path.read_bytes())

    def _read_handled(self):
        """Go on where the files were left."""
        first = self._first
        for path in self.folder.iterdir():
            offset = self._read.get(path, 0)
            with open(path, 'rb') as file:
                file.seek(offset)
                data = file.read()
            if not data:
                continue
            numbers = _records(data)
            self._read[path] = offset + len(numbers) * 8
            for number, time in zip(numbers[::2], numbers[1::2]):
                if number > 0 and not 0 < first[number] <= time:
                    first[number] = time

    def _problem(self, text):
        self.problems.append(text)


def _records(data):
    numbers = array('q')
    numbers.frombytes(data[:len(data) // 16 * 16])
    return numbers
