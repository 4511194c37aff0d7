"""What waits for a person: GET /held and its lists, GET /held/{identity}, POST /held/decisions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from litestar.params import FromPath, FromQuery, JSONBody

from ...core.credits import format_micros
from ...flows.held import policy, reasons, show
from ...flows.held_decisions import Plan
from ...flows.inbox import HeldMeterEvent, HeldTrace, Said, decide, held_meter_events, held_traces, plan
from ...flows.paging import ROWS_DEFAULT, Listing
from ..service import Service, TheCaller, TheService
from .answers import ChoiceOffered, Decision, Policy, TraceExplained, WaitingMeterEvent
from .common import Cursor, Rows, reads, writes

SUBJECTS_SHOWN = 100
ChoiceName = Literal["customer", "as-is", "bill-now", "invoice-item", "arrived", "not-sent", "waive"]


class HeldReason(msgspec.Struct):
    """How much waits for one reason, and what to do about it."""

    reason: str
    traces: int
    meter_events: int
    credits: str
    remedy: str


class Held(msgspec.Struct):
    """What waits for a person, by reason, and the settings that decide what does."""

    reasons: list[HeldReason]
    policy: Policy


class HeldSubject(msgspec.Struct):
    """One thing that waits: a trace (`kind` is "trace", its money may wait in `meter_events`) or a meter event.

    `reason` is empty if it does not wait itself. `identity` is what decisions name it by.
    """

    kind: str
    identity: str
    reason: str
    credits: str
    trace: TraceExplained | None
    meter_events: list[WaitingMeterEvent]
    decisions: list[Decision]
    choices: list[ChoiceOffered]


class NewDecision(msgspec.Struct):
    """A word on some `ids`, or on all that waits for a `reason`; `why` is kept with it.

    `customer` is whom to bill, with the choice "customer", and if wanted with "bill-now". `dry_run` tells what would be
    decided. What is worth something else than `expected_credits` by now, or is another number of things than
    `expected_count`, is refused.
    """

    choice: ChoiceName
    why: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    ids: Annotated[list[str], msgspec.Meta(max_length=1000)] = []
    reason: str | None = None
    customer: str | None = None
    expected_credits: str | None = None
    expected_count: int | None = None
    dry_run: bool = False


class Subject(msgspec.Struct):
    """Something that is decided about; `decision` is null in a dry run."""

    subject: str
    credits: str
    decision: int | None


class InvoiceItem(msgspec.Struct):
    """An invoice item; `amount` is in the smallest unit of the currency."""

    meter_event: str
    customer: str
    amount: int
    currency: str


class Decided(msgspec.Struct):
    """What was decided, or in a dry run would be. At most 100 of the `count` things are in `decisions`."""

    dry_run: bool
    choice: str
    count: int
    credits: str
    decisions: list[Subject]
    invoice_items: list[InvoiceItem]


@reads("/held", tags=["held"])
def get_held(service: TheService) -> Held:
    """What waits for a person, by reason, with what it is worth and what to do."""
    with service.reading() as ledger:
        return msgspec.convert({"reasons": reasons(ledger), "policy": policy(service.config)}, Held)


@reads("/held/traces", tags=["held"])
def get_held_traces(
    service: TheService, reason: FromQuery[str] = "", limit: Rows = ROWS_DEFAULT, cursor: Cursor = None
) -> Listing[HeldTrace]:
    """The traces that wait, the oldest first."""
    with service.reading() as ledger:
        return held_traces(ledger, reason, limit, cursor)


@reads("/held/meter-events", tags=["held"])
def get_held_meter_events(
    service: TheService, reason: FromQuery[str] = "", limit: Rows = ROWS_DEFAULT, cursor: Cursor = None
) -> Listing[HeldMeterEvent]:
    """The meter events that wait (held, rejected or in doubt), the oldest bucket first."""
    with service.reading() as ledger:
        return held_meter_events(ledger, reason, limit, cursor)


@reads("/held/{identity:path}", tags=["held"])
def get_held_subject(service: TheService, identity: FromPath[str]) -> HeldSubject:
    """Everything about one trace (its id, or project/id) or meter event, with what may be decided about it."""
    with service.reading() as ledger:
        found = show(ledger, identity.removeprefix("/"), service.clock.now_us())
    return msgspec.convert(subject_of(found), HeldSubject)


def subject_of(found: dict[str, Any]) -> dict[str, Any]:
    """Both kinds of what `flows.held.show` finds, in one form."""
    if found["kind"] == "trace":
        return {**found, "identity": f"{found['trace']['project_id']}/{found['trace_id']}"}
    return {
        "kind": found["kind"],
        "identity": found["identifier"],
        "reason": (found["reason"] if found["state"] == "held" else found["state"]) if found["choices"] else "",
        "credits": found["amount"],
        "trace": None,
        "meter_events": [found],
        "decisions": found["decisions"],
        "choices": found["choices"],
    }


@writes("/held/decisions", tags=["held"])
def post_held_decision(service: TheService, caller: TheCaller, data: JSONBody[NewDecision]) -> Decided:
    """Decide about what is held. What is released is billed by the next sync; an invoice item is made at once."""
    said = Said(
        data.choice,
        data.why,
        caller.name,
        data.ids,
        data.reason,
        data.customer,
        data.expected_credits,
        data.expected_count,
    )
    if data.dry_run:
        return _planned(plan(service.config, said, service.clock))
    return _decided(service, said)


def _planned(found: Plan) -> Decided:
    subjects = [
        Subject(one.identity, format_micros(one.amount_micros), None) for one in found.subjects[:SUBJECTS_SHOWN]
    ]
    items = [InvoiceItem(name, item.customer, item.amount, item.currency) for name, item in found.items.items()]
    credits = format_micros(found.amount_micros)
    return Decided(True, str(found.choice), len(found.subjects), credits, subjects, items)


def _decided(service: Service, said: Said) -> Decided:
    answer = decide(service.config, said, service.clock)
    shown = {**answer, "decisions": answer["decisions"][:SUBJECTS_SHOWN]}
    return msgspec.convert({"dry_run": False, "count": len(answer["decisions"]), **shown}, Decided)


HANDLERS = [get_held, get_held_traces, get_held_meter_events, get_held_subject, post_held_decision]
