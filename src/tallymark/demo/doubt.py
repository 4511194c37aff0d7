"""The story of doubt: Stripe takes meter events and never answers, and only its own sums can tell what arrived."""

from __future__ import annotations

from collections import Counter

from ..core.credits import format_micros
from ..flows.reconciliation import Reconciliation
from ..sandbox.controls import FaultPlan
from ..sandbox.story import RESULTS, tell
from .stage import LOOKBACK_US, Stage, StageClock

SENDS = "POST /v1/billing/meter_events"
METHOD, PATH = SENDS.split()
HOURS = 30
# A real client waits for seconds; the sandbox need not.
HANG_SECONDS = 0.01


def tell_story(stage: Stage) -> None:
    """Sync against a Stripe that swallows its answers, let 30 hours pass, and settle what is in doubt."""
    clock = stage.clock
    _unanswered(stage, clock)
    sent = stage.sandbox.counts("stripe")[SENDS]
    stage.say(f"\n== {HOURS} hours pass, and Stripe answers again: it may have forgotten the identifiers")
    stage.sandbox.set_faults()
    clock.pass_time(HOURS * 3600)
    _synced(stage, clock, sent)
    stage.say("\n== reconcile --repair: every difference has a cause")
    found = stage.reconcile(clock, repair=True)
    stage.report["reconcile"] = found
    stage.check("nothing is in doubt, nothing unexplained", found.explained and "in_doubt" not in _causes(found))
    stage.check_tally()
    stage.check(
        "the entries equal the story's own arithmetic, to the micro-credit",
        stage.credits_by_customer() == _expected_by_customer(stage),
    )


def _expected_by_customer(stage: Stage) -> dict[str, str]:
    """What the story comes to by its own arithmetic, now that the time of its future traces has come."""
    micros = Counter[str]()
    for told in tell(stage.sandbox.ready.traces, stage.sandbox.ready.now_us):
        if RESULTS.get(told.kind, "future_timestamp") == "future_timestamp":
            micros[told.customer] += told.micros
    return {customer: format_micros(amount) for customer, amount in micros.items()}


def _unanswered(stage: Stage, clock: StageClock) -> None:
    stage.say("\n== first sync: Stripe takes every meter event and never answers")
    plan = FaultPlan(rates={"hang_after": 1.0}, method=METHOD, path_prefix=PATH, hang_seconds=HANG_SECONDS)
    stage.sandbox.set_faults(plan)
    summary = stage.sync(clock, from_us=stage.sandbox.ready.now_us - LOOKBACK_US)
    stage.report["unanswered_sync"] = summary
    stage.check("the ledger believes nothing that was not answered", summary.meter_events.accepted == 0)
    stage.check("Stripe has counted it all the same", sum(stage.sandbox.tally().values()) > 0)


def _synced(stage: Stage, clock: StageClock, sent: int) -> None:
    stage.say("\n== second sync: nothing is sent again blindly; Stripe's event summaries say what arrived")
    summary = stage.sync(clock)
    stage.report["settling_sync"] = summary
    of_new_usage = summary.meter_events.accepted
    stage.check("no meter event was sent again", stage.sandbox.counts("stripe")[SENDS] == sent + of_new_usage)
    stage.check("every meter event in doubt was settled", summary.meter_events.in_doubt == 0)
    stage.check("and each by Stripe's own sums", summary.meter_events.settled > 0)


def _causes(found: Reconciliation) -> set[str]:
    return {line.cause for line in found.causes}
