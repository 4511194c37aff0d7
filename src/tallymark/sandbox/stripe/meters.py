"""The meters of the sandbox account: create, list, rename, deactivate, reactivate (facts/stripe.md section 4)."""

from __future__ import annotations

import threading

from tallymark.core.clock import Clock

from .errors import invalid, no_active_meter, no_such
from .forms import (
    Form,
    optional_choice,
    optional_hash,
    optional_text,
    refuse_unknown,
    required_text,
    text_within,
)
from .pages import PAGE_KEYS, page
from .shapes import Json, Meter, meter_json

_CREATE_KEYS = frozenset(
    {
        "customer_mapping",
        "default_aggregation",
        "display_name",
        "event_name",
        "event_time_window",
        "expand",
        "value_settings",
    }
)
_FORMULAS = ("sum", "count", "last")
_URL = "/v1/billing/meters"


class Meters:
    """All meters, in the order they were made. Safe to share between threads."""

    def __init__(self, clock: Clock, livemode: bool) -> None:
        self._clock, self._livemode = clock, livemode
        self._meters: dict[str, Meter] = {}
        self._lock = threading.Lock()

    def plant(
        self,
        event_name: str,
        *,
        display_name: str | None = None,
        formula: str = "sum",
        customer_key: str = "stripe_customer_id",
        value_key: str = "value",
        window: str | None = None,
        active: bool = True,
    ) -> Meter:
        """Add a meter, even a second one of the same event name, which the API would refuse."""
        now_us = self._clock.now_us()
        with self._lock:
            meter = Meter(
                id=f"mtr_sandbox_{len(self._meters) + 1:04d}",
                event_name=event_name,
                display_name=display_name or event_name,
                formula=formula,
                customer_key=customer_key,
                value_key=value_key,
                window=window,
                created_us=now_us,
                updated_us=now_us,
                switched_us=[] if active else [now_us],
            )
            self._meters[meter.id] = meter
            return meter

    def active(self, event_name: str) -> Meter:
        """The first active meter of that event name. Raises Refusal (400) if there is none."""
        named = [meter for meter in self._meters.copy().values() if meter.event_name == event_name]
        for meter in named:
            if meter.active:
                return meter
        raise no_active_meter(event_name, archived=bool(named))

    def newest_id(self, event_name: str) -> str:
        """The id of the last meter that was made for that event name, active or not; empty if there is none."""
        return next((one.id for one in reversed(self._meters.copy().values()) if one.event_name == event_name), "")

    def find(self, meter_id: str) -> Meter:
        """The meter of that id. Raises Refusal (404)."""
        meter = self._meters.get(meter_id)
        if meter is None:
            raise no_such("billing meter", meter_id, "id")
        return meter

    def create(self, form: Form, _identity: str) -> Json:
        """POST /v1/billing/meters. Raises Refusal (400), also for an event name that a meter has already."""
        refuse_unknown(form, _CREATE_KEYS)
        event_name = required_text(form, "event_name", 100)
        display_name = required_text(form, "display_name", 250)
        required_text(dict(optional_hash(form, "default_aggregation")), "formula")
        # A deactivated meter keeps its event name too (facts/stripe.md section 4).
        if any(meter.event_name == event_name for meter in self._meters.copy().values()):
            raise invalid(f'A meter already exists for event name "{event_name}".', "event_name")
        return self._json(
            self.plant(
                event_name,
                display_name=display_name,
                formula=_formula(form),
                customer_key=text_within(form, "customer_mapping", "event_payload_key", "stripe_customer_id"),
                value_key=text_within(form, "value_settings", "event_payload_key", "value"),
                window=optional_choice(form, "event_time_window", ("hour", "day")),
            )
        )

    def list(self, form: Form, _identity: str) -> Json:
        """GET /v1/billing/meters: the newest first, with an optional `status`."""
        refuse_unknown(form, PAGE_KEYS | {"status"})
        status = optional_choice(form, "status", ("active", "inactive"))
        rows = [self._json(meter) for meter in reversed(self._meters.copy().values())]
        return page(form, [row for row in rows if status in (None, row["status"])], _URL)

    def get(self, form: Form, identity: str) -> Json:
        """GET /v1/billing/meters/{id}."""
        refuse_unknown(form, frozenset({"expand"}))
        return self._json(self.find(identity))

    def update(self, form: Form, identity: str) -> Json:
        """POST /v1/billing/meters/{id}: only the display name can change."""
        refuse_unknown(form, frozenset({"display_name", "expand"}))
        meter = self.find(identity)
        meter.display_name = optional_text(form, "display_name", 250) or meter.display_name
        return self._touched(meter)

    def deactivate(self, form: Form, identity: str) -> Json:
        """POST /v1/billing/meters/{id}/deactivate."""
        refuse_unknown(form, frozenset({"expand"}))
        return self._switched(self.find(identity), False)

    def reactivate(self, form: Form, identity: str) -> Json:
        """POST /v1/billing/meters/{id}/reactivate."""
        refuse_unknown(form, frozenset({"expand"}))
        return self._switched(self.find(identity), True)

    def _switched(self, meter: Meter, active: bool) -> Json:
        meter.switch(active, self._clock.now_us())
        return self._touched(meter)

    def _touched(self, meter: Meter) -> Json:
        meter.updated_us = self._clock.now_us()
        return self._json(meter)

    def _json(self, meter: Meter) -> Json:
        return meter_json(meter, self._livemode)


def _formula(form: Form) -> str:
    aggregation = dict(optional_hash(form, "default_aggregation"))
    return optional_choice(aggregation, "formula", _FORMULAS) or "sum"
