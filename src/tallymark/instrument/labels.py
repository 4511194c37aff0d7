"""Labels: what a run writes on its traces so that they can be billed. Checked here, as values; nothing is sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .refusals import refuse

PENDING_TAG = "billing:pending"
CUSTOMER_KEY = "customerId"
OWNERSHIP_KEY = "aiCredentialsOwnership"
OWNERS = ("platform", "user")
UNKNOWN_OWNER = "unknown"
"""What is sent for an ownership that is none: rating holds the trace, instead of billing AI that nobody may owe."""

LENGTH_MAX = 200
"""Langfuse drops longer values; the limit of metadata counts the JSON form (facts/langfuse.md section 9.2)."""

_OWN_ARGUMENT = {CUSTOMER_KEY: "customer=", "stripeCustomerId": "customer=", OWNERSHIP_KEY: "ownership="}
_OF_THE_MARKS = ("billing_status", "meter_event_id", "billing_details")
_KEY = re.compile(r"[A-Za-z0-9_-]{1,100}")
# Langfuse parses metadata text as JSON (facts/langfuse-observed.md item 32): 12345 would come back as a number.
_MAY_READ_AS_JSON = re.compile(r'\s*(["\[{\-0-9]|true|false|null)')
_SURROGATES = re.compile("[\ud800-\udfff]")


class NotGiven:
    """The value of an argument that was not given; None is a value that was given, and is empty."""


NOT_GIVEN = NotGiven()


@dataclass(frozen=True, slots=True)
class Labels:
    """What the traces of a run carry. `metadata` is flat text and holds customer and ownership too.

    `customer` is None where none was named, and "" where one was named that cannot be used: such a trace is held as
    no_customer, and is never billed to the customer of the run around it.
    """

    customer: str | None = None
    tags: tuple[str, ...] = (PENDING_TAG,)
    metadata: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    session: str | None = None


def labels_of(
    *,
    customer: object = NOT_GIVEN,
    flow: object = None,
    ownership: object = None,
    user: object = None,
    session: object = None,
    metadata: object = None,
) -> Labels:
    """The labels of these values. One that cannot be used is left out, or raises ValueError if strict."""
    customer_id = None if isinstance(customer, NotGiven) else _customer(customer)
    billing = {CUSTOMER_KEY: customer_id, OWNERSHIP_KEY: _ownership(ownership)}
    return Labels(
        customer=customer_id,
        tags=(PENDING_TAG, *_flow_tags(flow)),
        metadata={**dict(_extras(metadata)), **{key: text for key, text in billing.items() if text}},
        user=_optional_text("user", user),
        session=_optional_text("session", session),
    )


def merged(outer: Labels, inner: Labels) -> Labels:
    """What a run inside another carries if both are for one customer: the inner one's word before the outer one's."""
    return Labels(
        customer=outer.customer if inner.customer is None else inner.customer,
        tags=tuple(dict.fromkeys((*outer.tags, *inner.tags))),
        metadata={**outer.metadata, **inner.metadata},
        user=inner.user or outer.user,
        session=inner.session or outer.session,
    )


def are_apart(outer: Labels, inner: Labels) -> bool:
    """Whether a run inside another is for another customer, or for one that cannot be used."""
    return outer.customer is not None and inner.customer is not None and outer.customer != inner.customer


def metadata_text(text: str) -> str:
    """Text in a form that Langfuse's JSON parsing turns into this text again, never into a number or a list."""
    return json.dumps(text, ensure_ascii=False) if _MAY_READ_AS_JSON.match(text) else text


def trace_arguments(labels: Labels) -> dict[str, object]:
    """The labels as keyword arguments of `langfuse.trace()` of SDK 2: tags, metadata, user_id, session_id."""
    given = {
        "tags": list(labels.tags),
        "metadata": dict(labels.metadata),
        "user_id": labels.user,
        "session_id": labels.session,
    }
    return {name: value for name, value in given.items() if value}


def _customer(given: object) -> str:
    held = "; the trace will be held as no_customer"
    customer = _text("customer", given, as_json=True, consequence=held)
    if customer is not None and not customer:
        refuse(f"billable(customer=...) is empty{held}")
    return customer or ""


def _ownership(given: object) -> str | None:
    if given is None:
        return None
    if isinstance(given, str) and given in OWNERS:
        return given
    refuse("billable(ownership=...) is neither platform nor user; the trace will be held as unrated")
    return UNKNOWN_OWNER


def _flow_tags(given: object) -> tuple[str, ...]:
    flow = _optional_text("flow", given)
    if flow is None:
        return ()
    if "," in flow or flow.startswith("billing:"):
        refuse('billable(flow=...) has a comma or starts with "billing:", and is left out: tags are split at commas')
        return ()
    return (flow,)


def _extras(given: object) -> Iterator[tuple[str, str]]:
    if given is not None and not isinstance(given, Mapping):
        refuse("billable(metadata=...) is no mapping of text to text, and is left out")
        return
    for key, value in (given or {}).items():
        text = _text("metadata", value, as_json=True) if _key_may_be_used(key) else None
        if text is not None:
            yield key, text


def _key_may_be_used(key: object) -> bool:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        refuse("billable(metadata=...) has a key that is not 1 to 100 letters, digits, _ or -, and is left out")
    elif key in _OWN_ARGUMENT:
        refuse(f"billable(metadata=...) has {key}, and it is left out: give it as {_OWN_ARGUMENT[key]}")
    elif key in _OF_THE_MARKS:
        refuse(f"billable(metadata=...) has {key}, and it is left out: it would mark the trace as billed")
    else:
        return True
    return False


def _optional_text(name: str, given: object) -> str | None:
    """The value if it is text that Langfuse takes; None if it is not, or is empty."""
    return None if given is None else _text(name, given) or None


def _text(name: str, given: object, *, as_json: bool = False, consequence: str = "") -> str | None:
    """The value, stripped, if it is text that Langfuse takes; None if not. Metadata is measured `as_json`."""
    problem = _problem_of(given, as_json=as_json)
    if problem is None:
        return str(given).strip()
    refuse(f"billable({name}=...) {problem}, and is left out{consequence}")
    return None


def _problem_of(given: object, *, as_json: bool) -> str | None:
    if not isinstance(given, str):
        return f"is not text but {type(given).__name__}"
    if _length(given, as_json=as_json) > LENGTH_MAX:
        return f"is longer than {LENGTH_MAX} characters{' as JSON' if as_json else ''}"
    # Half a surrogate pair would spoil the whole export it is part of.
    return None if given.isascii() or not _SURROGATES.search(given) else "is not valid Unicode"


def _length(text: str, *, as_json: bool) -> int:
    # Escaped, a character becomes at most six: short text need not be encoded to know that it fits.
    return len(json.dumps(text, ensure_ascii=False)) if as_json and len(text) > LENGTH_MAX // 6 - 1 else len(text)
