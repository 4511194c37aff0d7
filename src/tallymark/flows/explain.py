"""Explain: how a trace became credits, in which meter event, with which answer, and its marks.

Reads only the ledger.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..core.clock import format_time
from ..core.credits import format_micros
from ..core.ids import sent_identifier
from ..core.types import WHOLE_TRACE, Reason
from ..errors import NotFound
from ..ledger import Ledger


def explain(ledger: Ledger, trace_id: str) -> dict[str, Any]:
    """Everything the ledger knows of a trace, as one JSON-able object. Raises NotFound."""
    rows = list(ledger.query("find_trace", trace_id=trace_id))
    if not rows:
        raise NotFound(
            f"the ledger does not know the trace {trace_id!r}; read it with `tallymark sync --trace {trace_id}`."
        )
    return {"trace_id": trace_id, "projects": [explain_one(ledger, row) for row in rows]}


def explain_one(ledger: Ledger, row: Any) -> dict[str, Any]:
    """Everything the ledger knows of a trace of one project, from its row."""
    key = {"project_id": row["project_id"], "trace_id": row["trace_id"]}
    rating = msgspec.json.decode(row["components"])
    return {
        "project_id": row["project_id"],
        "time": format_time(row["timestamp_us"]),
        "name": row["name"],
        "user_id": row["user_id"],
        "outcome": row["outcome"],
        "reason": row["reason"],
        "detail": row["detail"],
        "customer": row["customer_id"],
        "customer_found_by": row["found_by"],
        "units": [_whole_unit(row), *(_unit(unit) for unit in ledger.query("units_of", **key))],
        "rate_card": row["card_digest"],
        "margin": rating.get("margin"),
        "components": rating.get("parts", []),
        "worth": format_micros(row["worth_micros"]),
        "billed": format_micros(row["billed_micros"]),
        "entries": [_entry(ledger, entry) for entry in ledger.query("entries_of", **key)],
        "mark": _mark(row),
        "decisions": decisions_of(ledger, f"{row['project_id']}/{row['trace_id']}"),
        "read_at": format_time(row["read_at_us"]),
        "deleted_at": format_time(row["deleted_at_us"]) if row["deleted_at_us"] is not None else None,
    }


def _whole_unit(row: Any) -> dict[str, Any]:
    """The trace as a whole: all of its usage, or through observations its duration."""
    problem = row["detail"] if row["reason"] == Reason.UNRATED else None
    whole = {"unit_id": WHOLE_TRACE, "cost_usd": row["cost_usd"], "duration_s": row["duration_s"]}
    return {**whole, "tokens": None, "model": None, "problem": problem}


def _unit(unit: Any) -> dict[str, Any]:
    names = ("unit_id", "cost_usd", "tokens", "model", "problem")
    return {**{name: unit[name] for name in names}, "duration_s": None}


def _entry(ledger: Ledger, entry: Any) -> dict[str, Any]:
    found = {
        "kind": entry["kind"],
        "meter": entry["meter"],
        "customer": entry["customer_id"],
        "credits": format_micros(entry["amount_micros"]),
        "bucket": [format_time(entry["bucket_start_us"]), format_time(entry["bucket_end_us"])],
        "meter_event": None,
        "decision": None,
    }
    if entry["decision_id"] is not None:
        found["decision"] = decision_of(next(iter(ledger.query("decision", decision_id=entry["decision_id"]))))
    if entry["meter_event_id"] is not None:
        found["meter_event"] = _meter_event(ledger, entry)
    return found


def decision_of(row: Any) -> dict[str, Any]:
    """A decision as one JSON-able object."""
    return {
        "decision": row["decision_id"],
        "at": format_time(row["at_us"]),
        "who": row["who"],
        "verb": row["verb"],
        "subject_kind": row["subject_kind"],
        "subject": row["subject"],
        "credits": format_micros(row["amount_micros"]),
        "why": row["why"],
        "evidence": msgspec.json.decode(row["detail"]),
    }


def _meter_event(ledger: Ledger, entry: Any) -> dict[str, Any]:
    return {
        "identifier": entry["meter_event_id"],
        "sent_as": sent_identifier(entry["meter_event_id"], entry["reissue"]),
        "state": entry["state"],
        "reason": entry["reason"],
        "credits": entry["credits"],
        "covers": [format_time(entry["covers_from_us"]), format_time(entry["covers_to_us"])],
        "timestamp": format_time(entry["timestamp_s"] * 1_000_000),
        "bucket_credits": format_micros(entry["entries_micros"]),
        "carry_before": format_micros(entry["carry_before_micros"]),
        "carry_after": format_micros(entry["carry_after_micros"]),
        "attempts": attempts_of(ledger, entry["meter_event_id"]),
        "decisions": decisions_of(ledger, entry["meter_event_id"]),
    }


def decisions_of(ledger: Ledger, subject: str) -> list[dict[str, Any]]:
    """What was decided about a trace or a meter event, in order."""
    return [decision_of(row) for row in ledger.query("decisions_of", subject=subject)]


def attempts_of(ledger: Ledger, meter_event_id: str) -> list[dict[str, Any]]:
    """Each request that was made for a meter event, in order."""
    return [_attempt(row) for row in ledger.query("attempts_of", meter_event_id=meter_event_id)]


def _attempt(attempt: Any) -> dict[str, Any]:
    return {
        "sent_at": format_time(attempt["sent_at_us"]),
        "outcome": attempt["outcome"] or "no answer stored",
        "answer": attempt["answer"],
        "window_total": attempt["window_total"],
    }


def _mark(row: Any) -> dict[str, Any]:
    written_at = row["mark_written_at_us"]
    return {
        "state": row["mark_state"] or "none",
        "seen": row["marked"],
        "written_at": format_time(written_at) if written_at else None,
        "problem": row["mark_problem"],
    }
