"""Builders shared by tests: traces as the sandbox takes them, and traces as tallymark has read them."""

from dataclasses import replace
from decimal import Decimal

from tallymark import config
from tallymark.core.clock import HOUR_US, MINUTE_US, SECOND_US, format_time, parse_time
from tallymark.core.decisions import Known, MarkState, Outcome, attributes_text
from tallymark.core.types import WHOLE_TRACE, Trace, Unit
from tallymark.sandbox.faults import Fault, Faults
from tallymark.sandbox.langfuse import DEFAULT_PROJECT

NOW_US = parse_time("2026-11-23T12:00:00Z")
PROJECT = DEFAULT_PROJECT.project_id
CREDIT_MICROS = 1_000_000
# At the default prices a cost of 0.01 USD is 250 credits, and so are 12 seconds.
CREDITS_OF_A_TRACE = 500


def ingested(
    trace_id, *, at_us=None, minutes_ago=60, customer="cus_1", cost="0.01", seconds=12, tokens=(100, 20), **changes
):
    """The bodies of one trace and its one generation; `cost=None` is a generation that nobody priced."""
    start_us = at_us if at_us is not None else NOW_US - minutes_ago * MINUTE_US
    trace = {
        "id": trace_id,
        "timestamp": format_time(start_us),
        "name": "chat",
        "userId": "user-1",
        "tags": ["billing:pending"],
        "metadata": {"customerId": customer} if customer is not None else {},
        **changes,
    }
    generation = {
        "id": f"{trace_id}-generation",
        "startTime": format_time(start_us),
        "endTime": format_time(start_us + int(seconds * SECOND_US)),
        "model": "house-model",
        "usageDetails": dict(zip(("input", "output"), tokens, strict=True)),
    }
    if cost is not None:
        generation["costDetails"] = {"total": float(cost)}
    return trace, [generation]


def read_trace(trace_id="t1", *, minutes_ago=60, cost="0.01", seconds="12", customer="cus_1", tags=None, **changes):
    """A trace as the source reads it."""
    unit = Unit(WHOLE_TRACE, Decimal(cost) if cost is not None else None, Decimal(seconds))
    trace = Trace(
        PROJECT,
        trace_id,
        NOW_US - minutes_ago * MINUTE_US,
        (unit,),
        tags=("billing:pending",) if tags is None else tags,
        attributes={"customerId": customer} if customer else {},
    )
    return replace(trace, **changes)


def no_summaries():
    """Faults that let nobody read event summaries, so that what is in doubt cannot be settled."""
    return Faults(0, {Fault.ERROR_BEFORE: 1}, only=lambda request: request.path.endswith("/event_summaries"))


def settings_for(tmp_path, **changes):
    """Settings for a ledger in a folder and no server at all."""
    keys = {"LANGFUSE_PUBLIC_KEY": "pk-lf-x", "LANGFUSE_SECRET_KEY": "sk-lf-x", "STRIPE_SECRET_KEY": "sk_test_x"}
    return config.load(None, {**keys, "BILLING_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.sqlite3'}", **changes})


def known_of(trace, **changes):
    """What the ledger knows of a trace that an earlier run billed and marked an hour ago."""
    return Known(
        **{
            "timestamp_us": trace.timestamp_us,
            "outcome": Outcome.BILLED,
            "reason": "",
            "detail": "",
            "result": "processed",
            "last_run_id": "run-1",
            "decision_digest": "settings",
            "customer_id": "cus_1",
            "found_by": "metadata",
            "worth_micros": CREDITS_OF_A_TRACE * CREDIT_MICROS,
            "billed_micros": CREDITS_OF_A_TRACE * CREDIT_MICROS,
            "components": "{}",
            "attributes": attributes_text(trace),
            "card_digest": None,
            "mark_state": MarkState.WRITTEN,
            "mark_written_at_us": NOW_US - HOUR_US,
            "cost_usd": trace.units[0].cost_usd,
            "duration_s": trace.units[0].duration_s,
            **changes,
        }
    )


def bad_units(problem="the server sent no cost"):
    """The unit of a row whose numbers are missing."""
    return (Unit(WHOLE_TRACE, None, None, problem=problem),)
