"""Code broken on purpose, to see that the simulation notices: `make sim MUTANT=send_before_commit`."""

import contextlib
from dataclasses import replace
from unittest import mock

from tallymark.core.ids import sent_identifier
from tallymark.failpoints import Step
from tallymark.flows.send import answered
from tallymark.ledger import gathering, meter_windows, sending
from tallymark.ledger.ledger import Ledger
from tallymark.meter.stripe_events import StripeMeter


@contextlib.contextmanager
def send_before_commit():
    """The request leaves inside the transaction that claims: its claim is committed only after the answer."""
    meters, outcomes = [], {}
    make, send = StripeMeter.__init__, StripeMeter.send

    def made(self, *args, **options):
        make(self, *args, **options)
        meters.append(self)

    def claim(self, now_us, limit, lateness):
        with self._db.transaction(Step.CLAIM):
            claims = sending.claim_txn(self._db, now_us, limit, lateness, sending.FIRST_LANE)
            for one in claims:
                outcomes[one.idempotency_key] = answered(lambda one=one: send(meters[-1], one))
            return claims

    with (
        mock.patch.object(StripeMeter, "__init__", made),
        mock.patch.object(StripeMeter, "send", lambda _self, claim: outcomes[claim.idempotency_key]),
        mock.patch.object(Ledger, "claim", claim),
    ):
        yield


@contextlib.contextmanager
def new_identifier_on_retry():
    """Every attempt has an identifier of its own, so that Stripe takes a repeated send for new usage."""
    claim_one = sending._claim_one_txn

    def claim(db, row, now_us, window_s):
        made = claim_one(db, row, now_us, window_s)
        return replace(made, identifier=sent_identifier(made.identifier, made.attempt - 1))

    with mock.patch.object(sending, "_claim_one_txn", claim):
        yield


@contextlib.contextmanager
def mark_before_acceptance():
    """Marks are owed as soon as a meter event is made, whatever becomes of it."""
    fix = gathering._fix_txn

    def fixed(db, run, ledger_id, part, held_reason):
        fix(db, run, ledger_id, part, held_reason)
        question = (
            "update trace set mark_state = 'owed' where mark_state = 'waiting' and (project_id, trace_id) in"
            " (select project_id, trace_id from entry where meter_event_id is not null)"
        )
        db._change(question, ())

    with mock.patch.object(gathering, "_fix_txn", fixed):
        yield


@contextlib.contextmanager
def send_the_addition():
    """A pre-aggregated meter gets what is new, as others do, and not all of its window."""

    def total(db, row, window_s):
        made = meter_windows.total_txn(db, row, window_s)
        return made and replace(made, credits=row["credits"])

    with mock.patch.object(sending, "total_txn", total):
        yield


@contextlib.contextmanager
def total_beside_an_unanswered_one():
    """A newer total leaves while an older one has no answer, which may still arrive, and be the last."""
    with mock.patch.object(sending, "_unanswered_first_txn", lambda _db, row, _moment: row):
        yield


MUTANTS = {
    mutant.__name__: mutant
    for mutant in (
        send_before_commit,
        new_identifier_on_retry,
        mark_before_acceptance,
        send_the_addition,
        total_beside_an_unanswered_one,
    )
}
