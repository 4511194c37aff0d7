"""Held: what waits for a person, and what the meter did not take. Reads only the ledger."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from ..config import Config
from ..core.choices import OF_TRACE, Choice
from ..core.clock import format_time
from ..core.credits import format_micros
from ..ledger import Ledger
from ..ledger.held import meter_event_choices
from .explain import attempts_of, decision_of, decisions_of, explain_one
from .subjects import Subject, find

REMEDIES = {
    "no_customer": "name a customer, for one trace or by a rule; or map it in [customers.…] and sync",
    "too_old": "Stripe takes no usage older than 35 days: bill it now, or waive it",
    "unrated": "mend the number in Langfuse or the rate card; then sync --full, or release it --as-is to read it again",
    "unpriced": "give its model a price in Langfuse; then sync --full, or release it --as-is to read it again",
    "late_period": "its invoice is final: bill it now, by an invoice item, or waive it",
    "window_cut": "a period began inside its window, which Stripe bills as a whole: bill it now, once the window is "
    "over, or by an invoice item; --as-is moves all that the window holds into the new period, also what is invoiced",
    "in_doubt": "Stripe's sums left it open: compare its bucket with them, then say --arrived or --not-sent",
    "deleted": "give it back (held waive), or leave it billed (held release --as-is)",
    "rejected": "mend what the answer says and sync; or move it to another customer, or waive it",
}
DOES = {
    Choice.ASSIGN: "bill another customer",
    Choice.AS_IS: "send it as it is",
    Choice.BILL_NOW: "bill it now, dated now",
    Choice.INVOICE_ITEM: "bill it by an invoice item on the next invoice",
    Choice.ARRIVED: "Stripe counts it",
    Choice.NOT_SENT: "Stripe does not count it",
    Choice.WAIVE: "bill it to nobody",
}
DOES_TO_TRACE = {**DOES, Choice.ASSIGN: "bill this customer", Choice.AS_IS: "read it again with the next sync"}
DOES_TO_DELETED = {Choice.AS_IS: "leave it billed", Choice.WAIVE: "give back what it was billed"}
SHOWN_TRACES = 1000


def held(ledger: Ledger, config: Config, reason: str | None, limit: int) -> dict[str, Any]:
    """What is held by reason, with amounts and remedies; meter events not settled, and reports not explained."""
    wanted = reason or ""
    return {
        "reasons": [row for row in reasons(ledger) if wanted in ("", row["reason"])],
        "traces": [_trace(row) for row in ledger.query("list_held", reason=wanted, limit=limit)],
        "meter_events": [
            _meter_event(row) for row in ledger.query("list_open_meter_events", reason=wanted, limit=limit)
        ],
        **beside(ledger, limit),
        "policy": policy(config),
    }


def beside(ledger: Ledger, limit: int) -> dict[str, Any]:
    """What nobody need decide about: reports of Stripe not explained yet, and to whom something is to be given back."""
    return {
        "reports": [_report(row) for row in ledger.query("list_reports", limit=limit)],
        "negative_carries": [_carry(row) for row in ledger.query("negative_carries")],
    }


def policy(config: Config) -> dict[str, Any]:
    """The settings that decide what is held, and how usage is given back."""
    return {
        "late_period": config.late_period,
        "invoice_grace_hours": str(config.invoice_grace_hours),
        "corrections": config.corrections,
        "deleted_traces": config.deleted_traces,
    }


def show(ledger: Ledger, identity: str, now_us: int) -> dict[str, Any]:
    """Everything about one held trace or waiting meter event, with what may be decided about it. Raises NotFound."""
    subject = find(ledger, identity)
    if subject.kind == "meter_event":
        return _shown_meter_event(ledger, subject.identity, now_us)
    return _shown_trace(ledger, subject, now_us)


def decisions(ledger: Ledger, limit: int) -> list[dict[str, Any]]:
    """What was decided, by whom, when and why; the newest first."""
    return [decision_of(row) for row in ledger.query("decisions", limit=limit)]


def reasons(ledger: Ledger) -> list[dict[str, Any]]:
    """How much waits for each reason, what it is worth, and what to do."""
    found: dict[str, dict[str, Any]] = {}
    for row in ledger.query("count_held"):
        found[row["reason"]] = {"traces": row["traces"], "meter_events": 0, "micros": row["amount_micros"]}
    for row in ledger.query("count_held_meter_events"):
        sums = found.setdefault(row["reason"], {"traces": 0, "meter_events": 0, "micros": 0})
        sums["traces"] += row["traces"]
        sums["meter_events"] += row["meter_events"]
        sums["micros"] += row["amount_micros"]
    return [_reason(reason, sums) for reason, sums in sorted(found.items())]


def _reason(reason: str, sums: Mapping[str, int]) -> dict[str, Any]:
    return {
        "reason": reason,
        "traces": sums["traces"],
        "meter_events": sums["meter_events"],
        "credits": format_micros(sums["micros"]),
        "remedy": REMEDIES.get(reason, "see its answer: `tallymark held show`"),
    }


def _trace(row: Any) -> dict[str, Any]:
    return {
        "trace_id": row["trace_id"],
        "project_id": row["project_id"],
        "time": format_time(row["timestamp_us"]),
        "reason": row["reason"],
        "detail": row["detail"],
        "user_id": row["user_id"],
        "credits": format_micros(row["amount_micros"]),
    }


def _meter_event(row: Any) -> dict[str, Any]:
    return {
        "identifier": row["meter_event_id"],
        "customer": row["customer_id"],
        "meter": row["meter"],
        "bucket": format_time(row["bucket_start_us"]),
        "credits": row["credits"],
        "amount": format_micros(row["entries_micros"]),
        "state": row["state"],
        "reason": row["reason"],
        "attempts": row["attempt"],
        "answer": row["answer"],
    }


def _report(row: Any) -> dict[str, Any]:
    errors = msgspec.json.decode(row["body"]).get("report", {}).get("errors", [])
    return {
        "notification": row["notification_id"],
        "time": format_time(row["created_at_us"]),
        "meter": row["object_id"],
        "codes": [error["code"] for error in errors],
        "state": row["state"],
        "reported": row["reported"],
        "matched": row["matched"],
    }


def _carry(row: Any) -> dict[str, Any]:
    since_us = row["since_us"]
    return {
        "customer": row["customer_id"],
        "meter": row["meter"],
        "credits": format_micros(row["amount_micros"]),
        "since": format_time(since_us) if since_us is not None else None,
    }


def _shown_meter_event(ledger: Ledger, meter_event_id: str, now_us: int) -> dict[str, Any]:
    event = next(iter(ledger.query("meter_event", meter_event_id=meter_event_id)))
    covered = ledger.query("covered_traces", meter_event_id=meter_event_id, limit=SHOWN_TRACES)
    return {
        "kind": "meter_event",
        **_meter_event(event),
        "bucket": [format_time(event["bucket_start_us"]), format_time(event["bucket_end_us"])],
        "timestamp": format_time(event["timestamp_s"] * 1_000_000),
        "carry_before": format_micros(event["carry_before_micros"]),
        "carry_after": format_micros(event["carry_after_micros"]),
        "traces": [_share(row) for row in covered],
        "attempts": attempts_of(ledger, meter_event_id),
        "decisions": decisions_of(ledger, meter_event_id),
        "choices": _choices(meter_event_id, meter_event_choices(ledger, event, now_us), DOES),
    }


def _share(row: Any) -> dict[str, Any]:
    return {
        "trace_id": row["trace_id"],
        "project_id": row["project_id"],
        "time": format_time(row["timestamp_us"]),
        "credits": format_micros(row["amount_micros"]),
    }


def _shown_trace(ledger: Ledger, subject: Subject, now_us: int) -> dict[str, Any]:
    assert subject.key is not None
    project_id, trace_id = subject.key
    named = {"project_id": project_id, "trace_id": trace_id}
    row = next(row for row in ledger.query("find_trace", trace_id=trace_id) if row["project_id"] == project_id)
    waiting = [one["meter_event_id"] for one in ledger.query("open_meter_events_of", **named)]
    does = DOES_TO_DELETED if subject.reason == "deleted" else DOES_TO_TRACE
    return {
        "kind": "trace",
        "trace_id": trace_id,
        "reason": subject.reason,
        "credits": format_micros(subject.amount_micros),
        "trace": explain_one(ledger, row),
        "meter_events": [_shown_meter_event(ledger, one, now_us) for one in waiting],
        "decisions": decisions_of(ledger, "/".join(subject.key)),
        "choices": _choices(subject.identity, OF_TRACE.get(subject.reason, ()), does),
    }


def _choices(identity: str, choices: Sequence[Choice], does: Mapping[Choice, str]) -> list[dict[str, str]]:
    """Each choice with the command line that makes it."""
    return [{"choice": str(one), "does": does[one], "command": " ".join(_command(identity, one))} for one in choices]


def _command(identity: str, choice: Choice) -> Iterable[str]:
    yield "tallymark held waive" if choice is Choice.WAIVE else "tallymark held release"
    yield shlex.quote(identity)
    if choice is Choice.ASSIGN:
        yield "--customer cus_…"
    elif choice is not Choice.WAIVE:
        yield f"--{choice}"
    yield "--why '…'"
