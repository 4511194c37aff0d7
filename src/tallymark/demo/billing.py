"""The story of billing: everything is billed once, late usage too, and the three agree."""

from __future__ import annotations

from collections import Counter

from ..api import explain
from ..clock import SystemClock
from ..core.clock import SECOND_US
from ..flows.summary import SyncSummary
from ..show import show_explanation
from .arrivals import Generation, report
from .stage import LOOKBACK_US, Stage

LATE_COST_USD = "0.0123"


def tell_story(stage: Stage) -> None:
    """Bill everything, run again, let usage arrive late, and compare with Stripe's own tally."""
    first = _first_sync(stage)
    _second_sync(stage)
    # Before the late usage, so that it can be compared with what the traces alone come to.
    stage.report["customers"] = stage.credits_by_customer()
    trace_id = _late_usage(stage)
    _judge(stage)
    stage.say(f"\n== tallymark explain {trace_id}")
    _explain(stage, trace_id)
    stage.report |= {"fetched": first.fetched, "processed": first.processed}


def _first_sync(stage: Stage) -> SyncSummary:
    stage.say("\n== first sync: everything that Langfuse has")
    summary = stage.sync(from_us=stage.sandbox.ready.now_us - LOOKBACK_US)
    stage.report["first_sync"] = summary
    if stage.expected is not None:
        kinds = sorted(stage.expected.kinds.items())
        stage.say("  the story holds " + ", ".join(f"{n:,} {kind}" for kind, n in kinds))
        stage.check("every trace ended as the story says", _results(summary) == stage.expected.results)
    return summary


def _results(summary: SyncSummary) -> Counter[str]:
    found = Counter({"processed": summary.processed, "failed": summary.failed, **summary.skipped, **summary.held})
    return +found


def _second_sync(stage: Stage) -> None:
    stage.say("\n== second sync: nothing new, so only the overlap is read")
    summary = stage.sync()
    stage.report["second_sync"] = summary
    stage.check("nothing was billed twice", summary.meter_events.accepted == 0 and summary.processed == 0)


def _late_usage(stage: Stage) -> str:
    """One more generation arrives for a trace that was billed."""
    trace_id, at_us = _a_billed_trace(stage)
    stage.say(f"\n== late usage: one more generation of {LATE_COST_USD} USD arrives for {trace_id}")
    late = Generation("late-observation", trace_id, at_us, at_us, LATE_COST_USD)
    report(stage, [late], SystemClock().now_us())
    summary = stage.sync(from_us=at_us - SECOND_US)
    stage.report["late_sync"] = summary
    stage.check("the difference was billed as one adjustment", summary.adjusted == 1)
    return trace_id


def _a_billed_trace(stage: Stage) -> tuple[str, int]:
    with stage.ledger() as ledger:
        row = next(iter(ledger.query("latest_billed")))
        return row["trace_id"], row["timestamp_us"]


def _judge(stage: Stage) -> None:
    """Langfuse against the ledger against Stripe, and Stripe's own tally, of which reconcile knows nothing."""
    stage.say("\n== reconcile: Langfuse, the ledger, and what Stripe counted")
    found = stage.reconcile()
    stage.report["reconcile"] = found
    stage.check("every difference has a cause", found.explained)
    stage.check_tally()
    if stage.expected is not None:
        before = "before the late usage, the entries equalled the story's own arithmetic, to the micro-credit"
        stage.check(before, stage.report["customers"] == stage.expected_by_customer())


def _explain(stage: Stage, trace_id: str) -> None:
    found = explain(stage.config, trace_id)
    stage.report["explain"] = found
    if not stage.quiet:
        show_explanation(found)
