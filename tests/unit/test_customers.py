"""Customers: override, metadata, session, user, organization, default, nobody; the first that speaks decides."""

from __future__ import annotations

import pytest

from tallymark.core.types import Customer, Trace
from tallymark.rating.customers import CustomerPolicy, NoCustomer, resolve

EVERYTHING = CustomerPolicy(
    default="cus_default",
    sessions={"session": "cus_session"},
    users={"user": "cus_user"},
    organizations={"organization": "cus_organization"},
)


def trace(user: str | None = None, session: str | None = None, **attributes: str) -> Trace:
    return Trace("project", "trace", 0, (), user_id=user, session_id=session, attributes=attributes)


FULL = {"user": "user", "session": "session", "organizationId": "organization"}


def test_override_beats_everything():
    policy = CustomerPolicy(override=True, default="cus_default", users={"user": "cus_user"})

    assert resolve(trace(**FULL, customerId="cus_own"), policy) == Customer("cus_default", "override")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (trace(**FULL, customerId="cus_own"), Customer("cus_own", "metadata")),
        (trace(**FULL, stripeCustomerId=" cus_own "), Customer("cus_own", "metadata")),
        (trace(customerId="cus_own", stripeCustomerId="cus_own"), Customer("cus_own", "metadata")),
        (trace(**FULL, customerId="  "), Customer("cus_session", "session")),
        (trace(user="user", orgId="organization"), Customer("cus_user", "user")),
        (trace(user="nobody", orgId="organization"), Customer("cus_organization", "organization")),
        (trace(organizationId="organization", orgId="organization"), Customer("cus_organization", "organization")),
        (trace(user="nobody", session="none", orgId="other"), Customer("cus_default", "default")),
        (trace(), Customer("cus_default", "default")),
        (trace(customerId="12345"), Customer("12345", "metadata")),
    ],
)
def test_the_first_source_that_says_something_decides(given, found):
    assert resolve(given, EVERYTHING) == found


def test_nobody_is_named_with_what_was_looked_for():
    outcome = resolve(trace(user="u-1", session="s-1"), CustomerPolicy())

    assert isinstance(outcome, NoCustomer)
    assert [word for word in ("customerId", "stripeCustomerId", "'u-1'", "'s-1'") if word not in outcome.detail] == []


@pytest.mark.parametrize(
    "contradiction", [{"customerId": "a", "stripeCustomerId": "b"}, {"organizationId": "a", "orgId": "b"}]
)
def test_a_contradiction_is_never_guessed_away(contradiction):
    """Neither value wins, and neither does the default customer."""
    outcome = resolve(trace(**contradiction), EVERYTHING)

    assert isinstance(outcome, NoCustomer)
    assert "'a'" in outcome.detail
    assert "'b'" in outcome.detail


def test_organizations_that_contradict_do_not_matter_without_a_mapping():
    policy = CustomerPolicy(default="cus_default")

    assert resolve(trace(organizationId="a", orgId="b"), policy) == Customer("cus_default", "default")
