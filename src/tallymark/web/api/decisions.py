"""Decisions about money, and the rules on whom to bill: GET /decisions; GET, POST and DELETE /customer-rules."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from litestar.params import JSONBody, QueryParameter

from ...core.clock import format_time
from ...flows.held_decisions import add_customer_rules, customer_rules, remove_customer_rule
from ...flows.inbox import decisions
from ...flows.paging import ROWS_DEFAULT, Listing
from ..service import TheCaller, TheService
from .answers import Decision
from .common import Cursor, Rows, deletes, reads, writes

Kind = Literal["user", "organization", "session"]
RULE_CHARS_MAX = 500


class CustomerRule(msgspec.Struct):
    """Bill `customer` for all traces of a user, organization or session (`kind`); by which decision, and whose."""

    kind: str
    value: str
    customer: str
    decision: int
    at: str
    who: str
    why: str


class NewCustomerRule(msgspec.Struct):
    """A rule to make, or to replace; `why` is kept with the decision."""

    kind: Kind
    value: Annotated[str, msgspec.Meta(min_length=1, max_length=RULE_CHARS_MAX)]
    customer: Annotated[str, msgspec.Meta(min_length=1, max_length=RULE_CHARS_MAX)]
    why: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class RuleDecided(msgspec.Struct):
    """The number of the decision, and what it is about."""

    decision: int
    subject: str


@reads("/decisions", tags=["decisions"])
def get_decisions(service: TheService, limit: Rows = ROWS_DEFAULT, cursor: Cursor = None) -> Listing[Decision]:
    """What was decided about money, by whom, when, why and on what evidence; the newest first."""
    with service.reading() as ledger:
        found = decisions(ledger, limit, cursor)
    return Listing([msgspec.convert(one, Decision) for one in found.items], found.next)


@reads("/customer-rules", tags=["decisions"])
def get_customer_rules(service: TheService) -> Listing[CustomerRule]:
    """Every rule on whom to bill, on one page."""
    return Listing(rules_of(service), None)


def rules_of(service: TheService) -> list[CustomerRule]:
    """Every rule, as it is told."""
    return [
        CustomerRule(
            rule.kind, rule.value, rule.customer_id, rule.decision_id, format_time(rule.at_us), rule.who, rule.why
        )
        for rule in customer_rules(service.config)
    ]


@writes("/customer-rules", tags=["decisions"])
def post_customer_rule(service: TheService, caller: TheCaller, data: JSONBody[NewCustomerRule]) -> RuleDecided:
    """Bill a customer for all traces of a user, organization or session: those that are held, and those that come."""
    rules = [(data.kind, data.value)]
    answer = add_customer_rules(service.config, rules, data.customer, why=data.why, by=caller.name, clock=service.clock)
    return msgspec.convert(answer["decisions"][0], RuleDecided)


@deletes("/customer-rules", tags=["decisions"])
def delete_customer_rule(
    service: TheService,
    caller: TheCaller,
    kind: Annotated[Kind, QueryParameter(description="What the rule is about.")],
    value: Annotated[str, QueryParameter(description="Whose id it names.", min_length=1)],
    why: Annotated[str, QueryParameter(description="Kept with the decision.", min_length=1, max_length=1000)],
) -> RuleDecided:
    """Withdraw a rule. What was billed by it stays."""
    answer = remove_customer_rule(service.config, kind, value, why=why, by=caller.name, clock=service.clock)
    return msgspec.convert(answer["decisions"][0], RuleDecided)


HANDLERS = [get_decisions, get_customer_rules, post_customer_rule, delete_customer_rule]
