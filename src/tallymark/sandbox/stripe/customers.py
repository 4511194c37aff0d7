"""The customers of the sandbox account, and what becomes of usage for one that does not exist."""

from __future__ import annotations

import threading
from typing import Literal

from tallymark.core.clock import Clock

from .errors import no_such
from .forms import Form, optional_text
from .pages import page
from .shapes import Json, customer_json

UnknownCustomer = Literal["async", "sync"]


class Customers:
    """Known customers; with `any_customer` every id is one. Safe to share between threads.

    `unknown` says what a meter event of an unknown one meets: "async" answers 200 and never counts it, as documented;
    "sync" refuses it with 400, which nobody has ruled out (facts/stripe.md section 1).
    """

    def __init__(self, clock: Clock, *, livemode: bool, any_customer: bool, unknown: UnknownCustomer) -> None:
        self._clock, self._livemode = clock, livemode
        self._any_customer, self._unknown = any_customer, unknown
        self._customers: dict[str, Json] = {}
        self._lock = threading.Lock()

    def add(self, customer_id: str, name: str | None = None) -> Json:
        """Plant a customer."""
        customer = customer_json(customer_id, self._clock.now_us(), self._livemode, name)
        with self._lock:
            self._customers[customer_id] = customer
        return customer

    def check(self, customer_id: str, payload_key: str) -> bool:
        """Whether the account has this customer. Raises Refusal (400) for an unknown one when "sync"."""
        known = self._any_customer or customer_id in self._customers
        if not known and self._unknown == "sync":
            raise no_such("customer", customer_id, f"payload[{payload_key}]", 400)
        return known

    def create(self, form: Form, _identity: str) -> Json:
        """POST /v1/customers. Keeps the name; other parameters are taken and forgotten."""
        with self._lock:
            number = len(self._customers) + 1
        return self.add(f"cus_sandbox_{number:06d}", optional_text(form, "name"))

    def get(self, _form: Form, identity: str) -> Json:
        """GET /v1/customers/{id}. Raises Refusal (404)."""
        customer = self._customers.get(identity)
        if customer is not None:
            return customer
        if not self._any_customer:
            raise no_such("customer", identity, "id")
        return customer_json(identity, self._clock.now_us(), self._livemode)

    def list(self, form: Form, _identity: str) -> Json:
        """GET /v1/customers: the newest first."""
        return page(form, list(reversed(self._customers.copy().values())), "/v1/customers")
