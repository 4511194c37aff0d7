"""Held: what waits for a person, and what the meter did not take. Reads only the ledger."""

from __future__ import annotations

from typing import Any

import msgspec

from ..core.clock import format_time
from ..core.credits import format_micros
from ..ledger import Ledger

REMEDIES = {
    "no_customer": "map its user, organization or session in [customers.…], or set a default customer; then sync",
    "too_old": "Stripe takes no usage older than 35 days; settle it with the customer by hand",
    "unrated": "mend the number in Langfuse or the rate card; then sync --full",
    "unpriced": "give its model a price in Langfuse or report the cost; then sync --full",
    "late_period": "its invoice is final; decide by hand",
    "in_doubt": "the answer says what Stripe's sums left open; compare its bucket with them, and decide by hand",
}


def held(ledger: Ledger, reason: str | None, limit: int) -> dict[str, Any]:
    """What is held by reason, with amounts and remedies; meter events not settled, and reports not explained."""
    traces = ledger.query("list_held", reason=reason or "", limit=limit)
    meter_events = ledger.query("list_open_meter_events", limit=limit)
    return {
        "reasons": [_reason(row) for row in ledger.query("count_held")],
        "traces": [_trace(row) for row in traces],
        "meter_events": [_meter_event(row) for row in meter_events],
        "reports": [_report(row) for row in ledger.query("list_reports", limit=limit)],
    }


def _reason(row: Any) -> dict[str, Any]:
    return {
        "reason": row["reason"],
        "traces": row["traces"],
        "credits": format_micros(row["worth_micros"]),
        "remedy": REMEDIES[row["reason"]],
    }


def _trace(row: Any) -> dict[str, Any]:
    return {
        "trace_id": row["trace_id"],
        "project_id": row["project_id"],
        "time": format_time(row["timestamp_us"]),
        "reason": row["reason"],
        "detail": row["detail"],
        "user_id": row["user_id"],
        "credits": format_micros(row["worth_micros"]),
    }


def _meter_event(row: Any) -> dict[str, Any]:
    return {
        "identifier": row["meter_event_id"],
        "customer": row["customer_id"],
        "meter": row["meter"],
        "bucket": format_time(row["bucket_start_us"]),
        "credits": row["credits"],
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
