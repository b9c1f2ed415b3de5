"""One table of times: how long to wait, for what, and when to give up.

Times that stand alone say so in their names; those that only make sense
together are checked where a `Timing` is made.  Whoever waits is passed one;
the scripts pass `STANDARD`, tests pass their own: ``Timing(expiry=1.0)``.
All are in seconds, but for the few that say otherwise.
"""

from __future__ import annotations

from .records import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from typing import Any


class _Times(NamedTuple):
    """The fields of `Timing`, and their defaults."""

    # -- leases -----------------------------------------------------------

    # How long a slave should work on a lease, at least.
    span: float = 0.1
    # Calls a second that a master should have to answer, at most: with very
    # many slaves a lease takes longer.
    calls: float = 2000.0
    # After so many spans a lease is behind its time, and is shared.
    late: float = 4.0
    # Spans between two signs of life of a slave that has work ...
    beats: float = 10.0
    # ... but never longer than this.
    longest_beat: float = 15.0
    # How long a call of a slave may wait for jobs, at most ...
    wait: float = 10.0
    # ... and of one that has jobs done meanwhile.
    busy_wait: float = 1.0
    # Within this time a dropped connection may come back and keep its jobs.
    grace: float = 5.0
    # Silence after which a slave is lost.
    expiry: float = 60.0
    # Until one more slave is kept from prefetching, for a job that goes
    # alone.
    reserve: float = 10.0

    # -- the wire ---------------------------------------------------------

    # To connect and prove the key, at most ...
    connect: float = 10.0
    # ... and at one place, where there are several to try.
    tried: float = 2.0
    # What a master gives whoever connects to prove the key, in all.
    handshake: float = 5.0
    # That one of those in the handshake of TLS is let be, while others wait
    # for its place.
    slot: float = 0.25
    # Of nothing but refusals, until the key is another.
    refused: float = 10.0
    # How long a frame may stand still.
    stall: float = 60.0
    # How long sent bytes may go unacknowledged.
    user_timeout: float = 45.0
    # Silence of the network until it is probed, between two probes (whole
    # seconds), and how many of them go unanswered until the peer is gone.
    keepalive_idle: int = 20
    keepalive_every: int = 5
    keepalive_probes: int = 4
    # The first and the longest pause between two attempts to connect.
    first_backoff: float = 0.1
    longest_backoff: float = 5.0

    # -- the master -------------------------------------------------------

    # Between two looks at the run.
    tick: float = 0.25
    # Between two saves of the state.
    save: float = 1.0
    # That a write to disk takes, until it is said that the disk hangs.
    hung: float = 10.0
    # Between two updates of the record of this run, for `tm-ctl list`, and
    # how long the last of them may take.
    register: float = 2.0
    # Without a file to write to, until no more is leased.
    patience: float = 60.0
    # How long slaves may take to hear that the run is over.
    farewell: float = 5.0
    # After a fault of ours: for jobs in hand, for slaves to hear that it is
    # over, and for them to end.
    fault: float = 0.25
    # How long a stopped run may wait for the job that get_jobs is at.
    source: float = 1.0
    # Between two calls of the operator's throttle.
    throttle: float = 1.0
    # How long the operator's `finished` may take.
    finished: float = 10.0
    # Without a job from get_jobs, until that is said.
    quiet: float = 10.0
    # In one slave's hands, until a job is named.
    stuck: float = 30.0
    # Without a finished job, until that is worth a line.
    still: float = 60.0

    # -- slaves and their supervisor --------------------------------------

    # The first and the longest pause before a further attempt of a job.
    first_retry: float = 0.1
    longest_retry: float = 10.0
    # Between two further calls of setup, for what it made may have died.
    setup: float = 5.0

    # Between two looks of a worker whether to hurry.
    nap: float = 0.5
    # Until the successor of a slave that never connected is started;
    # doubled each time.
    restart: float = 0.5
    # How long children may take to end, before they are made to.
    close: float = 10.0
    # Between two looks at a child's watchdog, at most.
    look: float = 0.5
    # After the end of a child, for what it has printed: what it started may
    # keep its pipes open.
    last_words: float = 1.0


class Timing(_Times):
    """The times of one process; ValueError where they do not go together."""

    # A call of each field by name, or in order, is checked.
    def __init__(self, *values: float, **times: float) -> None:
        self._check()

    def _replace(self, **changes: Any) -> Timing:
        """Return a copy with some changed, as of any NamedTuple; checked."""
        return Timing(**{**self._asdict(), **changes})

    def span_of(self, slaves: int) -> float:
        """Return how long a lease should take when so many are served."""
        return max(self.span, slaves / self.calls)

    def beat(self, span: float) -> float:
        """Return how long a slave with leases of ``span`` is silent."""
        return min(self.beats * span, self.longest_beat)

    def _check(self) -> None:
        for name, value in self._asdict().items():
            if not value > 0:
                raise ValueError(f'{name} must be above 0, not {value}')
        for smaller, larger in (
                # One sign of life may be lost and a slave is still there,
                # however many slaves there are and so however long a span.
                ({'2 * longest_beat': 2 * self.longest_beat}, 'expiry'),
                ({'beats * span': self.beats * self.span}, 'longest_beat'),
                # A call that waits says nothing meanwhile.
                ({'wait': self.wait}, 'expiry'),
                ({'busy_wait': self.busy_wait}, 'wait'),
                # A connection that breaks is noticed before its slave is
                # lost, and there is time to connect anew: nobody is blamed.
                ({'user_timeout': self.user_timeout}, 'expiry'),
                ({'user_timeout': self.user_timeout}, 'stall'),
                ({'grace': self.grace}, 'expiry'),
                # The end that gives up first is the one that can say why.
                ({'handshake': self.handshake}, 'connect'),
                ({'tried': self.tried}, 'connect'),
                ({'slot': self.slot}, 'handshake'),
                ({'first_backoff': self.first_backoff}, 'grace'),
                ({'first_backoff': self.first_backoff}, 'longest_backoff')):
            (name, value), = smaller.items()
            most = getattr(self, larger)
            if value > most:
                raise ValueError(f'{name} ({value:g} s) must not be above '
                                 f'{larger} ({most:g} s)')


STANDARD = Timing()


def jitter(most: float) -> float:
    """Return a random part of ``most`` seconds.

    The generator that all share is the operator's, who may seed it: then all
    slaves would come at once, and their own numbers would be others.
    """
    import random       # who starts does not wait yet
    return random.Random().uniform(0, most)
