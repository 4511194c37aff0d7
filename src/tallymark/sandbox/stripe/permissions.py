"""API keys: the account's own, and restricted ones with what each may do.

A restricted key needs "read" for GET and "write" for anything else, and "write" includes "read". The words of the
refusal and Stripe's names of the permissions were observed, except the account's and that of charges; that summaries
are read with "meters" is a guess, and so is that v2 asks for the same permissions.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping

from .errors import no_key, not_permitted, wrong_key

Keys = Mapping[str, Collection[str]]
"""Restricted keys, each with its permissions, such as "meter_events:write" or "meters:read"."""

# The path of a route starts so → our word for the resource, Stripe's label and its name of the permission.
_RESOURCES = {
    "/v1/account": ("account", "Account", "accounts_kyc_basic"),
    "/v1/billing/meter_event": ("meter_events", "Meter events", "billing_meter_event"),
    "/v1/billing/meters": ("meters", "Meters", "billing_meter"),
    "/v1/charges": ("charges", "Charges", "charge"),
    "/v1/customers": ("customers", "Customers", "customer"),
    "/v1/invoice": ("invoices", "Invoices", "invoice"),
    "/v1/prices": ("prices", "Prices", "plan"),
    "/v1/subscription": ("subscriptions", "Subscriptions", "subscription"),
    "/v2/billing/meter_event": ("meter_events", "Meter events", "billing_meter_event"),
    "/v2/core/events": ("events", "Events", "event"),
}
PERMISSIONS = frozenset(f"{resource}:{level}" for resource, _, _ in _RESOURCES.values() for level in ("read", "write"))


class ApiKeys:
    """The keys that open the account."""

    def __init__(self, secret_key: str, restricted: Keys) -> None:
        """Raises ValueError for a permission that does not exist."""
        for permission in (one for granted in restricted.values() for one in granted):
            if permission not in PERMISSIONS:
                raise ValueError(f"{permission!r} is no permission; one is any of {', '.join(sorted(PERMISSIONS))}")
        self._secret_key, self._restricted = secret_key, restricted

    def check(self, authorization: str) -> str:
        """The key in an Authorization header. Raises Refusal (401) for none or a wrong one."""
        key = key_of(authorization)
        if not key:
            raise no_key()
        if key != self._secret_key and key not in self._restricted:
            raise wrong_key(key)
        return key

    def allow(self, key: str, method: str, path: str) -> None:
        """Raises Refusal (403) if a restricted key may not do this."""
        granted = self._restricted.get(key)
        if granted is None:
            return
        level = "read" if method == "GET" else "write"
        for start, (resource, label, name) in _RESOURCES.items():
            if path.startswith(start) and not {f"{resource}:{level}", f"{resource}:write"} & set(granted):
                raise not_permitted(key, f"{label} {level.title()}", f"{name}_{level}")


def key_of(authorization: str) -> str:
    """The API key in a Bearer or Basic header; empty if there is none that can be read."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(credentials).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return ""
