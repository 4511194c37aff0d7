"""Customers: whom a trace is billed to, and how that was found. Ids are text, never numbers; a blank id is no id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tallymark.core.types import Customer, Trace

CUSTOMER_ATTRIBUTES = ("customerId", "stripeCustomerId")
ORGANIZATION_ATTRIBUTES = ("organizationId", "orgId")


@dataclass(frozen=True, slots=True)
class CustomerPolicy:
    """How customers are found. The mappings lead from Langfuse's ids to Stripe's customer ids.

    With `override`, which needs `default`, every trace is billed to the default customer. `rules` are mappings
    that people added since.
    """

    override: bool = False
    default: str | None = None
    sessions: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)
    organizations: Mapping[str, str] = field(default_factory=dict)
    rules: CustomerPolicy | None = None


@dataclass(frozen=True, slots=True)
class NoCustomer:
    """Why nobody can be billed for a trace: a sentence for people. The trace is held as `no_customer`."""

    detail: str


def resolve(trace: Trace, policy: CustomerPolicy) -> Customer | NoCustomer:
    """Find the customer of a trace; the first that says something decides.

    The order: override; metadata `customerId` or `stripeCustomerId`; the mapping by session, then by user, then by
    organization (metadata `organizationId` or `orgId`), the narrowest first; a person's rule for one of them, in the
    same order; the default customer. So settings decide before rules, and both before the default.
    Two attributes that should say the same and do not are never guessed between.
    """
    if policy.override and policy.default:
        return Customer(policy.default, "override")
    return (
        _from_metadata(trace)
        or _from_mappings(trace, policy)
        or _from_rules(trace, policy)
        or _from_default(trace, policy)
    )


def _from_metadata(trace: Trace) -> Customer | NoCustomer | None:
    said = _agreed(trace, CUSTOMER_ATTRIBUTES)
    return Customer(said, "metadata") if isinstance(said, str) else said


def _from_mappings(trace: Trace, policy: CustomerPolicy) -> Customer | NoCustomer | None:
    if customer_id := policy.sessions.get(trace.session_id or ""):
        return Customer(customer_id, "session")
    if customer_id := policy.users.get(trace.user_id or ""):
        return Customer(customer_id, "user")
    return _from_organization(trace, policy) if policy.organizations else None


def _from_organization(trace: Trace, policy: CustomerPolicy) -> Customer | NoCustomer | None:
    said = _agreed(trace, ORGANIZATION_ATTRIBUTES)
    if not isinstance(said, str):
        return said
    customer_id = policy.organizations.get(said)
    return Customer(customer_id, "organization") if customer_id else None


def _from_rules(trace: Trace, policy: CustomerPolicy) -> Customer | NoCustomer | None:
    found = _from_mappings(trace, policy.rules) if policy.rules else None
    return Customer(found.customer_id, f"{found.found_by} rule") if isinstance(found, Customer) else found


def _from_default(trace: Trace, policy: CustomerPolicy) -> Customer | NoCustomer:
    if policy.default:
        return Customer(policy.default, "default")
    return NoCustomer(
        f"no {' or '.join(CUSTOMER_ATTRIBUTES)} in the metadata, no mapping for user {(trace.user_id or '')[:80]!r}"
        f" or session {(trace.session_id or '')[:80]!r}, and no default customer"
    )


def _agreed(trace: Trace, names: tuple[str, str]) -> str | NoCustomer | None:
    """What the attributes of these names say, if one of them says something and they do not contradict each other."""
    first, second = [trace.attributes.get(name, "").strip() for name in names]
    if first and second and first != second:
        return NoCustomer(f"{names[0]} is {first[:80]!r} but {names[1]} is {second[:80]!r}; make them the same")
    return first or second or None
