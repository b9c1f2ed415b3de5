"""Mistakes planted in the ledger, each of which the machine must catch."""

import pytest
from hypothesis import Phase
from test_ledger_machine import LedgerMachine, Run, hunt, profile

from taskmaster.master import ledger as module
from taskmaster.master.ledger import Ledger


class LastAcknowledged(Ledger):
    """The watermark is the last job acknowledged."""

    acknowledged = 0, None

    def _finish(self, piece):
        super()._finish(piece)
        self.acknowledged = max(self.acknowledged,
                                (piece.last, piece.jobs[-1]))

    def watermark(self):
        return self.acknowledged if self._firsts else super().watermark()


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
        for first in self._firsts:
            if first not in self._failed:
                return first - 1, self._pieces[first].before
        return self.leased, self._before


class WaitsForEver(Ledger):
    """A lone job waits for an empty slave, and none is reserved."""

    def _lone_piece(self, slave, now):
        return None if slave.pieces else super()._lone_piece(slave, now)


class StuckReserved(Ledger):
    """The one reserved slave may be stuck; no other is ever reserved."""

    def _lone_piece(self, slave, now):
        return super()._lone_piece(slave, self._reserved_at)


class ReservedForEver(Ledger):
    """A slave stays reserved when the lone job is gone."""

    def _withdraw(self, piece):
        reserved = set(self._reserved)
        try:
            return super()._withdraw(piece)
        finally:
            self._reserved |= reserved


class Crowded(Ledger):
    """The slave that has a lone job gets more beside it."""

    def barred(self, slave):
        return bool(slave.pieces) and slave.id in self._reserved


class LateFailure(Ledger):
    """A failure counts, whoever reports it."""

    def fail(self, id, number, *args, **kwargs):
        for piece in self._within(number, number):
            if piece.holder:
                id = piece.holder.id
        super().fail(id, number, *args, **kwargs)


class AnybodyGivesBack(Ledger):
    """Jobs are given back by a slave that does not hold them."""

    def give_back(self, id, ranges):
        for a, b in ranges:
            for piece in self._within(a, b):
                if piece.holder:
                    self._return(self._isolate(piece, a, b))


class LateDoneRefused(Ledger):
    """Jobs done are believed of their holder only."""

    def done(self, id, ranges):
        for a, b in ranges:
            for piece in self._held(self.slaves.get(id), a, b):
                self._finish(piece)


class WholePieceDone(Ledger):
    """A report of some jobs finishes all that were leased with them."""

    def done(self, id, ranges):
        for a, b in ranges:
            for piece in self._within(a, b):
                self._finish(piece)


class WrongJobBefore(Ledger):
    """A piece cut off remembers the job before the whole piece."""

    def _cut(self, piece, number):
        right = super()._cut(piece, number)
        right.before = piece.before
        return right


class NewFirst(Ledger):
    """New jobs are leased before those that came back."""

    def _returned_piece(self, *args):
        return None if self.ready else super()._returned_piece(*args)


class DrainLeasesNew(Ledger):
    """New jobs are leased while draining."""

    def lease(self, id, want, now, prefetch=False, draining=False):
        return super().lease(id, want, now, prefetch)


class NoEndInHand(Ledger):
    """Nothing caps the jobs in hand."""

    def _new_piece(self, want):
        unfinished, self.unfinished = self.unfinished, 0
        piece = super()._new_piece(want)
        self.unfinished += unfinished
        return piece


class DropIsDeath(Ledger):
    """A dropped connection counts as a loss."""

    def drop(self, id, now):
        super().drop(id, now)
        self.lose(id)


class GuiltByAssociation(Ledger):
    """A loss counts for every job that the slave held."""

    def lose(self, id, late=()):
        for piece in self._pieces.values():
            if piece.holder and piece.holder.id == id:
                if piece.losses < module.LOSSES - 1:
                    piece.losses += 1
        return super().lose(id, late)


class NeverGuilty(Ledger):
    """A job that kills its slaves goes out again for ever."""

    def lose(self, id, late=()):
        for piece in self._pieces.values():
            piece.losses = 0
        return super().lose(id, late)


class ReplyLost(Ledger):
    """What a slave was given and never got stays its own."""

    def hello(self, id, name, workers, now, holds=()):
        slave = self.slaves.get(id)
        if slave:
            holds = [(piece.first, piece.last) for piece in slave.pieces]
        return super().hello(id, name, workers, now, holds)


class OldClaim(Ledger):
    """A slave is given back what was leased elsewhere meanwhile."""

    def hello(self, id, name, workers, now, holds=()):
        for a, b in holds:
            for piece in self._within(a, b):
                if piece.holder and piece.holder.id != id:
                    self._return(self._isolate(piece, a, b), claim=id)
        return super().hello(id, name, workers, now, holds)


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


MUTANTS = [mutant for mutant in list(globals().values())
           if isinstance(mutant, type) and mutant is not Ledger
           and mutant is not Run and issubclass(mutant, (Ledger, Run))]


@pytest.mark.hunt
@pytest.mark.parametrize('mutant', MUTANTS, ids=lambda mutant:
                         mutant.__name__)
def test_the_machine_catches(mutant, monkeypatch):
    class Machine(LedgerMachine):
        ledger_class = mutant if issubclass(mutant, Ledger) else Ledger
        run_class = mutant if issubclass(mutant, Run) else Run

    with pytest.raises(AssertionError):
        hunt(Machine, monkeypatch, profile(
            1000, phases=[Phase.generate], report_multiple_bugs=False))
