"""Mistakes planted in the ledger, each of which the machine must catch."""

import pytest
from hypothesis import Phase
from test_ledger_machine import LedgerMachine, Run, hunt, profile

from taskmaster.master import ledger as module
from taskmaster.master import pieces
from taskmaster.master.leasing import Leasing
from taskmaster.master.ledger import Ledger
from taskmaster.master.pieces import Pieces, Turns
from taskmaster.master.slaves import Slaves


class LastAcknowledged(Ledger):
    """The watermark is the last job acknowledged."""

    acknowledged = 0, None

    def _finish(self, piece):
        super()._finish(piece)
        self.acknowledged = max(self.acknowledged,
                                (piece.last, piece.jobs[-1]))

    def watermark(self):
        return self.acknowledged if self.pieces.jobs else super().watermark()


class LostPieceDropped(Ledger):
    """A piece that is lost with its slave is forgotten."""

    def lose(self, id, late=()):
        for piece in list(self.slaves[id].pieces if id in self.slaves
                          else ()):
            self._finish(piece)
        return super().lose(id, late)


class OtherRun(Run):
    """Another run's report is accepted."""

    accepts_any = True


class FailedPassed(Ledger):
    """The watermark passes a failed job before it is recorded."""

    def watermark(self):
        for piece in self.pieces:
            if piece.first not in self.pieces.failed:
                return piece.first - 1, piece.before
        return self.ready.leased, self.ready.before


class WaitsForEver(Leasing):
    """An isolated job waits for an empty slave, and none is reserved."""

    def _isolated(self, slave, now):
        return None if slave.in_hand else super()._isolated(slave, now)


class StuckReserved(Leasing):
    """The one reserved slave may be stuck; no other is ever reserved."""

    def _isolated(self, slave, now):
        return super()._isolated(slave, self._reserved_at)


class ReservedForEver(Leasing):
    """A slave stays reserved when the isolated job is gone."""

    @property
    def reserved(self):
        return self._reserved


class Crowded(Leasing):
    """The slave that has an isolated job gets more beside it."""

    def barred(self, slave):
        return slave.in_hand > 0 and slave.id in self.reserved


class LateFailure(Ledger):
    """A failure counts, whoever reports it."""

    def fail(self, id, number, *args, **kwargs):
        for piece in self.pieces.within(number, number):
            if piece.holder:
                id = piece.holder.id
        super().fail(id, number, *args, **kwargs)


class AnybodyGivesBack(Ledger):
    """Jobs are given back by a slave that does not hold them."""

    def give_back(self, id, ranges):
        for a, b in ranges:
            for piece in self.pieces.within(a, b):
                if piece.holder:
                    self._return(self.pieces.isolate(piece, a, b))


class LateDoneRefused(Ledger):
    """Jobs done are believed of their holder only."""

    def done(self, id, ranges):
        for a, b in ranges:
            for _, piece in self._held(id, a, b):
                self._finish(piece)


class WholePieceDone(Ledger):
    """A report of some jobs finishes all that were leased with them."""

    def done(self, id, ranges):
        for a, b in ranges:
            for piece in self.pieces.within(a, b):
                self._finish(piece)


class WrongJobBefore(Pieces):
    """A piece cut off remembers the job before the whole piece."""

    def cut(self, piece, number):
        right = super().cut(piece, number)
        right.before = piece.before
        return right


class NewFirst(Leasing):
    """New jobs are leased before those that came back."""

    def _returned(self, *args, **kwargs):
        return None if self._ready else super()._returned(*args, **kwargs)


class DrainLeasesNew(Ledger):
    """New jobs are leased while draining."""

    def lease(self, id, want, now, prefetch=False, draining=False):
        return super().lease(id, want, now, prefetch)


class NoEndInHand(Leasing):
    """Nothing caps the jobs in hand."""

    def _new(self, want):
        jobs, self._pieces.jobs = self._pieces.jobs, 0
        piece = super()._new(want)
        self._pieces.jobs += jobs
        return piece


class DropIsDeath(Ledger):
    """A dropped connection counts as a loss."""

    def drop(self, id, now):
        super().drop(id, now)
        self.lose(id)


class GuiltByAssociation(Ledger):
    """A loss counts for every job that the slave held."""

    def lose(self, id, late=()):
        for piece in self.pieces:
            if piece.holder and piece.holder.id == id:
                if piece.losses < module.LOSSES - 1:
                    piece.losses += 1
        return super().lose(id, late)


class NeverGuilty(Ledger):
    """A job that kills its slaves goes out again for ever."""

    def lose(self, id, late=()):
        for piece in self.pieces:
            piece.losses = 0
        return super().lose(id, late)


class ReplyLost(Ledger):
    """What a slave was given and never got stays its own."""

    def hello(self, id, name, workers, now, holds=(), returns=False):
        slave = self.slaves.get(id)
        if slave:
            holds = [(piece.first, piece.last) for piece in slave.pieces]
        return super().hello(id, name, workers, now, holds, returns)


