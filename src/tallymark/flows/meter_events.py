"""Meter events: those that somebody asks for, in pages, and everything about one. Reads only the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from ..core.clock import SECOND_US, format_time
from ..core.credits import format_micros
from ..core.ids import issue_of, sent_identifier
from ..core.states import State, payload_of
from ..errors import ConfigError, NotFound
from ..ledger import Ledger
from .explain import attempts_of, decisions_of
from .paging import Listing, listing, read_cursor
from .ranges import check_range

BY_TIME, IN_STATE, OF_CUSTOMER = "meter_events_by_time", "meter_events_in_state", "meter_events_of_customer"
# Where nearly all of them end; of any other state an index finds them faster than their time.
COMMON = ("", State.ACCEPTED, State.CARRIED)
LATEST_US = 2**62
AFTER_ALL_IDS = "~"
TRACES_SHOWN = 100


class MeterEventLine(msgspec.Struct):
    """A meter event: whole `credits` for a customer, meter and bucket (the usage from `bucket_from` on, before
    `bucket_to`).

    `bucket_credits` + `carry_before` - `carry_after` = `credits`. A bucket in state "carried" was worth less than a
    credit: nothing was sent. `attempts` counts the sends.
    """

    identifier: str
    customer: str
    meter: str
    bucket_from: str
    bucket_to: str
    timestamp: str
    state: str
    reason: str
    credits: int
    bucket_credits: str
    carry_before: str
    carry_after: str
    attempts: int
    created_at: str
    answered_at: str | None


class CoveredTrace(msgspec.Struct):
    """A trace of a meter event, and its part of the bucket."""

    trace_id: str
    project_id: str
    time: str
    name: str | None
    credits: str


@dataclass(frozen=True, slots=True)
class WantedMeterEvents:
    """What is asked for; what is empty is not asked. Times are of the usage: where its bucket begins."""

    state: str = ""
    customer_id: str = ""
    meter: str = ""
    from_us: int | None = None
    to_us: int | None = None


def meter_events(
    ledger: Ledger, wanted: WantedMeterEvents, limit: int, cursor: str | None = None
) -> Listing[MeterEventLine]:
    """A page of those that meet everything that is asked, the newest usage first. Raises ConfigError."""
    _check(wanted)
    before_us, before_id = read_cursor(cursor, int, str) if cursor else (LATEST_US, AFTER_ALL_IDS)
    rows = list(
        ledger.query(
            _way(wanted),
            state=wanted.state,
            customer_id=wanted.customer_id,
            meter=wanted.meter,
            from_us=wanted.from_us if wanted.from_us is not None else -LATEST_US,
            to_us=wanted.to_us if wanted.to_us is not None else LATEST_US,
            before_us=before_us,
            before_id=before_id,
            limit=limit + 1,
        )
    )
    return listing(rows, limit, lambda row: MeterEventLine(**_line(row)), _place_of)


def _check(wanted: WantedMeterEvents) -> None:
    check_range(wanted.from_us, wanted.to_us)
    if wanted.state and wanted.state not in tuple(State):
        raise ConfigError(f"{wanted.state!r:.60} is no state; one is any of {', '.join(State)}.")
    if "\0" in wanted.customer_id + wanted.meter:
        raise ConfigError("no customer and no meter has such a name.")


def _place_of(row: Any) -> tuple[int, str]:
    return row["bucket_start_us"], row["meter_event_id"]


def _way(wanted: WantedMeterEvents) -> str:
    if wanted.customer_id:
        return OF_CUSTOMER
    return BY_TIME if wanted.state in COMMON else IN_STATE


def one_meter_event(ledger: Ledger, identifier: str) -> dict[str, Any]:
    """Everything the ledger knows of a meter event, by its identifier as Stripe or the ledger has it. Raises NotFound.

    `traces` are the first of those that it covers; `trace_count` is how many there are.
    """
    name = issue_of(identifier)[0]
    row = next(iter(ledger.query("meter_event", meter_event_id=name)), None) if name.isprintable() else None
    if row is None:
        raise NotFound(f"there is no meter event {identifier!r:.120} in this ledger.")
    next_us = row["next_attempt_at_us"] if row["state"] == State.PENDING else None
    sends = attempts_of(ledger, name)
    total = sends[-1]["window_total"] if sends else None
    value = row["credits"] if total is None else total
    return {
        **_line(row),
        "sent_as": sent_identifier(name, row["reissue"]),
        "bucket_of_trace": row["bucket_key"],
        "payload": payload_of(row["customer_id"], value, msgspec.json.decode(row["payload"])),
        "answer": row["answer"],
        "next_attempt_at": format_time(next_us) if next_us else None,
        "run_id": row["run_id"],
        "sends": sends,
        "decisions": decisions_of(ledger, name),
        "trace_count": next(iter(ledger.query("count_covered", meter_event_id=name)))["traces"],
        "traces": [msgspec.to_builtins(one) for one in covered_traces(ledger, name, TRACES_SHOWN).items],
    }


def covered_traces(ledger: Ledger, identifier: str, limit: int, cursor: str | None = None) -> Listing[CoveredTrace]:
    """A page of the traces of a meter event, in the order of their ids."""
    project, trace = read_cursor(cursor, str, str) if cursor else ("", "")
    place = {"after_project": project, "after_trace": trace}
    rows = list(ledger.query("meter_event_traces", meter_event_id=identifier, **place, limit=limit + 1))
    return listing(rows, limit, _covered, lambda row: (row["project_id"], row["trace_id"]))


def _covered(row: Any) -> CoveredTrace:
    return CoveredTrace(
        row["trace_id"],
        row["project_id"],
        format_time(row["timestamp_us"]),
        row["name"],
        format_micros(row["amount_micros"]),
    )


def _line(row: Any) -> dict[str, Any]:
    return {
        "identifier": row["meter_event_id"],
        "customer": row["customer_id"],
        "meter": row["meter"],
        "bucket_from": format_time(row["bucket_start_us"]),
        "bucket_to": format_time(row["bucket_end_us"]),
        "timestamp": format_time(row["timestamp_s"] * SECOND_US),
        "state": row["state"],
        "reason": row["reason"],
        "credits": row["credits"],
        "bucket_credits": format_micros(row["entries_micros"]),
        "carry_before": format_micros(row["carry_before_micros"]),
        "carry_after": format_micros(row["carry_after_micros"]),
        "attempts": row["attempt"],
        "created_at": format_time(row["created_at_us"]),
        "answered_at": format_time(row["answered_at_us"]) if row["answered_at_us"] is not None else None,
    }
