"""The held inbox: what waits by its cause, one thing with its choices, and decisions made after a look at the money."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery, URLEncodedBody
from litestar.response import Redirect, Stream, Template

from ...core.choices import OF_TRACE, Choice
from ...core.credits import format_micros
from ...errors import ConfigError
from ...flows.held import DOES, DOES_TO_DELETED, DOES_TO_TRACE, beside, policy, reasons, show
from ...flows.held_decisions import Plan, add_customer_rules, remove_customer_rule
from ...flows.inbox import (
    HeldMeterEvent,
    HeldTrace,
    PlanChanged,
    Said,
    choices_for,
    decide,
    held_meter_events,
    held_traces,
    plan,
)
from ...flows.paging import ROWS_DEFAULT, ROWS_MAX, every
from ...flows.subjects import Subject
from ..access import Caller
from ..api.decisions import rules_of
from ..api.held import SUBJECTS_SHOWN, subject_of
from ..csv_answers import csv_answer
from ..links import with_query
from ..service import Service, TheCaller, TheService
from ..templating import page
from .traces import explained

Asked = Request[Any, Any, Any]
WHOLE_CAUSE = "all"


@dataclass
class DecisionForm:
    """A word on the ticked `ids`, or on the whole `reason`; with what it was seen to be worth, once it was."""

    choice: str
    why: str = ""
    ids: list[str] | str = field(default_factory=list)
    scope: str = ""
    reason: str = ""
    customer: str = ""
    expected_credits: str = ""
    expected_count: str = ""

    def said(self, by: str) -> Said:
        """The same as a flow takes it."""
        whole = self.scope == WHOLE_CAUSE
        takes_customer = self.choice in (Choice.ASSIGN, Choice.BILL_NOW)
        return Said(
            self.choice,
            self.why.strip(),
            by,
            () if whole else self.named,
            self.reason if whole else None,
            (self.customer.strip() or None) if takes_customer else None,
            self.expected_credits or None,
            int(self.expected_count) if self.expected_count.isdecimal() else None,
        )

    @property
    def named(self) -> list[str]:
        """The ids; a form with a single one has it as text."""
        return [self.ids] if isinstance(self.ids, str) else self.ids


@dataclass
class RuleForm:
    """A rule on whom to bill, to be made or withdrawn."""

    kind: str
    value: str
    why: str = ""
    customer: str = ""


@get("/held", sync_to_thread=True)
def inbox(
    service: TheService,
    caller: TheCaller,
    request: Asked,
    reason: FromQuery[str] = "",
    traces: FromQuery[str | None] = None,
    events: FromQuery[str | None] = None,
) -> Template:
    """What waits by cause, and the traces and meter events of one cause or all; each list has pages of its own."""
    with service.reading() as ledger:
        causes, others = reasons(ledger), beside(ledger, ROWS_DEFAULT)
        waiting = held_traces(ledger, reason, ROWS_DEFAULT, traces)
        sent = held_meter_events(ledger, reason, ROWS_DEFAULT, events)
    return page(
        "held",
        caller,
        causes=causes,
        cause=next((one for one in causes if one["reason"] == reason), None),
        reason=reason,
        policy=policy(service.config),
        **others,
        traces=waiting.items,
        events=sent.items,
        more_traces=with_query(request, "/held", traces=waiting.next) if waiting.next else None,
        more_events=with_query(request, "/held", events=sent.next) if sent.next else None,
        choices=[(str(one), _does(reason)[one]) for one in choices_for(reason)] if reason else [],
    )


@get("/held/traces.csv", sync_to_thread=True)
def trace_file(service: TheService, reason: FromQuery[str] = "") -> Stream:
    """The traces that wait, all of them."""
    return csv_answer("held-traces", HeldTrace.__struct_fields__, _rows(service, held_traces, reason))


@get("/held/meter-events.csv", sync_to_thread=True)
def meter_event_file(service: TheService, reason: FromQuery[str] = "") -> Stream:
    """The meter events that wait, all of them."""
    return csv_answer("held-meter-events", HeldMeterEvent.__struct_fields__, _rows(service, held_meter_events, reason))


def _rows(service: Service, read: Any, reason: str) -> Iterator[tuple[Any, ...]]:
    with service.reading() as ledger:
        for line in every(lambda cursor: read(ledger, reason, ROWS_MAX, cursor)):
            yield msgspec.structs.astuple(line)


@get("/held/{identity:path}", sync_to_thread=True)
def one_thing(service: TheService, caller: TheCaller, identity: FromPath[str]) -> Template:
    """Everything about one thing that waits, with a form for each choice."""
    with service.reading() as ledger:
        found = subject_of(show(ledger, identity.removeprefix("/"), service.clock.now_us()))
        trace = explained(service.config, ledger, found["trace"], found["trace_id"]) if found["trace"] else None
    return page("held_one", caller, found=found, trace=trace, takes_customer=(Choice.ASSIGN, Choice.BILL_NOW))


@post("/held/confirm", sync_to_thread=True, status_code=200)
def confirm(service: TheService, caller: TheCaller, data: URLEncodedBody[DecisionForm]) -> Template:
    """What a word would decide, and the money; nothing is decided."""
    return _to_confirm(caller, data, plan(service.config, data.said(caller.name), service.clock), "")


@post("/held/decide", sync_to_thread=True)
def carry_out(service: TheService, caller: TheCaller, data: URLEncodedBody[DecisionForm]) -> Response[Any]:
    """Decide what was confirmed, and lead to the decisions; what is something else by now is shown again instead."""
    if not data.expected_credits or not data.expected_count.isdecimal():
        raise ConfigError("what it is worth was not looked at; begin at the page Held.")
    try:
        made = decide(service.config, data.said(caller.name), service.clock)["decisions"]
    except PlanChanged as changed:
        return _to_confirm(caller, data, changed.plan, str(changed), status=422)
    numbers = [one["decision"] for one in made]
    return Redirect(f"/decisions?first={min(numbers)}&last={max(numbers)}", status_code=303)


def _to_confirm(caller: Caller, form: DecisionForm, found: Plan, changed: str, status: int = 200) -> Template:
    kinds = [one.kind for one in found.subjects]
    return page(
        "held_confirm",
        caller,
        status=status,
        form=form,
        changed=changed,
        credits=format_micros(found.amount_micros),
        traces=kinds.count("trace"),
        events=kinds.count("meter_event"),
        subjects=[
            (_address(one), one.identity, one.reason, one.customer_id, format_micros(one.amount_micros))
            for one in found.subjects[:SUBJECTS_SHOWN]
        ],
        items=found.items,
        does=_does(found.subjects[0].reason if kinds.count("trace") else "")[found.choice],
        takes_customer=found.choice in (Choice.ASSIGN, Choice.BILL_NOW) and form.customer.strip(),
    )


def _address(subject: Subject) -> str:
    """What names a subject, whichever projects there are."""
    return "/".join(subject.key) if subject.key else subject.identity


def _does(reason: str) -> dict[Choice, str]:
    """What each choice does to things that wait for a reason; of meter events without one."""
    if reason == "deleted":
        return DOES_TO_DELETED
    return DOES_TO_TRACE if reason in OF_TRACE else DOES


@get("/held/rules", sync_to_thread=True)
def rules(service: TheService, caller: TheCaller) -> Template:
    """Whom to bill, from now on."""
    return page("rules", caller, rules=rules_of(service))


@post("/held/rules", sync_to_thread=True)
def make_rule(service: TheService, caller: TheCaller, data: URLEncodedBody[RuleForm]) -> Redirect:
    """Make a rule, and lead to its decision."""
    named = [(data.kind, data.value.strip())]
    return _to_decision(
        add_customer_rules(
            service.config, named, data.customer.strip(), why=data.why, by=caller.name, clock=service.clock
        )
    )


@post("/held/rules/withdraw", sync_to_thread=True)
def withdraw_rule(service: TheService, caller: TheCaller, data: URLEncodedBody[RuleForm]) -> Redirect:
    """Withdraw a rule, and lead to the decision."""
    return _to_decision(
        remove_customer_rule(service.config, data.kind, data.value, why=data.why, by=caller.name, clock=service.clock)
    )


def _to_decision(answer: dict[str, Any]) -> Redirect:
    number = answer["decisions"][0]["decision"]
    return Redirect(f"/decisions?first={number}&last={number}", status_code=303)


HANDLERS = [
    inbox,
    trace_file,
    meter_event_file,
    rules,
    one_thing,
    confirm,
    carry_out,
    make_rule,
    withdraw_rule,
]