class OldClaim(Ledger):
    """A slave is given back what was leased elsewhere meanwhile."""

    def hello(self, id, name, workers, now, holds=(), returns=False):
        slave = self.slaves.get(id)
        for a, b in holds if slave else ():
            for piece in self.pieces.within(a, b):
                if piece.holder and piece.holder is not slave:
                    self._return(self.pieces.isolate(piece, a, b), slave)
        return super().hello(id, name, workers, now, holds, returns)


class RefusedForEver(Ledger):
    """A job that every slave refuses is offered for ever."""

    def _fail_refused(self):
        pass


class InnocentsBlamed(Ledger):
    """All jobs of a slave are suspect though one was late."""

    def lose(self, id, late=()):
        return super().lose(id)


class LateGoesOn(Ledger):
    """A job that took too long is leased again."""

    def lose(self, id, late=()):
        return super().lose(id, [(1 << 50, 1 << 50)] if late else ())


class GoneForgotten(Ledger):
    """What others have by now is not suspect when its slave is lost."""

    def _blame(self, slave, alone):
        pass


def uncounted(method):
    """That method, with failures that --max-failures never hears of."""
    def forgetful(self, *args, **kwargs):
        count, self._too_many = self._too_many, lambda failed, finished: False
        try:
            return method(self, *args, **kwargs)
        finally:
            self._too_many = count
    return forgetful


class RaisedUncounted(Ledger):
    fail = uncounted(Ledger.fail)


class RefusedUncounted(Ledger):
    refuse = uncounted(Ledger.refuse)


class RefusedByAllUncounted(Ledger):
    _fail_refused = uncounted(Ledger._fail_refused)


class LostUncounted(Ledger):
    _fail_hopeless = uncounted(Ledger._fail_hopeless)


class LateUncounted(Ledger):
    def lose(self, id, late=()):
        return (uncounted(Ledger.lose) if late else Ledger.lose)(
            self, id, late)


class RepeatedTwice(Slaves):
    """A report whose reply was lost is counted as done twice."""

    def repeated(self, id, ranges):
        return 0


class ReturnsCounted(Slaves):
    """A slave that comes back is counted as one more."""

    def arrive(self, id, name, workers, now, returns):
        return super().arrive(id, name, workers, now, False)


class Impatient(Turns):
    """What one slave has refused is offered to it once more."""

    def first(self, slave):
        return next(iter(self), None)


class Forgetful(Turns):
    """A slave that looked in vain does not look again."""

    def first(self, slave):
        found = super().first(slave)
        if found is None:
            slave.turns[self] = 1 << 60
        return found


SOUND = Ledger, Leasing, Pieces, Run, Slaves, Turns
MUTANTS = [mutant for mutant in list(globals().values())
           if isinstance(mutant, type) and mutant not in SOUND
           and issubclass(mutant, SOUND)]


# What happens by itself too often to leave room for what these are about:
# they are found in a hundredth of the time without it.
DEATHS = ['die', 'die_and_die_again', 'vanish', 'take_too_long', 'successor',
          'drop', 'come_back', 'come_back_forgetful', 'too_late']
OTHERS = ['master_restarts', 'save', 'give_back', 'report_of_a_stranger',
          'report_of_another_run']
WITHOUT = {
    RefusedForEver: DEATHS + OTHERS + ['fail', 'everybody_leases'],
    RefusedUncounted: DEATHS + OTHERS,
    RefusedByAllUncounted: DEATHS + OTHERS + ['fail', 'everybody_leases'],
    Forgetful: DEATHS + OTHERS,
    StuckReserved: OTHERS,
    ReservedForEver: OTHERS,
    LateFailure: [*OTHERS, 'refuse'],
    OldClaim: ['die', 'die_and_die_again', 'take_too_long', 'successor',
               'refuse', 'too_late', 'fail', *OTHERS],
}


def no_rule(name):
    """A rule of the machine as a method that others may call, no more."""
    method = getattr(LedgerMachine, name)
    return lambda self, *args, **kwargs: method(self, *args, **kwargs)


def of(kind, mutant):
    """That kind of part: the mutant, if it is one, or the sound one."""
    return mutant if issubclass(mutant, kind) else kind


@pytest.mark.hunt
@pytest.mark.parametrize('mutant', MUTANTS, ids=lambda mutant:
                         mutant.__name__)
def test_the_machine_catches(mutant, monkeypatch):
    monkeypatch.setattr(module, 'Leasing', of(Leasing, mutant))
    monkeypatch.setattr(module, 'Pieces', of(Pieces, mutant))
    monkeypatch.setattr(module, 'Slaves', of(Slaves, mutant))
    monkeypatch.setattr(pieces, 'Turns', of(Turns, mutant))

    class Machine(LedgerMachine):
        ledger_class = of(Ledger, mutant)
        run_class = of(Run, mutant)

    for name in WITHOUT.get(mutant, ()):
        setattr(Machine, name, no_rule(name))
    with pytest.raises(AssertionError):
        hunt(Machine, monkeypatch, profile(
            1000, phases=[Phase.generate], report_multiple_bugs=False))
