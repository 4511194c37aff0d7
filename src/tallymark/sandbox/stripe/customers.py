"""The customers of the sandbox account, and what becomes of usage for one that does not exist."""

from __future__ import annotations

import threading
from typing import Literal

from tallymark.core.clock import Clock

from .errors import Refusal, in_other_mode, no_such
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
        self._created_us: dict[str, int] = {}
        self._in_other_mode: set[str] = set()
        self._lock = threading.Lock()

    def add(self, customer_id: str, name: str | None = None) -> Json:
        """Plant a customer."""
        now_us = self._clock.now_us()
        customer = customer_json(customer_id, now_us, self._livemode, name)
        with self._lock:
            self._customers[customer_id] = customer
            self._created_us.setdefault(customer_id, now_us)
        return customer

    def add_in_other_mode(self, customer_id: str) -> None:
        """Plant a customer that keys of the other mode see, and those of this one do not."""
        self._in_other_mode.add(customer_id)

    def existed(self, customer_id: str, moment_us: int) -> bool:
        """Whether this mode of the account had that customer at that moment."""
        created_us = self._created_us.get(customer_id)
        if created_us is None:
            return self._any_customer and customer_id not in self._in_other_mode
        return self._any_customer or created_us <= moment_us

    def require(self, customer_id: str, param: str, status: int = 400) -> None:
        """Raises Refusal for a customer who does not exist."""
        if not self.existed(customer_id, self._clock.now_us()):
            raise self._unknown_customer(customer_id, param, status)

    def check(self, customer_id: str, payload_key: str) -> None:
        """Raises Refusal (400) for a meter event's unknown customer when "sync"."""
        if self._unknown == "sync":
            self.require(customer_id, f"payload[{payload_key}]")

    def _unknown_customer(self, customer_id: str, param: str, status: int) -> Refusal:
        if customer_id in self._in_other_mode:
            return in_other_mode("customer", customer_id, param, self._livemode, status)
        return no_such("customer", customer_id, param, status)

    def create(self, form: Form, _identity: str) -> Json:
        """POST /v1/customers. Keeps the name; other parameters are taken and forgotten."""
        with self._lock:
            number = len(self._customers) + 1
        return self.add(f"cus_sandbox_{number:06d}", optional_text(form, "name"))

    def get(self, _form: Form, identity: str) -> Json:
        """GET /v1/customers/{id}. Raises Refusal (404)."""
        self.require(identity, "id", 404)
        return self._customers.get(identity) or customer_json(identity, self._clock.now_us(), self._livemode)

    def list(self, form: Form, _identity: str) -> Json:
        """GET /v1/customers: the newest first."""
        return page(form, list(reversed(self._customers.copy().values())), "/v1/customers")
